/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer and the database at the other end of its connection: another one
 * than before, behind a pooler; or one that does not let it work.
 */
#include "base/log.h"
#include "test/support/consumer.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Whoever asks the pooler for `name` gets `target` from now on; transactions that are open are
 * finished where they are. */
static void
lead_to(const struct server *pooler, PGconn *name, PGconn *target)
{
    FILE *file = fopen(text_of("%s/databases.ini", pooler->dir), "w");

    ck_assert_ptr_nonnull(file);
    fprintf(file, "%s = host=127.0.0.1 port=%s dbname=%s user=postgres\n", PQdb(name),
            PQport(target), PQdb(target));
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(kill(pooler->pid, SIGHUP), 0);
}

/* trap: I26: what only the first database has is applied in the second, and no new message comes
 * that would show it. */
static void
expect_all_again_elsewhere(const char *redis)
{
    struct fixture *before = given_consumer_fixture(2), *now = given_consumer_fixture(1);
    struct server *pooler = GIVEN_SERVER("pgbouncer", text_of("upstream=%s", PQport(before->conn)));
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(before, .redis = redis,
                       .conninfo = text_of("host=127.0.0.1 port=%d dbname=%s user=postgres",
                                           pooler->port, PQdb(before->conn)));

    produce_messages(before, 0, 20);
    start_running(consumer);
    WAIT_UNTIL(effects_are(before, 20, 20), 20000);
    lead_to(pooler, before->conn, now->conn);
    WAIT_UNTIL(effects_are(now, 20, 20), 20000);
    stop_running(consumer);
    expect_effects(before, 20, 20);
}

START_TEST(test_consumer_reads_again_when_a_pooler_leads_to_another_database_i26)
{
    expect_all_again_elsewhere(NULL);
}
END_TEST

/* trap: I9 */
START_TEST(test_consumer_believes_no_mark_when_a_pooler_leads_to_another_database_i9_i26)
{
    expect_all_again_elsewhere(redis_address());
}
END_TEST

/* --- what a person has to mend -------------------------------------------------- */

/* A consumer of a topic that there is not, so that nothing else would be noticed. */
static struct saga_consumer *
given_waiting_consumer(const char *conninfo, saga_log_fn *log)
{
    struct fixture fixture = { .topic = unique_name("absent"), .group = unique_name("group") };

    return GIVEN_CONSUMER(&fixture, .conninfo = conninfo, .log = log);
}

static void
expect_end(const char *conninfo, int code, const char *sqlstate, const char *said)
{
    struct saga_consumer *consumer = given_waiting_consumer(conninfo, NULL);
    struct saga_error err;

    ck_assert_int_eq(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err), code);
    ck_assert_str_eq(err.sqlstate, sqlstate);
    ck_assert_msg(strstr(err.message, said) != NULL, "%s", err.message);
    free_consumer(consumer);
}

START_TEST(test_consumer_ends_where_the_database_or_the_schema_is_missing)
{
    PGconn *conn = db_connect(given_database());
    const char *here = text_of("dbname=%s", PQdb(conn));

    expect_end("dbname=no_such_database", SAGA_EDB, "3D000", "no_such_database");
    /* libpq goes through all addresses of a name: the last one's answer is it. */
    expect_end("host=localhost dbname=no_such_database", SAGA_EDB, "3D000", "no_such_database");
    expect_end(given_empty_database(), SAGA_ESCHEMA, "42P01", "run \"sagactl migrate up\"");
    /* Of another version than the library. */
    db_exec(conn, "ALTER FUNCTION idempotency.receive(text, uuid[], bytea[], text[], integer[],"
                  " bigint[]) RENAME TO receive_many");
    expect_end(here, SAGA_ESCHEMA, "42883", "calls the schema newer");
    PQfinish(conn);
}
END_TEST

START_TEST(test_consumer_ends_where_role_password_or_rights_are_wrong)
{
    struct server *cluster = GIVEN_SERVER("pg");
    const char *conninfo = given_database_in(cluster);
    PGconn *conn = db_connect(conninfo);
    const char *hba = db_text(conn, "SHOW hba_file");
    FILE *file;

    db_exec(conn,
            "CREATE ROLE nobody LOGIN; CREATE ROLE monitor LOGIN; GRANT saga_monitor TO monitor;"
            "CREATE ROLE guarded LOGIN PASSWORD 'right'; GRANT saga_app TO guarded");
    expect_end(text_of("%s user=unknown", conninfo), SAGA_EDB, "28000", "unknown");
    expect_end(text_of("%s user=nobody", conninfo), SAGA_EDB, "42501", "needs saga_app");
    file = fopen(hba, "w");
    ck_assert_ptr_nonnull(file);
    fputs("host all guarded all scram-sha-256\nhost all all all trust\n", file);
    ck_assert_int_eq(fclose(file), 0);
    db_exec(conn, "SELECT pg_reload_conf()");
    WAIT_UNTIL(db_try_connect(text_of("%s user=guarded", conninfo)) == NULL, 5000);
    expect_end(text_of("%s user=guarded", conninfo), SAGA_EDB, "28P01", "password");
    expect_end(text_of("%s user=guarded password=wrong", conninfo), SAGA_EDB, "28P01", "password");
    PQfinish(conn);
}
END_TEST

