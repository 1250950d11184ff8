/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * Messages that Kafka will never take: they and the later ones of their keys
 * are parked, everything else flows, and what operators do about it keeps the
 * order of each key. On the real Kafka, where nothing else is said.
 */
#include "test/support/given_outbox.h"
#include "test/support/mock.h"
#include "test/support/parked.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

static void
retry(const char *key)
{
    db_exec(conn, "SELECT outbox.retry('%s', %s, 'mended')", topic,
            key != NULL ? text_of("'%s'", key) : "NULL");
}

/* --- parked and let go ------------------------------------------------------- */

START_TEST(test_relay_o14_o26_only_the_large_one_and_the_later_ones_of_its_key_are_parked)
{
    struct saga_error err;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    enqueue(conn, topic, "k1", "a");
    enqueue(conn, topic, "k2", "b");
    enqueue_large(conn, topic, "k1", "LARGE", 3000);
    enqueue(conn, topic, "k1", "c");
    enqueue(conn, topic, "k2", "d");
    enqueue_large(conn, topic, NULL, "KEYLESS", 3000);
    enqueue(conn, topic, NULL, "e");
    enqueue(conn, topic, "k3", "f");
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "a b d e f");
    ck_assert_str_eq(parked(conn), "LARGE c KEYLESS");
    ck_assert_int_eq(parked_keys(conn), 1);
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(status || ' ' || n, ', ' ORDER BY status)"
                                   "  FROM (SELECT status, count(*) AS n"
                                   "          FROM outbox.local_messages GROUP BY status) s"),
                     "parked 3, published 5");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(attempts::text, ' ' ORDER BY seq)"
                                   " FROM outbox.parked"),
                     "1 0 1");
    ck_assert_ptr_nonnull(
        strstr(db_text(conn, "SELECT error FROM outbox.parked_key"), "max.message.bytes"));
    ck_assert_int_eq(pending(conn), 0);

    /* Later ones of the key wait behind it, also for a relay that is new. */
    enqueue(conn, topic, "k1", "g");
    enqueue(conn, topic, "k2", "h");
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo), &err), 0);
    ck_assert_str_eq(arrived(topic), "a b d e f h");
    ck_assert_str_eq(parked(conn), "LARGE c KEYLESS g");

    ALTER_TOPIC(topic, "max.message.bytes=100000");
    retry("k1");
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "a b d e f h LARGE c g");
    ck_assert_str_eq(parked(conn), "KEYLESS");
    ck_assert_int_eq(parked_keys(conn), 0);
    retry(NULL);
    enqueue(conn, topic, "k1", "i");
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "a b d e f h LARGE c g KEYLESS i");
    ck_assert_str_eq(parked(conn), "");
}
END_TEST

/* --- O14: topics ---------------------------------------------------------------- */

