/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * What the relay reads: every committed message, once, in causal order, while
 * transactions start, wait, commit and roll back around it.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *conninfo;
static PGconn *conn;
static const char *topic;

static void
given_outbox_in(const struct server *cluster)
{
    conninfo = cluster != NULL ? given_database_in(cluster) : given_database();
    conn = db_connect(conninfo);
    topic = unique_name("topic");
    mock_topic(given_mock(), topic, 1);
}

static void
given_outbox(void)
{
    given_outbox_in(NULL);
}

static void
await_idle(const struct relay_thread *relay)
{
    int64_t polls = relay_stats(relay).polls;

    WAIT_UNTIL(relay_stats(relay).polls > polls + 1, 5000);
}

/* --- O1: a lower seq commits later ------------------------------------- */

START_TEST(test_relay_o1_publishes_a_lower_seq_that_commits_later)
{
    PGconn *t1;

    given_outbox();
    t1 = open_transaction(conninfo);
    enqueue(t1, topic, "a", "1");
    enqueue(conn, topic, "b", "2");
    publish_once(conninfo);
    expect_published(topic, "2");
    db_exec(t1, "COMMIT");
    publish_once(conninfo);
    expect_published(topic, "2 1");
    publish_once(conninfo);
    expect_published(topic, "2 1");
    ck_assert_int_eq(pending(conn), 0);
}
END_TEST

START_TEST(test_relay_o1_publishes_nothing_that_was_rolled_back)
{
    PGconn *t1;

    given_outbox();
    t1 = open_transaction(conninfo);
    enqueue(t1, topic, "a", "1");
    db_exec(t1, "SAVEPOINT s");
    enqueue(t1, topic, "a", "2");
    db_exec(t1, "ROLLBACK TO s");
    enqueue(t1, topic, "a", "3");
    enqueue(conn, topic, "b", "4");
    publish_once(conninfo);
    db_exec(t1, "COMMIT");
    t1 = open_transaction(conninfo);
    enqueue(t1, topic, "a", "5");
    db_exec(t1, "ROLLBACK");
    publish_once(conninfo);
    expect_published(topic, "4 1 3");
}
END_TEST

/* trap: O5. Late rows in several pages, and the rest in order behind them. */
START_TEST(test_relay_o1_reads_late_rows_in_pages)
{
    PGconn *t1;
    char expected[2048] = "x";

    given_outbox();
    t1 = open_transaction(conninfo);
    enqueue_many(t1, topic, "late", 50);
    enqueue(conn, topic, "b", "x");
    publish_once(conninfo);
    enqueue_many(t1, topic, "later", 20);
    enqueue_many(conn, topic, "new", 30);
    db_exec(t1, "COMMIT");
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .page_rows = 7), NULL), 0);
    for (int i = 1; i <= 50; i++)
        strcat(expected, text_of(" late%d", i));
    for (int i = 1; i <= 20; i++)
        strcat(expected, text_of(" later%d", i));
    for (int i = 1; i <= 30; i++)
        strcat(expected, text_of(" new%d", i));
    expect_published(topic, expected);
}
END_TEST

START_TEST(test_relay_cuts_pages_by_bytes)
{
    struct records records;

    given_outbox();
    for (int i = 0; i < 20; i++)
        db_exec(conn, "SELECT outbox.enqueue('%s', convert_to(lpad('%d', %d, '0'), 'UTF8'))", topic,
                i, i % 5 == 0 ? 5000 : 10);
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .page_bytes = 2000), NULL), 0);
    records = topic_records(topic);
    ck_assert_int_eq(records.n, 20);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(atoi(records.at[i].value), i);
}
END_TEST

/* --- O1, O21, O3 at random --------------------------------------------- */

enum { WRITERS = 16, ENTITIES = 20 };
static atomic_bool writers_stop;

static int
dice(unsigned *seed, int sides)
{
    return (int)(rand_r(seed) % (unsigned)sides);
}

