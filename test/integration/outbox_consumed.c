/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a message's status says of consumers: real groups on a real broker.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <string.h>

enum { PATIENCE_MS = 15000 };

static const char *conninfo, *topic;
static PGconn *conn;

static void
given_outbox(int partitions)
{
    conninfo = given_database();
    topic = GIVEN_TOPIC_(partitions, NULL);
    conn = db_connect(conninfo);
}

/* --- groups --------------------------------------------------------------- */

static rd_kafka_t *
client_of(const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *client;
    char why[256];

    rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), NULL, 0);
    rd_kafka_conf_set(conf, "group.id", group, NULL, 0);
    rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0);
    rd_kafka_conf_set(conf, "enable.auto.commit", "false", NULL, 0);
    client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    ck_assert_msg(client != NULL, "%s", why);
    return client;
}

/* A member joins, reads `n` records, commits and leaves. */
static void
consume(const char *group, int n)
{
    rd_kafka_t *client = client_of(group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    struct deadline deadline = deadline_in(PATIENCE_MS);

    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    ck_assert_int_eq(rd_kafka_subscribe(client, list), RD_KAFKA_RESP_ERR_NO_ERROR);
    while (n > 0) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 100);

        if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            n--;
        if (message != NULL)
            rd_kafka_message_destroy(message);
        ck_assert_msg(wait_a_little(&deadline), "%d records are missing", n);
    }
    ck_assert_int_eq(rd_kafka_commit(client, NULL, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

/* The same for a group that nobody is in. */
static void
commit(const char *group, int partition, int64_t offset)
{
    rd_kafka_t *client = client_of(group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
    ck_assert_int_eq(rd_kafka_commit(client, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
}

static void
delete_group(const char *group)
{
    rd_kafka_t *client = client_of(unique_name("admin"));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_DeleteGroup_t *deleted = rd_kafka_DeleteGroup_new(group);
    rd_kafka_event_t *event;

    rd_kafka_DeleteGroups(client, &deleted, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, PATIENCE_MS);
    ck_assert(event != NULL && rd_kafka_event_error(event) == 0);
    rd_kafka_event_destroy(event);
    rd_kafka_DeleteGroup_destroy(deleted);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(client);
}

/* --- what is seen of them ------------------------------------------------- */

#define WATCH(...)                                                                                 \
    (const char *const[])                                                                          \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }

/* "published consumed ..." in the order of the messages. */
static const char *
statuses(void)
{
    return db_text(conn, "SELECT string_agg(l.status, ' ' ORDER BY m.seq)"
                         "  FROM outbox.local_messages l JOIN outbox.message m"
                         "    ON m.message_id = l.id");
}

static bool
statuses_are(const char *expected)
{
    return strcmp(statuses(), expected) == 0;
}

/* The relay has seen it, and no range grows any more. */
static bool
committed_is(const char *group, int partition, int64_t offset)
{
    return db_int(conn,
                  "SELECT count(*) FROM outbox.watched WHERE group_name = '%s' AND topic = '%s'"
                  " AND partition = %d AND committed = %lld AND NOT EXISTS (SELECT FROM"
                  " outbox.published_range WHERE at > clock_timestamp() - interval '1 s')",
                  group, topic, partition, (long long)offset) == 1;
}
#define AWAIT_COMMITTED(group, partition, offset)                                                  \
    WAIT_UNTIL(committed_is((group), (partition), (offset)), PATIENCE_MS)

/* So that the next message comes into another range. */
static void
await_range_end(void)
{
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.published_range"
                            " WHERE at > clock_timestamp() - interval '0.6 s'") == 0,
               PATIENCE_MS);
}

/* --- tests ------------------------------------------------------------------ */

START_TEST(test_relay_consumed_follows_a_groups_commit)
{
    const char *group = unique_name("group");
    struct relay_thread *relay;

    given_outbox(2);
    relay = start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    enqueue_many(conn, topic, "m", 20);
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.local_messages"
                                  " WHERE status = 'published'"),
                     20);
    consume(group, 20);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.local_messages"
                            " WHERE status = 'consumed'") == 20,
               PATIENCE_MS);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.local_messages"), 20);
    ck_assert_int_eq(stop_relay(relay), 0);
    PQfinish(conn);
}
END_TEST

