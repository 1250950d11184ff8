/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving: the fence, the commands that go out, many instances at once.
 */
#include "saga/sql.h"
#include "saga/store.h"
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/steps.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct saga_step steps[] = {
    { .name = "reserve", .command_topic = "inventory.commands" },
    { .name = "charge", .kind = SAGA_PIVOT, .command_topic = "payment.commands" },
};
static const struct saga_definition order = { SAGA_DEFINITION("order", steps) };

static PGconn *conn, *rival;
static struct pg pg, rival_pg;
static struct definition definition;
static struct saga_error err;

static void
setup(void)
{
    const char *conninfo = given_effects_database(&conn);

    rival = given_session(conninfo);
    pg = pg_borrow(conn);
    rival_pg = pg_borrow(rival);
    ck_assert_int_eq(definition_read(&definition, &order, DEFINITION_OF_SAGA, &err), 0);
    ck_assert_msg(store_register(&pg, &definition, &err) == 0, "%s", err.message);
}

enum { MANY = 200 };

/* The first one that is due; n 0: there is none. A transaction is open. */
static struct store_batch
taken(struct pg *by)
{
    struct store_batch batch = { .rows = PG_ROWS_INIT };
    struct store_due due;
    size_t n;

    ck_assert_msg(store_find_due(by, &definition, 1, &due, &n, &err) == 0, "%s", err.message);
    if (n > 0)
        ck_assert_msg(store_take(by, &definition, &due, 60000, &batch, &err) == 0, "%s",
                      err.message);
    return batch;
}

/* All that are due. */
static struct store_batch
all_loaded(void)
{
    struct store_batch batch;
    struct store_due due[MANY + 1];
    struct saga_uuid ids[MANY + 1];
    size_t n;

    ck_assert_int_eq(store_find_due(&pg, &definition, MANY + 1, due, &n, &err), 0);
    for (size_t i = 0; i < n; i++)
        ids[i] = due[i].id;
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(store_load(&pg, &definition, ids, n, &batch, &err), 0);
    return batch;
}

/* What the machine makes of a new saga: its first command is sent. */
static struct store_change
moved(struct stored *stored, struct outcome *outcome, int64_t now_us)
{
    machine_move(&definition, &stored->instance, &(struct event){ EVENT_DUE }, now_us, 0, outcome);
    return (struct store_change){ .id = &stored->id,
                                  .version = stored->version,
                                  .instance = &stored->instance,
                                  .outcome = outcome };
}

static const char *
header(const char *name)
{
    return db_text(conn, "SELECT substring(headers FROM '(?n)^%s: (.*)$') FROM outbox.message",
                   name);
}

START_TEST(test_command_carries_what_the_protocol_says)
{
    const char *id =
        given_saga(conn, &order, "k", SAGA_PAIRS({ "sku", "lamp" }, { "traceparent", "00-t" }));
    struct store_batch batch = taken(&pg);
    struct outcome outcome;
    struct store_change change = moved(&batch.stored[0], &outcome, batch.now_us);

    change.patch = (struct saga_bytes){ "{\"shelf\":\"7\"}", 13 };
    ck_assert_msg(store_save_and_commit(&pg, &definition, &change, 0, NULL, &err) == 0, "%s",
                  err.message);

    ck_assert_str_eq(db_text(conn, "SELECT topic FROM outbox.message"), "inventory.commands");
    ck_assert_str_eq(db_text(conn, "SELECT key FROM outbox.message"), id);
    ck_assert_str_eq(db_text(conn, "SELECT convert_from(payload, 'UTF8') FROM outbox.message"),
                     "{\"sku\": \"lamp\", \"shelf\": \"7\"}");
    ck_assert_str_eq(header("saga-id"), id);
    ck_assert_str_eq(header("saga-definition"), "order");
    ck_assert_str_eq(header("saga-step"), "reserve");
    ck_assert_str_eq(header("saga-action"), "run");
    ck_assert_str_eq(header("saga-attempt"), "1");
    ck_assert_str_eq(header("saga-reply-to"), "order.replies");
    ck_assert_str_eq(header("traceparent"), "00-t");
    ck_assert_int_eq(
        db_int(conn,
               "SELECT cardinality(regexp_split_to_array(headers, '\\n')) FROM outbox.message"),
        7);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history h JOIN outbox.message m"
                                  " ON m.message_id = h.message_id WHERE h.event = 'sent'"
                                  " AND h.step = 'reserve' AND h.step_state = 'waiting'"),
                     1);
    ck_assert_str_eq(db_text(conn, "SELECT step_states FROM saga.instance"), "{waiting,pending}");
    store_batch_clear(&batch);
}
END_TEST

