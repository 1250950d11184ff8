/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleaning up: slots take turns, old ones are emptied, and neither a message is
 * lost by it nor a writer kept waiting.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Messages of the tests are written two days ago. */
#define DAY_MS "86400000"

static const char *conninfo, *topic;
static PGconn *conn;

static void
setup(void)
{
    conninfo = given_database();
    conn = given_session(conninfo);
    topic = GIVEN_TOPIC(1);
    /* A writer who waits for a lock is a failure, and not a test that hangs. */
    db_exec(conn, "SET lock_timeout = '5s'");
}

static PGconn *
another_session(void)
{
    PGconn *other = db_connect(conninfo);

    at_test_end((void (*)(void *))PQfinish, other);
    return other;
}

/* In whatever transaction is open. */
static void
write_old(PGconn *writer, const char *value)
{
    db_exec(writer,
            "INSERT INTO outbox.message (message_id, topic, payload, created_at) VALUES"
            " (outbox.uuid_v7(), '%s', convert_to('%s', 'UTF8'), now() - interval '2 days')",
            topic, value);
}

/* What one step did: "emptied 0, current 1", or "". */
static const char *
clean_up(void)
{
    const char *did = db_text(conn, "SELECT string_agg(did || ' ' || slot, ', ')"
                                    " FROM outbox.clean_up(" DAY_MS ")");

    return did != NULL ? did : "";
}

static int64_t
current_slot(void)
{
    return db_int(conn, "SELECT slot FROM outbox.slots WHERE current");
}

static int64_t
rows(void)
{
    return db_int(conn, "SELECT count(*) FROM outbox.message");
}

/* By a relay that leaves the cleaning up to the test. */
static void
publish(void)
{
    struct saga_error err;

    ck_assert_msg(publish_once_with(RELAY(.conninfo = conninfo, .retention_ms = -1), &err) == 0,
                  "%s", err.message);
}

/* Slot 0 with a published message, and left. */
static void
given_an_old_slot(void)
{
    write_old(conn, "1");
    publish();
    ck_assert_str_eq(clean_up(), "current 1");
}

/* A step that waits for its lock for as long as it takes, in a session of its own. */
static PGconn *
start_clean_up(void)
{
    PGconn *cleaner = another_session();

    ck_assert(PQsendQuery(cleaner, "SELECT did FROM outbox.clean_up(" DAY_MS ", 20000)"));
    return cleaner;
}

static bool
waits_for_its_lock(PGconn *cleaner)
{
    return db_int(conn,
                  "SELECT count(*) FROM pg_locks WHERE pid = %d AND NOT granted"
                  " AND relation = 'outbox.message_0'::regclass AND mode = 'AccessExclusiveLock'",
                  PQbackendPID(cleaner)) == 1;
}

/* What it did in the end. */
static const char *
end_clean_up(PGconn *cleaner)
{
    PGresult *result = PQgetResult(cleaner);
    const char *did = "";

    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "%s", PQerrorMessage(cleaner));
    if (PQntuples(result) > 0)
        did = text_of("%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    ck_assert_ptr_null(PQgetResult(cleaner));
    return did;
}

/* --- slots take turns ---------------------------------------------------- */

START_TEST(test_retention_slots_take_turns)
{
    ck_assert_str_eq(clean_up(), "");
    for (int slot = 0; slot < 3; slot++) {
        ck_assert_int_eq(current_slot(), slot);
        write_old(conn, text_of("%d", slot));
        ck_assert_str_eq(clean_up(), text_of("current %d", slot + 1));
        ck_assert_str_eq(clean_up(), "");
    }
    /* None is empty: this one is written to for longer. */
    write_old(conn, "3");
    ck_assert_str_eq(clean_up(), "");
    write_old(conn, "4");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message WHERE slot = 3"), 2);

    publish();
    expect_published(topic, "0 1 2 3 4");
    for (int slot = 0; slot < 4; slot++)
        ck_assert_str_eq(clean_up(), text_of("emptied %d%s", slot, slot == 0 ? ", current 0" : ""));
    ck_assert_int_eq(rows(), 0);
    ck_assert_int_eq(current_slot(), 0);
    enqueue(conn, topic, NULL, "5");
    publish();
    expect_published(topic, "0 1 2 3 4 5");
}
END_TEST

