/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sagas whose steps do as their values say.
 */
#include "test/support/steps.h"

#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdio.h>
#include <string.h>

/* --- the steps --------------------------------------------------------------------- */

/* The word for this attempt, or the last one. */
static const char *
scripted_answer(struct saga_ctx *ctx, const char *step, const char *action)
{
    static __thread char word[32];
    char name[80];
    const char *at;

    snprintf(name, sizeof name, "%s.%s", step, action);
    at = saga_get(ctx, name);
    if (at == NULL)
        return "done";
    for (int32_t i = 1; i < saga_attempt(ctx) && strchr(at, ' ') != NULL; i++)
        at = strchr(at, ' ') + 1;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(at, " "), at);
    return word;
}

static void
wait_at_the_gate(struct saga_ctx *ctx)
{
    char sql[64];

    snprintf(sql, sizeof sql, "SELECT pg_advisory_xact_lock_shared(%d)", GATE);
    PQclear(PQexec(saga_tx(ctx), sql));
}

static int
act(struct saga_ctx *ctx, const char *step, const char *action)
{
    const char *answer = scripted_answer(ctx, step, action);
    int rc = saga_exec(ctx, NULL,
                       "INSERT INTO test.effect (saga_id, step, action, pid)"
                       " VALUES ($1, $2, $3, pg_backend_pid())",
                       SAGA_TEXTS(saga_id(ctx), step, action));

    if (rc != 0)
        return rc;
    rc = saga_set(ctx, "seen", answer);
    if (rc != 0)
        return rc;
    if (strncmp(answer, "gate", 4) == 0)
        wait_at_the_gate(ctx);
    if (strcmp(answer, "wait") == 0)
        return SAGA_WAIT;
    if (strcmp(answer, "retry") == 0)
        return saga_retry_after(ctx, 0, "asked to retry");
    if (strcmp(answer, "refused") == 0 || strcmp(answer, "gate_refused") == 0)
        return saga_refuse(ctx, "asked to refuse");
    if (strcmp(answer, "error") == 0)
        return SAGA_EMISMATCH;
    if (strcmp(answer, "sql") == 0)
        return saga_exec(ctx, NULL, "SELECT 1 / 0", NULL, 0);
    if (strcmp(answer, "commit") == 0)
        PQclear(PQexec(saga_tx(ctx), "COMMIT"));
    return SAGA_DONE;
}

