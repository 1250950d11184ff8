/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * What the relay does when the broker fails: nothing is lost, nothing is
 * skipped, first occurrences stay in order. Faults are injected into
 * librdkafka's mock cluster; what is claimed about Kafka is claimed of the real
 * one at the end.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *conninfo;
static PGconn *conn;
static const char *topic;
static struct mock *mock;

static void
given_outbox(void)
{
    conninfo = given_database();
    conn = db_connect(conninfo);
    topic = unique_name("topic");
}

static void
given_outbox_and_mock(void)
{
    given_outbox();
    mock = given_mock();
    mock_topic(mock, topic, 1);
}

/* "prefix1 prefix2 ... prefixN" */
static const char *
numbered(const char *prefix, int n)
{
    char *text = calloc((size_t)n, strlen(prefix) + 8);

    ck_assert_ptr_nonnull(text);
    at_test_end(free, text);
    for (int i = 1; i <= n; i++)
        strcat(text, text_of("%s%s%d", i > 1 ? " " : "", prefix, i));
    return text;
}

/* --- O10: what the cursor rests on ---------------------------------------- */

START_TEST(test_relay_o10_errors_of_requests_lose_and_reorder_nothing)
{
    struct relay_thread *relay;

    given_outbox_and_mock();
    enqueue_many(conn, topic, "m", 300);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_NO_ERROR);
    mock_produce_errors(mock, 2, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT);
    relay = start_relay(RELAY(.conninfo = conninfo, .page_rows = 50));
    WAIT_UNTIL(relay_stats(relay).published == 300, 15000);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic), numbered("m", 300));
    ck_assert_int_eq(pending(conn), 0);
}
END_TEST

/* A refusal that need not be for ever: the message is tried again and again, and
 * the cursor stays before it. */
START_TEST(test_relay_o10_o17_cursor_stays_before_a_refused_message)
{
    struct relay_thread *relay;
    struct saga_error err;

    given_outbox_and_mock();
    enqueue_many(conn, topic, "m", 20);
    mock_produce_errors(mock, 3, RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP);
    relay = start_relay(RELAY(.conninfo = conninfo));
    WAIT_UNTIL(relay_stats(relay).refused > 0, 10000);
    WAIT_UNTIL(relay_stats(relay).producers > 1, 10000);
    WAIT_UNTIL(relay_stats(relay).published == 20, 15000);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic), numbered("m", 20));
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo), &err), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked"), 0);
}
END_TEST

/* The queue of the producer runs empty and flushing it succeeds, but nothing
 * was written: only delivery reports tell. */
START_TEST(test_relay_o17_nothing_is_published_while_the_broker_refuses)
{
    struct relay_thread *relay;

    given_outbox_and_mock();
    enqueue_many(conn, topic, "m", 5);
    mock_produce_errors(mock, 200, RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED);
    relay = start_relay(RELAY(.conninfo = conninfo));
    WAIT_UNTIL(relay_stats(relay).refused >= 10, 10000);
    ck_assert_int_eq(relay_stats(relay).parked, 0);
    ck_assert_int_eq(relay_stats(relay).published, 0);
    ck_assert_int_eq(pending(conn), 5);
    ck_assert_int_eq(db_int(conn, "SELECT last_seq FROM outbox.stream"), 0);
    ck_assert_int_eq(published_count(topic), 0);
}
END_TEST

/* --- O12: a small queue, errors, one partition ------------------------------ */

START_TEST(test_relay_o12_order_holds_with_a_full_queue_and_errors)
{
    struct relay_thread *relay;
    unsigned seed = 12;

    given_outbox_and_mock();
    enqueue_many(conn, topic, "m", 500);
    for (int i = 0; i < 60; i++)
        mock_produce_errors(mock, 1,
                            rand_r(&seed) % 3 == 0 ? RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
                                                   : RD_KAFKA_RESP_ERR_NO_ERROR);
    relay = start_relay(
        RELAY(.conninfo = conninfo, .kafka = SAGA_PAIRS({ "queue.buffering.max.messages", "10" },
                                                        { "retry.backoff.ms", "10" })));
    WAIT_UNTIL(relay_stats(relay).published == 500, 25000);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic), numbered("m", 500));
}
END_TEST

/* --- O13: the producer gives up --------------------------------------------- */

START_TEST(test_relay_o13_a_fatal_error_means_a_new_producer)
{
    struct relay_thread *relay;

    given_outbox_and_mock();
    enqueue_many(conn, topic, "m", 100);
    /* A sequence error that cannot be explained is fatal to librdkafka. */
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_NO_ERROR);
    mock_produce_errors(mock, 1, RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    relay = start_relay(
        RELAY(.conninfo = conninfo, .kafka = SAGA_PAIRS({ "batch.num.messages", "10" })));
    WAIT_UNTIL(relay_stats(relay).published == 100, 15000);
    ck_assert_int_gt(relay_stats(relay).producers, 1);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic), numbered("m", 100));
}
END_TEST