/* Looking is allowed, so only the first message shows it; and it is not the message's fault. */
START_TEST(test_consumer_ends_when_a_message_shows_that_rights_are_missing)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *role = unique_name("monitor");
    struct saga_consumer *consumer;
    struct saga_error err;

    db_exec(fixture->conn, "CREATE ROLE %s LOGIN; GRANT saga_monitor TO %s", role, role);
    consumer = GIVEN_CONSUMER(fixture, .conninfo = text_of("%s user=%s", fixture->conninfo, role));
    produce_messages(fixture, 0, 3);
    ck_assert_int_eq(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "42501");
    ck_assert_int_eq(stats_of(consumer).parked, 0);
    ck_assert_int_eq(stats_of(consumer).retries, 0);
    free_consumer(consumer);
    db_exec(fixture->conn, "DROP ROLE %s", role);
}
END_TEST

/* Marks have shown all messages to be duplicates, so only the offset is left to be moved. */
START_TEST(test_consumer_ends_when_an_offset_alone_shows_that_rights_are_missing)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *role = unique_name("service");
    struct saga_consumer *consumer;
    struct saga_error err;

    db_exec(fixture->conn,
            "CREATE ROLE %s LOGIN; GRANT saga_app TO %s; GRANT INSERT ON effect TO %s", role, role,
            role);
    consumer = GIVEN_CONSUMER(fixture, .redis = redis_address(),
                              .conninfo = text_of("%s user=%s", fixture->conninfo, role));
    produce_messages(fixture, 0, 3);
    run_until_idle(consumer);
    db_exec(fixture->conn, "REVOKE UPDATE (next_offset, updated_at, open_in) ON"
                           " idempotency.consumer_offset FROM saga_app");
    produce_messages(fixture, 0, 3);
    ck_assert_int_eq(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "42501");
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark, 3);
    free_consumer(consumer);
    db_exec(fixture->conn, "DROP OWNED BY %s; DROP ROLE %s", role, role);
}
END_TEST

static atomic_int troubles;

static void
count_troubles(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    log_to_stderr(user, level, message, fields);
    if (strstr(message, "trouble with PostgreSQL") != NULL)
        atomic_fetch_add(&troubles, 1);
}

START_TEST(test_consumer_waits_for_what_comes_back_by_itself)
{
    struct server *cluster = GIVEN_SERVER("pg");
    struct fixture *fixture = given_consumer_fixture_in(cluster, 1);
    const char *two_hosts = text_of("host=127.0.0.1,127.0.0.1 port=%d,%s user=unknown",
                                    cluster->port, server_env("PGPORT"));

    db_exec(fixture->conn,
            "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0; GRANT saga_app TO crowded;"
            "GRANT INSERT ON effect TO crowded");
    produce_messages(fixture, 0, 3);
    start_running(GIVEN_CONSUMER(fixture, .conninfo = text_of("%s user=crowded", fixture->conninfo),
                                 .log = count_troubles));
    WAIT_UNTIL(atomic_load(&troubles) == 1, 10000); /* too many connections */
    server_kill(cluster);
    start_running(given_waiting_consumer(fixture->conninfo, count_troubles));
    start_running(given_waiting_consumer(two_hosts, count_troubles));
    WAIT_UNTIL(atomic_load(&troubles) == 3, 10000);
    server_start(cluster);
    PQreset(fixture->conn);
    db_exec(fixture->conn, "ALTER ROLE crowded CONNECTION LIMIT -1");
    WAIT_UNTIL(effects_are(fixture, 3, 3), 20000);
}
END_TEST

START_TEST(test_consumer_with_an_unreadable_conninfo_is_refused_and_nothing_of_it_quoted)
{
    static const char *const wrong[] = { "host", "password=my secret", "secret=1",
                                         "postgresql://u:secret@h:p:1/?secret", NULL };
    struct saga_consumer *consumer = NULL;
    struct saga_error err;

    for (const char *const *conninfo = wrong; *conninfo != NULL; conninfo++) {
        const struct saga_consumer_options options = { SAGA_CONSUMER_OPTIONS, .group = "g",
                                                       .brokers = "127.0.0.1:1",
                                                       .conninfo = *conninfo };

        ck_assert_int_eq(saga_consumer_new(&consumer, &options, &err), SAGA_EINVAL);
        ck_assert_msg(strstr(err.message, "conninfo") != NULL, "%s", err.message);
        ck_assert_msg(strstr(err.message, "secret") == NULL, "%s", err.message);
        ck_assert_ptr_null(consumer);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_database",
        .tests =
            TESTS(test_consumer_reads_again_when_a_pooler_leads_to_another_database_i26,
                  test_consumer_believes_no_mark_when_a_pooler_leads_to_another_database_i9_i26,
                  test_consumer_ends_where_the_database_or_the_schema_is_missing,
                  test_consumer_ends_where_role_password_or_rights_are_wrong,
                  test_consumer_ends_when_a_message_shows_that_rights_are_missing,
                  test_consumer_ends_when_an_offset_alone_shows_that_rights_are_missing,
                  test_consumer_waits_for_what_comes_back_by_itself,
                  test_consumer_with_an_unreadable_conninfo_is_refused_and_nothing_of_it_quoted),
        .timeout_s = 60,
    });
}
