/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that are to be published later.
 */
#include "base/clock.h"
#include "outbox/chores.h"
#include "test/support/given_outbox.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <saga/outbox.h>
#include <stdlib.h>
#include <string.h>

enum { HOUR_S = 3600 };

static int64_t
in_seconds(int64_t seconds)
{
    return clock_wall_us() + seconds * 1000000;
}

static void
enqueue_c(const struct saga_message *messages, size_t n, struct saga_uuid *ids)
{
    struct saga_error err;

    db_exec(conn, "BEGIN");
    ck_assert_msg(saga_enqueue(conn, messages, n, ids, &err) == 0, "%s", err.message);
    db_exec(conn, "COMMIT");
}

/* "a b c", in the order of publishing, of those that are in the outbox. */
static const char *
values(void)
{
    const char *all = db_text(conn, "SELECT string_agg(convert_from(payload, 'UTF8'), ' '"
                                    " ORDER BY seq) FROM outbox.message");

    return all != NULL ? all : "";
}

static int64_t
waiting(void)
{
    return db_int(conn, "SELECT count(*) FROM outbox.delayed");
}

static int64_t
deliver_due(int max)
{
    return db_int(conn, "SELECT moved FROM outbox.deliver_due(%d)", max);
}

static void
an_hour_passes(void)
{
    db_exec(conn, "UPDATE outbox.delayed SET deliver_at = deliver_at - interval '1 hour 1 minute'");
}

/* --- writing ------------------------------------------------------------- */

START_TEST(test_delayed_one_call_takes_delayed_and_other_messages)
{
    const struct saga_message messages[] = {
        { .topic = "t", .payload = { "now", 3 } },
        { .topic = "t",
          .key = "k",
          .headers = SAGA_PAIRS({ "a", "b" }),
          .payload = { "later", 5 },
          .deliver_at_us = in_seconds(HOUR_S) },
        { .topic = "t", .payload = { "past", 4 }, .deliver_at_us = in_seconds(-HOUR_S) },
    };
    struct saga_uuid ids[3];
    char id[37];

    enqueue_c(messages, 3, ids);
    ck_assert_str_eq(values(), "now past");
    saga_uuid_text(&ids[1], id);
    ck_assert_str_eq(db_text(conn, "SELECT message_id || topic || key || headers || payload"
                                   "    || (deliver_at > now() + interval '59 minutes')"
                                   "  FROM outbox.delayed"),
                     text_of("%stka: b\\x6c61746572true", id));
    /* Each alone goes the same way. */
    for (int i = 0; i < 3; i++)
        enqueue_c(&messages[i], 1, NULL);
    ck_assert_str_eq(values(), "now past now past");
    ck_assert_int_eq(waiting(), 2);
}
END_TEST

START_TEST(test_delayed_in_a_pipeline_is_one_result_more)
{
    const struct saga_message messages[] = {
        { .topic = "t", .payload = { "now", 3 } },
        { .topic = "t", .payload = { "later", 5 }, .deliver_at_us = in_seconds(HOUR_S) },
    };
    struct saga_error err;
    int done = 0;

    db_exec(conn, "BEGIN");
    ck_assert(PQenterPipelineMode(conn));
    ck_assert_int_eq(saga_enqueue(conn, messages, 2, NULL, &err), 0);
    ck_assert(PQpipelineSync(conn));
    for (bool synced = false; !synced;) {
        PGresult *result = PQgetResult(conn);

        done += PQresultStatus(result) == PGRES_COMMAND_OK;
        synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        PQclear(result);
    }
    ck_assert_int_eq(done, 1);
    ck_assert(PQexitPipelineMode(conn));
    db_exec(conn, "COMMIT");
    ck_assert_str_eq(values(), "now");
    ck_assert_int_eq(waiting(), 1);
}
END_TEST

