/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program outbox-relay: from psql to Kafka, and what it says to wrong use.
 */
#include "test/support/daemon.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- from psql to Kafka --------------------------------------------------- */

START_TEST(test_outbox_relay_once_publishes_what_psql_wrote)
{
    const char *conninfo = given_database(), *topic = GIVEN_TOPIC(1);
    const char *id = run_process(ARGS(
        "psql", "-XAtqd", conninfo, "-c",
        text_of("SELECT outbox.enqueue('%s', 'hello', 'order-1', '{\"trace\": \"t1\"}')", topic)));
    const char *pending_row, *published_row;
    struct records records;

    id = text_of("%.36s", id);
    pending_row = run_process(ARGS("psql", "-XAtqd", conninfo, "-c",
                                   "SELECT id, key, status FROM outbox.local_messages"));
    ck_assert_str_eq(pending_row, text_of("%s|order-1|pending\n", id));
    run_process(ARGS("outbox-relay", "--database", conninfo, "--brokers", brokers(), "--once"));

    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 1);
    ck_assert_str_eq(records.at[0].key, "order-1");
    ck_assert_str_eq(records.at[0].value, "hello");
    ck_assert_str_eq(record_header(&records.at[0], "message-id"), id);
    ck_assert_str_eq(record_header(&records.at[0], "trace"), "t1");
    published_row = run_process(ARGS("psql", "-XAtqd", conninfo, "-c",
                                     "SELECT id, key, status FROM outbox.local_messages"));
    ck_assert_str_eq(published_row, text_of("%s|order-1|published\n", id));
}
END_TEST

START_TEST(test_outbox_relay_once_has_nothing_to_do)
{
    const char *conninfo = given_database();

    run_process(ARGS("outbox-relay", "--database", conninfo, "--brokers", brokers(), "--once"));
}
END_TEST

START_TEST(test_outbox_relay_stops_in_order)
{
    const char *conninfo = given_database(), *topic = GIVEN_TOPIC(1);
    PGconn *conn = db_connect(conninfo);

    for (int i = 0; i < 2; i++) {
        struct process *relay = start_relay_program(conninfo, NULL, "linger.ms = 0", NULL);

        enqueue(conn, topic, "k", text_of("m%d", i));
        WAIT_UNTIL(pending(conn) == 0, 10000);
        process_signal(relay, i == 0 ? SIGTERM : SIGINT);
        process_expect(relay, 0, 10000);
        ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.stream WHERE owner IS NULL"), 1);
    }
    expect_published(topic, "m0 m1");
    PQfinish(conn);
}
END_TEST

/* Everything it needs comes from the file; what is unreachable is tried again. */
START_TEST(test_outbox_relay_keeps_trying_while_kafka_is_away)
{
    const char *conninfo = given_database();
    PGconn *conn = db_connect(conninfo);
    struct process *relay;

    use_brokers("127.0.0.1:1");
    enqueue(conn, "t", "k", "1");
    relay = start_relay_program(conninfo, "drain_ms = 100", NULL, ARGS("--once"));
    WAIT_UNTIL(strstr(process_errors(relay), "trouble with Kafka") != NULL, 10000);
    STAYS_TRUE(!process_ended(relay), 1500);
    /* Once a minute, not at every attempt. */
    ck_assert_ptr_null(
        strstr(strstr(process_errors(relay), "trouble with Kafka") + 1, "trouble with Kafka"));
    process_signal(relay, SIGTERM);
    process_expect(relay, 1, 10000); /* --once has not done what it promised */
    ck_assert_int_eq(pending(conn), 1);
    PQfinish(conn);
}
END_TEST

/* --- wrong use -------------------------------------------------------------- */

static void
expect_usage_error(const char *const *args, int code, const char *says)
{
    struct process *relay = start_process(args, NULL);

    process_expect(relay, code, 10000);
    ck_assert_msg(strstr(process_errors(relay), says) != NULL, "it said: %s",
                  process_errors(relay));
}

