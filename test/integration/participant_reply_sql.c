/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that are answered later by the SQL functions alone, as another language
 * would do it.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <string.h>

static const char *database;
static PGconn *conn;
static char token[SAGA_TOKEN_MAX + 1];

static void
setup(void)
{
    database = given_inventory(&conn);
}

#define IN_SQL "'sql', '" SAGA_1 "', 'pay', "

static const char *
entered(const char *action)
{
    return db_text(conn,
                   "SELECT concat_ws(' ', verdict, outcome, reason) FROM idempotency.enter(" IN_SQL
                   "'%s', '" SAGA_2 "')",
                   action);
}

static const char *
sql_answer(const char *rest)
{
    return db_text(conn, "SELECT idempotency.reply('%s', %s)", token, rest);
}

static const char *
answered_by(void)
{
    return db_text(conn, "SELECT coalesce(max(answered_by), 'nobody') FROM idempotency.barrier");
}

static void
given_accepted_in_sql(void)
{
    db_exec(conn, "BEGIN");
    ck_assert_str_eq(entered("run"), "enter done");
    strcpy(token, db_text(conn, "SELECT idempotency.wait(" IN_SQL "'run', 'order.replies', NULL,"
                                " '{\"ticket\": \"T1\"}')"));
    db_exec(conn, "COMMIT");
}

START_TEST(test_reply_from_sql_is_the_same)
{
    db_exec(conn, "SET ROLE saga_app");
    given_accepted_in_sql();
    ck_assert_str_eq(token, SAGA_1 "/" SAGA_2 "/run/pay/sql");
    ck_assert_str_eq(entered("run"), "waiting waiting");
    ck_assert_str_eq(sql_answer("'done', NULL, '{\"shelf\": \"B7\"}'"), "t");
    ck_assert_str_eq(sql_answer("'done', NULL, '{\"shelf\": \"B7\"}'"), "f");
    ck_assert_str_eq(entered("run"), "answered done");
    ck_assert_str_eq(entered("compensate"), "enter done");
    db_exec(conn, "RESET ROLE");
    expect_reply(conn, 0, "run", "done", NULL);
    ck_assert_str_eq(reply_payload(conn, 0), "{\"shelf\": \"B7\", \"ticket\": \"T1\"}");
    ck_assert_int_eq(reply_count(conn), 1);
}
END_TEST

/* The login, also where it has taken on a role; and nobody can change it afterwards. */
START_TEST(test_reply_tells_which_login_has_answered)
{
    const char *login = unique_name("clerk");
    PGconn *clerk;

    given_accepted_in_sql();
    ck_assert_str_eq(answered_by(), "nobody");
    db_exec(conn, "CREATE ROLE %s LOGIN IN ROLE saga_app", login);
    clerk = db_connect(text_of("%s user=%s", database, login));
    db_exec(clerk, "SET ROLE saga_app; SELECT idempotency.reply('%s', 'refused', 'no funds')",
            token);
    ck_assert_str_eq(answered_by(), login);
    ck_assert_str_eq(sql_answer("'refused', 'no funds'"), "f");
    ck_assert_str_eq(answered_by(), login);
    ck_assert_str_eq(db_refusal(clerk, "UPDATE idempotency.barrier SET answered_by = 'x'"),
                     "42501");
    PQfinish(clerk);
    db_exec(conn, "DROP ROLE %s", login);
}
END_TEST

START_TEST(test_answer_from_sql_that_is_no_object_is_refused)
{
    static const char *const wrong[] = { "[]", "\"done\"", "null", "7" };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        db_exec(conn, "BEGIN; SELECT idempotency.enter(" IN_SQL "'run', '" SAGA_2 "')");
        ck_assert_str_eq(
            db_refusal(conn, "SELECT idempotency.answer(" IN_SQL "'run', 'done', NULL, '%s')",
                       wrong[i]),
            "22023");
        db_exec(conn, "ROLLBACK; BEGIN; SELECT idempotency.enter(" IN_SQL "'run', '" SAGA_2 "')");
        ck_assert_str_eq(db_refusal(conn,
                                    "SELECT idempotency.wait(" IN_SQL
                                    "'run', 'order.replies', NULL, '%s')",
                                    wrong[i]),
                         "22023");
        db_exec(conn, "ROLLBACK");
    }
}
END_TEST

