/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * sagactl migrate on real databases: what is there afterwards, and what is not.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *database;
static PGconn *conn;

static void
given_nothing_applied(void)
{
    database = given_empty_database();
    conn = given_session(database);
}

static struct answer
migrate(const char *verb)
{
    return SAGACTL(database, "migrate", verb);
}

/* The schema as SQL, without the lines that differ in every dump. */
static const char *
schema(void)
{
    return run_process(ARGS("sh", "-c", "pg_dump --schema-only --dbname=\"$1\" | grep -v '^[\\]'",
                            "sh", database));
}

/* A folder with the real migrations, removed when the test ends. */
static void
remove_folder(void *arg)
{
    run_process(ARGS("rm", "-rf", arg));
}

static const char *
given_folder(void)
{
    char *path = (char *)text_of("%s/test-output/migrations.XXXXXX", build_dir());

    run_process(ARGS("mkdir", "-p", text_of("%s/test-output", build_dir())));
    ck_assert_ptr_nonnull(mkdtemp(path));
    at_test_end(remove_folder, path);
    run_process(ARGS("sh", "-c", "cp \"$1\"/migrations/*.sql \"$2\"", "sh", source_dir(), path));
    return path;
}

static void
given_file(const char *folder, const char *name, const char *text)
{
    FILE *file = fopen(text_of("%s/%s", folder, name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static int64_t
applied(void)
{
    return db_int(conn, "SELECT count(*) FROM saga.migration");
}

/* --- up and down ----------------------------------------------------------- */

START_TEST(test_up_down_up_gives_the_same_schema)
{
    const char *empty = schema(), *first;

    EXPECT_ANSWER(migrate("up"), 0, "0001_schemas");
    first = schema();
    ck_assert_str_ne(first, empty);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all"), 0, "0001_schemas");
    ck_assert_str_eq(schema(), empty);
    EXPECT_ANSWER(migrate("up"), 0, "0001_schemas");
    ck_assert_str_eq(schema(), first);
}
END_TEST

START_TEST(test_up_again_has_nothing_to_do)
{
    int64_t n;

    EXPECT_ANSWER(migrate("up"), 0, "applied in");
    n = applied();
    EXPECT_ANSWER(migrate("up"), 0, "nothing to do");
    ck_assert_int_eq(applied(), n);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--json"), 0, "{\"applied\": []}");
}
END_TEST

START_TEST(test_down_undoes_the_last_n)
{
    int64_t n;

    EXPECT_ANSWER(migrate("up"), 0, "applied in");
    n = applied();
    EXPECT_ANSWER(migrate("down"), 0, "undone in");
    ck_assert_int_eq(applied(), n - 1);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "2"), 0, "undone in");
    ck_assert_int_eq(applied(), n - 3);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", text_of("%d", (int)n - 2)), 4,
                  text_of("only %d migrations are applied; --all undoes them all", (int)n - 3));
    ck_assert_int_eq(applied(), n - 3);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all"), 0, "0001_schemas");
    EXPECT_ANSWER(migrate("down"), 0, "nothing to do");
    EXPECT_ANSWER(migrate("status"), 0, "pending");
}
END_TEST

