/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out to Kafka by itself, without a relay around it: how long it takes to
 * close, what it claims of offsets, and that it outlives a producer that cannot
 * be made. The broker is librdkafka's mock cluster.
 */
#include "outbox/outlet.h"

#include "test/support/kafka.h"
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdlib.h>
#include <string.h>

static struct mock *mock;
static const char *topic;
static struct outlet outlet;
static struct tally tally;
static struct ranges ranges;
static struct saga_log quiet;
static int64_t complained_ms, floor_seq;
static struct saga_error err;

static void
setup(void)
{
    mock = given_mock();
    topic = unique_name("topic");
    mock_topic(mock, topic, 1);
    ranges = (struct ranges){ .floor_seq = &floor_seq };
    outlet = (struct outlet){ .options = { .brokers = brokers(),
                                           .log = &quiet,
                                           .tally = &tally,
                                           .ranges = &ranges,
                                           .complained_ms = &complained_ms,
                                           .close_ms = 200 } };
}

static void
teardown(void)
{
    outlet_clear(&outlet);
    ranges_clear(&ranges);
}

static struct row_fields
row_of(const char *payload)
{
    return (struct row_fields){ .topic = topic,
                                .key = { "k", 1 },
                                .payload = { payload, strlen(payload) } };
}

static bool
sent(int64_t seq)
{
    struct row_fields fields = row_of("value");
    char why[FINDING_BYTES];
    int outcome;

    ck_assert_msg(outlet_send(&outlet, &fields, seq, false, &outcome, why, &err) == 0, "%s",
                  err.message);
    outlet_serve(&outlet, 0, true);
    return outcome == OUTLET_SENT;
}

/* How many acknowledgements have come. */
static int64_t
acks(void)
{
    int64_t n = 0;

    for (int i = 0; i < SAGA_RELAY_BUCKETS; i++)
        n += atomic_load(&tally.ack_us.counts[i]);
    return n;
}

static void
given_outlet(const char *transactional_id)
{
    outlet.options.transactional_id = transactional_id;
    ck_assert_msg(outlet_open(&outlet, &err) == 0, "%s", err.message);
    if (transactional_id == NULL)
        return;
    WAIT_UNTIL((sink_serve(outlet.sink, 10), sink_asks_for_owner(outlet.sink)), 10000);
    sink_hears_owner(outlet.sink);
}

/* Its lease must not end meanwhile, or a relay that has only a producer to
 * replace loses the stream. */
START_TEST(test_outlet_closes_within_its_time_while_the_broker_is_silent)
{
    int64_t began;

    outlet.options.properties = SAGA_PAIRS({ "linger.ms", "1" });
    given_outlet("one");
    WAIT_UNTIL(sent(1), 5000);
    WAIT_UNTIL((outlet_serve(&outlet, 0, true), acks() > 0), 5000);
    mock_delay(mock, 60000);
    ck_assert(sent(2)); /* in a transaction that cannot be aborted now */
    began = monotonic_us();
    outlet_close(&outlet);
    ck_assert_int_lt((monotonic_us() - began) / 1000, 1000);
}
END_TEST

/* Its format is known before its handle is made. */
START_TEST(test_outlet_knows_the_size_of_the_first_message_of_a_topic)
{
    char *payload = calloc(1, TOPIC_BYTES_ASSUMED);
    struct row_fields large = row_of("");
    int64_t bytes;

    large.payload = (struct saga_bytes){ payload, TOPIC_BYTES_ASSUMED };
    outlet.options.formats =
        (struct record_formats){ SAGA_PAIRS({ "*", "cloudevents" }), "/outlet" };
    given_outlet(NULL);
    ck_assert(!sent(1)); /* first the limit is asked for */
    bytes = sink_record_bytes(outlet.sink, outlet.last, &large);
    WAIT_UNTIL(sent(1), 5000);
    ck_assert_int_eq(bytes, sink_record_bytes(outlet.sink, outlet.last, &large));
    free(payload);
}
END_TEST

/* trap: O10. What was acknowledged in a transaction that was aborted is not
 * published, and has no offset. */
START_TEST(test_outlet_o10_counts_nothing_of_an_aborted_transaction)
{
    int64_t seq;
    size_t parked;

    ranges.wanted = ranges.transactional = true;
    mock_commit_errors(mock, 1, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
    given_outlet("one");
    WAIT_UNTIL(sent(1), 5000);
    WAIT_UNTIL((outlet_serve(&outlet, 10, false), outlet_broken(&outlet)), 5000);
    ck_assert_int_eq(acks(), 1);
    ck_assert_uint_eq(window_settle(&outlet.window, &seq, &parked), 0);
    ck_assert(!ranges_pending(&ranges));
    outlet_close(&outlet);
    window_reset(&outlet.window);

    given_outlet("one");
    WAIT_UNTIL(sent(1), 5000);
    WAIT_UNTIL((outlet_serve(&outlet, 10, false), ranges_pending(&ranges)), 5000);
    ck_assert_int_eq(acks(), 2);
    ck_assert_uint_eq(ranges.n, 1);
    ck_assert_int_eq(ranges.all[0].last_seq, 1);
    ck_assert_int_gt(ranges.all[0].first_offset, 0); /* there lies the aborted one */
}
END_TEST

/* Out of file descriptors, or a certificate's file is being replaced: what was
 * right when the relay started will be right again. */
START_TEST(test_outlet_outlives_a_producer_that_cannot_be_made)
{
    outlet.options.properties =
        SAGA_PAIRS({ "security.protocol", "ssl" }, { "ssl.ca.location", "/nowhere.pem" });
    for (int i = 0; i < 2; i++) {
        given_outlet(NULL);
        ck_assert(!sent(1));
        outlet_serve(&outlet, 10, false);
        ck_assert(outlet_broken(&outlet));
        outlet_close(&outlet);
    }
    ck_assert_int_ne(complained_ms, 0);
    outlet.options.properties = NULL;
    given_outlet(NULL);
    WAIT_UNTIL(sent(1), 5000);
    WAIT_UNTIL((outlet_serve(&outlet, 10, false), acks() > 0), 5000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_outlet",
        .tests = TESTS(test_outlet_closes_within_its_time_while_the_broker_is_silent,
                       test_outlet_knows_the_size_of_the_first_message_of_a_topic,
                       test_outlet_o10_counts_nothing_of_an_aborted_transaction,
                       test_outlet_outlives_a_producer_that_cannot_be_made),
        .setup = setup,
        .teardown = teardown,
    });
}