/* Which argument it is, what its limit is, and what to do about it. */
START_TEST(test_enter_from_sql_refuses_names_that_are_too_long_or_missing)
{
    static const struct {
        const char *call, *sqlstate, *says;
    } wrong[] = {
        { "repeat('é', 128), '" SAGA_1 "', 'pay', 'run', '" SAGA_2 "'", "54000",
          "the consumer has 256 bytes, and at most 255 are allowed" },
        { "'sql', '" SAGA_1 "', repeat('x', 256), 'run', '" SAGA_2 "'", "54000",
          "the step has 256 bytes, and at most 255 are allowed" },
        { "NULL, '" SAGA_1 "', 'pay', 'run', '" SAGA_2 "'", "22023", "the consumer is empty" },
        { "'sql', '" SAGA_1 "', '', 'run', '" SAGA_2 "'", "22023", "the step is empty" },
        { "'sql', '" SAGA_1 "', 'pay', NULL, '" SAGA_2 "'", "22023", "action must be" },
        { "repeat('x', 256), 'k', ''", "54000", "the scope has 256 bytes" },
        { "'web', repeat('x', 256), ''", "54000", "enter a hash of the key in its place" },
        { "'', 'k', ''", "22023", "the scope is empty" },
        { "'web', NULL, ''", "22023", "the key is empty" },
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.enter(%s)", wrong[i].call),
                         wrong[i].sqlstate);
        ck_assert_msg(strstr(PQerrorMessage(conn), wrong[i].says) != NULL, "%s",
                      PQerrorMessage(conn));
    }
    db_exec(conn,
            "SELECT idempotency.enter(repeat('x', 255), '" SAGA_1 "', repeat('x', 255),"
            " 'run', '" SAGA_2 "'), idempotency.enter(repeat('x', 255), repeat('x', 255), '')");
}
END_TEST

START_TEST(test_compensation_i19_from_sql_overtakes_the_answer)
{
    given_accepted_in_sql();
    ck_assert_str_eq(entered("compensate"), "enter done");
    ck_assert_str_eq(entered("run"), "answered refused compensated before it was answered");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.reply('%s', 'done')", token), "SG003");
    ck_assert_str_eq(db_refusal(conn,
                                "SELECT idempotency.reply('%s', 'refused',"
                                " 'compensated before it was answered')",
                                token),
                     "SG003");
}
END_TEST

START_TEST(test_answer_from_sql_is_not_too_late_because_of_what_its_reason_says)
{
    given_accepted_in_sql();
    ck_assert_str_eq(sql_answer("'refused', 'compensated before it was answered'"), "t");
    ck_assert_str_eq(sql_answer("'refused', 'compensated before it was answered'"), "f");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.reply('%s', 'done')", token), "SG002");
    ck_assert_str_eq(entered("compensate"), "answered done nothing to undo");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.reply('%s', 'done')", token), "SG002");
}
END_TEST

START_TEST(test_compensation_i28_of_a_forgotten_saga_from_sql_leaves_the_step_waiting)
{
    given_accepted_in_sql();
    /* So old that nobody says whether it was compensated: then it was not. */
    db_exec(conn, "SELECT setval('idempotency.barrier_mark', 30000)");
    ck_assert_ptr_nonnull(strstr(entered("compensate"), "answered unknown"));
    ck_assert_str_eq(entered("run"), "waiting waiting");
}
END_TEST

/* --- the order of locks --------------------------------------------------------------- */

static PGconn *answerer;

static void
given_both_at_once(void)
{
    given_accepted_in_sql();
    db_exec(conn, "CREATE TABLE IF NOT EXISTS transfer AS SELECT 'asked' AS state");
    answerer = given_session(database);
    db_exec(answerer, "SET deadlock_timeout = '10ms'; BEGIN");
    db_exec(conn, "BEGIN");
}

/* Sends it, and waits until it waits for the other session. */
static void
send_and_wait(PGconn *session, const char *sql)
{
    PGconn *eye = db_connect(database);

    ck_assert_int_eq(PQsendQuery(session, sql), 1);
    WAIT_UNTIL(db_int(eye, "SELECT cardinality(pg_blocking_pids(%d))", PQbackendPID(session)) > 0,
               5000);
    PQfinish(eye);
}

/* The SQLSTATE of its end; "": it worked. */
static const char *
ended(PGconn *session)
{
    PGresult *result = PQgetResult(session);
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *text = text_of("%s", sqlstate != NULL ? sqlstate : "");

    PQclear(result);
    ck_assert_ptr_null(PQgetResult(session));
    return text;
}