START_TEST(test_times_are_saved_and_loaded_to_the_microsecond)
{
    struct store_batch batch, again;
    struct outcome outcome;
    struct store_change change;
    struct instance saved;

    given_saga(conn, &order, "k", NULL);
    batch = taken(&pg);
    change = moved(&batch.stored[0], &outcome, batch.now_us);
    batch.stored[0].instance.undo_deadline_us = INT64_C(1795403722123457);
    saved = batch.stored[0].instance;
    ck_assert_int_eq(store_save_and_commit(&pg, &definition, &change, 60000, &again, &err), 0);

    ck_assert_int_eq(again.n, 1);
    ck_assert_int_eq(again.stored[0].instance.undo_deadline_us, saved.undo_deadline_us);
    ck_assert_int_eq(again.stored[0].instance.steps[0].due_us, saved.steps[0].due_us);
    ck_assert_int_eq(again.stored[0].instance.steps[1].due_us, 0);
    ck_assert_int_eq(again.stored[0].version, 1);
    store_batch_clear(&batch);
    store_batch_clear(&again);
    saga_rollback(conn);
}
END_TEST

/* --- trap: S18 ------------------------------------------------------------------------ */

/* The first worker has loaded it and loses its lock without knowing: it was
 * stopped past its lease, or is about to record a refusal. */
static struct store_batch
loaded_and_overtaken(struct outcome *outcome)
{
    struct store_batch batch = taken(&pg), theirs;
    struct store_change change;

    saga_rollback(conn);
    theirs = taken(&rival_pg);
    ck_assert_int_eq(theirs.n, 1);
    change = moved(&theirs.stored[0], outcome, theirs.now_us);
    ck_assert_int_eq(store_save_and_commit(&rival_pg, &definition, &change, 0, NULL, &err), 0);
    store_batch_clear(&theirs);
    return batch;
}

START_TEST(test_overtaken_worker_writes_nothing_s18)
{
    const char *id = given_saga(conn, &order, "k", NULL);
    struct outcome outcome;
    struct store_batch batch = loaded_and_overtaken(&outcome);
    struct store_change change = moved(&batch.stored[0], &outcome, batch.now_us);
    int rc;

    /* With a row of its step function in the same transaction. */
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    db_exec(conn, "INSERT INTO test.effect (saga_id, step, action) VALUES ('%s', 'a', 'run')", id);
    rc = store_save_and_commit(&pg, &definition, &change, 0, NULL, &err);
    saga_rollback(conn);

    ck_assert_int_eq(rc, SAGA_EFENCED);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message"), 1);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history WHERE event = 'sent'"), 1);
    ck_assert_int_eq(db_int(conn, "SELECT version FROM saga.instance"), 1);
    ck_assert_str_eq(effects_of(conn, id), "");
    store_batch_clear(&batch);
}
END_TEST

/* The statement itself, as it would be pipelined: even if nobody looks at the
 * answer, nothing of an overtaken save is there. */
START_TEST(test_overtaken_worker_cannot_go_on_either_s18)
{
    struct store_batch batch, again;
    struct outcome outcome;
    struct store_change change;

    given_saga(conn, &order, "k", NULL);
    batch = loaded_and_overtaken(&outcome);
    change = moved(&batch.stored[0], &outcome, batch.now_us);
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(store_save_and_commit(&pg, &definition, &change, 60000, &again, &err),
                     SAGA_EFENCED);
    saga_rollback(conn);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message"), 1);
    store_batch_clear(&batch);
}
END_TEST

START_TEST(test_row_that_somebody_has_locked_is_not_taken_s5)
{
    struct store_batch batch, none, stale;
    struct store_due due;
    size_t n;

    given_saga(conn, &order, "k", NULL);
    ck_assert_int_eq(store_find_due(&rival_pg, &definition, 1, &due, &n, &err), 0);
    ck_assert_int_eq(n, 1);
    batch = taken(&pg);
    none = taken(&rival_pg);
    ck_assert_int_eq(batch.n, 1);
    ck_assert_int_eq(none.n, 0);
    ck_assert_int_eq(store_take(&rival_pg, &definition, &due, 60000, &stale, &err), 0);
    ck_assert_int_eq(stale.n, 0);
    store_batch_clear(&stale);
    saga_rollback(conn);
    saga_rollback(rival);
    store_batch_clear(&batch);
    store_batch_clear(&none);
}
END_TEST

/* --- many at once ------------------------------------------------------------------------ */

