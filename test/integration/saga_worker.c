/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * Workers among themselves, and with a world that ends: many at once, killed,
 * stopped past their lease, PostgreSQL restarted.
 */
#include "test/support/db.h"
#include "test/support/process.h"
#include "test/support/proxy.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/steps.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { GRACE_MS = 600, LEASE_MS = 700 };

static const char *conninfo;
static PGconn *conn;

static void
setup(void)
{
    conninfo = given_effects_database(&conn);
    given_worker(conninfo, &scripted); /* registers the definition */
}

static struct process *
start_worker(const char *database)
{
    return start_process(ARGS("test/programs/saga_worker", database, text_of("%d", LEASE_MS),
                              text_of("%d", GRACE_MS)),
                         NULL);
}

/* All kinds of ends: done, refused, failing for a while, failing for good. */
static void
given_many_sagas(PGconn *tx, int n)
{
    db_exec(tx,
            "SELECT saga.start('scripted', 'k' || n, CASE n %% 5"
            " WHEN 0 THEN '{\"c.run\": \"refused\"}'"
            " WHEN 1 THEN '{\"b.run\": \"retry error done\", \"d.run\": \"sql done\"}'"
            " WHEN 2 THEN '{\"b.run\": \"error\", \"a.compensate\": \"retry done\"}'"
            " ELSE '{}' END::jsonb) FROM generate_series(1, %d) n",
            n);
}

static bool
all_over(PGconn *any)
{
    return db_int(any, "SELECT count(*) FROM saga.instance"
                       " WHERE state NOT IN ('completed', 'compensated')") == 0;
}

static int
waits_at_the_gate(void)
{
    return (int)db_int(conn,
                       "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                       " AND objid = %d AND NOT granted",
                       GATE);
}

static void
end_sessions_at_the_gate(void)
{
    db_exec(conn,
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
            " AND objid = %d AND NOT granted AND database = (SELECT oid FROM pg_database"
            " WHERE datname = current_database())",
            GATE);
}

static void
close_gate(void)
{
    db_exec(conn, "SELECT pg_advisory_lock(%d)", GATE);
}

static void
open_gate(void)
{
    db_exec(conn, "SELECT pg_advisory_unlock(%d)", GATE);
}

/* --- trap: S5, S16 ------------------------------------------------------------------- */

static void *
work(void *arg)
{
    struct saga_error err;
    int rc = saga_worker_run(arg, SAGA_RUN_UNTIL_STOP, &err);

    return rc == 0 ? NULL : (void *)"failed";
}

START_TEST(test_many_workers_do_each_step_once_s5_s16)
{
    enum { WORKERS = 6, SAGAS = 100 };
    struct saga_worker *workers[WORKERS];
    pthread_t threads[WORKERS];
    void *said;

    given_many_sagas(conn, SAGAS);
    for (int i = 0; i < WORKERS; i++) {
        workers[i] = given_worker(conninfo, &scripted);
        ck_assert_int_eq(pthread_create(&threads[i], NULL, work, workers[i]), 0);
    }
    WAIT_UNTIL(all_over(conn), 20000);
    for (int i = 0; i < WORKERS; i++) {
        saga_worker_stop(workers[i]);
        pthread_join(threads[i], &said);
        ck_assert_ptr_null(said);
    }
    expect_effects_once(conn);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance WHERE state = 'completed'"),
                     SAGAS * 3 / 5);
}
END_TEST

/* trap: S16. The check that all the others rest on: it sees a step that was
 * applied twice, which every sum hides if the step moves both sides of it. */
START_TEST(test_effects_are_counted_one_by_one_s16)
{
    struct saga_worker *worker = given_worker(conninfo, &scripted);
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "c.run", "refused" }));

    run_until(worker, conn, id, "compensated");
    expect_effects_once(conn);
    ck_assert_int_eq(
        db_int(conn,
               "SELECT count(*) FROM (SELECT 1 FROM test.effect GROUP BY saga_id, step, action"
               " HAVING count(*) <> 1) doubled"),
        0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM test.effect"), 4);
}
END_TEST

/* --- trap: S6 ------------------------------------------------------------------------- */