START_TEST(test_down_refuses_to_lose_what_is_unfinished_unless_forced)
{
    static const struct {
        const char *sql, *says, *settle;
    } losses[] = {
        { "INSERT INTO saga.instance (id, definition, business_key, steps, step_states,"
          " step_attempts, step_due_at, data, digest)"
          " VALUES (gen_random_uuid(), 'd', 'k', '{}', '{}', '{}', '{}', '{}', '')",
          "this would lose sagas that have not ended (1); --force",
          "UPDATE saga.instance SET state = 'completed'" },
        { "SELECT outbox.enqueue('t', NULL) FROM generate_series(1, 2)",
          "this would lose messages that are not published (2); --force",
          "UPDATE outbox.stream SET prev = pg_current_snapshot()" },
        { "SELECT outbox.enqueue('t', NULL, deliver_at => now() + '1 day')",
          "this would lose messages that wait for their time (1)", "DELETE FROM outbox.delayed" },
        { "INSERT INTO outbox.parked (seq, message_id, topic, headers, created_at, error, attempts)"
          " VALUES (1, gen_random_uuid(), 't', '', now(), 'why', 1)",
          "this would lose parked messages of the outbox (1)", "DELETE FROM outbox.parked" },
        { "INSERT INTO idempotency.barrier (consumer, saga_id, step, action, outcome, accepted,"
          " message_id, saga_started_at)"
          " VALUES ('c', gen_random_uuid(), 's', 'run', 'waiting', '{}', gen_random_uuid(), now())",
          "this would lose commands in hand that are not answered (1)",
          "DELETE FROM idempotency.barrier" },
    };
    int64_t n;

    EXPECT_ANSWER(migrate("up"), 0, "applied in");
    n = applied();
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        db_exec(conn, "%s", losses[i].sql);
        EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all"), 4, losses[i].says);
        ck_assert_int_eq(applied(), n);
        db_exec(conn, "%s", losses[i].settle);
    }
    db_exec(conn, "%s", losses[1].sql);
    /* What is not dropped is not lost: the sagas' tables are the last. */
    EXPECT_ANSWER(migrate("down"), 0, "0030_saga");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all", "--force"), 0,
                  "this loses messages that are not published (2)");
    EXPECT_ANSWER(migrate("down"), 0, "nothing to do");
}
END_TEST

/* Where views and cursors are undone, nobody knows which are published. */
START_TEST(test_down_one_by_one_counts_all_messages_when_nobody_knows_which_are_published)
{
    EXPECT_ANSWER(migrate("up"), 0, "applied in");
    db_exec(conn, "SELECT outbox.enqueue('t', NULL)");
    while (db_int(conn, "SELECT max(number) FROM saga.migration") > 10)
        EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--force"), 0, "undone in");
    EXPECT_ANSWER(migrate("down"), 4, "this would lose messages, published or not (1)");
}
END_TEST

START_TEST(test_files_apply_in_order_by_psql)
{
    run_process(ARGS("sh", "-c",
                     "for f in \"$1\"/migrations/*.up.sql; do psql -qX -v ON_ERROR_STOP=1 -d \"$2\""
                     " -f \"$f\" >/dev/null || exit 1; done",
                     "sh", source_dir(), database));
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message"), 0);
}
END_TEST

START_TEST(test_status_tells_each_migration_as_json)
{
    struct answer answer = SAGACTL(database, "migrate", "status", "--json");

    EXPECT_ANSWER(answer, 0, "pending");
    ck_assert_str_eq(db_text(conn,
                             "SELECT j.value ->> 'state' FROM json_array_elements('%s') j"
                             " WHERE j.value ->> 'migration' = '0001_schemas'",
                             answer.out),
                     "pending");
    EXPECT_ANSWER(migrate("up"), 0, "");
    answer = SAGACTL(database, "migrate", "status", "--json");
    ck_assert_str_eq(db_text(conn,
                             "SELECT j.value ->> 'applied_by' FROM json_array_elements('%s')"
                             " j WHERE j.value ->> 'migration' = '0001_schemas'",
                             answer.out),
                     "postgres");
}
END_TEST

/* Whatever the login's defaults are, names mean what they say. */
START_TEST(test_up_does_not_look_into_the_logins_search_path)
{
    db_exec(conn, "CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC; CREATE FUNCTION "
                  "trap.clock_timestamp() RETURNS timestamptz"
                  " LANGUAGE sql AS 'SELECT NULL::timestamptz'; CREATE DOMAIN trap.uuid AS text");
    db_exec(conn, "ALTER DATABASE %s SET search_path = trap, pg_catalog", PQdb(conn));
    EXPECT_ANSWER(migrate("up"), 0, "applied in");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_depend WHERE refobjid IN"
                                  " ('trap.clock_timestamp'::regproc, 'trap.uuid'::regtype)"
                                  " AND deptype = 'n' AND classid <> 'pg_type'::regclass"),
                     0);
}
END_TEST

/* --- several at once -------------------------------------------------------- */