START_TEST(test_delayed_from_sql)
{
    db_exec(conn, "SELECT outbox.enqueue('t', 'past', deliver_at => now() - interval '1 s')");
    db_exec(conn, "SELECT outbox.enqueue('t', 'later', 'k', '{\"a\": \"b\"}',"
                  " deliver_at => now() + interval '1 hour')");
    db_exec(conn, "BEGIN");
    db_exec(conn, "SELECT outbox.enqueue('t', 'never', deliver_at => now() + interval '1 hour')");
    db_exec(conn, "ROLLBACK");
    ck_assert_str_eq(values(), "past");
    ck_assert_str_eq(db_text(conn, "SELECT convert_from(payload, 'UTF8') || key || headers"
                                   "  FROM outbox.delayed"),
                     "laterka: b");
}
END_TEST

/* The limits are those of other messages, and known when it is written. */
START_TEST(test_delayed_o19_limits_are_known_when_it_is_written)
{
    static const char *const too_large[] = {
        "repeat('x', 250), NULL",
        "'t', convert_to(repeat('x', 983041), 'UTF8')",
        "'t', NULL, repeat('x', 1025)",
        "'t', NULL, NULL, jsonb_build_object('n', repeat('x', 16384))",
        "'a b', NULL",
    };

    for (size_t i = 0; i < sizeof too_large / sizeof *too_large; i++)
        ck_assert_msg(
            strcmp(db_refusal(conn, "SELECT outbox.enqueue(%s, deliver_at => now() + '1 h')",
                              too_large[i]),
                   "23514") == 0,
            "%s", too_large[i]);
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.enqueue('t', NULL, deliver_at => 'infinity')"),
                     "23514");
    /* What lies before all that the relay asks for would wait for ever. */
    ck_assert_str_eq(db_refusal(conn, "INSERT INTO outbox.delayed (message_id, topic, deliver_at)"
                                      " VALUES (gen_random_uuid(), 't', '-infinity')"),
                     "23514");
}
END_TEST

/* trap: I29. Consumers forget ids by the time inside them. */
START_TEST(test_delayed_i29_ids_are_of_the_time_at_which_it_is_due)
{
    const struct saga_uuid own = { { 1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15,
                                     16 } };
    const struct saga_message messages[] = {
        { .topic = "t", .deliver_at_us = in_seconds(240 * HOUR_S) },
        { .topic = "t", .deliver_at_us = in_seconds(240 * HOUR_S) },
        { .id = own, .topic = "own", .deliver_at_us = in_seconds(240 * HOUR_S) },
        { .topic = "t", .deliver_at_us = in_seconds(-240 * HOUR_S) },
    };
    static const char of_id[] = "('x' || substr(replace(message_id::text, '-', ''), 1, 12))"
                                "::bit(48)::bigint";

    enqueue_c(messages, 1, NULL);
    enqueue_c(messages + 1, 3, NULL);
    db_exec(conn, "SELECT outbox.enqueue('t', NULL, deliver_at => now() + interval '10 days'),"
                  "       outbox.enqueue('t', NULL, deliver_at => now() - interval '10 days')");
    ck_assert_int_eq(db_int(conn,
                            "SELECT count(*) FROM outbox.delayed WHERE topic = 't'"
                            " AND %s = floor(extract(epoch FROM deliver_at) * 1000)"
                            " AND substr(message_id::text, 15, 1) = '7'",
                            of_id),
                     3);
    ck_assert_str_eq(db_text(conn, "SELECT message_id FROM outbox.delayed WHERE topic = 'own'"),
                     "01020304-0506-7008-800a-0b0c0d0e0f10");
    /* Not of one that has passed: that id might be forgotten already. */
    ck_assert_int_eq(db_int(conn,
                            "SELECT count(*) FROM outbox.message WHERE"
                            " abs(%s - extract(epoch FROM created_at) * 1000) < 10000",
                            of_id),
                     2);
}
END_TEST

/* --- delivering ------------------------------------------------------------ */

