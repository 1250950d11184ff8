/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wrapper around libpq against a real server: values there and back,
 * deadlines, lost connections, and every way in which COMMIT lies (trap I15).
 */
#include "base/clock.h"
#include "base/pg.h"
#include "test/support/db.h"
#include "test/support/proxy.h"
#include "test/support/run.h"
#include "test/support/server.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READY_FOR_QUERY_BYTES = 6 };

static struct pg pg;
static struct saga_error err;
static const char *database;

static void
given_connection(void)
{
    database = given_database();
    ck_assert_int_eq(pg_init(&pg, database, "base_pg", 5000, NULL, &err), 0);
    ck_assert_msg(pg_connect(&pg, &err) == 0, "%s", err.message);
}

static void
drop_connection(void)
{
    pg_clear(&pg);
}

/* A table whose every insert ends the session in the middle of COMMIT. */
static void
given_a_commit_that_kills_its_session(void)
{
    ck_assert_msg(pg_script(&pg,
                            "CREATE TABLE deadly (n int);"
                            "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                            "  PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(1);"
                            "  RETURN NULL; END $$;"
                            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON deadly DEFERRABLE"
                            "  INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die();",
                            &err) == 0,
                  "%s", err.message);
}

START_TEST(test_pg_values_come_back_as_they_went)
{
    static const struct saga_uuid id = { { 1, 2, 3 } };
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array texts, none;

    pg_array_init(&texts, PG_OID_TEXT_ARRAY);
    pg_array_add_text(&texts, "x");
    pg_array_add_text(&texts, NULL);
    pg_array_init(&none, PG_OID_INT8_ARRAY);
    ck_assert_msg(
        pg_exec(&pg,
                "SELECT $1::int8, $2::text, $3::bytea, $4::bool, $5::timestamptz,"
                " $6::uuid, $7::int4, cardinality($8::text[]), ($8::text[])[2] IS NULL,"
                " cardinality($9::int8[]), NULL::text",
                PG_ARGS(PG_INT8(INT64_MIN), PG_TEXT("h\xC3\xA9"),
                        PG_BYTEA(((struct saga_bytes){ "a\0b", 3 })), PG_BOOL(true), PG_TIME(-1),
                        PG_UUID(&id), PG_INT4(-7), PG_ARRAY(&texts), PG_ARRAY(&none)),
                &rows, &err) == 0,
        "%s", err.message);
    ck_assert_int_eq(pg_int(&rows, 0, 0), INT64_MIN);
    ck_assert_str_eq(pg_text(&rows, 0, 1), "h\xC3\xA9");
    ck_assert_uint_eq(pg_bytes(&rows, 0, 2).len, 3);
    ck_assert_mem_eq(pg_bytes(&rows, 0, 2).data, "a\0b", 3);
    ck_assert(pg_bool(&rows, 0, 3));
    ck_assert_int_eq(pg_time_us(&rows, 0, 4), -1);
    ck_assert_uint_eq(pg_uuid(&rows, 0, 5).bytes[2], 3);
    ck_assert_int_eq(pg_int(&rows, 0, 6), -7);
    ck_assert_int_eq(pg_int(&rows, 0, 7), 2);
    ck_assert(pg_bool(&rows, 0, 8));
    ck_assert_int_eq(pg_int(&rows, 0, 9), 0);
    ck_assert_ptr_null(pg_text(&rows, 0, 10));
    pg_rows_clear(&rows);
    pg_array_clear(&texts);
    pg_array_clear(&none);
}
END_TEST

START_TEST(test_pg_large_statements_both_ways_do_not_block)
{
    enum { LARGE = 16 << 20 };
    char *text = malloc(LARGE);
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_statement both[2];

    memset(text, 'x', LARGE - 1);
    text[LARGE - 1] = '\0';
    struct pg_arg arg = pg_arg_text(text);
    both[0] = (struct pg_statement){ .sql = "SELECT $1::text", .args = &arg, .n_args = 1 };
    both[1] =
        (struct pg_statement){ .sql = "SELECT $1::text", .args = &arg, .n_args = 1, .rows = &rows };
    ck_assert_msg(pg_batch(&pg, both, 2, &err) == 0, "%s", err.message);
    ck_assert_uint_eq(pg_bytes(&rows, 0, 0).len, LARGE - 1);
    pg_rows_clear(&rows);
    free(text);
}
END_TEST

