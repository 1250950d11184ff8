/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard, and the HTTP endpoint that it makes safe to repeat
 * (examples/http_guard.c): one payment, and the same answer, whatever the client
 * repeats and whenever the server dies.
 */
#include "test/support/db.h"
#include "test/support/http.h"
#include "test/support/process.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <saga/inbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *database;
static PGconn *conn;

static void
setup(void)
{
    database = given_database();
    conn = given_session(database);
}

/* --- the endpoint ------------------------------------------------------------------ */

static struct process *server;

static int
given_endpoint(void)
{
    int port = 0;

    server = start_process(ARGS("examples/http_guard", database, "0"), NULL);
    WAIT_UNTIL(sscanf(process_output(server), "listening on port %d", &port) == 1, 10000);
    return port;
}

static struct http_answer
post(int port, const char *key, const char *body)
{
    return http_send(port, text_of("POST /payments HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                   "Idempotency-Key: %s\r\nContent-Length: %zu\r\n\r\n%s",
                                   key, strlen(body), body));
}

static int
payments(void)
{
    return (int)db_int(conn, "SELECT count(*) FROM payment");
}

START_TEST(test_payment_repeated_is_made_once_and_answered_the_same)
{
    int port = given_endpoint();
    struct http_answer first = post(port, "k1", "alice 1999");

    ck_assert_int_eq(first.code, 201);
    for (int i = 0; i < 3; i++) {
        struct http_answer again = post(port, "k1", "alice 1999");

        ck_assert_int_eq(again.code, 201);
        ck_assert_str_eq(again.body, first.body);
    }
    ck_assert_int_eq(post(port, "k1", "alice 2000").code, 422);
    ck_assert_int_eq(payments(), 1);
    ck_assert_int_eq(post(port, "k2", "nonsense").code, 400);
    ck_assert_int_eq(post(port, "k3", "alice 1999").code, 201);
    ck_assert_int_eq(payments(), 2);
}
END_TEST

struct client {
    pthread_t thread;
    int port;
    struct http_answer answer;
};

static void *
post_in_thread(void *arg)
{
    struct client *client = arg;

    client->answer = post(client->port, "k1", "alice 1999");
    return NULL;
}

static void
start_client(struct client *client, int port)
{
    client->port = port;
    ck_assert_int_eq(pthread_create(&client->thread, NULL, post_in_thread, client), 0);
}