START_TEST(test_delayed_are_moved_in_the_order_in_which_they_are_due)
{
    static const int minutes[] = { 30, 10, 20, 10, 50 };

    for (int i = 0; i < 5; i++)
        db_exec(conn,
                "SELECT outbox.enqueue('t', convert_to('%d', 'UTF8'), 'k',"
                " deliver_at => date_trunc('hour', now()) + interval '60 hours %d minutes')",
                i, minutes[i]);
    ck_assert_int_eq(deliver_due(10), 0);
    db_exec(conn, "UPDATE outbox.delayed SET deliver_at = deliver_at - interval '61 hours'"
                  " WHERE convert_from(payload, 'UTF8') <> '4'");
    ck_assert_int_eq(deliver_due(2), 2);
    ck_assert_str_eq(values(), "1 3");
    ck_assert_int_eq(deliver_due(10), 2);
    ck_assert_str_eq(values(), "1 3 2 0");
    ck_assert_int_eq(deliver_due(10), 0);
    ck_assert_int_eq(waiting(), 1);
}
END_TEST

/* Two owners, one of them asleep past his lease: neither waits, and none is
 * moved twice. */
START_TEST(test_delayed_are_moved_once)
{
    PGconn *other = db_connect(conninfo);

    db_exec(conn, "SELECT outbox.enqueue('t', 'x', deliver_at => now() + interval '1 hour')"
                  " FROM generate_series(1, 5)");
    an_hour_passes();
    db_exec(conn, "SET lock_timeout = '5s'");
    db_exec(other, "BEGIN");
    ck_assert_int_eq(db_int(other, "SELECT moved FROM outbox.deliver_due(3)"), 3);
    ck_assert_int_eq(deliver_due(10), 0);
    db_exec(other, "ROLLBACK");
    ck_assert_int_eq(deliver_due(3), 3);
    db_exec(other, "BEGIN");
    ck_assert_int_eq(db_int(other, "SELECT moved FROM outbox.deliver_due(3)"), 2);
    db_exec(other, "COMMIT");
    ck_assert_int_eq(deliver_due(3), 0);
    ck_assert_str_eq(values(), "x x x x x");
    PQfinish(other);
}
END_TEST

START_TEST(test_delayed_are_published_when_they_are_due)
{
    const char *due;

    topic = GIVEN_TOPIC(1);
    start_relay(RELAY(.conninfo = conninfo));
    due = db_text(conn, "SELECT clock_timestamp() + interval '700 ms'");
    db_exec(conn, "SELECT outbox.enqueue('%s', 'later', deliver_at => '%s')", topic, due);
    enqueue(conn, topic, NULL, "now");
    await_published(topic, "now later", 5000);
    ck_assert_int_eq(db_int(conn,
                            "SELECT (created_at >= '%s')::int FROM outbox.message"
                            " WHERE payload = 'later'",
                            due),
                     1);
    ck_assert_int_eq(waiting(), 0);
}
END_TEST

/* Also more than are moved at a time. */
START_TEST(test_delayed_that_are_due_belong_to_what_is_there)
{
    topic = GIVEN_TOPIC(1);
    db_exec(conn,
            "INSERT INTO outbox.delayed (message_id, topic, key, payload, deliver_at)"
            " SELECT outbox.uuid_v7(), '%s', 'k', convert_to(g::text, 'UTF8'),"
            "        now() + interval '1 hour' + g %% 3 * interval '1 ms'"
            "   FROM generate_series(1, 2500) g",
            topic);
    publish_once(conninfo);
    ck_assert_int_eq(published_count(topic), 0);
    an_hour_passes();
    publish_once(conninfo);
    ck_assert_int_eq(published_count(topic), 2500);
    ck_assert_int_eq(waiting(), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM (SELECT payload, row_number() OVER"
                                  " (ORDER BY seq) AS n, row_number() OVER (ORDER BY"
                                  " convert_from(payload, 'UTF8')::int %% 3,"
                                  " convert_from(payload, 'UTF8')::int) AS due"
                                  " FROM outbox.message) o WHERE n <> due"),
                     0);
}
END_TEST

/* A thousand large ones in one statement would outlast the relay's lease, and then
 * its patience with the server, again and again. */