START_TEST(test_retention_keeps_what_is_young)
{
    write_old(conn, "1");
    enqueue(conn, topic, NULL, "2");
    publish();
    ck_assert_str_eq(clean_up(), "current 1");
    ck_assert_str_eq(clean_up(), "");
    ck_assert_int_eq(rows(), 2);
}
END_TEST

/* The step that an owner takes while he runs, at once. */
START_TEST(test_retention_is_the_relays_business)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = conninfo, .retention_ms = 100));

    enqueue(conn, topic, NULL, "1");
    await_published(topic, "1", 5000);
    WAIT_UNTIL(rows() == 0, 15000);
    enqueue(conn, topic, NULL, "2");
    await_published(topic, "1 2", 5000);
    ck_assert_int_eq(stop_relay(relay), 0);
}
END_TEST

static atomic_int locked_lines;

static void
notice_locked(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    if (level == SAGA_LOG_DEBUG && strstr(message, "cannot be emptied") != NULL &&
        strstr(fields[1].value, "dump") != NULL)
        locked_lines++;
}

/* It says so, and publishes. */
START_TEST(test_retention_o7_a_dump_does_not_stop_the_relay)
{
    PGconn *dump = another_session();

    db_exec(dump, "SET application_name = 'dump'");
    db_exec(dump, "BEGIN; LOCK TABLE outbox.message IN ACCESS SHARE MODE");
    start_relay(RELAY(.conninfo = conninfo, .retention_ms = 100,
                      .log = { .write = notice_locked, .level = SAGA_LOG_DEBUG }));
    enqueue(conn, topic, NULL, "1");
    WAIT_UNTIL(locked_lines > 0, 15000);
    enqueue(conn, topic, NULL, "2");
    await_published(topic, "1 2", 5000);
    db_exec(dump, "COMMIT");
    WAIT_UNTIL(rows() < 2, 15000);
}
END_TEST

START_TEST(test_retention_below_zero_keeps_everything)
{
    write_old(conn, "1");
    publish();
    ck_assert_int_eq(current_slot(), 0);
    ck_assert_int_eq(rows(), 1);
}
END_TEST

/* --- nothing is lost ------------------------------------------------------- */

START_TEST(test_retention_o7_keeps_what_is_not_published)
{
    given_an_old_slot();
    db_exec(conn, "SELECT setval('outbox.message_slot', 0)");
    write_old(conn, "2");
    db_exec(conn, "SELECT setval('outbox.message_slot', 1)");

    ck_assert_str_eq(clean_up(), "");
    ck_assert_int_eq(rows(), 2);
    publish();
    ck_assert_str_eq(clean_up(), "emptied 0");
    expect_published(topic, "1 2");
}
END_TEST

/* Each stream has a prev of its own. */
START_TEST(test_retention_o7_keeps_what_one_stream_has_not_published)
{
    given_an_old_slot();
    db_exec(conn, "UPDATE outbox.stream SET streams = 2;"
                  " INSERT INTO outbox.stream (stream, streams, prev, floor_seq, floor_xid)"
                  " VALUES (1, 2, '3:3:', 0, '3')");
    ck_assert_str_eq(clean_up(), "");
    db_exec(conn, "UPDATE outbox.stream SET prev = pg_current_snapshot() WHERE stream = 1");
    ck_assert_str_eq(clean_up(), "emptied 0");
}
END_TEST