START_TEST(test_relay_o14_unknown_and_forbidden_topics_park_and_others_flow)
{
    struct server *kafka = GIVEN_SERVER(
        "kafka", "auto.create.topics.enable=false", "allow.everyone.if.no.acl.found=true",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    const char *unknown = unique_name("unknown"), *forbidden;
    struct relay_thread *relay;

    use_brokers(kafka->address);
    topic = GIVEN_TOPIC(1);
    forbidden = GIVEN_TOPIC(1);
    forbid_topic(forbidden, true);
    relay =
        start_relay(RELAY(.conninfo = conninfo,
                          .kafka = SAGA_PAIRS({ "topic.metadata.propagation.max.ms", "1000" })));
    for (int i = 1; i <= 3; i++) {
        enqueue(conn, unknown, "k", text_of("u%d", i));
        enqueue(conn, forbidden, "k", text_of("f%d", i));
        enqueue(conn, topic, "k", text_of("m%d", i));
    }
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.parked") == 6, 15000);
    ck_assert_str_eq(
        db_text(conn, "SELECT error FROM outbox.parked_key WHERE topic = '%s'", forbidden),
        "the relay may not write to the topic");
    ck_assert_ptr_nonnull(
        strstr(db_text(conn, "SELECT error FROM outbox.parked_key WHERE topic = '%s'", unknown),
               "does not exist"));
    /* Another key of such a topic is not even tried, for a minute. */
    enqueue(conn, unknown, "other", "u4");
    enqueue(conn, topic, "k", "m4");
    WAIT_UNTIL(strcmp(published_first(topic), "m1 m2 m3 m4") == 0, 900);

    create_topic(unknown, 1, NULL);
    forbid_topic(forbidden, false);
    db_exec(conn, "SELECT outbox.retry(topic, key, 'made, allowed') FROM outbox.parked_key");
    WAIT_UNTIL(parked_keys(conn) == 0, 10000);
    ck_assert_str_eq(parked(conn), "");
    expect_published(forbidden, "f1 f2 f3");
    ck_assert_int_eq(published_count(unknown), 4);
    ck_assert_int_eq(relay_stats(relay).published, 11);
}
END_TEST

/* One broker that has just started does not know a topic yet, and librdkafka takes
 * nothing for it any more, although it has delivered to it before. */
START_TEST(test_relay_o14_a_topic_that_seems_to_have_vanished_parks_nothing)
{
    const struct saga_pair often[] = { { "topic.metadata.refresh.interval.ms", "50" }, { 0 } };
    struct relay_thread *relay;
    int n = 0;

    given_mock_topic();
    relay = start_relay(RELAY(.conninfo = conninfo, .kafka = often));
    enqueue(conn, topic, "k", "0");
    WAIT_UNTIL(pending(conn) == 0, 10000);
    mock_topic_error(mock, topic, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    WAIT_UNTIL((n++, enqueue(conn, topic, "k", text_of("%d", n)),
                relay_stats(relay).producers > 1 || parked_keys(conn) > 0),
               10000);
    mock_topic_error(mock, topic, 0);
    WAIT_UNTIL(pending(conn) == 0, 15000);
    ck_assert_int_eq(parked_keys(conn), 0);
    ck_assert_int_eq(published_count(topic), n + 1);
}
END_TEST

/* --- O27: retry and newer messages ---------------------------------------------- */

enum { KEYS = 12, WRITES = 240 };

/* A message with the next number of its key, "key:number", in one statement. */
static void
enqueue_next(PGconn *on, int key, int bytes)
{
    db_exec(on,
            "WITH u AS (UPDATE numbered SET n = n + 1 WHERE key = 'k%d' RETURNING key, n)"
            " SELECT outbox.enqueue('%s', convert_to(rpad(key || ':' || n, %d, '.'), 'UTF8'), key)"
            "   FROM u",
            key, topic, bytes);
}

/* All messages of all keys, each once, in order. */
static void
expect_all_in_order(bool once)
{
    struct records records = topic_records(topic);
    int64_t last[KEYS] = { 0 };

    for (size_t i = 0; i < records.n; i++) {
        int key, n;

        ck_assert_int_eq(sscanf(records.at[i].value, "k%d:%d", &key, &n), 2);
        ck_assert_msg(n == last[key] + 1 || (!once && n <= last[key]), "k%d: %d after %d", key, n,
                      (int)last[key]);
        if (n > last[key])
            last[key] = n;
    }
    for (int key = 0; key < KEYS; key++)
        ck_assert_int_eq(last[key], db_int(conn, "SELECT n FROM numbered WHERE key = 'k%d'", key));
}

static void
given_numbered_keys(void)
{
    db_exec(conn,
            "CREATE TABLE numbered AS SELECT 'k' || g AS key, 0 AS n"
            " FROM generate_series(0, %d) g",
            KEYS - 1);
}

START_TEST(test_relay_o27_newer_messages_at_every_moment_of_a_retry_do_not_overtake)
{
    struct relay_thread *relay;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    given_numbered_keys();
    relay = start_relay(RELAY(.conninfo = conninfo, .idle_ms = 2, .page_rows = 5));
    for (int key = 0; key < KEYS; key++) {
        enqueue_next(conn, key, 20);
        enqueue_next(conn, key, 3000);
        enqueue_next(conn, key, 20);
    }
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.parked") == 2 * KEYS, 10000);
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    /* Every key is retried while others, and itself, are written to. */
    for (int i = 0; i < WRITES; i++) {
        if (i % (WRITES / KEYS) == 7)
            retry(text_of("k%d", i / (WRITES / KEYS)));
        enqueue_next(conn, i % 3 == 0 ? i / 3 % KEYS : i / (WRITES / KEYS), 20);
    }
    WAIT_UNTIL(parked_keys(conn) == 0, 15000);
    WAIT_UNTIL(pending(conn) == 0, 15000);
    ck_assert_str_eq(parked(conn), "");
    expect_all_in_order(true);
    ck_assert_int_eq(stop_relay(relay), 0);
}
END_TEST

/* 3 is committed before the retry is asked for, and has not been read yet. */
START_TEST(test_relay_o27_retry_does_not_overtake_what_is_committed_but_not_read)
{
    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    enqueue_large(conn, topic, "k", "1", 3000);
    enqueue(conn, topic, "k", "2");
    publish_once(conninfo);
    ck_assert_str_eq(parked(conn), "1 2");
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    enqueue(conn, topic, "k", "3");
    retry("k");
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "1 2 3");
    ck_assert_int_eq(parked_keys(conn), 0);
}
END_TEST

/* Nothing is published behind what is not acknowledged: the marker stays. */
START_TEST(test_relay_o27_a_key_is_released_after_its_acknowledgement)
{
    struct relay_thread *relay;
    given_mock_topic();
    mock_produce_errors(mock, 2, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    enqueue(conn, topic, "k", "1");
    relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 600));
    WAIT_UNTIL(parked_keys(conn) == 1, 10000);
    mock_down(mock, true);
    retry("k");
    enqueue(conn, topic, "k", "2");
    STAYS_TRUE(parked_keys(conn) == 1 && *parked(conn) == '1', 1000);
    ck_assert_str_eq(db_text(conn, "SELECT error FROM outbox.parked_key"),
                     "larger than the topic's max.message.bytes"); /* by the broker's word only */
    ck_assert(!relay_ended(relay));
    mock_down(mock, false);
    WAIT_UNTIL(parked_keys(conn) == 0, 15000);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_str_eq(published_first(topic), "1 2");
    ck_assert_int_eq(db_int(conn, "SELECT epoch FROM outbox.stream"), 1);
}
END_TEST

