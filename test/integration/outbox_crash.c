/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL crashes, or is slow to write: what the relay publishes must not
 * vanish, and what vanished must not confuse it. Each test has a cluster of its
 * own, whose log is written to disk only when somebody asks for it.
 */
#include "test/support/given_outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <stdlib.h>
#include <string.h>

static struct server *cluster;

static void
setup(void)
{
    cluster = GIVEN_SERVER("pg", "wal_writer_delay=10s", "autovacuum=off", "jit=off");
    given_outbox_in(cluster);
    given_mock_topic();
}

static void
crash(void)
{
    server_kill(cluster);
    PQfinish(conn);
    server_start(cluster);
    WAIT_UNTIL((conn = db_try_connect(conninfo)) != NULL, 20000);
}

/* --- O2 ------------------------------------------------------------------- */

START_TEST(test_relay_o2_publishes_nothing_that_a_crash_erases)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = conninfo));
    struct records records;

    db_exec(conn, "SET synchronous_commit = off");
    for (int i = 1; i <= 50; i++) {
        const char *lsn;

        db_exec(conn, "BEGIN");
        enqueue(conn, topic, "k", "x");
        lsn = db_text(conn, "SELECT pg_current_wal_insert_lsn()");
        db_exec(conn, "COMMIT");
        WAIT_UNTIL(relay_stats(relay).published >= i, 10000);
        ck_assert_str_eq(db_text(conn, "SELECT pg_current_wal_flush_lsn() >= '%s'", lsn), "t");
    }
    enqueue(conn, topic, "k", "erased, perhaps");
    crash();
    stop_relay(relay);

    records = topic_records(topic);
    ck_assert_uint_ge(records.n, 50);
    for (size_t i = 0; i < records.n; i++)
        ck_assert_msg(db_int(conn, "SELECT count(*) FROM outbox.message WHERE message_id = '%s'",
                             record_header(&records.at[i], "message-id")) == 1,
                      "record %zu was published, and its row is gone", i);
}
END_TEST

/* --- O25 ------------------------------------------------------------------ */

START_TEST(test_relay_o25_does_not_wait_for_a_flush_that_nobody_makes)
{
    PGconn *idle;

    start_relay(RELAY(.conninfo = conninfo));
    db_exec(conn, "CREATE TABLE unrelated (x int)");
    enqueue(conn, topic, "k", "0");
    await_published(topic, "0", 5000);
    idle = open_transaction(conninfo);
    db_exec(conn, "BEGIN");
    enqueue(conn, topic, "k", "1");
    db_exec(conn, "COMMIT");
    db_exec(idle, "INSERT INTO unrelated VALUES (1)");
    await_published(topic, "0 1", 1000);
    /* And one whose own commit was asynchronous. */
    db_exec(conn, "SET synchronous_commit = off");
    enqueue(conn, topic, "k", "2");
    await_published(topic, "0 1 2", 1000);
}
END_TEST

/* --- O24 ------------------------------------------------------------------ */

START_TEST(test_relay_o24_everything_arrives_after_a_crash_of_postgresql)
{
    struct relay_thread *a = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 2000));
    struct relay_thread *b = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 2000));
    const char *all;
    int64_t epoch;

    enqueue_many(conn, topic, "before", 20);
    WAIT_UNTIL(pending(conn) == 0, 10000);

    /* Xids that the crash forgets: of transactions that rolled back, of commits
     * that nobody waited for, and of the cursor's own writes. */
    db_exec(conn, "SET synchronous_commit = off");
    for (int i = 0; i < 20; i++) {
        db_exec(conn, "BEGIN");
        enqueue(conn, topic, "k", "rolled_back");
        db_exec(conn, "ROLLBACK");
    }
    /* What comes now fits into one page of the log: a full one would be written. */
    db_exec(conn, "SELECT pg_switch_wal()");
    enqueue(conn, topic, "k", "asynchronous");
    WAIT_UNTIL(strstr(published(topic), "asynchronous") != NULL, 5000);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    for (int i = 0; i < 4; i++) {
        db_exec(conn, "BEGIN");
        enqueue(conn, topic, "k", "rolled_back");
        db_exec(conn, "ROLLBACK");
    }
    crash();

    for (int i = 0; i < 30; i++)
        enqueue(conn, topic, "k", text_of("after%d", i));
    WAIT_UNTIL(pending(conn) == 0, 20000);
    all = text_of("%s ", published(topic));
    for (int i = 0; i < 30; i++)
        ck_assert_ptr_nonnull(strstr(all, text_of(" after%d ", i)));
    ck_assert_ptr_null(strstr(all, "rolled_back"));

    /* Two relays, one owner. */
    ck_assert(!relay_ended(a) && !relay_ended(b));
    epoch = db_int(conn, "SELECT epoch FROM outbox.stream");
    ck_assert_int_eq(relay_stats(a).acquired + relay_stats(b).acquired, epoch);
    STAYS_TRUE(db_int(conn, "SELECT epoch FROM outbox.stream") == epoch, 1000);
    ck_assert_int_eq(stop_relay(a), 0);
    ck_assert_int_eq(stop_relay(b), 0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_crash",
        .tests = TESTS(test_relay_o2_publishes_nothing_that_a_crash_erases,
                       test_relay_o25_does_not_wait_for_a_flush_that_nobody_makes,
                       test_relay_o24_everything_arrives_after_a_crash_of_postgresql),
        .setup = setup,
        .timeout_s = 60,
    });
}