START_TEST(test_pg_deadline_cancels_and_leaves_the_connection_usable)
{
    int64_t start = clock_mono_ms();

    pg.timeout_ms = 100;
    ck_assert_int_eq(pg_exec(&pg, "SELECT pg_sleep(60)", PG_NO_ARGS, NULL, &err), SAGA_ETIMEOUT);
    ck_assert_int_lt(clock_mono_ms() - start, 30000);
    pg.timeout_ms = 5000;
    ck_assert_int_eq(pg_exec(&pg, "SELECT 1", PG_NO_ARGS, NULL, &err), 0);
}
END_TEST

START_TEST(test_pg_batch_names_the_statement_that_failed)
{
    const struct pg_statement three[] = { { .sql = "SELECT 1" },
                                          { .sql = "SELECT 1/0" },
                                          { .sql = "SELECT 2" } };

    ck_assert_int_eq(pg_batch(&pg, three, 3, &err), SAGA_EDB);
    ck_assert_uint_eq(err.index, 1);
    ck_assert_str_eq(err.sqlstate, "22012");
    ck_assert_int_eq(pg_exec(&pg, "SELECT 1", PG_NO_ARGS, NULL, &err), 0);
}
END_TEST

/* What is still to be read is somebody else's answer, and is not taken for ours. */
START_TEST(test_pg_busy_connection_is_refused_and_its_results_are_left)
{
    const struct pg_statement one = { .sql = "SELECT 2" };
    struct pg_rows rows = PG_ROWS_INIT;
    PGresult *result;

    ck_assert_int_eq(PQsendQuery(pg.conn, "SELECT 1"), 1);
    ck_assert_int_eq(pg_exec(&pg, one.sql, PG_NO_ARGS, &rows, &err), SAGA_EINVAL);
    ck_assert_int_eq(pg_batch(&pg, &one, 1, &err), SAGA_EINVAL);
    result = PQgetResult(pg.conn);
    ck_assert_str_eq(PQgetvalue(result, 0, 0), "1");
    PQclear(result);
    ck_assert_ptr_null(PQgetResult(pg.conn));
    ck_assert_int_eq(pg_exec(&pg, one.sql, PG_NO_ARGS, NULL, &err), 0);
}
END_TEST

START_TEST(test_pg_missing_table_says_migrate_up)
{
    ck_assert_int_eq(pg_exec(&pg, "SELECT * FROM saga.not_there", PG_NO_ARGS, NULL, &err),
                     SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "sagactl migrate up"));
}
END_TEST

/* What our functions say to do comes with what is wrong, whole or not at all. */
START_TEST(test_pg_error_has_the_hint_of_our_own_functions)
{
    static const char call[] =
        "SELECT outbox.enqueue('t', NULL, headers => jsonb_build_object($1::text, 7))";
    char name[181];

    ck_assert_int_eq(pg_exec(&pg, call, PG_ARGS(PG_TEXT("n")), NULL, &err), SAGA_EDB);
    ck_assert_str_eq(err.message, "header \"n\" is not a text. Headers are a JSON object of texts; "
                                  "numbers and others need quotes.");
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    ck_assert_int_eq(pg_exec(&pg, call, PG_ARGS(PG_TEXT(name)), NULL, &err), SAGA_EDB);
    ck_assert_str_eq(err.message, text_of("header \"%s\" is not a text", name));
    ck_assert_int_eq(pg_exec(&pg, call, PG_ARGS(PG_TEXT("n")), NULL, NULL), SAGA_EDB);
}
END_TEST

START_TEST(test_pg_error_has_no_hint_and_no_detail_of_others)
{
    static const struct pg_statement theirs[] = {
        { .sql = "SELECT theirs()", .foreign = true },
        { .sql = "SELECT shop_outbox.theirs()", .foreign = true },
        { .sql = "SELECT \"my outbox.f\"()", .foreign = true },
        { .sql = "SELECT nothing_like_it(1)", .foreign = true },
    };
    static const char *const says[] = { "no", "no", "no",
                                        "function nothing_like_it(integer) does not exist" };

    ck_assert_msg(pg_script(&pg,
                            "CREATE FUNCTION theirs() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
                            "  RAISE EXCEPTION 'no' USING HINT = 'their rows', DETAIL = 'and more';"
                            " END $$;"
                            "CREATE SCHEMA shop_outbox;"
                            "CREATE FUNCTION shop_outbox.theirs() RETURNS void LANGUAGE plpgsql AS"
                            " $$ BEGIN RAISE EXCEPTION 'no' USING HINT = 'their rows'; END $$;"
                            "CREATE FUNCTION \"my outbox.f\"() RETURNS void LANGUAGE plpgsql AS"
                            " $$ BEGIN RAISE EXCEPTION 'no' USING HINT = 'their rows'; END $$;",
                            &err) == 0,
                  "%s", err.message);
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) {
        ck_assert_int_eq(pg_batch(&pg, &theirs[i], 1, &err), SAGA_EDB);
        ck_assert_str_eq(err.message, says[i]);
    }
}
END_TEST