START_TEST(test_up_by_two_runners_at_once_applies_each_once)
{
    struct process *runners[2];
    int64_t n;

    /* Both are made to start from the same moment. */
    db_exec(conn, "SELECT pg_advisory_lock(7093614458270127)");
    for (int i = 0; i < 2; i++)
        runners[i] = start_process(ARGS("sagactl", "--database", database, "migrate", "up"), NULL);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                            " AND NOT granted AND database = (SELECT oid FROM pg_database"
                            " WHERE datname = current_database())") == 2,
               10000);
    db_exec(conn, "SELECT pg_advisory_unlock(7093614458270127)");
    for (int i = 0; i < 2; i++)
        process_expect(runners[i], 0, 30000);
    n = applied();
    ck_assert_int_gt(n, 3);
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT position) FROM saga.migration"), n);
    EXPECT_ANSWER(migrate("up"), 0, "nothing to do");
}
END_TEST

/* --- what goes wrong --------------------------------------------------------- */

static const struct {
    const char *text, *line, *statement, *message;
} broken[] = {
    { "CREATE TABLE saga.t (a int);\n\nINSERT INTO saga.t\n  SELECT nope;\nSELECT 1;", "line 4",
      "    INSERT INTO saga.t\n", "column \"nope\" does not exist" },
    { "CREATE TABLE saga.t (a int);\n-- \xC3\xA9;\nINSERT INTO saga.t SELECT 1 / 0;", "line 3",
      "    INSERT INTO saga.t SELECT 1 / 0\n", "division by zero" },
    { "CREATE TABLE saga.t (a int);\nCREATE TABEL saga.u (a int);", "line 2",
      "    CREATE TABEL saga.u", "syntax error" },
    { "CREATE TABLE saga.t (a int);\nCOMMIT;\nSELECT 1 / 0;", "line 2", "COMMIT",
      "must not begin or end it" },
};

START_TEST(test_up_that_fails_leaves_nothing_and_names_the_statement)
{
    const char *folder = given_folder(), *before;

    EXPECT_ANSWER(migrate("up"), 0, "");
    before = schema();
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        struct answer answer;

        given_file(folder, "9000_broken.up.sql", broken[i].text);
        answer = SAGACTL(database, "migrate", "up", "--migrations", folder);
        ck_assert_int_ne(answer.code, 0);
        ck_assert_int_ne(answer.code, 4);
        EXPECT_ANSWER(answer, answer.code, "9000_broken.up.sql");
        EXPECT_ANSWER(answer, answer.code, broken[i].line);
        EXPECT_ANSWER(answer, answer.code, broken[i].statement);
        EXPECT_ANSWER(answer, answer.code, broken[i].message);
        ck_assert_str_eq(schema(), before);
    }
    EXPECT_ANSWER(migrate("up"), 0, "nothing to do");
}
END_TEST

START_TEST(test_up_that_fails_keeps_the_earlier_ones)
{
    const char *folder = given_folder();

    given_file(folder, "0002_broken.up.sql", "SELECT 1 / 0");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 1, "0001_schemas ");
    ck_assert_int_eq(applied(), 1);
}
END_TEST

START_TEST(test_changed_migration_is_refused)
{
    const char *folder = given_folder();

    given_file(folder, "9000_more.up.sql", "CREATE TABLE saga.t ()");
    given_file(folder, "9000_more.down.sql", "DROP TABLE saga.t");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 0, "9000_more");
    given_file(folder, "9000_more.up.sql", "CREATE TABLE saga.t () ");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 4,
                  "9000_more was changed after it was applied");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--migrations", folder), 4, "9000_more");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "status", "--migrations", folder), 0,
                  "applied, changed since");
}
END_TEST

START_TEST(test_database_that_is_newer_is_refused)
{
    const char *folder = given_folder();

    given_file(folder, "9000_future.up.sql", "CREATE TABLE saga.t ()");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 0, "9000_future");
    EXPECT_ANSWER(migrate("up"), 4, "newer than this program: it has migration 9000_future");
    EXPECT_ANSWER(migrate("down"), 4, "9000_future");
    EXPECT_ANSWER(migrate("status"), 0, "unknown to this program");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--migrations", folder), 4,
                  "has no .down.sql");
}
END_TEST