START_TEST(test_worker_killed_inside_a_step_is_followed_at_once_s6)
{
    struct process *first, *second;
    const char *id;

    close_gate();
    first = start_worker(conninfo);
    id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "a.run", "gate" }));
    WAIT_UNTIL(waits_at_the_gate() == 1, 8000);
    process_kill(first);
    end_sessions_at_the_gate(); /* as the kernel's closing of the socket would */
    open_gate();
    second = start_worker(conninfo);
    WAIT_UNTIL(strcmp(state_of(conn, id), "completed") == 0, 8000);
    process_signal(second, SIGTERM);
    process_expect(second, 0, 8000);
    expect_effects_once(conn);
}
END_TEST

/* Between two steps nothing is locked: the row's due time holds it, a grace
 * ahead and no longer. */
START_TEST(test_worker_killed_between_steps_is_followed_after_its_grace_s6)
{
    struct process *first, *second;
    const char *id;

    close_gate();
    first = start_worker(conninfo);
    id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "gate" }));
    WAIT_UNTIL(waits_at_the_gate() == 1, 8000);
    process_kill(first);
    end_sessions_at_the_gate();
    ck_assert_int_eq(
        db_int(conn,
               "SELECT count(*) FROM saga.instance"
               " WHERE due_at - updated_at BETWEEN interval '%d ms' AND interval '%d ms'",
               GRACE_MS - 100, GRACE_MS + 100),
        1);
    open_gate();
    second = start_worker(conninfo);
    WAIT_UNTIL(strcmp(state_of(conn, id), "completed") == 0, GRACE_MS + 8000);
    process_kill(second);
    expect_effects_once(conn);
}
END_TEST

START_TEST(test_workers_killed_again_and_again_lose_and_double_nothing_s6_s4)
{
    enum { KILLS = 6 };
    struct process *workers[2];

    given_many_sagas(conn, 60);
    workers[0] = start_worker(conninfo);
    workers[1] = start_worker(conninfo);
    for (int i = 0; i < KILLS; i++) {
        int64_t before = db_int(conn, "SELECT count(*) FROM saga.history");

        WAIT_UNTIL(all_over(conn) || db_int(conn, "SELECT count(*) FROM saga.history") > before + 9,
                   15000);
        process_kill(workers[i % 2]);
        workers[i % 2] = start_worker(conninfo);
    }
    WAIT_UNTIL(all_over(conn), 15000);
    process_kill(workers[0]);
    process_kill(workers[1]);
    expect_effects_once(conn);
}
END_TEST

/* --- trap: S5, S18. A worker that stands still past its lease ----------------------------- */

START_TEST(test_worker_stopped_past_its_lease_is_overtaken_s18_s5)
{
    struct process *slow, *quick;
    const char *id;

    close_gate();
    slow = start_worker(conninfo);
    id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "a.run", "gate_refused" }));
    WAIT_UNTIL(waits_at_the_gate() == 1, 8000);
    process_freeze(slow);
    open_gate(); /* its session is idle in its transaction now, and ends */
    quick = start_worker(conninfo);
    WAIT_UNTIL(strcmp(state_of(conn, id), "compensated") == 0, LEASE_MS + 8000);
    process_thaw(slow);
    process_signal(slow, SIGTERM);
    process_expect(slow, 0, 8000);
    process_kill(quick);
    ck_assert_str_eq(history_of(conn, id), "refused:a");
    ck_assert_str_eq(effects_of(conn, id), "");
}
END_TEST

/* --- trap: S15 ------------------------------------------------------------------------------ */

START_TEST(test_workers_outlast_restarts_of_the_server_s15)
{
    struct server *cluster = GIVEN_SERVER("pg");
    const char *database = given_database_in(cluster);
    PGconn *admin = db_connect(database);
    struct process *workers[2];

    given_effects(admin);
    workers[0] = start_worker(database);
    workers[1] = start_worker(database);
    WAIT_UNTIL(db_int(admin, "SELECT count(*) FROM saga.definition") == 1, 8000);
    given_many_sagas(admin, 60);
    for (int i = 0; i < 2; i++) {
        int64_t before = db_int(admin, "SELECT count(*) FROM saga.history");

        WAIT_UNTIL(db_int(admin, "SELECT count(*) FROM saga.history") > before + 20, 8000);
        PQfinish(admin);
        if (i == 0)
            server_stop(cluster);
        else
            server_kill(cluster);
        server_start(cluster);
        WAIT_UNTIL((admin = db_try_connect(database)) != NULL, 15000);
    }
    WAIT_UNTIL(all_over(admin), 20000);
    for (int i = 0; i < 2; i++) {
        process_signal(workers[i], SIGTERM);
        process_expect(workers[i], 0, 8000);
    }
    expect_effects_once(admin);
    PQfinish(admin);
}
END_TEST