#define WRITE_ROW(state) "UPDATE transfer SET state = '" state "'"

/* As a compensation does it: the barrier, then what its function writes. */
START_TEST(test_answer_given_before_its_row_is_written_never_deadlocks)
{
    given_both_at_once();
    ck_assert_str_eq(entered("compensate"), "enter done");
    send_and_wait(answerer, text_of("SELECT idempotency.reply('%s', 'done')", token));
    db_exec(conn, WRITE_ROW("called back") "; COMMIT");
    ck_assert_str_eq(ended(answerer), "SG003");
    db_exec(answerer, "ROLLBACK");

    db_exec(conn, "TRUNCATE idempotency.barrier; DELETE FROM outbox.message");
    given_both_at_once();
    db_exec(answerer, "SELECT idempotency.reply('%s', 'done')", token);
    send_and_wait(conn, "SELECT FROM idempotency.enter(" IN_SQL "'compensate', '" SAGA_2 "')");
    db_exec(answerer, WRITE_ROW("approved") "; COMMIT");
    ck_assert_str_eq(ended(conn), "");
    db_exec(conn, WRITE_ROW("called back") "; COMMIT");
}
END_TEST

/* Why saga.h and docs/protocol.md say in which order. */
START_TEST(test_answer_given_behind_its_row_can_deadlock)
{
    given_both_at_once();
    db_exec(answerer, WRITE_ROW("approved"));
    ck_assert_str_eq(entered("compensate"), "enter done");
    send_and_wait(conn, WRITE_ROW("called back"));
    ck_assert_str_eq(db_refusal(answerer, "SELECT idempotency.reply('%s', 'done')", token),
                     "40P01");
    db_exec(answerer, "ROLLBACK");
    ck_assert_str_eq(ended(conn), "");
    db_exec(conn, "COMMIT");
}
END_TEST

/* --- since when -------------------------------------------------------------------- */

/* The step and its compensation are forgotten together, if clocks agree to a day. trap: I29 */
START_TEST(test_saga_from_sql_i29_counts_from_its_id_unless_that_tells_no_time)
{
    static const struct {
        const char *begins; /* relative to now, if the version tells */
        char version;
        bool from_its_id;
    } sagas[] = { { "-400 days", '7', true },
                  { "1 day", '7', true },
                  { "3 days", '7', false },
                  { "4000 years", '7', false },
                  { "-400 days", '4', false } };

    for (size_t i = 0; i < sizeof sagas / sizeof *sagas; i++) {
        db_exec(conn,
                "TRUNCATE idempotency.barrier;"
                "SELECT idempotency.enter('sql', (lpad(to_hex((extract(epoch FROM now() +"
                " interval '%s') * 1000)::bigint), 12, '0') || '%ca1080000000000000aa')::uuid,"
                " 'pay', 'compensate', '" SAGA_2 "')",
                sagas[i].begins, sagas[i].version);
        ck_assert_msg(db_int(conn,
                             "SELECT count(*) FROM idempotency.barrier WHERE saga_started_at"
                             " BETWEEN now() - interval '1 minute' + %1$s AND now() + interval '1 "
                             "minute' + %1$s",
                             sagas[i].from_its_id ? text_of("interval '%s'", sagas[i].begins)
                                                  : "interval '0'") == 2,
                      "%s: %s", sagas[i].begins,
                      db_text(conn, "SELECT max(saga_started_at) FROM idempotency.barrier"));
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/reply_sql",
        .setup = setup,
        .tests =
            TESTS(test_reply_from_sql_is_the_same, test_reply_tells_which_login_has_answered,
                  test_answer_from_sql_that_is_no_object_is_refused,
                  test_enter_from_sql_refuses_names_that_are_too_long_or_missing,
                  test_compensation_i19_from_sql_overtakes_the_answer,
                  test_answer_given_before_its_row_is_written_never_deadlocks,
                  test_answer_given_behind_its_row_can_deadlock,
                  test_answer_from_sql_is_not_too_late_because_of_what_its_reason_says,
                  test_saga_from_sql_i29_counts_from_its_id_unless_that_tells_no_time,
                  test_compensation_i28_of_a_forgotten_saga_from_sql_leaves_the_step_waiting) });
}