START_TEST(test_relay_what_is_refused_again_stays_with_the_new_error)
{
    const char *error;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    enqueue_large(conn, topic, "k", "LARGE", 3000);
    enqueue(conn, topic, "k", "a");
    enqueue_large(conn, topic, "k", "LARGER", 30000);
    enqueue(conn, topic, "k", "b");
    enqueue_large(conn, topic, NULL, "KEYLESS", 3000);
    enqueue_large(conn, topic, NULL, "KEYLESS_LARGER", 30000);
    enqueue_large(conn, topic, NULL, "KEYLESS", 3000);
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "");
    ALTER_TOPIC(topic, "max.message.bytes=10000");
    retry("k");
    retry(NULL);
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "LARGE a KEYLESS KEYLESS");
    ck_assert_str_eq(parked(conn), "LARGER b KEYLESS_LARGER");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(attempts::text, ' ' ORDER BY seq)"
                                   " FROM outbox.parked"),
                     "1 0 2");
    error = db_text(conn, "SELECT error FROM outbox.parked ORDER BY seq LIMIT 1");
    ck_assert_ptr_nonnull(strstr(error, "max.message.bytes"));
    ck_assert_ptr_null(strstr(error, "2000 are")); /* 10000, or nothing if the answer came late */
    ck_assert_int_eq(db_int(conn, "SELECT count(request) FROM outbox.parked_key"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(request) FROM outbox.parked"), 0);
    ck_assert_int_eq(parked_keys(conn), 1);
}
END_TEST

/* Many pages, in turn with what else there is to do. */
START_TEST(test_relay_retries_in_pages)
{
    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    given_numbered_keys();
    enqueue_next(conn, 0, 3000);
    for (int i = 0; i < 100; i++)
        enqueue_next(conn, i % 2, 20);
    publish_once(conninfo);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked"), 51);
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    retry("k0");
    for (int i = 0; i < 20; i++)
        enqueue_next(conn, i % 2, 20);
    {
        struct saga_error err;

        ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .page_rows = 7), &err), 0);
    }
    expect_all_in_order(true);
}
END_TEST