static bool
waiting(int n)
{
    return db_int(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted AND (database ="
                        " (SELECT oid FROM pg_database WHERE datname = current_database())"
                        " OR locktype = 'transactionid')") >= n;
}

START_TEST(test_payment_asked_for_twice_at_once_is_made_once)
{
    struct client clients[2];
    int port = given_endpoint();

    db_exec(conn, "BEGIN; LOCK TABLE payment");
    for (int i = 0; i < 2; i++)
        start_client(&clients[i], port);
    WAIT_UNTIL(waiting(2), 10000);
    db_exec(conn, "COMMIT");
    for (int i = 0; i < 2; i++)
        pthread_join(clients[i].thread, NULL);
    ck_assert_int_eq(clients[0].answer.code, 201);
    ck_assert_int_eq(clients[1].answer.code, 201);
    ck_assert_str_eq(clients[0].answer.body, clients[1].answer.body);
    ck_assert_int_eq(payments(), 1);
}
END_TEST

START_TEST(test_payment_whose_server_dies_in_the_middle_is_made_by_the_next)
{
    struct client client;
    int port = given_endpoint();

    db_exec(conn, "BEGIN; LOCK TABLE payment");
    start_client(&client, port);
    WAIT_UNTIL(waiting(1), 10000);
    process_kill(server);
    pthread_join(client.thread, NULL);
    ck_assert_int_eq(client.answer.code, 0);
    db_exec(conn, "COMMIT");
    port = given_endpoint();
    ck_assert_int_eq(post(port, "k1", "alice 1999").code, 201);
    ck_assert_int_eq(payments(), 1);
}
END_TEST

/* --- the calls ---------------------------------------------------------------------- */

static int32_t
enter(PGconn *tx, const char *print, int32_t wait_ms, struct saga_response *stored)
{
    struct saga_guard guard = {
        .scope = "cron", .key = "k", .fingerprint = { print, strlen(print) }, .wait_ms = wait_ms
    };
    struct saga_error err;
    int32_t verdict = -1;

    ck_assert_msg(saga_guard_enter(tx, &guard, &verdict, stored, &err) == 0, "%s", err.message);
    return verdict;
}

START_TEST(test_guard_in_use_elsewhere_is_busy_and_leaves_the_transaction_whole)
{
    PGconn *other = db_connect(database);
    struct saga_response stored;

    db_exec(conn, "BEGIN");
    ck_assert_int_eq(enter(conn, "a", 0, &stored), SAGA_GUARD_FRESH);
    db_exec(other, "BEGIN; SELECT 1");
    ck_assert_int_eq(enter(other, "a", 50, &stored), SAGA_GUARD_BUSY);
    ck_assert_int_eq(db_int(other, "SELECT 42"), 42);
    db_exec(conn, "ROLLBACK");
    ck_assert_int_eq(enter(other, "a", 50, &stored), SAGA_GUARD_FRESH);
    db_exec(other, "COMMIT");
    PQfinish(other);
}
END_TEST

START_TEST(test_guard_answers_only_what_its_own_transaction_has_entered)
{
    struct saga_guard guard = { .scope = "cron", .key = "k" };
    struct saga_response response = { .status = 7, .body = { "done", 4 } }, stored;
    struct saga_error err;

    ck_assert_int_eq(saga_guard_answer(conn, &guard, &response, &err), SAGA_ENOTX);
    db_exec(conn, "BEGIN; SAVEPOINT inside");
    ck_assert_int_eq(enter(conn, "a", 0, &stored), SAGA_GUARD_FRESH);
    ck_assert_int_eq(saga_guard_answer(conn, &guard, &response, &err), 0);
    db_exec(conn, "COMMIT; BEGIN");
    ck_assert_int_eq(enter(conn, "a", 0, &stored), SAGA_GUARD_ANSWERED);
    ck_assert_int_eq(stored.status, 7);
    ck_assert_str_eq(stored.body.data, "done");
    free((void *)stored.body.data);
    ck_assert_int_eq(enter(conn, "b", 0, &stored), SAGA_GUARD_OTHER);
    ck_assert_int_eq(saga_guard_answer(conn, &guard, &response, &err), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "55000");
    db_exec(conn, "ROLLBACK");
}
END_TEST

START_TEST(test_guard_refuses_names_that_are_too_long_and_leaves_the_transaction_whole)
{
    static char fits[SAGA_GUARD_NAME_MAX + 1], exceeds[SAGA_GUARD_NAME_MAX + 2];
    struct saga_guard guard = { .scope = fits, .key = fits };
    struct saga_response stored;
    struct saga_error err;
    int32_t verdict;

    memset(fits, 'x', sizeof fits - 1);
    memset(exceeds, 'x', sizeof exceeds - 1);
    db_exec(conn, "BEGIN");
    ck_assert_int_eq(saga_guard_enter(conn, &guard, &verdict, &stored, &err), 0);
    guard.key = exceeds;
    ck_assert_int_eq(saga_guard_enter(conn, &guard, &verdict, &stored, &err), SAGA_ELIMIT);
    ck_assert_msg(strstr(err.message, "the key has 256 bytes") != NULL, "%s", err.message);
    ck_assert_int_eq(saga_guard_answer(conn, &guard, &stored, &err), SAGA_ELIMIT);
    guard = (struct saga_guard){ .scope = exceeds, .key = fits };
    ck_assert_int_eq(saga_guard_enter(conn, &guard, &verdict, &stored, &err), SAGA_ELIMIT);
    ck_assert_msg(strstr(err.message, "the scope has 256 bytes") != NULL, "%s", err.message);
    ck_assert_int_eq(db_int(conn, "SELECT 42"), 42);
    db_exec(conn, "ROLLBACK");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "inbox_guard",
        .tests = TESTS(test_payment_repeated_is_made_once_and_answered_the_same,
                       test_payment_asked_for_twice_at_once_is_made_once,
                       test_payment_whose_server_dies_in_the_middle_is_made_by_the_next,
                       test_guard_in_use_elsewhere_is_busy_and_leaves_the_transaction_whole,
                       test_guard_answers_only_what_its_own_transaction_has_entered,
                       test_guard_refuses_names_that_are_too_long_and_leaves_the_transaction_whole),
        .setup = setup,
    });
}