START_TEST(test_relay_consumed_waits_for_the_group_that_lags)
{
    const char *fast = unique_name("fast"), *slow = unique_name("slow");

    given_outbox(1);
    /* The third consumes another topic, or none: it does not count. */
    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(fast, slow, unique_name("idle"))));
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    await_range_end();
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    ck_assert_str_eq(statuses(), "published published");

    commit(slow, 0, 1);
    commit(fast, 0, 2);
    AWAIT_COMMITTED(fast, 0, 2);
    AWAIT_COMMITTED(slow, 0, 1);
    ck_assert_str_eq(statuses(), "consumed published");
    commit(slow, 0, 2);
    WAIT_UNTIL(statuses_are("consumed consumed"), PATIENCE_MS);
    /* Somebody has set it back: it is not past the message any more. */
    commit(slow, 0, 0);
    WAIT_UNTIL(statuses_are("published published"), PATIENCE_MS);
    /* A group that is gone does not count; the other does. */
    delete_group(slow);
    WAIT_UNTIL(statuses_are("consumed consumed"), PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

START_TEST(test_relay_consumed_needs_an_offset_in_the_messages_partition)
{
    const char *group = unique_name("group");
    int partition;

    given_outbox(2);
    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    partition = (int)topic_records(topic).at[0].partition;
    commit(group, 1 - partition, 1000);
    AWAIT_COMMITTED(group, 1 - partition, 1000);
    ck_assert_str_eq(statuses(), "published");
    commit(group, partition, 1);
    WAIT_UNTIL(statuses_are("consumed"), PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

/* A crash takes cursor and ranges back together; the second copies count. */
START_TEST(test_relay_consumed_counts_the_copy_that_the_cursor_knows)
{
    const char *group = unique_name("group");

    given_outbox(1);
    enqueue_many(conn, topic, "m", 2);
    db_exec(conn, "CREATE TABLE before AS TABLE outbox.stream");
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .watch = WATCH(group)), NULL),
                     0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.published_range"), 1);
    db_exec(conn, "DELETE FROM outbox.published_range; DELETE FROM outbox.stream;"
                  " INSERT INTO outbox.stream TABLE before");

    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    expect_published(topic, "m1 m2 m1 m2");
    commit(group, 0, 2);
    AWAIT_COMMITTED(group, 0, 2);
    ck_assert_str_eq(statuses(), "published published");
    commit(group, 0, 4);
    WAIT_UNTIL(statuses_are("consumed consumed"), PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

/* A message that commits late lies between those of an old range. */
START_TEST(test_relay_consumed_is_not_claimed_for_a_late_message)
{
    const char *group = unique_name("group");
    PGconn *late;

    given_outbox(1);
    late = open_transaction(conninfo);
    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    db_exec(conn, "BEGIN");
    enqueue(conn, topic, "a", "1");
    enqueue(late, topic, "b", "2");
    enqueue(conn, topic, "a", "3");
    db_exec(conn, "COMMIT");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    commit(group, 0, 2);
    WAIT_UNTIL(statuses_are("consumed consumed"), PATIENCE_MS);

    db_exec(late, "COMMIT");
    WAIT_UNTIL(statuses_are("consumed published consumed"), PATIENCE_MS);
    STAYS_TRUE(statuses_are("consumed published consumed"), 1500);
    commit(group, 0, 3);
    WAIT_UNTIL(statuses_are("consumed consumed consumed"), PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

/* The same message, published while nobody is watched. */
START_TEST(test_relay_consumed_is_forgotten_by_a_relay_that_does_not_watch)
{
    const char *group = unique_name("group");
    struct relay_thread *relay;

    given_outbox(1);
    relay = start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    commit(group, 0, 1);
    WAIT_UNTIL(statuses_are("consumed"), PATIENCE_MS);
    ck_assert_int_eq(stop_relay(relay), 0);

    publish_once(conninfo);
    ck_assert_str_eq(statuses(), "published");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.watched"), 0);
    /* A group that is not watched any more is not believed any more. */
    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    commit(group, 0, 2);
    WAIT_UNTIL(statuses_are("published consumed"), PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

/* What a broker says after the group has moved to another, and the mock always:
 * librdkafka can crash of that. */
START_TEST(test_relay_survives_a_coordinator_that_says_it_is_none)
{
    struct mock *mock = given_mock();
    struct relay_thread *relay;

    conninfo = given_database();
    conn = db_connect(conninfo);
    topic = unique_name("topic");
    mock_topic(mock, topic, 1);
    relay = start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(unique_name("group"))));
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    STAYS_TRUE(!relay_ended(relay), 2500);
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(pending(conn) == 0, PATIENCE_MS);
    ck_assert_str_eq(statuses(), "published published");
    ck_assert_int_eq(stop_relay(relay), 0);
    PQfinish(conn);
}
END_TEST

/* Somebody repacks them, or forgets that he has locked them: messages flow. */
START_TEST(test_relay_consumed_is_no_reason_to_wait_for_a_lock)
{
    const char *group = unique_name("group");
    struct relay_thread *relay;
    PGconn *other;

    given_outbox(1);
    other = open_transaction(conninfo);
    db_exec(other, "LOCK TABLE outbox.watched IN ACCESS EXCLUSIVE MODE");
    relay = start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    commit(group, 0, 1);
    for (int i = 1; i <= 3; i++) { /* it has something to store about each second */
        enqueue(conn, topic, "k", "1");
        WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM outbox.pending") == 0, 5000);
        STAYS_TRUE(!relay_ended(relay), 600);
    }
    db_exec(other, "COMMIT");
    WAIT_UNTIL(statuses_are("consumed published published"), PATIENCE_MS);
    ck_assert_int_eq(stop_relay(relay), 0);

    /* And where nobody is watched any more. */
    db_exec(other, "BEGIN; LOCK TABLE outbox.watched, outbox.published_range"
                   " IN ACCESS EXCLUSIVE MODE");
    start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, "k", "2");
    await_published(topic, "1 1 1 2", 5000);
    db_exec(other, "COMMIT");
    WAIT_UNTIL(db_int(conn, "SELECT (SELECT count(*) FROM outbox.watched)"
                            " + (SELECT count(*) FROM outbox.published_range)") == 0,
               PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

START_TEST(test_relay_ranges_go_with_their_messages)
{
    const char *group = unique_name("group");

    given_outbox(1);
    enqueue_many(conn, topic, "m", 3);
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .watch = WATCH(group)), NULL),
                     0);
    enqueue(conn, topic, "k", "4");
    db_exec(conn, "DELETE FROM outbox.message WHERE seq <= 3");
    start_relay(RELAY(.conninfo = conninfo, .watch = WATCH(group)));
    WAIT_UNTIL(strcmp(db_text(conn, "SELECT coalesce(string_agg(first_seq::text, ' '), '')"
                                    "  FROM outbox.published_range"),
                      "4") == 0,
               PATIENCE_MS);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_consumed",
        .tests = TESTS(test_relay_consumed_follows_a_groups_commit,
                       test_relay_consumed_waits_for_the_group_that_lags,
                       test_relay_consumed_needs_an_offset_in_the_messages_partition,
                       test_relay_consumed_counts_the_copy_that_the_cursor_knows,
                       test_relay_consumed_is_not_claimed_for_a_late_message,
                       test_relay_consumed_is_forgotten_by_a_relay_that_does_not_watch,
                       test_relay_survives_a_coordinator_that_says_it_is_none,
                       test_relay_consumed_is_no_reason_to_wait_for_a_lock,
                       test_relay_ranges_go_with_their_messages),
    });
}