/* Each value is its key's next number, drawn under the key's row lock. */
static void
write_transaction(PGconn *writer, unsigned *seed)
{
    int key = 1 + dice(seed, ENTITIES / 2);

    db_exec(writer, "BEGIN");
    if (dice(seed, 10) < 3)
        db_exec(writer, "INSERT INTO unrelated VALUES (1)"); /* an early xid */
    if (dice(seed, 10) < 2)
        db_exec(writer, "SELECT pg_sleep(%d * 0.001)", dice(seed, 20));
    for (int n = 1 + dice(seed, 3); n > 0 && key <= ENTITIES; n--, key += 1 + dice(seed, 5)) {
        if (dice(seed, 10) < 2)
            db_exec(writer, "SAVEPOINT s");
        db_exec(writer,
                "WITH e AS (UPDATE entity SET n = n + 1 WHERE key = %d RETURNING n)"
                " SELECT outbox.enqueue('%s', convert_to(%d || '-' || n, 'UTF8'), '%d') FROM e",
                key, topic, key, key);
        if (dice(seed, 10) == 0)
            db_exec(writer, "SELECT pg_sleep(%d * 0.001)", dice(seed, 50));
    }
    db_exec(writer, dice(seed, 100) < 15 ? "ROLLBACK" : "COMMIT");
}

static void *
write_at_random(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;
    PGconn *writer = db_connect(conninfo);

    while (!writers_stop)
        write_transaction(writer, &seed);
    PQfinish(writer);
    return NULL;
}

/* A transaction that is old when it writes. */
static void *
write_slowly(void *arg)
{
    PGconn *writer = db_connect(conninfo);

    (void)arg;
    for (int i = 1; !writers_stop; i++) {
        db_exec(writer, "BEGIN; INSERT INTO unrelated VALUES (2)");
        db_exec(writer, "SELECT pg_sleep(random() * 0.8)");
        db_exec(writer, "SELECT outbox.enqueue('%s', convert_to('1000-%d', 'UTF8'), '1000')", topic,
                i);
        db_exec(writer, "COMMIT");
    }
    PQfinish(writer);
    return NULL;
}

static void
write_for(int ms)
{
    pthread_t threads[WRITERS + 1];

    writers_stop = false;
    for (uintptr_t i = 0; i < WRITERS; i++)
        pthread_create(&threads[i], NULL, write_at_random, (void *)(i + 1));
    pthread_create(&threads[WRITERS], NULL, write_slowly, NULL);
    STAYS_TRUE(true, ms);
    writers_stop = true;
    for (int i = 0; i <= WRITERS; i++)
        pthread_join(threads[i], NULL);
}

/* Every committed message is there once, and each key counts upwards. */
static void
expect_all_in_order(void)
{
    struct records records = topic_records(topic);
    int64_t last[1001] = { 0 };
    int64_t committed = db_int(conn, "SELECT count(*) FROM outbox.message");

    for (size_t i = 0; i < records.n; i++) {
        int key = atoi(records.at[i].value);
        int64_t n = atoll(strchr(records.at[i].value, '-') + 1);

        ck_assert_msg(n > last[key], "key %d: %lld after %lld", key, (long long)n,
                      (long long)last[key]);
        last[key] = n;
    }
    ck_assert_int_eq((int64_t)records.n, committed);
    ck_assert_int_gt(committed, 100);
}

START_TEST(test_relay_o1_o3_o21_random_writers_lose_and_reorder_nothing)
{
    struct relay_thread *relay;

    given_outbox();
    db_exec(conn,
            "CREATE TABLE entity (key int PRIMARY KEY, n bigint NOT NULL DEFAULT 0);"
            "INSERT INTO entity SELECT g FROM generate_series(1, %d) g;"
            "CREATE TABLE unrelated (x int)",
            ENTITIES);
    relay = start_relay(RELAY(.conninfo = conninfo, .page_rows = 5, .lease_ms = 1000));
    write_for(4000);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_int_eq(stop_relay(relay), 0);
    expect_all_in_order();
}
END_TEST

