/* SPDX-License-Identifier: Apache-2.0 */
/* release only */
/*
 * The helpers for databases and for clusters of a test's own.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

START_TEST(test_given_database_is_migrated_and_fresh)
{
    PGconn *conn = db_connect(given_database());

    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'saga'"), 1);
    ck_assert_str_eq(db_text(conn, "SHOW server_encoding"), "UTF8");
    PQfinish(conn);
}
END_TEST

START_TEST(test_given_empty_database_has_no_schema)
{
    PGconn *conn = db_connect(given_empty_database());

    ck_assert_str_eq(db_refusal(conn, "SELECT 1 FROM outbox.message"), "42P01");
    ck_assert_ptr_null(db_text(conn, "SELECT NULL"));
    PQfinish(conn);
}
END_TEST

START_TEST(test_killed_cluster_recovers_what_was_committed)
{
    struct server *cluster = GIVEN_SERVER("pg", "wal_writer_delay=10s");
    const char *conninfo = given_empty_database_in(cluster);
    PGconn *conn = db_connect(conninfo);

    ck_assert_str_eq(db_text(conn, "SHOW wal_writer_delay"), "10s");
    db_exec(conn, "CREATE TABLE t AS SELECT 1 AS kept");
    db_exec(conn, "SET synchronous_commit = off; INSERT INTO t VALUES (2)");
    server_kill(cluster);
    PQfinish(conn);
    ck_assert_ptr_null(db_try_connect(conninfo));
    server_start(cluster);

    conn = db_connect(conninfo);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM t"), 1);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "support/db",
        .timeout_s = 60,
        .tests = TESTS(test_given_database_is_migrated_and_fresh,
                       test_given_empty_database_has_no_schema,
                       test_killed_cluster_recovers_what_was_committed),
    });
}