START_TEST(test_connection_cut_inside_a_step_is_no_answer_s15)
{
    struct process *worker;
    const char *id;

    close_gate();
    worker = start_worker(conninfo);
    id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "gate" }));
    for (int i = 0; i < 5; i++) { /* more often than the step has attempts */
        WAIT_UNTIL(waits_at_the_gate() == 1, 8000);
        end_sessions_at_the_gate();
        WAIT_UNTIL(waits_at_the_gate() == 0, 8000);
    }
    open_gate();
    WAIT_UNTIL(strcmp(state_of(conn, id), "completed") == 0, 8000);
    process_kill(worker);
    expect_effects_once(conn);
    ck_assert_str_eq(history_of(conn, id), "done:a done:b done:c done:d");
    ck_assert_ptr_nonnull(strstr(process_errors(worker), "lost inside a step"));
}
END_TEST

/* Every answer of the server is lost once, with the connection, that of each
 * COMMIT too: what the row says counts. */
START_TEST(test_worker_whose_answers_are_lost_doubles_nothing_s15)
{
    struct proxy *proxy = given_proxy(text_of("%s:%s", PQhost(conn), PQport(conn)));
    const char *through = text_of("%s host=127.0.0.1 port=%d", conninfo, proxy_port(proxy));
    struct process *worker =
        start_process(ARGS("test/programs/saga_worker", through, "60000", "100"), NULL);

    WAIT_UNTIL(strstr(process_output(worker), "ready") != NULL, 8000);
    for (int n = 1; n <= 12; n++) {
        const char *id;

        proxy_cut(proxy, n);
        id = given_saga(conn, &scripted, text_of("k%d", n),
                        n % 2 ? NULL : SAGA_PAIRS({ "c.run", "refused" }));
        WAIT_UNTIL(strcmp(state_of(conn, id), n % 2 ? "completed" : "compensated") == 0, 8000);
    }
    process_kill(worker);
    expect_effects_once(conn);
}
END_TEST

/* What a service may do, and no more: no superuser, no owner. */
START_TEST(test_sagas_run_with_the_rights_of_a_service)
{
    const char *service = text_of("%s options='-c role=saga_app'", conninfo);
    PGconn *tx = db_connect(service);
    struct saga_worker *worker;
    const char *id;

    db_exec(conn, "GRANT USAGE ON SCHEMA test TO saga_app; GRANT ALL ON test.effect TO saga_app");
    worker = given_worker(service, &scripted);
    id = given_saga(tx, &scripted, "k", SAGA_PAIRS({ "c.run", "refused" }));
    run_idle(worker);
    ck_assert_str_eq(state_of(tx, id), "compensated");
    id = given_saga(tx, &scripted, "l", SAGA_PAIRS({ "b.run", "wait" }));
    run_idle(worker);
    db_exec(tx, "SELECT saga.cancel('%s', 'no')", id);
    run_idle(worker);
    ck_assert_str_eq(state_of(tx, id), "compensated");

    ck_assert_str_eq(db_refusal(tx, "DELETE FROM saga.history"), "42501");
    ck_assert_str_eq(db_refusal(tx, "UPDATE saga.history SET reason = ''"), "42501");
    ck_assert_str_eq(db_refusal(tx, "INSERT INTO saga.audit (verb, reason) VALUES ('x', 'y')"),
                     "42501");
    ck_assert_str_eq(db_refusal(tx, "SELECT saga.ask('%s', 'cancel', '{completed}', 'x')", id),
                     "42501");
    PQfinish(tx);
}
END_TEST

/* --- use and wrong use ------------------------------------------------------------------------ */

