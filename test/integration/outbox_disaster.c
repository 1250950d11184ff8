/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * A primary that goes away, and its standby that takes over; and the gate that
 * publishes nothing before a synchronous standby has it.
 */
#include "outbox/place.h"
#include "test/support/given_outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct server *primary, *standby;

static void
setup(void)
{
    primary = GIVEN_SERVER("pg", "autovacuum=off");
    given_outbox_in(primary);
    given_mock_topic();
}

static const char *
database(void)
{
    return text_of("%s", PQdb(conn));
}

static PGconn *
connect_to(const struct server *server)
{
    return db_connect(
        text_of("host=127.0.0.1 port=%d user=postgres dbname=%s", server->port, database()));
}

static void
given_standby(void)
{
    const char *name = database();

    PQfinish(conn);
    server_stop(primary);
    standby = GIVEN_SERVER("pg", text_of("standby_of=%s", primary->dir));
    server_start(primary);
    conn =
        db_connect(text_of("host=127.0.0.1 port=%d user=postgres dbname=%s", primary->port, name));
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") ==
                   1,
               15000);
}

/* Either of the two, whichever is the primary. */
static const char *
both_hosts(void)
{
    return text_of("host=127.0.0.1,127.0.0.1 port=%d,%d user=postgres dbname=%s"
                   " target_session_attrs=read-write",
                   primary->port, standby->port, database());
}

static void
enqueue_all(const char *prefix, int n)
{
    for (int i = 1; i <= n; i++)
        enqueue(conn, topic, "k", text_of("%s%d", prefix, i));
}

/* From here on `conn` is the survivor's. */
static void
fail_over(void)
{
    PGconn *survivor = connect_to(standby);

    server_kill(primary);
    PQfinish(conn);
    conn = survivor;
    db_exec(conn, "SELECT pg_promote()");
}

/* Every message that is committed here has arrived. */
static void
await_all_published(void)
{
    struct deadline deadline = deadline_in(20000);
    const char *ids;

    do {
        struct records records = topic_records(topic);

        ids = "''";
        for (size_t i = 0; i < records.n; i++)
            ids = text_of("%s,'%s'", ids, record_header(&records.at[i], "message-id"));
        if (db_int(conn, "SELECT count(*) FROM outbox.message WHERE message_id::text NOT IN (%s)",
                   ids) == 0)
            return;
    } while (wait_a_little(&deadline));
    ck_abort_msg("of what is committed, these have arrived: %s", ids);
}

/* --- O31 ------------------------------------------------------------------ */

START_TEST(test_relay_o31_goes_on_after_a_failover)
{
    struct relay_thread *relay;
    struct pg old, new;
    struct saga_error err;

    given_standby();
    relay = start_relay(RELAY(.conninfo = both_hosts(), .lease_ms = 1000));
    enqueue_all("before", 5);
    await_published(topic, "before1 before2 before3 before4 before5", 10000);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_replication"
                            " WHERE replay_lsn >= pg_current_wal_lsn()") == 1,
               10000);
    fail_over();
    enqueue_all("after", 5);
    await_all_published();
    ck_assert(!relay_ended(relay));
    ck_assert_int_eq(db_int(conn, "SELECT timeline FROM outbox.stream"), 2);
    ck_assert_str_eq(published_first(topic),
                     "before1 before2 before3 before4 before5 after1 after2 "
                     "after3 after4 after5");

    /* The old primary comes back. A relay must not read here and write there. */
    server_start(primary);
    old = (struct pg){ .conn = connect_to(primary), .borrowed = true };
    new = (struct pg){ .conn = connect_to(standby), .borrowed = true };
    ck_assert_int_eq(place_same(&new, &new, &err), 0);
    ck_assert_int_eq(place_same(&old, &new, &err), SAGA_EDB);
    ck_assert_msg(strstr(err.message, "timelines 1 and 2") != NULL, "%s", err.message);
    ck_assert_uint_ne(err.flags & SAGA_ERR_RETRIABLE, 0);
    PQfinish(old.conn);
    PQfinish(new.conn);
    ck_assert_int_eq(stop_relay(relay), 0);
}
END_TEST

/* The last commits never came to the standby: messages that were published,
 * positions of the cursor, an epoch. Their xids and seqs are given out again. */