START_TEST(test_delayed_large_ones_are_moved_few_at_a_time)
{
    topic = GIVEN_TOPIC(1);
    db_exec(conn,
            "INSERT INTO outbox.delayed (message_id, topic, payload, deliver_at)"
            " SELECT gen_random_uuid(), '%s', convert_to(repeat(g::text, 983040 / 2), 'UTF8'),"
            "        now() - interval '1 hour' FROM generate_series(10, 20) g",
            topic);
    db_exec(conn, "BEGIN");
    ck_assert_str_eq(db_text(conn, "SELECT moved || ' ' || more FROM outbox.deliver_due(1000)"),
                     "9 true");
    db_exec(conn, "ROLLBACK");
    publish_once(conninfo);
    ck_assert_int_eq(waiting(), 0);
    ck_assert_int_eq(published_count(topic), 11);
}
END_TEST

/* Somebody repacks or alters it, or forgets that he has: the rest is published. */
START_TEST(test_delayed_a_lock_on_them_holds_up_nothing_else)
{
    PGconn *other = open_transaction(conninfo);

    topic = GIVEN_TOPIC(1);
    db_exec(conn, "SELECT outbox.enqueue('%s', 'due', deliver_at => now() + interval '1 hour')",
            topic);
    an_hour_passes();
    db_exec(other, "LOCK TABLE outbox.delayed IN ACCESS EXCLUSIVE MODE");
    start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, NULL, "now");
    await_published(topic, "now", 5000);
    db_exec(other, "COMMIT");
    await_published(topic, "now due", 5000);
}
END_TEST

/* Both take longer than the session waits for any answer: they are left alone for
 * longer each time, and the session is not given up. */
START_TEST(test_delayed_a_slow_chore_costs_no_session)
{
    const struct saga_log log = { 0 };
    struct chores chores = { .retention_ms = 1000, .log = &log };
    struct saga_error err;
    struct pg pg;
    int64_t pause;
    int pid;

    db_exec(conn, "ALTER FUNCTION outbox.deliver_due RENAME TO deliver_due_;"
                  "ALTER FUNCTION outbox.clean_up RENAME TO clean_up_;"
                  "CREATE FUNCTION outbox.deliver_due(max int, after timestamptz, after_n bigint,"
                  " OUT more bool, OUT last int, OUT last_n int) LANGUAGE sql"
                  " AS 'SELECT pg_sleep(60) IS NULL, 1, 1';"
                  "CREATE FUNCTION outbox.clean_up(bigint, OUT slot int, OUT did int,"
                  " OUT held_by int) LANGUAGE sql AS 'SELECT 1, 1, 1 FROM pg_sleep(60)'");
    ck_assert_int_eq(pg_init(&pg, conninfo, "test", 2000, &log, &err), 0);
    ck_assert_int_eq(pg_connect(&pg, &err), 0);
    pid = PQbackendPID(pg.conn);
    pg.timeout_ms = 100;
    ck_assert_msg(chores_do(&chores, &pg, false, &err) == 0, "%s", err.message);
    pause = chores.deliver.due_ms - clock_mono_ms();
    ck_assert_int_gt(pause, 0);
    ck_assert_int_gt(chores.clean.due_ms, clock_mono_ms());
    ck_assert_int_eq(chores_do(&chores, &pg, true, &err), 0); /* whether it is time or not */
    ck_assert_int_gt(chores.deliver.due_ms - clock_mono_ms(), pause);
    ck_assert_int_eq(PQbackendPID(pg.conn), pid);

    db_exec(conn, "DROP FUNCTION outbox.deliver_due, outbox.clean_up;"
                  "ALTER FUNCTION outbox.deliver_due_ RENAME TO deliver_due;"
                  "ALTER FUNCTION outbox.clean_up_ RENAME TO clean_up");
    pg.timeout_ms = 2000;
    ck_assert_int_eq(chores_do(&chores, &pg, true, &err), 0);
    ck_assert_int_eq(chores.deliver.failures + chores.clean.failures, 0);
    pg_clear(&pg);
}
END_TEST

/* --- cost -------------------------------------------------------------------- */