START_TEST(test_retention_o7_a_writer_idle_in_its_transaction_loses_nothing)
{
    PGconn *writer = another_session();

    db_exec(writer, "BEGIN");
    write_old(writer, "late");
    given_an_old_slot();
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(db_text(conn, "SELECT slot || ' ' || did || ' by ' || held_by"
                                       " FROM outbox.clean_up(" DAY_MS ")"),
                         text_of("0 locked by process %d ()", PQbackendPID(writer)));
        enqueue(conn, topic, NULL, text_of("%d", i + 2));
    }
    db_exec(writer, "COMMIT");
    ck_assert_str_eq(clean_up(), "");
    publish();
    expect_published(topic, "1 late 2 3");
    ck_assert_str_eq(clean_up(), "emptied 0");
}
END_TEST

/* Neither does a prepared one, which has no process. */
START_TEST(test_retention_o7_a_prepared_transaction_loses_nothing)
{
    const char *name = unique_name("prepared");

    db_exec(conn, "BEGIN");
    write_old(conn, "late");
    db_exec(conn, "PREPARE TRANSACTION '%s'", name);
    given_an_old_slot();
    ck_assert_str_eq(db_text(conn, "SELECT held_by FROM outbox.clean_up(" DAY_MS ")"),
                     "a prepared transaction");
    db_exec(conn, "COMMIT PREPARED '%s'", name);
    ck_assert_str_eq(clean_up(), "");
    publish();
    expect_published(topic, "1 late");
}
END_TEST

START_TEST(test_retention_o29_a_writer_who_commits_while_it_waits_loses_nothing)
{
    PGconn *writer = another_session(), *cleaner;

    db_exec(writer, "BEGIN");
    write_old(writer, "late");
    given_an_old_slot();
    cleaner = start_clean_up();
    WAIT_UNTIL(waits_for_its_lock(cleaner), 5000);
    db_exec(writer, "COMMIT");
    ck_assert_str_eq(end_clean_up(cleaner), "");
    publish();
    expect_published(topic, "1 late");
    ck_assert_str_eq(clean_up(), "emptied 0");
}
END_TEST

/* It would look with the snapshot that it had before it waited. */
START_TEST(test_retention_o29_refuses_another_isolation_level)
{
    db_exec(conn, "SET default_transaction_isolation = 'repeatable read'");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.clean_up(" DAY_MS ")"), "22023");
    db_exec(conn, "SET default_transaction_isolation = 'read committed'");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.clean_up(0)"), "22023");
}
END_TEST

/* --- nobody is kept waiting ------------------------------------------------ */

START_TEST(test_retention_o7_nobody_waits_while_a_dump_keeps_it_from_its_lock)
{
    PGconn *dump = another_session(), *cleaner;

    given_an_old_slot();
    db_exec(dump, "BEGIN; LOCK TABLE outbox.message IN ACCESS SHARE MODE");
    cleaner = start_clean_up();
    WAIT_UNTIL(waits_for_its_lock(cleaner), 5000);

    for (int i = 2; i < 5; i++)
        enqueue(conn, topic, NULL, text_of("%d", i));
    ck_assert(waits_for_its_lock(cleaner));
    ck_assert_int_eq(db_int(conn,
                            "SELECT count(*) FROM unnest(pg_blocking_pids(%d)) p"
                            " WHERE p <> %d",
                            PQbackendPID(cleaner), PQbackendPID(dump)),
                     0);
    db_exec(dump, "COMMIT");
    ck_assert_str_eq(end_clean_up(cleaner), "emptied");
    publish();
    expect_published(topic, "1 2 3 4");
}
END_TEST