/* Each key, and each message without one, has its stream and its owner. */
START_TEST(test_relay_retries_in_every_stream)
{
    struct relay_thread *relays[3];

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    given_numbered_keys();
    db_exec(conn, "SELECT outbox.set_streams(3)");
    for (int i = 0; i < 3; i++)
        relays[i] = start_relay(RELAY(.conninfo = conninfo, .stream = i, .idle_ms = 2));
    for (int key = 0; key < KEYS; key++) {
        enqueue_next(conn, key, 3000);
        enqueue_next(conn, key, 20);
    }
    WAIT_UNTIL(parked_keys(conn) == KEYS, 10000);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    db_exec(conn, "SELECT outbox.retry(topic, key, 'mended') FROM outbox.parked_key");
    for (int key = 0; key < KEYS; key++)
        enqueue_next(conn, key, 20);
    WAIT_UNTIL(parked_keys(conn) == 0, 15000);
    WAIT_UNTIL(pending(conn) == 0, 15000);
    expect_all_in_order(true);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(stop_relay(relays[i]), 0);
}
END_TEST

/* --- what operators do ------------------------------------------------------------ */

START_TEST(test_relay_o14_discarding_lets_the_rest_go_on)
{
    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    start_relay(RELAY(.conninfo = conninfo));
    enqueue_large(conn, topic, "k", "LARGE", 3000);
    enqueue(conn, topic, "k", "a");
    enqueue_large(conn, topic, "alone", "LARGE", 3000);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.parked") == 3, 10000);
    db_exec(conn, "SELECT outbox.discard(message_id, 'useless') FROM outbox.parked"
                  " WHERE attempts = 1");
    /* Nothing is left of the one key; the other waits for a retry. */
    WAIT_UNTIL(parked_keys(conn) == 1, 5000);
    enqueue(conn, topic, "alone", "b");
    await_published(topic, "b", 5000);
    ck_assert_str_eq(parked(conn), "a");
    /* What was wrong with the one that is gone is not told of the one that is left. */
    ck_assert_str_eq(db_text(conn, "SELECT DISTINCT error FROM (SELECT error FROM outbox.parked_key"
                                   " UNION ALL SELECT error FROM outbox.parked) AS e"),
                     "the message before it was discarded; it needs a retry");
    retry("k");
    enqueue(conn, topic, "k", "c");
    await_published(topic, "b a c", 5000);
    WAIT_UNTIL(parked_keys(conn) == 0, 5000);
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(verb || ' ' || coalesce(key, '-') || ' ' ||"
                                   " reason, ', ' ORDER BY id) FROM outbox.audit"),
                     "discard k useless, discard alone useless, retry k mended");
}
END_TEST

/* All streams go back to the oldest position, before what was parked; the cause is
 * mended, so that whatever is read again would arrive. */
START_TEST(test_set_streams_o32_brings_nothing_back_that_was_discarded)
{
    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    db_exec(conn, "SELECT outbox.set_streams(2)");
    enqueue_large(conn, topic, "order-1", "BEFORE", 3000);
    enqueue(conn, topic, "order-1", "a");
    enqueue_large(conn, topic, "order-2", "AFTER", 3000);
    publish_once(conninfo); /* stream 0, which has both keys; the other stays behind */
    ck_assert_str_eq(parked(conn), "BEFORE a AFTER");
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    db_exec(conn, "SELECT outbox.discard(message_id, 'x') FROM outbox.parked WHERE seq = 1");
    ck_assert_int_eq(db_int(conn, "SELECT published_again FROM outbox.set_streams(1)"), 0);
    ck_assert_int_eq(pending(conn), 0);
    db_exec(conn, "SELECT outbox.discard(message_id, 'x') FROM outbox.parked WHERE seq = 3");
    retry("order-1");
    publish_once(conninfo);
    enqueue(conn, topic, "order-2", "b");
    publish_once(conninfo);
    ck_assert_str_eq(arrived(topic), "a b");
    ck_assert_str_eq(parked(conn), "");
    ck_assert_str_eq(db_text(conn, "SELECT s.status FROM outbox.message m,"
                                   " outbox.show(m.message_id) s WHERE m.seq = 1"),
                     "discarded");
}
END_TEST

#define REFUSED(state, ...) ck_assert_str_eq(db_refusal(conn, __VA_ARGS__), state)