/* Pages of the table and its index that are looked at when nothing is due. */
START_TEST(test_delayed_that_wait_cost_nothing)
{
    static const char pages[] =
        "SELECT pg_stat_get_xact_blocks_fetched('outbox.delayed'::regclass)"
        "     + pg_stat_get_xact_blocks_fetched('outbox.delayed_pkey'::regclass)";
    int64_t before; /* what the session has not told the server yet */

    deliver_due(1000); /* plans it while the table is empty */
    db_exec(conn, "INSERT INTO outbox.delayed (message_id, topic, deliver_at)"
                  " SELECT gen_random_uuid(), 't', now() + g * interval '1 hour'"
                  "   FROM generate_series(1, 100000) g");
    db_exec(conn, "BEGIN");
    before = db_int(conn, "%s", pages);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(deliver_due(1000), 0);
    ck_assert_int_le(db_int(conn, "%s", pages) - before, 10 * 5);
    db_exec(conn, "COMMIT");
}
END_TEST

/* A transaction that is open keeps what was moved in the index. */
START_TEST(test_delayed_a_burst_does_not_walk_over_what_it_has_moved)
{
    PGconn *old = open_transaction(conninfo);
    const char *last = "-infinity", *last_n = "0";

    db_exec(old, "SELECT count(*) FROM outbox.delayed; DECLARE c CURSOR FOR SELECT 1");
    db_exec(conn, "INSERT INTO outbox.delayed (message_id, topic, deliver_at)"
                  " SELECT gen_random_uuid(), 't', now() - interval '1 hour'"
                  "   FROM generate_series(1, 10000) g");
    for (int i = 0; i < 10; i++) {
        db_exec(conn, "BEGIN");
        db_exec(conn,
                "CREATE TEMPORARY TABLE ended ON COMMIT DROP AS"
                " SELECT * FROM outbox.deliver_due(1000, '%s', %s)",
                last, last_n);
        ck_assert_int_eq(db_int(conn, "SELECT moved FROM ended"), 1000);
        last = db_text(conn, "SELECT last FROM ended");
        last_n = db_text(conn, "SELECT last_n FROM ended");
        ck_assert_int_le(
            db_int(conn, "SELECT pg_stat_get_xact_tuples_fetched('outbox.delayed'::regclass)"),
            2010);
        db_exec(conn, "COMMIT");
    }
    ck_assert_int_eq(waiting(), 0);
}
END_TEST

START_TEST(test_delayed_rights)
{
    db_exec(conn, "SET ROLE saga_app");
    ck_assert_str_eq(
        db_refusal(conn, "SELECT outbox.enqueue('t', NULL, deliver_at => now() + '1 h')"), "");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.deliver_due(1)"), "42501");
    ck_assert_str_eq(db_refusal(conn, "DELETE FROM outbox.delayed"), "42501");
    db_exec(conn, "SET ROLE saga_relay");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.deliver_due(1)"), "");
    ck_assert_str_eq(db_refusal(conn, "DELETE FROM outbox.delayed"), "42501");
    db_exec(conn, "SET ROLE saga_monitor");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.deliver_due(1)"), "42501");
    ck_assert_str_eq(db_refusal(conn, "SELECT * FROM outbox.delayed"), "");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_delayed",
        .tests =
            TESTS(test_delayed_one_call_takes_delayed_and_other_messages,
                  test_delayed_in_a_pipeline_is_one_result_more, test_delayed_from_sql,
                  test_delayed_o19_limits_are_known_when_it_is_written,
                  test_delayed_i29_ids_are_of_the_time_at_which_it_is_due,
                  test_delayed_are_moved_in_the_order_in_which_they_are_due,
                  test_delayed_are_moved_once, test_delayed_are_published_when_they_are_due,
                  test_delayed_that_are_due_belong_to_what_is_there,
                  test_delayed_large_ones_are_moved_few_at_a_time,
                  test_delayed_a_lock_on_them_holds_up_nothing_else,
                  test_delayed_a_slow_chore_costs_no_session, test_delayed_that_wait_cost_nothing,
                  test_delayed_a_burst_does_not_walk_over_what_it_has_moved, test_delayed_rights),
        .setup = given_outbox,
    });
}
