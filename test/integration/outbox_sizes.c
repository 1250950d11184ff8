/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large a message may be: counted beforehand as the broker counts, and
 * where the broker refuses all the same, blamed on nobody who is innocent.
 */
#include "test/support/given_outbox.h"
#include "test/support/mock.h"
#include "test/support/parked.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

/* --- O26: the size ----------------------------------------------------------- */

/* Before it does, what is too large is sent, and refused. */
static bool
knows_the_limit(const struct relay_thread *relay)
{
    int64_t refused = relay_stats(relay).refused;

    enqueue_large(conn, topic, NULL, "large", 3000); /* a key would be parked with it */
    WAIT_UNTIL(pending(conn) == 0, 10000);
    return relay_stats(relay).refused == refused;
}

struct relay_counts {
    int64_t refused, parked;
};

static struct relay_counts
counts_of(const struct relay_thread *relay)
{
    return (struct relay_counts){ relay_stats(relay).refused,
                                  db_int(conn, "SELECT count(*) FROM outbox.parked") };
}

/* The brokers may take longer to answer than a relay waits for their answer. */
static struct relay_thread *
given_relay_that_knows_the_limit(void)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = conninfo));

    WAIT_UNTIL(knows_the_limit(relay), 20000);
    return relay;
}

START_TEST(test_relay_o26_small_ones_whose_batch_would_be_too_large_are_not_parked)
{
    struct relay_thread *relay;
    struct relay_counts before;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    relay = given_relay_that_knows_the_limit();
    before = counts_of(relay);
    for (int i = 0; i < 60; i++)
        enqueue_large(conn, topic, text_of("k%d", i % 7), text_of("m%d", i), 20 + i * 7 % 150);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_int_eq(counts_of(relay).parked, before.parked);
    ck_assert_int_eq(published_count(topic), 60);
    ck_assert_int_eq(counts_of(relay).refused, before.refused);
}
END_TEST

/* The relay counts as the broker does: nothing that it sends is refused, and
 * nothing stays behind that would have been taken. */
START_TEST(test_relay_o26_sizes_are_counted_to_the_byte)
{
    struct relay_thread *relay;
    struct relay_counts before;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    relay = given_relay_that_knows_the_limit();
    before = counts_of(relay);
    db_exec(conn,
            "SELECT outbox.enqueue('%s', convert_to(rpad('', n, 'x'), 'UTF8'), k,"
            "                      '{\"trace\": \"t\", \"empty\": \"\"}')"
            "  FROM generate_series(1780, 1900) n,"
            "       LATERAL (VALUES (NULL), ('key' || n)) AS keys (k)",
            topic);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_int_eq(counts_of(relay).refused, before.refused);
    ck_assert_int_gt(published_count(topic), 0);
    ck_assert_int_eq(counts_of(relay).parked - before.parked + published_count(topic), 242);
    ck_assert_int_eq(
        db_int(conn,
               "SELECT count(*) FROM outbox.parked WHERE error LIKE '%%(2001 bytes; 2000 %%'"),
        2);
}
END_TEST

/* What only the broker can know: how small it becomes. */
START_TEST(test_relay_o26_with_compression_the_broker_says_what_is_too_large)
{
    struct relay_thread *relay;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    enqueue_large(conn, topic, "k1", "ZEROS", 50000);
    db_exec(conn,
            "SELECT outbox.enqueue('%s', (SELECT decode(string_agg(md5(g::text), ''), 'hex')"
            " FROM generate_series(1, 1000) g), 'k2')",
            topic);
    enqueue(conn, topic, "k1", "a");
    enqueue(conn, topic, "k2", "b");
    relay = start_relay(
        RELAY(.conninfo = conninfo, .kafka = SAGA_PAIRS({ "compression.type", "gzip" })));
    WAIT_UNTIL(pending(conn) == 0, 15000);
    ck_assert_str_eq(arrived(topic), "ZEROS a");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked WHERE key = 'k2'"), 2);
    ck_assert_int_eq(relay_stats(relay).parked, 2);
}
END_TEST

/* --- the broker says so ------------------------------------------------------- */

START_TEST(test_relay_o26_a_limit_that_drops_while_it_runs_parks_no_innocent)
{
    struct relay_thread *relay;

    topic = GIVEN_TOPIC(1);
    relay = start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, "k0", "first");
    WAIT_UNTIL(relay_stats(relay).published == 1, 10000);
    ALTER_TOPIC(topic, "max.message.bytes=2000");
    db_exec(conn, "BEGIN");
    for (int i = 0; i < 10; i++)
        enqueue_large(conn, topic, text_of("k%d", i), text_of("a%d", i), 400);
    enqueue_large(conn, topic, "k3", "LARGE", 5000);
    for (int i = 0; i < 10; i++)
        enqueue_large(conn, topic, text_of("k%d", i), text_of("b%d", i), 400);
    db_exec(conn, "COMMIT");
    WAIT_UNTIL(pending(conn) == 0, 15000);
    ck_assert_str_eq(parked(conn), "LARGE b3");
    ck_assert_int_eq(published_count(topic), 20);
    ck_assert_int_eq(relay_stats(relay).parked, 2);
    ck_assert_str_eq(published_first(topic), published(topic));
    /* And one that can be known beforehand. */
    enqueue_large(conn, topic, "k4", "LARGE", 5000);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.parked") == 3, 5000);
}
END_TEST

/* Where the brokers do not tell their limits, only a message that is refused
 * alone is to blame. */
START_TEST(test_relay_o26_only_what_is_refused_alone_is_parked)
{
    struct relay_thread *relay;
    given_mock_topic();
    enqueue_many(conn, topic, "m", 5);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE); /* all five */
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_NO_ERROR);           /* m1 alone */
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE); /* m2 alone */
    relay = start_relay(RELAY(.conninfo = conninfo));
    WAIT_UNTIL(pending(conn) == 0, 15000);
    ck_assert_str_eq(published(topic), "m1 m3 m4 m5");
    ck_assert_str_eq(parked(conn), "m2");
    ck_assert_int_eq(relay_stats(relay).published, 4);
    ck_assert_int_eq(relay_stats(relay).parked, 1);
}
END_TEST

START_TEST(test_relay_o26_a_batch_whose_messages_pass_alone_parks_nothing)
{
    given_mock_topic();
    enqueue_many(conn, topic, "m", 20);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    publish_once(conninfo);
    ck_assert_int_eq(published_count(topic), 20);
    ck_assert_str_eq(parked(conn), "");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_sizes",
        .tests = TESTS(test_relay_o26_small_ones_whose_batch_would_be_too_large_are_not_parked,
                       test_relay_o26_sizes_are_counted_to_the_byte,
                       test_relay_o26_with_compression_the_broker_says_what_is_too_large,
                       test_relay_o26_a_limit_that_drops_while_it_runs_parks_no_innocent,
                       test_relay_o26_only_what_is_refused_alone_is_parked,
                       test_relay_o26_a_batch_whose_messages_pass_alone_parks_nothing),
        .setup = given_outbox,
        .timeout_s = 60,
    });
}