START_TEST(test_many_are_saved_by_one_statement)
{
    struct outcome *outcomes = calloc(MANY, sizeof *outcomes);
    struct store_change *changes = calloc(MANY, sizeof *changes);
    struct store_batch batch;

    db_exec(conn, "SELECT saga.start('order', 'k' || n) FROM generate_series(1, %d) n", MANY);
    batch = all_loaded();
    ck_assert_int_eq(batch.n, MANY);
    for (int i = 0; i < MANY; i++)
        changes[i] = moved(&batch.stored[i], &outcomes[i], batch.now_us);
    ck_assert_msg(store_save(&pg, &definition, changes, MANY, &err) == 0, "%s", err.message);
    ck_assert_int_eq(saga_commit(conn, &err), 0);

    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance WHERE version = 1"), MANY);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message m JOIN saga.history h"
                                  " USING (message_id) WHERE m.key = h.saga_id::text"),
                     MANY);
    store_batch_clear(&batch);
    free(outcomes);
    free(changes);
}
END_TEST

START_TEST(test_one_overtaken_of_many_stops_all_s18)
{
    struct outcome outcomes[3];
    struct store_change changes[3];
    struct store_batch batch;

    db_exec(conn, "SELECT saga.start('order', 'k' || n) FROM generate_series(1, 3) n");
    batch = all_loaded();
    for (int i = 0; i < 3; i++)
        changes[i] = moved(&batch.stored[i], &outcomes[i], batch.now_us);
    changes[1].version++;
    ck_assert_int_eq(store_save(&pg, &definition, changes, 3, &err), SAGA_EFENCED);
    saga_rollback(conn);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message"), 0);
    store_batch_clear(&batch);
}
END_TEST

START_TEST(test_request_that_comes_meanwhile_is_not_lost)
{
    const char *id = given_saga(conn, &order, "k", NULL);
    struct store_batch batch = taken(&pg);
    struct outcome outcome;
    struct store_change change = moved(&batch.stored[0], &outcome, batch.now_us);

    saga_rollback(conn);
    db_exec(conn, "SELECT saga.cancel('%s', 'quick')", id);
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(store_save_and_commit(&pg, &definition, &change, 0, NULL, &err), 0);
    ck_assert_str_eq(db_text(conn, "SELECT request FROM saga.instance"), "cancel");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance WHERE due_at <= now()"), 1);
    store_batch_clear(&batch);
}
END_TEST

/* --- trap: S14, light ------------------------------------------------------------------------ */

START_TEST(test_search_does_not_see_what_is_finished_s14)
{
    const char *plan = "";
    PGresult *result;
    int hit = 0;

    db_exec(conn,
            "INSERT INTO saga.instance (id, definition, business_key, state, steps,"
            " step_states, step_attempts, step_due_at, data, digest)"
            " SELECT gen_random_uuid(), 'order', n::text, 'completed', '{a}', '{done}', '{1}',"
            " '{NULL}', '{}', '' FROM generate_series(1, 30000) n");
    db_exec(conn, "SELECT saga.start('order', 'due' || n) FROM generate_series(1, 5) n");
    db_exec(conn, "ANALYZE saga.instance; SET plan_cache_mode = force_generic_plan");
    db_exec(conn, "%s", "PREPARE due (text, bigint, text) AS " SQL_DUE);

    result = PQexec(conn, "EXPLAIN (ANALYZE, BUFFERS) EXECUTE due ('order', 1, 'digest')");
    for (int row = 0; row < PQntuples(result); row++) {
        const char *line = PQgetvalue(result, row, 0);

        plan = text_of("%s\n%s", plan, line);
        if (hit == 0 && strstr(line, "Buffers: shared hit=") != NULL)
            hit = atoi(strstr(line, "hit=") + 4);
    }
    PQclear(result);
    ck_assert_msg(strstr(plan, "instance_due") != NULL && strstr(plan, "Seq Scan") == NULL, "%s",
                  plan);
    ck_assert_msg(hit > 0 && hit < 40, "%d pages: %s", hit, plan);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/store",
        .setup = setup,
        .tests = TESTS(
            test_command_carries_what_the_protocol_says,
            test_times_are_saved_and_loaded_to_the_microsecond,
            test_overtaken_worker_writes_nothing_s18, test_overtaken_worker_cannot_go_on_either_s18,
            test_row_that_somebody_has_locked_is_not_taken_s5, test_many_are_saved_by_one_statement,
            test_one_overtaken_of_many_stops_all_s18, test_request_that_comes_meanwhile_is_not_lost,
            test_search_does_not_see_what_is_finished_s14) });
}