/* --- O3: the xid's order is not the order of events --------------------- */

START_TEST(test_relay_o3_publishes_in_causal_order_not_by_xid)
{
    PGconn *t1, *t3;

    given_outbox();
    db_exec(conn, "CREATE TABLE entity (key text PRIMARY KEY); INSERT INTO entity VALUES ('k')");
    t1 = open_transaction(conninfo);
    t3 = open_transaction(conninfo);
    db_exec(conn, "BEGIN; UPDATE entity SET key = key");
    enqueue(conn, topic, "k", "1");
    db_exec(conn, "COMMIT");
    db_exec(t1, "UPDATE entity SET key = key");
    enqueue(t1, topic, "k", "2");
    db_exec(t1, "COMMIT");
    publish_once(conninfo);
    expect_published(topic, "1 2");
    db_exec(t3, "ROLLBACK");
}
END_TEST

/* --- O4: what is open elsewhere stops nothing --------------------------- */

START_TEST(test_relay_o4_open_transactions_stop_nothing)
{
    PGconn *writer, *prepared, *elsewhere;

    given_outbox();
    start_relay(RELAY(.conninfo = conninfo));
    db_exec(conn, "CREATE TABLE unrelated (x int)");
    writer = open_transaction(conninfo);
    db_exec(writer, "INSERT INTO unrelated VALUES (1)");
    prepared = open_transaction(conninfo);
    enqueue(prepared, topic, NULL, "prepared");
    db_exec(prepared, "PREPARE TRANSACTION '%s'", topic);
    elsewhere = open_transaction(given_empty_database());
    db_exec(elsewhere, "CREATE TABLE unrelated (x int)");

    enqueue(conn, topic, NULL, "1");
    await_published(topic, "1", 1000);
    enqueue(conn, topic, NULL, "2");
    await_published(topic, "1 2", 1000);
    db_exec(prepared, "COMMIT PREPARED '%s'", topic);
    await_published(topic, "1 2 prepared", 1000);
}
END_TEST

/* --- O21: the floor ----------------------------------------------------- */

/*
 * T2 has drawn a seq below the floor, and its xid is not below the snapshot's
 * xmax: nobody with a later xid has ended when the snapshot is taken. A cluster
 * of the test's own, in which nobody else makes xids.
 */
START_TEST(test_relay_o21_finds_rows_between_the_snapshot_and_the_floor)
{
    PGconn *t1, *t2;

    given_outbox_in(GIVEN_SERVER("pg", "autovacuum=off"));
    start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, NULL, "0");
    await_published(topic, "0", 5000);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    t1 = open_transaction(conninfo);
    enqueue(t1, topic, NULL, "1");
    t2 = open_transaction(conninfo);
    enqueue(t2, topic, NULL, "2");
    db_exec(t1, "COMMIT");
    await_published(topic, "0 1", 5000);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    db_exec(t2, "COMMIT");
    await_published(topic, "0 1 2", 5000);
}
END_TEST

/* --- O22: the very first message ---------------------------------------- */

START_TEST(test_relay_o22_the_very_first_message_arrives)
{
    PGconn *other;

    given_outbox();
    other = open_transaction(conninfo);
    start_relay(RELAY(.conninfo = conninfo, .lease_ms = 300));
    /* The cursor is moved over an outbox whose sequence was never used. */
    WAIT_UNTIL(db_int(conn, "SELECT (prev::text <> '3:3:')::int FROM outbox.stream") == 1, 5000);
    db_exec(other, "COMMIT");
    enqueue(conn, topic, NULL, "first");
    await_published(topic, "first", 3000);
    ck_assert_int_eq(db_int(conn, "SELECT seq FROM outbox.message"), 1);
}
END_TEST