START_TEST(test_worker_leaves_alone_what_it_does_not_know)
{
    struct saga_definition other = scripted;
    struct saga_worker *worker;
    const char *id = given_saga(conn, &scripted, "k", NULL);

    other.name = "other";
    worker = given_worker(conninfo, &other);
    run_idle(worker);
    ck_assert_str_eq(state_of(conn, id), "running");
    ck_assert_int_eq(db_int(conn, "SELECT version FROM saga.instance"), 0);
}
END_TEST

START_TEST(test_worker_registers_what_it_runs)
{
    ck_assert_str_eq(db_text(conn,
                             "SELECT string_agg(concat_ws(' ', s ->> 'name', s ->> 'kind'), ', ')"
                             " FROM saga.definition, jsonb_array_elements(steps) s"),
                     "a compensatable, b compensatable, c pivot, d retriable");
    given_worker(conninfo, &scripted);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.definition"), 1);
}
END_TEST

START_TEST(test_worker_refuses_wrong_use)
{
    struct saga_worker_options options = { SAGA_WORKER_OPTIONS, .conninfo = conninfo };
    struct saga_definition bad = scripted;
    struct saga_worker *worker;
    struct saga_error err;

    options.grace_ms = -1;
    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), SAGA_EINVAL);
    options.grace_ms = 0;
    options.size += 8;
    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_worker_new(NULL, NULL, &err), SAGA_EINVAL);

    worker = given_worker(conninfo, &scripted);
    ck_assert_int_eq(saga_worker_add(worker, &scripted, NULL, &err), SAGA_ESTATE);
    bad.name = "bad name";
    ck_assert_int_eq(saga_worker_add(worker, &bad, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_worker_run(worker, 7, &err), SAGA_EINVAL);
    saga_worker_free(NULL);
}
END_TEST

START_TEST(test_worker_without_definition_server_or_schema_says_so)
{
    struct saga_worker_options options = { SAGA_WORKER_OPTIONS,
                                           .conninfo = "host=127.0.0.1 port=1 dbname=x" };
    struct saga_worker *worker;
    struct saga_error err;

    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), 0);
    ck_assert_int_eq(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_worker_add(worker, &scripted, NULL, &err), SAGA_EDB);
    ck_assert((err.flags & SAGA_ERR_RETRIABLE) != 0);
    saga_worker_free(worker);

    options.conninfo = given_empty_database();
    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), 0);
    ck_assert_int_eq(saga_worker_add(worker, &scripted, NULL, &err), SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "sagactl migrate up"));
    saga_worker_free(worker);
}
END_TEST

START_TEST(test_worker_stops_when_asked)
{
    struct saga_worker *worker = given_worker(conninfo, &scripted);
    struct saga_error err;
    pthread_t thread;
    void *said;

    saga_worker_stop(worker); /* before it runs: it returns at once */
    ck_assert_int_eq(saga_worker_run(worker, SAGA_RUN_UNTIL_STOP, &err), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, work, worker), 0);
    given_saga(conn, &scripted, "k", NULL);
    WAIT_UNTIL(all_over(conn), 8000);
    saga_worker_stop(worker);
    pthread_join(thread, &said);
    ck_assert_ptr_null(said);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/worker",
        .setup = setup,
        .tests = TESTS(
            test_many_workers_do_each_step_once_s5_s16, test_effects_are_counted_one_by_one_s16,
            test_worker_killed_inside_a_step_is_followed_at_once_s6,
            test_worker_killed_between_steps_is_followed_after_its_grace_s6,
            test_workers_killed_again_and_again_lose_and_double_nothing_s6_s4,
            test_worker_stopped_past_its_lease_is_overtaken_s18_s5,
            test_workers_outlast_restarts_of_the_server_s15,
            test_connection_cut_inside_a_step_is_no_answer_s15,
            test_worker_whose_answers_are_lost_doubles_nothing_s15,
            test_sagas_run_with_the_rights_of_a_service,
            test_worker_leaves_alone_what_it_does_not_know, test_worker_registers_what_it_runs,
            test_worker_refuses_wrong_use, test_worker_without_definition_server_or_schema_says_so,
            test_worker_stops_when_asked),
        .timeout_s = 60 });
}
