/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The cluster's roles: who makes them, and who may do without that. Each test
 * has a cluster in which they are missing.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#define WHICH "rolname IN ('saga_owner', 'saga_app', 'saga_relay', 'saga_monitor')"

static struct server *cluster;
static const char *admin_conninfo;
static PGconn *admin;

static void
given_cluster(void)
{
    cluster = GIVEN_SERVER("pg");
    admin_conninfo = text_of("host=127.0.0.1 port=%d user=postgres dbname=postgres", cluster->port);
    admin = given_session(admin_conninfo);
    ck_assert_int_eq(db_int(admin, "SELECT count(*) FROM pg_roles WHERE " WHICH), 0);
}

/* A database of this login, which may do nothing outside of it. */
static const char *
given_database_of(const char *user)
{
    const char *name = unique_name("of");

    db_exec(admin, "CREATE DATABASE %s OWNER %s", name, user);
    return text_of("host=127.0.0.1 port=%d user=%s dbname=%s", cluster->port, user, name);
}

START_TEST(test_four_databases_at_once_share_the_roles)
{
    struct process *runners[4];
    const char *databases[4];

    for (int i = 0; i < 4; i++)
        databases[i] = given_empty_database_in(cluster);
    for (int i = 0; i < 4; i++)
        runners[i] =
            start_process(ARGS("sagactl", "--database", databases[i], "migrate", "up"), NULL);
    for (int i = 0; i < 4; i++)
        process_expect(runners[i], 0, 30000);
    ck_assert_int_eq(db_int(admin, "SELECT count(*) FROM pg_roles WHERE " WHICH), 4);

    /* What one database undoes, the others still have. */
    EXPECT_ANSWER(SAGACTL(databases[0], "migrate", "down", "--all"), 0, "undone");
    ck_assert_int_eq(db_int(admin, "SELECT count(*) FROM pg_roles WHERE " WHICH), 4);
    EXPECT_ANSWER(SAGACTL(databases[1], "migrate", "up"), 0, "nothing to do");
    EXPECT_ANSWER(SAGACTL(databases[0], "migrate", "up"), 0, "applied");
}
END_TEST

/* The rival has made a role and not committed: he is waited for. */
static void
race(const char *database, const char *rivals_end)
{
    struct process *runner;

    db_exec(admin, "BEGIN; CREATE ROLE saga_relay NOLOGIN");
    runner = start_process(ARGS("sagactl", "--database", database, "migrate", "up"), NULL);
    WAIT_UNTIL(db_int(admin, "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid'"
                             " AND NOT granted") == 1,
               10000);
    db_exec(admin, "%s", rivals_end);
    process_expect(runner, 0, 30000);
    ck_assert_int_eq(db_int(admin, "SELECT count(*) FROM pg_roles WHERE " WHICH), 4);
}

START_TEST(test_rival_who_makes_a_role_is_tolerated_or_replaced)
{
    const char *database = given_empty_database_in(cluster);

    race(database, "ROLLBACK");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all"), 0, "undone");
    db_exec(admin, "DROP ROLE saga_owner, saga_app, saga_relay, saga_monitor");
    race(database, "COMMIT");
}
END_TEST

START_TEST(test_login_that_may_not_create_roles_names_them)
{
    const char *database;
    PGconn *conn;

    db_exec(admin, "CREATE ROLE plain LOGIN NOINHERIT");
    database = given_database_of("plain");
    conn = db_connect(database);
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 1,
                  "an administrator must run: CREATE ROLE saga_owner NOLOGIN; CREATE ROLE saga_app "
                  "NOLOGIN; CREATE ROLE saga_relay NOLOGIN; CREATE ROLE saga_monitor NOLOGIN; "
                  "GRANT saga_owner TO plain;");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_namespace WHERE nspname = 'saga'"), 0);

    db_exec(admin, "CREATE ROLE saga_owner NOLOGIN; CREATE ROLE saga_app NOLOGIN");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 1,
                  "must run: CREATE ROLE saga_relay NOLOGIN; CREATE ROLE saga_monitor NOLOGIN; "
                  "GRANT");

    db_exec(admin, "CREATE ROLE saga_relay NOLOGIN; CREATE ROLE saga_monitor NOLOGIN");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 1, "must run: GRANT saga_owner TO plain;");

    /* Membership is enough, also without inheriting its rights. */
    db_exec(admin, "GRANT saga_owner TO plain");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 0, "applied");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "down", "--all"), 0, "undone");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 0, "applied");
    PQfinish(conn);
}
END_TEST

START_TEST(test_login_that_may_create_roles_owns_nothing)
{
    const char *database;
    PGconn *conn;

    db_exec(admin, "CREATE ROLE creator LOGIN CREATEROLE");
    database = given_database_of("creator");
    EXPECT_ANSWER(SAGACTL(database, "migrate", "up"), 0, "applied");
    ck_assert_int_eq(db_int(admin, "SELECT count(*) FROM pg_roles WHERE " WHICH
                                   " AND NOT rolcanlogin AND NOT rolsuper"),
                     4);
    conn = db_connect(database);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_namespace WHERE nspname IN"
                                  " ('saga', 'outbox', 'idempotency')"
                                  " AND nspowner = 'saga_owner'::regrole"),
                     3);
    ck_assert_ptr_null(db_text(conn, "SELECT string_agg(oid::regclass::text, ' ') FROM pg_class"
                                     " WHERE relowner = 'creator'::regrole"));
    ck_assert_ptr_null(db_text(conn, "SELECT string_agg(oid::regprocedure::text, ' ') FROM pg_proc"
                                     " WHERE proowner = 'creator'::regrole"));
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops/roles",
        .setup = given_cluster,
        .timeout_s = 60,
        .tests = TESTS(test_four_databases_at_once_share_the_roles,
                       test_rival_who_makes_a_role_is_tolerated_or_replaced,
                       test_login_that_may_not_create_roles_names_them,
                       test_login_that_may_create_roles_owns_nothing),
    });
}