START_TEST(test_outbox_relay_answers_wrong_use)
{
    const char *ini = text_of("%s/test-output/%s.ini", build_dir(), unique_name("bad"));
    FILE *file;

    expect_usage_error(ARGS("outbox-relay"), 2, "no brokers");
    expect_usage_error(ARGS("outbox-relay", "--nonsense"), 2,
                       "--nonsense'\noutbox-relay: try outbox-relay --help\n");
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "more"), 2,
                       "outbox-relay: what is \"more\"? try outbox-relay --help\n");
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--metrics", "localhost:1"), 2,
                       "--metrics: [http] listen: must be PORT");
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--config", "/nowhere"), 2,
                       "/nowhere");
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--database", "nonsense=1"), 2,
                       "[relay] database: libpq cannot read");
    run_process(ARGS("mkdir", "-p", text_of("%s/test-output", build_dir())));
    file = fopen(ini, "w");
    ck_assert_ptr_nonnull(file);
    fputs("[relay]\nlease_ms = 1000\nspeed = 11\n", file);
    fclose(file);
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--config", ini), 2, "line 3");
    file = fopen(ini, "w");
    ck_assert_ptr_nonnull(file);
    fputs("[kafka]\nacks = 1\n", file);
    fclose(file);
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--config", ini), 2, "acks");
    ck_assert_ptr_nonnull(strstr(run_process(ARGS("outbox-relay", "--help")), "--database"));
    ck_assert_ptr_nonnull(strstr(run_process(ARGS("outbox-relay", "--version")), "outbox-relay"));
}
END_TEST

START_TEST(test_outbox_relay_says_what_is_wrong_with_the_database)
{
    expect_usage_error(
        ARGS("outbox-relay", "--brokers", "a:1", "--once", "--database", given_empty_database()), 1,
        "sagactl migrate up");
    expect_usage_error(
        ARGS("outbox-relay", "--brokers", "a:1", "--once", "--database", "host=127.0.0.1 port=1"),
        1, "refused");
}
END_TEST

START_TEST(test_outbox_relay_once_gives_up_when_nothing_can_be_published)
{
    const char *database = given_database();
    PGconn *conn = given_session(database);
    struct process *relay;

    use_brokers("127.0.0.1:1");
    enqueue(conn, "orders", "k", "1");
    relay = start_relay_program(database, "once_ms = 300\ndrain_ms = 100", NULL, ARGS("--once"));
    process_expect(relay, 1, 10000);
    ck_assert_msg(has_logged(relay, "nothing could be published for 300 ms (once_ms); what is left "
                                    "is left to the next run"),
                  "%s", process_errors(relay));
    ck_assert_int_eq(pending(conn), 1);
}
END_TEST

/* With --once and without. */
static void
expect_end(const char *conninfo, const char *says)
{
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--database", conninfo), 1, says);
    expect_usage_error(ARGS("outbox-relay", "--brokers", "a:1", "--once", "--database", conninfo),
                       1, says);
}

START_TEST(test_outbox_relay_ends_where_role_password_or_database_are_wrong)
{
    struct server *cluster = GIVEN_SERVER("pg");
    const char *there = given_database_in(cluster);
    PGconn *admin = given_session(there);
    struct process *relay;

    expect_end("dbname=no_such_database", "no_such_database");
    expect_end(text_of("%s user=unknown", there), "sqlstate=28000");
    db_exec(admin, "CREATE ROLE visitor LOGIN; GRANT saga_monitor TO visitor");
    expect_end(text_of("%s user=visitor", there), "this login needs saga_relay");
    db_exec(admin, "CREATE ROLE guarded LOGIN PASSWORD 'right'; GRANT saga_relay TO guarded");
    write_file(db_text(admin, "SHOW hba_file"),
               "host all guarded all scram-sha-256\nhost all all all trust\n");
    db_exec(admin, "SELECT pg_reload_conf()");
    WAIT_UNTIL(db_try_connect(text_of("%s user=guarded", there)) == NULL, 5000);
    expect_end(text_of("%s user=guarded", there), "no password supplied");
    expect_end(text_of("%s user=guarded password=wrong", there), "password authentication failed");

    /* One that has been at work, too. */
    relay = start_relay_program(text_of("%s user=guarded password=right", there), NULL, NULL, NULL);
    WAIT_UNTIL(has_logged(relay, "took the stream"), 10000);
    db_exec(admin, "ALTER ROLE guarded PASSWORD 'other'");
    db_exec(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                   " WHERE usename = 'guarded'");
    process_expect(relay, 1, 10000);
    ck_assert(has_logged(relay, "password authentication failed"));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_relay",
        .tests = TESTS(test_outbox_relay_once_publishes_what_psql_wrote,
                       test_outbox_relay_once_has_nothing_to_do, test_outbox_relay_stops_in_order,
                       test_outbox_relay_keeps_trying_while_kafka_is_away,
                       test_outbox_relay_answers_wrong_use,
                       test_outbox_relay_says_what_is_wrong_with_the_database,
                       test_outbox_relay_once_gives_up_when_nothing_can_be_published,
                       test_outbox_relay_ends_where_role_password_or_database_are_wrong),
        .timeout_s = 40,
    });
}