START_TEST(test_pg_refused_connection_is_retriable_and_says_where)
{
    struct pg nowhere;

    ck_assert_int_eq(pg_init(&nowhere, "host=127.0.0.1 port=1", "t", 1000, NULL, &err), 0);
    ck_assert_int_eq(pg_connect(&nowhere, &err), SAGA_EDB);
    ck_assert_uint_eq(err.flags & SAGA_ERR_RETRIABLE, SAGA_ERR_RETRIABLE);
    ck_assert_ptr_nonnull(strstr(err.message, "port 1"));
    pg_clear(&nowhere);
}
END_TEST

/* A host that has died says nothing; the one that took over is next in the list. */
START_TEST(test_pg_connects_to_the_next_host_when_the_first_is_silent)
{
    struct sockaddr_in own = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof own;
    int silent = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct pg two;

    ck_assert_int_eq(bind(silent, (struct sockaddr *)&own, sizeof own), 0);
    ck_assert_int_eq(listen(silent, 5), 0);
    ck_assert_int_eq(getsockname(silent, (struct sockaddr *)&own, &len), 0);
    ck_assert_int_eq(
        pg_init(&two,
                text_of("%s host=127.0.0.1,%s port=%d,%s", database, server_env("PGHOST"),
                        ntohs(own.sin_port), server_env("PGPORT")),
                "t", 1000, NULL, &err),
        0);
    ck_assert_msg(pg_connect(&two, &err) == 0, "%s", err.message);
    pg_clear(&two);
    close(silent);
}
END_TEST

/* trap: I15 */
START_TEST(test_commit_i15_of_a_failed_transaction_is_an_error)
{
    ck_assert_int_eq(saga_begin(pg.conn, &err), 0);
    ck_assert_int_eq(pg_exec(&pg, "SELECT 1/0", PG_NO_ARGS, NULL, &err), SAGA_EDB);
    ck_assert_int_eq(saga_commit(pg.conn, &err), SAGA_EDB);
    ck_assert_int_eq(PQtransactionStatus(pg.conn), PQTRANS_IDLE);
}
END_TEST

START_TEST(test_commit_i15_without_a_transaction_is_an_error)
{
    ck_assert_int_eq(saga_commit(pg.conn, &err), SAGA_ENOTX);
}
END_TEST

START_TEST(test_commit_i15_when_the_session_ends_in_it_is_unknown)
{
    given_a_commit_that_kills_its_session();
    ck_assert_int_eq(pg_begin(&pg, &err), 0);
    ck_assert_int_eq(pg_exec(&pg, "INSERT INTO deadly VALUES (1)", PG_NO_ARGS, NULL, &err), 0);
    ck_assert_int_eq(pg_commit(&pg, &err), SAGA_EUNKNOWN);
    ck_assert_uint_eq(err.flags & SAGA_ERR_UNKNOWN, SAGA_ERR_UNKNOWN);
}
END_TEST

START_TEST(test_commit_i15_in_a_batch_when_the_session_ends_in_it_is_unknown)
{
    const struct pg_statement all[] = { { .sql = "BEGIN" },
                                        { .sql = "INSERT INTO deadly VALUES (1)" },
                                        { .sql = "COMMIT" } };

    given_a_commit_that_kills_its_session();
    ck_assert_int_eq(pg_batch(&pg, all, 3, &err), SAGA_EUNKNOWN);
}
END_TEST

/* Ended by the server before COMMIT was reached: known not to be committed. */
START_TEST(test_commit_i15_when_the_session_ends_before_it_is_rolled_back)
{
    const struct pg_statement all[] = {
        { .sql = "BEGIN" },
        { .sql = "SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(1)" },
        { .sql = "COMMIT" }
    };

    ck_assert_int_eq(pg_batch(&pg, all, 3, &err), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "57P01");
    ck_assert_uint_eq(err.index, 1);
}
END_TEST