/* --- O23: who resumes finishes the same pair ----------------------------- */

START_TEST(test_relay_o23_a_successor_finishes_the_same_pair)
{
    struct mock *mock = given_mock();
    struct process *relay;
    const char *all;
    PGconn *t1;

    conninfo = given_database();
    conn = db_connect(conninfo);
    topic = unique_name("topic");
    mock_topic(mock, topic, 1);
    t1 = open_transaction(conninfo);
    enqueue(t1, topic, "k", "one");
    enqueue_many(conn, topic, "m", 100);

    /* Few messages at a time and slow answers: it dies in the middle. */
    mock_delay(mock, 150);
    relay = start_relay_program(conninfo, "page_rows = 5\nlease_ms = 1000", NULL, NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 10000);
    process_kill(relay);
    mock_delay(mock, 0);
    ck_assert_int_eq(db_int(conn, "SELECT (cur IS NOT NULL)::int FROM outbox.stream"), 1);
    ck_assert_int_gt(pending(conn), 0);

    db_exec(t1, "COMMIT");
    publish_once(conninfo);
    ck_assert_int_eq(pending(conn), 0);
    all = text_of("%s ", published(topic));
    ck_assert_ptr_nonnull(strstr(all, "one"));
    for (int i = 1; i <= 100; i++)
        ck_assert_ptr_nonnull(strstr(all, text_of("m%d ", i)));
}
END_TEST

/* --- O5, O28: the cost of looking --------------------------------------- */

static int64_t
current_xid(void)
{
    return db_int(conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
}

START_TEST(test_relay_o28_an_idle_relay_uses_a_handful_of_xids)
{
    struct relay_thread *relay;
    int64_t writes, xid;

    given_outbox_in(GIVEN_SERVER("pg", "autovacuum=off"));
    /* A minute at the default lease is two seconds at this one. */
    relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 1000));
    enqueue(conn, topic, NULL, "1");
    await_published(topic, "1", 5000);
    await_idle(relay);
    xid = current_xid();
    writes = relay_stats(relay).cursor_writes;
    STAYS_TRUE(true, 2000);
    ck_assert_int_le(relay_stats(relay).cursor_writes - writes, 8);
    ck_assert_int_le(current_xid() - xid, 9);
}
END_TEST

/* Moving the cursor makes such a look no quicker, and the next one necessary. */
START_TEST(test_relay_o28_looks_that_are_always_slow_are_no_reason_to_write)
{
    struct relay_thread *relay;
    int64_t writes;

    given_outbox();
    db_exec(conn, "ALTER TABLE outbox.message RENAME TO message_fast;"
                  "CREATE VIEW outbox.message AS SELECT * FROM outbox.message_fast"
                  " WHERE (SELECT pg_sleep(0.008)::text = '')");
    relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 60000, .retention_ms = -1));
    WAIT_UNTIL(relay_stats(relay).state == SAGA_RELAY_OWNER, 5000);
    await_idle(relay);
    writes = relay_stats(relay).cursor_writes;
    /* Somebody else's transactions, so that there is something new to look at. */
    STAYS_TRUE((db_exec(conn, "SELECT pg_current_xact_id()"),
                relay_stats(relay).cursor_writes <= writes + 2),
               1500);
}
END_TEST

/* Rows that were looked at, as far as ended sessions have told. */
static int64_t
rows_read(void)
{
    return db_int(conn, "SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes"
                        "         WHERE schemaname = 'outbox' AND relname LIKE 'message%%')"
                        "     + (SELECT sum(seq_tup_read) FROM pg_stat_user_tables"
                        "         WHERE schemaname = 'outbox' AND relname LIKE 'message%%')");
}

static void
await_sessions_end(void)
{
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                            " current_database() AND application_name LIKE 'outbox-relay%%'") == 0,
               5000);
    db_exec(conn, "SELECT pg_stat_clear_snapshot()");
}