/* --- O11, O6: outages -------------------------------------------------------- */

START_TEST(test_relay_o11_o6_an_outage_costs_only_time)
{
    struct relay_thread *relay;

    given_outbox_and_mock();
    relay = start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, "k", "m1");
    await_published(topic, "m1", 10000);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    mock_down(mock, true);
    for (int i = 2; i <= 40; i++)
        enqueue(conn, topic, "k", text_of("m%d", i));
    WAIT_UNTIL(db_int(conn, "SELECT (cur IS NOT NULL)::int FROM outbox.stream") == 1, 5000);
    /* The relay's sessions hold no transaction and no snapshot meanwhile. */
    STAYS_TRUE(db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                            " current_database() AND application_name LIKE 'outbox-relay%%'"
                            " AND state <> 'active'"
                            " AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)") == 0,
               1500);
    ck_assert_int_eq(pending(conn), 39);
    mock_down(mock, false);
    WAIT_UNTIL(relay_stats(relay).published == 40, 15000);
    /* Nothing was given up, so nothing can have been overtaken. */
    ck_assert_int_eq(relay_stats(relay).refused, 0);
    ck_assert_int_eq(relay_stats(relay).producers, 1);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published(topic), numbered("m", 40));
}
END_TEST

static void
note_trouble(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)level;
    (void)fields;
    if (strstr(message, "trouble with Kafka") != NULL)
        atomic_store((atomic_bool *)user, true);
}

/* It keeps its connections and answers nothing: what is on its way is sent again
 * by a new one. */
START_TEST(test_relay_o11_a_broker_that_hangs_is_given_up_in_time)
{
    struct relay_thread *relay;
    atomic_bool trouble = false;

    given_outbox_and_mock();
    relay = start_relay(
        RELAY(.conninfo = conninfo, .kafka = SAGA_PAIRS({ "socket.timeout.ms", "1000" }),
              .log = { .write = note_trouble, .user = &trouble, .level = SAGA_LOG_WARNING }));
    enqueue(conn, topic, "k", "m1");
    WAIT_UNTIL(relay_stats(relay).published == 1, 10000);
    mock_delay(mock, 60000);
    enqueue(conn, topic, "k", "m2");
    WAIT_UNTIL(atomic_load(&trouble), 8000);
    mock_delay(mock, 0);
    WAIT_UNTIL(relay_stats(relay).published == 2, 8000);
    ck_assert_int_eq(relay_stats(relay).producers, 1);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic), "m1 m2");
}
END_TEST

/* --- a producer that cannot be made ------------------------------------------- */

static void
note_no_producer(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)level;
    (void)fields;
    if (strstr(message, "cannot make a producer") != NULL)
        atomic_store((atomic_bool *)user, true);
}

static int64_t
lease_until_ms(void)
{
    return db_int(conn, "SELECT (1000 * extract(epoch FROM lease_until))::bigint"
                        "  FROM outbox.stream");
}

/* The certificates are being replaced just when it takes the stream. */
START_TEST(test_relay_keeps_its_lease_while_no_producer_can_be_made)
{
    const char *ca = text_of("%s/test-output/%s", build_dir(), unique_name("ca"));
    struct relay_thread *relay;
    atomic_bool noted = false;
    int64_t until_ms;

    given_outbox_and_mock();
    enqueue(conn, topic, "k", "1");
    run_process(ARGS("mkdir", "-p", ca));
    db_exec(conn, "UPDATE outbox.stream SET owner = gen_random_uuid(),"
                  " lease_until = now() + interval '1 minute'");
    relay = start_relay(
        RELAY(.conninfo = conninfo, .lease_ms = 900, .drain_ms = 100,
              .kafka = SAGA_PAIRS({ "security.protocol", "ssl" }, { "ssl.ca.location", ca }),
              .log = { .write = note_no_producer, .user = &noted, .level = SAGA_LOG_WARNING }));
    WAIT_UNTIL(relay_stats(relay).state == SAGA_RELAY_STANDBY, 5000);
    run_process(ARGS("rmdir", ca));
    db_exec(conn, "UPDATE outbox.stream SET lease_until = now()");
    WAIT_UNTIL(atomic_load(&noted), 5000);
    until_ms = lease_until_ms();
    WAIT_UNTIL(lease_until_ms() > until_ms + 600, 10000); /* renewed, and that again */
    ck_assert_int_eq(relay_stats(relay).acquired, 1);
    run_process(ARGS("mkdir", ca));
    WAIT_UNTIL(relay_stats(relay).waiting == 1, 5000); /* librdkafka has taken it */
    ck_assert_int_eq(stop_relay(relay), 0);
    run_process(ARGS("rmdir", ca));
}
END_TEST