START_TEST(test_commit_i15_in_a_batch_after_a_failure_is_rolled_back)
{
    const struct pg_statement all[] = { { .sql = "BEGIN" },
                                        { .sql = "SELECT 1/0" },
                                        { .sql = "COMMIT" } };

    ck_assert_int_eq(pg_batch(&pg, all, 3, &err), SAGA_EDB);
    ck_assert(pg_in_transaction(&pg));
    pg_rollback(&pg);
    ck_assert(!pg_in_transaction(&pg));
}
END_TEST

/* COMMIT is answered, and then the server falls silent before it is ready again. */
START_TEST(test_commit_i15_in_a_batch_is_unknown_when_the_end_of_its_answer_is_lost)
{
    struct proxy *proxy = given_proxy(text_of("%s:%s", server_env("PGHOST"), server_env("PGPORT")));
    const char *through = text_of("%s port=%d", database, proxy_port(proxy));
    const struct pg_statement all[] = { { .sql = "BEGIN" },
                                        { .sql = "INSERT INTO kept VALUES (1)" },
                                        { .sql = "COMMIT" } };
    struct pg cut;
    PGconn *conn = db_connect(database);

    db_exec(conn, "CREATE TABLE kept (n int)");
    ck_assert_int_eq(pg_init(&cut, through, "base_pg", 5000, NULL, &err), 0);
    ck_assert_msg(pg_connect(&cut, &err) == 0, "%s", err.message);
    cut.timeout_ms = 500;
    proxy_truncate(proxy, 1, READY_FOR_QUERY_BYTES);
    ck_assert_int_eq(pg_batch(&cut, all, 3, &err), SAGA_EUNKNOWN);
    ck_assert_uint_eq(err.flags & SAGA_ERR_UNKNOWN, SAGA_ERR_UNKNOWN);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM kept"), 1);
    pg_clear(&cut);
    PQfinish(conn);
}
END_TEST

START_TEST(test_begin_twice_is_refused)
{
    ck_assert_int_eq(saga_begin(pg.conn, &err), 0);
    ck_assert_int_eq(saga_begin(pg.conn, &err), SAGA_ESTATE);
    saga_rollback(pg.conn);
}
END_TEST

START_TEST(test_begin_durable_overrides_an_asynchronous_default)
{
    static const struct {
        const char *given, *then;
    } levels[] = { { "off", "on" }, { "local", "on" }, { "remote_apply", "remote_apply" } };

    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        struct pg_rows rows = PG_ROWS_INIT;
        char sql[80];

        snprintf(sql, sizeof sql, "SET synchronous_commit = %s", levels[i].given);
        ck_assert_int_eq(pg_script(&pg, sql, &err), 0);
        ck_assert_int_eq(pg_begin_durable(&pg, &err), 0);
        ck_assert_int_eq(
            pg_exec(&pg, "SELECT current_setting('synchronous_commit')", PG_NO_ARGS, &rows, &err),
            0);
        ck_assert_str_eq(pg_text(&rows, 0, 0), levels[i].then);
        pg_rows_clear(&rows);
        pg_rollback(&pg);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base_pg",
        .setup = given_connection,
        .teardown = drop_connection,
        .tests = TESTS(
            test_pg_values_come_back_as_they_went, test_pg_large_statements_both_ways_do_not_block,
            test_pg_deadline_cancels_and_leaves_the_connection_usable,
            test_pg_batch_names_the_statement_that_failed,
            test_pg_busy_connection_is_refused_and_its_results_are_left,
            test_pg_missing_table_says_migrate_up, test_pg_error_has_the_hint_of_our_own_functions,
            test_pg_error_has_no_hint_and_no_detail_of_others,
            test_pg_refused_connection_is_retriable_and_says_where,
            test_pg_connects_to_the_next_host_when_the_first_is_silent,
            test_commit_i15_of_a_failed_transaction_is_an_error,
            test_commit_i15_without_a_transaction_is_an_error,
            test_commit_i15_when_the_session_ends_in_it_is_unknown,
            test_commit_i15_in_a_batch_when_the_session_ends_in_it_is_unknown,
            test_commit_i15_when_the_session_ends_before_it_is_rolled_back,
            test_commit_i15_in_a_batch_after_a_failure_is_rolled_back,
            test_commit_i15_in_a_batch_is_unknown_when_the_end_of_its_answer_is_lost,
            test_begin_twice_is_refused, test_begin_durable_overrides_an_asynchronous_default) });
}
