/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays and services behind PgBouncer in transaction mode, all of them on two
 * sessions of the server: whoever comes next gets the session of whoever left.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 4, MESSAGES = 200 };

static PGconn *direct; /* to the server itself */
static const char *pooled;
static const char *topic;

static void
setup(void)
{
    struct server *pooler;

    direct = given_session(given_database());
    pooler = GIVEN_SERVER("pgbouncer", text_of("upstream=%s", PQport(direct)),
                          "default_pool_size=2", "query_wait_timeout=60");
    pooled = text_of("host=127.0.0.1 port=%d dbname=%s user=postgres", pooler->port, PQdb(direct));
    topic = unique_name("topic");
    mock_topic(given_mock(), topic, 1);
}

/* What a session is like, as far as anybody changes anything about it. */
static const char *
session_of(PGconn *conn)
{
    return db_text(
        conn, "SELECT concat_ws(' ', (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name)"
              "                         FROM pg_settings WHERE source = 'session'"
              "                          AND name NOT IN ('application_name', 'client_encoding')),"
              " (SELECT string_agg(name, ' ') FROM pg_prepared_statements),"
              " (SELECT string_agg('channel ' || c, ' ') FROM pg_listening_channels() c),"
              " (SELECT string_agg(relname, ' ') FROM pg_class WHERE relpersistence = 't'),"
              " (SELECT 'advisory lock' FROM pg_locks WHERE pid = pg_backend_pid()"
              "     AND locktype = 'advisory' LIMIT 1))");
}

START_TEST(test_relay_behind_a_pooler_publishes_everything_and_leaves_nothing_behind)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = pooled, .lease_ms = 600));
    PGconn *clients[CLIENTS];
    struct records records;

    for (int i = 0; i < CLIENTS; i++)
        clients[i] = db_connect(pooled);
    for (int i = 0; i < MESSAGES; i++) {
        PGconn *client = clients[i % CLIENTS];

        ck_assert_str_eq(session_of(client), "");
        db_exec(client, "BEGIN");
        enqueue(client, topic, text_of("k%d", i % 7), text_of("m%d", i));
        db_exec(client, i % 10 == 9 ? "ROLLBACK" : "COMMIT");
    }
    WAIT_UNTIL(pending(direct) == 0, 10000);
    for (int i = 0; i < CLIENTS; i++) {
        ck_assert_str_eq(session_of(clients[i]), "");
        PQfinish(clients[i]);
    }
    ck_assert_int_eq(stop_relay(relay), 0);
    ck_assert_int_eq(relay_stats(relay).reconnects, 0);
    ck_assert_int_le(db_int(direct, "SELECT count(*) FROM pg_stat_activity WHERE backend_type ="
                                    " 'client backend' AND datname = current_database()"
                                    " AND pid <> pg_backend_pid()"),
                     2);
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, MESSAGES - MESSAGES / 10);
}
END_TEST

START_TEST(test_relay_behind_a_pooler_takes_over_from_one_that_stops)
{
    struct relay_thread *a = start_relay(RELAY(.conninfo = pooled, .lease_ms = 600)), *b;

    WAIT_UNTIL(relay_stats(a).acquired == 1, 10000);
    b = start_relay(RELAY(.conninfo = pooled, .lease_ms = 600));
    enqueue(direct, topic, "k", "1");
    await_published(topic, "1", 5000);
    ck_assert_int_eq(stop_relay(a), 0);
    enqueue(direct, topic, "k", "2");
    await_published(topic, "1 2", 5000);
    ck_assert_int_eq(relay_stats(b).acquired, 1);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_pooler",
        .tests = TESTS(test_relay_behind_a_pooler_publishes_everything_and_leaves_nothing_behind,
                       test_relay_behind_a_pooler_takes_over_from_one_that_stops),
        .setup = setup,
        .timeout_s = 40,
    });
}