START_TEST(test_relay_stops_in_time_while_the_broker_is_silent)
{
    struct relay_thread *relay;
    int64_t began;

    given_outbox_and_mock();
    mock_delay(mock, 60000);
    enqueue_many(conn, topic, "m", 10);
    relay = start_relay(RELAY(.conninfo = conninfo, .drain_ms = 200));
    WAIT_UNTIL(db_int(conn, "SELECT (cur IS NOT NULL)::int FROM outbox.stream") == 1, 5000);
    began = monotonic_us();
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_int_lt(monotonic_us() - began, 5000000);
    ck_assert_int_eq(db_int(conn, "SELECT (owner IS NULL)::int FROM outbox.stream"), 1);
    ck_assert_int_eq(pending(conn), 10);
}
END_TEST

/* --- on real Kafka ------------------------------------------------------------ */

START_TEST(test_relay_record_has_key_headers_and_id)
{
    struct records records;
    const char *id;

    given_outbox();
    topic = GIVEN_TOPIC(1);
    id = db_text(conn, "SELECT outbox.enqueue('%s', 'v', 'k', '{\"a\": \"1\", \"b\": \"\"}')",
                 topic);
    db_exec(conn, "SELECT outbox.enqueue('%s', NULL, 'k')", topic);
    db_exec(conn, "SELECT outbox.enqueue('%s', '')", topic);
    publish_once(conninfo);
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 3);
    ck_assert_str_eq(records.at[0].key, "k");
    ck_assert_str_eq(records.at[0].value, "v");
    ck_assert_uint_eq(records.at[0].n_headers, 3);
    ck_assert_str_eq(records.at[0].headers[0].name, "message-id");
    ck_assert_str_eq(records.at[0].headers[0].value, id);
    ck_assert_str_eq(record_header(&records.at[0], "a"), "1");
    ck_assert_str_eq(record_header(&records.at[0], "b"), "");
    /* A tombstone has no value; an empty one is a value. */
    ck_assert_ptr_null(records.at[1].value);
    ck_assert_ptr_null(records.at[2].key);
    ck_assert_ptr_nonnull(records.at[2].value);
    ck_assert_uint_eq(records.at[2].value_bytes, 0);
}
END_TEST

/* The values of Utils.murmur2() in Apache Kafka's own tests, modulo 7. */
START_TEST(test_relay_o20_keys_land_where_java_puts_them)
{
    static const struct {
        const char *key;
        int32_t murmur2;
    } vectors[] = {
        { "21", -973932308 },
        { "foobar", -790332482 },
        { "a-little-bit-long-string", -985981536 },
        { "a-little-bit-longer-string", -1486304829 },
        { "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971 },
        { "abc", 479470107 },
    };
    enum { N = sizeof vectors / sizeof *vectors };
    struct records records;

    given_outbox();
    topic = GIVEN_TOPIC(7);
    for (int i = 0; i < N; i++)
        enqueue(conn, topic, vectors[i].key, "x");
    publish_once(conninfo);
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, N);
    for (size_t r = 0; r < N; r++)
        for (size_t i = 0; i < N; i++)
            if (strcmp(records.at[r].key, vectors[i].key) == 0)
                ck_assert_msg(records.at[r].partition == (vectors[i].murmur2 & 0x7fffffff) % 7,
                              "%s is in partition %d", vectors[i].key, records.at[r].partition);
}
END_TEST

/* A broker that crashes in the middle and comes back. */
START_TEST(test_relay_o11_a_crash_of_kafka_loses_and_reorders_nothing)
{
    struct server *kafka = GIVEN_SERVER("kafka");
    struct relay_thread *relay;

    given_outbox();
    use_brokers(kafka->address);
    topic = GIVEN_TOPIC(1);
    relay = start_relay(RELAY(.conninfo = conninfo, .page_rows = 100));
    enqueue_many(conn, topic, "a", 1000);
    WAIT_UNTIL(relay_stats(relay).published > 0, 20000);
    server_kill(kafka);
    db_exec(conn,
            "SELECT outbox.enqueue('%s', convert_to('b' || g, 'UTF8'), 'k')"
            " FROM generate_series(1, 100) g",
            topic);
    server_start(kafka);
    WAIT_UNTIL(pending(conn) == 0, 40000);
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_str_eq(published_first(topic),
                     text_of("%s %s", numbered("a", 1000), numbered("b", 100)));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_broker",
        .tests = TESTS(test_relay_o10_errors_of_requests_lose_and_reorder_nothing,
                       test_relay_o10_o17_cursor_stays_before_a_refused_message,
                       test_relay_o17_nothing_is_published_while_the_broker_refuses,
                       test_relay_o12_order_holds_with_a_full_queue_and_errors,
                       test_relay_o13_a_fatal_error_means_a_new_producer,
                       test_relay_o11_o6_an_outage_costs_only_time,
                       test_relay_o11_a_broker_that_hangs_is_given_up_in_time,
                       test_relay_keeps_its_lease_while_no_producer_can_be_made,
                       test_relay_stops_in_time_while_the_broker_is_silent,
                       test_relay_record_has_key_headers_and_id,
                       test_relay_o20_keys_land_where_java_puts_them,
                       test_relay_o11_a_crash_of_kafka_loses_and_reorders_nothing),
        .timeout_s = 90,
    });
}