START_TEST(test_late_migration_is_applied_and_undone_first)
{
    const char *folder = given_folder();

    EXPECT_ANSWER(migrate("up"), 0, "");
    given_file(folder, "0002_late.up.sql", "CREATE TABLE saga.t ()");
    given_file(folder, "0002_late.down.sql", "DROP TABLE saga.t");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 0, "0002_late");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--migrations", folder), 0, "0002_late");
}
END_TEST

START_TEST(test_lock_that_is_held_fails_within_the_timeout)
{
    const char *folder = given_folder();

    EXPECT_ANSWER(migrate("up"), 0, "");
    given_file(folder, "9000_alter.up.sql", "ALTER TABLE saga.instance ADD t int;");
    db_exec(conn, "BEGIN; SELECT FROM saga.instance");
    EXPECT_ANSWER(
        SAGACTL(database, "migrate", "up", "--migrations", folder, "--lock-timeout", "50ms"), 1,
        "try again, or allow more by --lock-timeout");
    db_exec(conn, "ROLLBACK");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", folder), 0, "9000_alter");
}
END_TEST

static void
drop_latin(void *arg)
{
    PGconn *admin = db_connect(database);

    db_exec(admin, "DROP DATABASE %s WITH (FORCE)", (const char *)arg);
    PQfinish(admin);
}

START_TEST(test_other_encoding_is_refused)
{
    const char *name = unique_name("latin");

    db_exec(conn, "CREATE DATABASE %s ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0", name);
    at_test_end(drop_latin, (void *)(uintptr_t)name);
    EXPECT_ANSWER(SAGACTL(text_of("%s dbname=%s", database, name), "migrate", "up"), 4,
                  "encoding is LATIN1 and must be UTF8");
}
END_TEST

START_TEST(test_wrong_usage_says_what_is_right)
{
    struct answer answer;

    EXPECT_ANSWER(sagactl(ARGS("sagactl")), 2, "sagactl: no command; try sagactl --help\n");
    EXPECT_ANSWER(sagactl(ARGS("sagactl", "--help")), 0, "usage: sagactl");
    EXPECT_ANSWER(sagactl(ARGS("sagactl", "migrate")), 2, "no such command: migrate;");
    answer = SAGACTL(database, "migrate", "sideways");
    ck_assert_str_eq(answer.err,
                     "sagactl: no such command: migrate sideways; try sagactl --help\n");
    ck_assert_str_eq(answer.out, "");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "0"), 2, "N, from 1");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "2", "--all"), 2, "or --all");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "-1"), 2, "");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "3"), 2, "usage: sagactl migrate up");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--reason", "x"), 2,
                  "migrate up does not know --reason");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--nope"), 2,
                  "--nope'\nsagactl: try sagactl --help\n");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up", "--migrations", "/nonexistent"), 2,
                  "/nonexistent");
    EXPECT_ANSWER(SAGACTL("nonsense=1", "migrate", "up"), 1, "nonsense");
    EXPECT_ANSWER(SAGACTL("host=127.0.0.1 port=1", "migrate", "up"), 1, "refused");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops/migrate",
        .setup = given_nothing_applied,
        .timeout_s = 60,
        .tests = TESTS(
            test_up_down_up_gives_the_same_schema, test_up_again_has_nothing_to_do,
            test_down_undoes_the_last_n, test_down_refuses_to_lose_what_is_unfinished_unless_forced,
            test_down_one_by_one_counts_all_messages_when_nobody_knows_which_are_published,
            test_files_apply_in_order_by_psql, test_status_tells_each_migration_as_json,
            test_up_does_not_look_into_the_logins_search_path,
            test_up_by_two_runners_at_once_applies_each_once,
            test_up_that_fails_leaves_nothing_and_names_the_statement,
            test_up_that_fails_keeps_the_earlier_ones, test_changed_migration_is_refused,
            test_database_that_is_newer_is_refused, test_late_migration_is_applied_and_undone_first,
            test_lock_that_is_held_fails_within_the_timeout, test_other_encoding_is_refused,
            test_wrong_usage_says_what_is_right),
    });
}