START_TEST(test_relay_o31_goes_on_after_a_failover_that_lost_commits)
{
    struct relay_thread *a, *b;
    PGconn *receiver;
    int64_t epoch;

    given_standby();
    a = start_relay(RELAY(.conninfo = both_hosts(), .lease_ms = 1000));
    enqueue_all("before", 3);
    await_published(topic, "before1 before2 before3", 10000);
    receiver = connect_to(standby);
    WAIT_UNTIL(db_int(receiver, "SELECT count(*) FROM outbox.message") == 3, 10000);
    db_exec(receiver, "ALTER SYSTEM SET primary_conninfo = ''");
    db_exec(receiver, "SELECT pg_reload_conf()");
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_replication") == 0, 10000);

    enqueue_all("lost", 10);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    b = start_relay(RELAY(.conninfo = both_hosts(), .lease_ms = 1000));
    ck_assert_int_eq(stop_relay(a), 0);
    WAIT_UNTIL(relay_stats(b).acquired == 1, 10000);
    a = start_relay(RELAY(.conninfo = both_hosts(), .lease_ms = 1000));
    epoch = db_int(conn, "SELECT epoch FROM outbox.stream");
    ck_assert_int_lt(db_int(receiver, "SELECT epoch FROM outbox.stream"), epoch);
    PQfinish(receiver);
    fail_over();
    enqueue_all("after", 20);
    await_all_published();

    ck_assert(!relay_ended(a) && !relay_ended(b));
    epoch = db_int(conn, "SELECT epoch FROM outbox.stream");
    STAYS_TRUE(db_int(conn, "SELECT epoch FROM outbox.stream") == epoch, 500);
    ck_assert_int_eq(stop_relay(a), 0);
    ck_assert_int_eq(stop_relay(b), 0);
}
END_TEST

START_TEST(test_relay_passes_over_restarts)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 1000));

    for (int i = 0; i < 2; i++) {
        enqueue_all(text_of("m%d.", i), 3);
        await_all_published();
        PQfinish(conn);
        server_stop(primary);
        server_start(primary);
        conn = db_connect(conninfo);
    }
    enqueue_all("last", 3);
    await_all_published();
    ck_assert_int_ge(relay_stats(relay).reconnects, 2);
    ck_assert_int_eq(stop_relay(relay), 0);
}
END_TEST

/* --- the gate ------------------------------------------------------------- */

/* The session of the relay that waits for the standby; 0: none. */
static int64_t
waiting_session(void)
{
    const char *pid = db_text(conn, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
                                    " AND application_name = 'outbox-relay cursor'");

    return pid != NULL ? atoll(pid) : 0;
}

static void
cancel_wait(void)
{
    int64_t pid = waiting_session();

    db_exec(conn, "SELECT pg_cancel_backend(%lld)", (long long)pid);
    WAIT_UNTIL(waiting_session() != pid, 10000);
}

START_TEST(test_relay_o31_publishes_nothing_before_the_standby_has_it)
{
    struct relay_thread *relay;
    PGconn *receiver;
    pid_t pid;

    given_standby();
    db_exec(conn, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    db_exec(conn, "SELECT pg_reload_conf()");
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") ==
                   1,
               10000);
    /* What would hide the warning that a wait was cancelled. */
    db_exec(conn, "ALTER DATABASE %s SET client_min_messages = error", database());
    relay = start_relay(RELAY(.conninfo = both_hosts(), .standby_gate = 1));
    enqueue(conn, topic, "k", "1");
    await_published(topic, "1", 10000);

    receiver = connect_to(standby);
    pid = (pid_t)db_int(receiver, "SELECT pid FROM pg_stat_wal_receiver");
    ck_assert_int_eq(kill(pid, SIGSTOP), 0);
    db_exec(conn, "SET synchronous_commit = local"); /* it is committed and to be seen */
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(waiting_session() != 0, 10000);
    STAYS_TRUE(published_count(topic) == 1, 300);
    cancel_wait(); /* of the pair's beginning */
    WAIT_UNTIL(waiting_session() != 0, 10000);
    STAYS_TRUE(published_count(topic) == 1, 300);
    cancel_wait(); /* of taking the stream again */
    WAIT_UNTIL(waiting_session() != 0, 10000);
    STAYS_TRUE(published_count(topic) == 1, 300);

    ck_assert_int_eq(kill(pid, SIGCONT), 0);
    await_published(topic, "1 2", 10000);
    ck_assert_int_eq(db_int(receiver, "SELECT count(*) FROM outbox.message"), 2);
    ck_assert_int_ge(relay_stats(relay).reconnects, 2);
    ck_assert_int_eq(stop_relay(relay), 0);
    PQfinish(receiver);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_disaster",
        .tests = TESTS(test_relay_o31_goes_on_after_a_failover,
                       test_relay_o31_goes_on_after_a_failover_that_lost_commits,
                       test_relay_passes_over_restarts,
                       test_relay_o31_publishes_nothing_before_the_standby_has_it),
        .setup = setup,
        .timeout_s = 120,
    });
}