#define ACT(step)                                                                                  \
    static int run_##step(struct saga_ctx *ctx, void *user)                                        \
    {                                                                                              \
        (void)user;                                                                                \
        return act(ctx, #step, "run");                                                             \
    }                                                                                              \
    static int compensate_##step(struct saga_ctx *ctx, void *user)                                 \
    {                                                                                              \
        (void)user;                                                                                \
        return act(ctx, #step, "compensate");                                                      \
    }
ACT(a)
ACT(b)
ACT(c)
ACT(d)

#define QUICK .attempts_max = 3, .first_delay_ms = 1, .longest_delay_ms = 5, .timeout_ms = 30

static const struct saga_step scripted_steps[] = {
    { .name = "a", .run = run_a, .compensate = compensate_a, QUICK },
    { .name = "b", .run = run_b, .compensate = compensate_b, QUICK },
    { .name = "c", .kind = SAGA_PIVOT, .run = run_c, QUICK },
    { .name = "d", .kind = SAGA_RETRIABLE, .run = run_d, QUICK },
};
const struct saga_definition scripted = { SAGA_DEFINITION("scripted", scripted_steps),
                                          .compensation_ms = 60000 };

/* --- what a test starts with ------------------------------------------------------------ */

void
given_effects(PGconn *conn)
{
    (void)compensate_c;
    (void)compensate_d;
    db_exec(conn, "CREATE SCHEMA test; CREATE TABLE test.effect (id bigint GENERATED ALWAYS AS"
                  " IDENTITY, saga_id uuid, step text, action text, pid int)");
}

const char *
given_effects_database(PGconn **conn)
{
    const char *conninfo = given_database();

    *conn = given_session(conninfo);
    given_effects(*conn);
    return conninfo;
}

static void
free_worker(void *worker)
{
    saga_worker_free(worker);
}

struct saga_worker *
given_worker_with(struct saga_worker_options options, const struct saga_definition *definition)
{
    struct saga_worker *worker;
    struct saga_error err;

    ck_assert_msg(saga_worker_new(&worker, &options, &err) == 0, "%s", err.message);
    at_test_end(free_worker, worker);
    ck_assert_msg(saga_worker_add(worker, definition, NULL, &err) == 0, "%s", err.message);
    return worker;
}

struct saga_worker *
given_worker(const char *conninfo, const struct saga_definition *definition)
{
    return given_worker_with(
        (struct saga_worker_options){ SAGA_WORKER_OPTIONS, .conninfo = conninfo }, definition);
}

const char *
given_saga(PGconn *conn, const struct saga_definition *definition, const char *key,
           const struct saga_pair *values)
{
    struct saga_error err;
    struct saga_uuid id;
    char text[37];

    ck_assert_msg(saga_begin(conn, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_start(conn, definition, key, values, &id, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_commit(conn, &err) == 0, "%s", err.message);
    saga_uuid_text(&id, text);
    return text_of("%s", text);
}

/* --- running it ---------------------------------------------------------------------------- */

void
run_idle(struct saga_worker *worker)
{
    struct saga_error err;

    ck_assert_msg(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err) == 0, "%s", err.message);
}

static bool
is_after_running(struct saga_worker *worker, PGconn *conn, const char *id, const char *state)
{
    run_idle(worker);
    return strcmp(state_of(conn, id), state) == 0;
}

void
run_until(struct saga_worker *worker, PGconn *conn, const char *id, const char *state)
{
    struct deadline deadline = deadline_in(8000);

    while (!is_after_running(worker, conn, id, state))
        if (!wait_a_little(&deadline))
            ck_abort_msg("%s, not %s: %s", state_of(conn, id), state, history_of(conn, id));
}

/* --- looking at it --------------------------------------------------------------------------- */

const char *
state_of(PGconn *conn, const char *id)
{
    return db_text(conn, "SELECT state FROM saga.instance WHERE id = '%s'", id);
}

const char *
effects_of(PGconn *conn, const char *id)
{
    return db_text(conn,
                   "SELECT coalesce(string_agg(step || '.' || action, ' ' ORDER BY id), '')"
                   " FROM test.effect WHERE saga_id = '%s'",
                   id);
}

const char *
history_of(PGconn *conn, const char *id)
{
    return db_text(conn,
                   "SELECT string_agg(concat_ws(':', event, step), ' ' ORDER BY id)"
                   " FROM saga.history WHERE saga_id = '%s' AND event <> 'started'",
                   id);
}

static const char sql_wrong_effects[] =
    "WITH did AS (SELECT saga_id, step, count(*) FILTER (WHERE action = 'run') AS runs,"
    "   count(*) FILTER (WHERE action = 'compensate') AS undos"
    "   FROM test.effect GROUP BY saga_id, step)"
    " SELECT string_agg(format('saga %s (%s): step %s run %s times, undone %s times',"
    "   i.id, i.state, s.step, coalesce(d.runs, 0), coalesce(d.undos, 0)), '; ')"
    " FROM saga.instance i CROSS JOIN LATERAL unnest(i.steps) s (step)"
    " LEFT JOIN did d ON d.saga_id = i.id AND d.step = s.step"
    " WHERE (i.state = 'completed' AND (d.runs IS DISTINCT FROM 1 OR d.undos <> 0))"
    " OR (i.state = 'compensated' AND (coalesce(d.runs, 0) > 1"
    "     OR coalesce(d.runs, 0) <> coalesce(d.undos, 0)))";

/* Undone in the order in which it was done. */
static const char sql_wrong_order[] =
    "SELECT string_agg(format('saga %s undid %s before %s', x.saga_id, x.step, y.step), '; ')"
    " FROM test.effect x JOIN test.effect y ON y.saga_id = x.saga_id"
    " WHERE x.action = 'compensate' AND y.action = 'compensate'"
    " AND x.step < y.step AND x.id < y.id";

void
expect_effects_once(PGconn *conn)
{
    const char *wrong = db_text(conn, "%s", sql_wrong_effects);
    const char *order = db_text(conn, "%s", sql_wrong_order);

    ck_assert_msg(wrong == NULL, "%s", wrong);
    ck_assert_msg(order == NULL, "%s", order);
}