/* 160,000 published messages, a transaction open since before, and plans that
 * must be good for any parameter. */
START_TEST(test_relay_o28_o5_looking_stays_cheap_under_generic_plans)
{
    const struct saga_relay_options options = {
        SAGA_RELAY_OPTIONS,
        .conninfo = text_of("%s options='-c plan_cache_mode=force_generic_plan'",
                            (given_outbox(), conninfo)),
    };
    struct relay_thread *relay;
    PGconn *old;
    int64_t before;

    enqueue(conn, topic, NULL, "0");
    old = open_transaction(conninfo);
    enqueue(old, topic, NULL, "old");
    enqueue_many(conn, topic, "m", 160000);
    db_exec(conn, "ANALYZE outbox.message");
    relay = start_relay(&options);
    WAIT_UNTIL(relay_stats(relay).published == 160001, 25000);
    WAIT_UNTIL(db_int(conn, "SELECT (cur IS NULL)::int FROM outbox.stream") == 1, 5000);
    ck_assert_int_eq(stop_relay(relay), 0);
    await_sessions_end();
    before = rows_read();

    /* Each of these is found by a look of its own. */
    relay = start_relay(&options);
    for (int i = 1; i <= 20; i++) {
        enqueue(conn, topic, NULL, "x");
        WAIT_UNTIL(relay_stats(relay).published == i, 5000);
    }
    db_exec(old, "COMMIT");
    WAIT_UNTIL(relay_stats(relay).published == 21, 5000);
    ck_assert_int_eq(stop_relay(relay), 0);
    await_sessions_end();
    ck_assert_msg(rows_read() - before < 2000, "read %lld rows to find 21",
                  (long long)(rows_read() - before));
}
END_TEST

/* --- what operators see -------------------------------------------------- */

START_TEST(test_relay_local_messages_finds_pending_ones_by_the_index)
{
    char plan[8192] = "";
    PGresult *result;

    given_outbox();
    enqueue_many(conn, topic, "m", 20000);
    publish_once(conninfo);
    enqueue(conn, topic, "k", "last");
    db_exec(conn, "ANALYZE outbox.message");
    ck_assert_int_eq(pending(conn), 1);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.local_messages"
                                  " WHERE status = 'published'"),
                     20000);
    result = PQexec(conn, "EXPLAIN SELECT * FROM outbox.local_messages WHERE status = 'pending'");
    for (int i = 0; i < PQntuples(result); i++)
        strncat(plan, PQgetvalue(result, i, 0), sizeof plan - strlen(plan) - 1);
    PQclear(result);
    ck_assert_msg(strstr(plan, "xid_seq_idx") != NULL &&
                      strstr(plan, "Seq Scan on message_0") == NULL,
                  "%s", plan);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_read",
        .tests = TESTS(test_relay_o1_publishes_a_lower_seq_that_commits_later,
                       test_relay_o1_publishes_nothing_that_was_rolled_back,
                       test_relay_o1_reads_late_rows_in_pages, test_relay_cuts_pages_by_bytes,
                       test_relay_o1_o3_o21_random_writers_lose_and_reorder_nothing,
                       test_relay_o3_publishes_in_causal_order_not_by_xid,
                       test_relay_o4_open_transactions_stop_nothing,
                       test_relay_o21_finds_rows_between_the_snapshot_and_the_floor,
                       test_relay_o22_the_very_first_message_arrives,
                       test_relay_o23_a_successor_finishes_the_same_pair,
                       test_relay_o28_an_idle_relay_uses_a_handful_of_xids,
                       test_relay_o28_looks_that_are_always_slow_are_no_reason_to_write,
                       test_relay_o28_o5_looking_stays_cheap_under_generic_plans,
                       test_relay_local_messages_finds_pending_ones_by_the_index),
        .timeout_s = 60,
    });
}