START_TEST(test_outbox_retry_and_discard_say_what_they_cannot_do)
{
    const char *id;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    enqueue_large(conn, topic, "k", "LARGE", 3000);
    enqueue_large(conn, topic, NULL, "KEYLESS", 3000);
    enqueue(conn, topic, "other", "a");
    publish_once(conninfo);
    id = db_text(conn, "SELECT message_id FROM outbox.parked WHERE key = 'k'");

    REFUSED("P0002", "SELECT outbox.retry('%s', 'other', 'because')", topic);
    REFUSED("P0002", "SELECT outbox.retry('other', 'k', 'because')");
    REFUSED("P0002", "SELECT outbox.retry('other', NULL, 'because')");
    REFUSED("P0002", "SELECT outbox.discard('00000000-0000-7000-8000-000000000001', 'because')");
    REFUSED("P0002", "SELECT outbox.discard(message_id, 'because') FROM outbox.message"
                     " WHERE key = 'other'");
    REFUSED("22023", "SELECT outbox.retry('%s', 'k', ' ')", topic);
    REFUSED("22023", "SELECT outbox.discard('%s', NULL)", id);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.audit"), 0);

    /* What the relay was asked to send must not be taken from under it. */
    retry("k");
    retry(NULL);
    retry("k"); /* once more is harmless */
    REFUSED("55000", "SELECT outbox.discard('%s', 'because')", id);
    REFUSED("55000", "SELECT outbox.discard(message_id, 'because') FROM outbox.parked"
                     " WHERE key IS NULL");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.audit WHERE verb = 'retry'"), 3);
    publish_once(conninfo);
    ck_assert_int_eq(db_int(conn, "SELECT min(attempts) FROM outbox.parked"), 2);
    db_exec(conn, "SELECT outbox.discard('%s', 'because')", id);
    ck_assert_str_eq(parked(conn), "KEYLESS");
}
END_TEST

/* A forgotten transaction of an operator holds nobody up. */
START_TEST(test_relay_does_not_wait_for_operators_transactions)
{
    struct relay_thread *relay;
    PGconn *operator;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    relay = start_relay(RELAY(.conninfo = conninfo));
    enqueue_large(conn, topic, "k", "LARGE", 3000);
    WAIT_UNTIL(parked_keys(conn) == 1, 10000);
    operator= open_transaction(conninfo);
    db_exec(operator, "SELECT outbox.discard(message_id, 'perhaps') FROM outbox.parked");
    enqueue(conn, topic, "k", "a");
    enqueue(conn, topic, "k2", "b");
    await_published(topic, "b", 2000);
    WAIT_UNTIL(pending(conn) == 0, 2000);
    ck_assert_str_eq(parked(conn), "LARGE a");
    db_exec(operator, "COMMIT");
    /* It was the only one as far as the operator could see. */
    await_published(topic, "b a", 5000);
    WAIT_UNTIL(parked_keys(conn) == 0, 5000);
    ck_assert_int_eq(stop_relay(relay), 0);
}
END_TEST

/* Looking for requests costs nothing while nothing is parked, and little else. */
START_TEST(test_relay_with_parked_keys_is_idle_all_the_same)
{
    struct relay_thread *relay;
    int64_t writes;

    topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 60000));
    enqueue_large(conn, topic, "k", "LARGE", 3000);
    WAIT_UNTIL(parked_keys(conn) == 1, 10000);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    writes = relay_stats(relay).cursor_writes;
    STAYS_TRUE(relay_stats(relay).cursor_writes <= writes + 2, 1000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_parked",
        .tests = TESTS(
            test_relay_o14_o26_only_the_large_one_and_the_later_ones_of_its_key_are_parked,
            test_relay_o14_unknown_and_forbidden_topics_park_and_others_flow,
            test_relay_o14_a_topic_that_seems_to_have_vanished_parks_nothing,
            test_relay_o27_newer_messages_at_every_moment_of_a_retry_do_not_overtake,
            test_relay_o27_retry_does_not_overtake_what_is_committed_but_not_read,
            test_relay_o27_a_key_is_released_after_its_acknowledgement,
            test_relay_what_is_refused_again_stays_with_the_new_error, test_relay_retries_in_pages,
            test_relay_retries_in_every_stream, test_relay_o14_discarding_lets_the_rest_go_on,
            test_set_streams_o32_brings_nothing_back_that_was_discarded,
            test_outbox_retry_and_discard_say_what_they_cannot_do,
            test_relay_does_not_wait_for_operators_transactions,
            test_relay_with_parked_keys_is_idle_all_the_same),
        .setup = given_outbox,
        .timeout_s = 60,
    });
}