/* It gives up by itself, and the lock that it has waited for is gone. */
START_TEST(test_retention_o7_does_not_wait_long)
{
    PGconn *dump = another_session();

    given_an_old_slot();
    db_exec(dump, "SET application_name = 'dump'");
    db_exec(dump, "BEGIN; LOCK TABLE outbox.message IN ACCESS SHARE MODE");
    db_exec(conn, "SET lock_timeout = 0");
    db_exec(conn, "BEGIN");
    ck_assert_str_eq(db_text(conn, "SELECT held_by FROM outbox.clean_up(" DAY_MS ")"),
                     text_of("process %d (dump)", PQbackendPID(dump)));
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
                                  " AND mode = 'AccessExclusiveLock'"),
                     0);
    ck_assert_str_eq(db_text(conn, "SHOW lock_timeout"), "0");
    db_exec(conn, "COMMIT");
}
END_TEST

/* A transaction that has been open since before everything, elsewhere. */
START_TEST(test_retention_an_old_transaction_keeps_nothing)
{
    PGconn *old = open_transaction(conninfo);

    given_an_old_slot();
    ck_assert_str_eq(clean_up(), "emptied 0");
    db_exec(old, "COMMIT");
}
END_TEST

/* What is looked at every second, beside slots that are full. */
START_TEST(test_retention_looks_only_at_the_ends_of_indexes)
{
    for (int i = 0; i < 3; i++) {
        enqueue_many(conn, topic, "m", 20000);
        db_exec(conn, "SELECT setval('outbox.message_slot', %d)", i + 1);
    }
    db_exec(conn, "UPDATE outbox.stream SET prev = pg_current_snapshot()");
    db_exec(conn, "BEGIN");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.clean_up(" DAY_MS ")"), 0);
    ck_assert_int_le(db_int(conn,
                            "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))"
                            " FROM pg_stat_xact_user_tables WHERE relname LIKE 'message%%'"),
                     40);
    db_exec(conn, "COMMIT");
}
END_TEST

START_TEST(test_retention_rights)
{
    db_exec(conn, "SET ROLE saga_relay");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.clean_up(" DAY_MS ")"), "");
    ck_assert_str_eq(db_refusal(conn, "SELECT * FROM outbox.slots"), "");
    ck_assert_str_eq(db_refusal(conn, "TRUNCATE outbox.message_0"), "42501");
    ck_assert_str_eq(db_refusal(conn, "SELECT setval('outbox.message_slot', 1)"), "42501");
    db_exec(conn, "SET ROLE saga_monitor");
    ck_assert_str_eq(db_refusal(conn, "SELECT * FROM outbox.slots"), "");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.clean_up(" DAY_MS ")"), "42501");
    db_exec(conn, "SET ROLE saga_app");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.clean_up(" DAY_MS ")"), "42501");
    ck_assert_str_eq(db_refusal(conn, "SELECT setval('outbox.message_slot', 1)"), "42501");
    ck_assert_str_eq(db_refusal(conn, "SELECT nextval('outbox.message_slot')"), "42501");
    ck_assert_str_eq(db_refusal(conn, "INSERT INTO outbox.message (message_id, topic, slot)"
                                      " VALUES (outbox.uuid_v7(), 't', 2)"),
                     "42501");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_retention",
        .tests = TESTS(
            test_retention_slots_take_turns, test_retention_keeps_what_is_young,
            test_retention_is_the_relays_business, test_retention_o7_a_dump_does_not_stop_the_relay,
            test_retention_below_zero_keeps_everything,
            test_retention_o7_keeps_what_is_not_published,
            test_retention_o7_keeps_what_one_stream_has_not_published,
            test_retention_o7_a_writer_idle_in_its_transaction_loses_nothing,
            test_retention_o7_a_prepared_transaction_loses_nothing,
            test_retention_o29_a_writer_who_commits_while_it_waits_loses_nothing,
            test_retention_o29_refuses_another_isolation_level,
            test_retention_o7_nobody_waits_while_a_dump_keeps_it_from_its_lock,
            test_retention_o7_does_not_wait_long, test_retention_an_old_transaction_keeps_nothing,
            test_retention_looks_only_at_the_ends_of_indexes, test_retention_rights),
        .setup = setup,
    });
}
