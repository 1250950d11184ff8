/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One due saga in a worker's hands.
 *
 * Each change is one transaction, under the lock of the saga's row: that lock
 * is the lease, and PostgreSQL gives it up if the worker dies. Between two
 * transactions the row is held by its due time, a short grace ahead, and by its
 * version: whoever finds another one has been overtaken, and lets go.
 */
#include "saga/worker_job.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "saga/context.h"

#include <string.h>

/* One saga between being taken and being saved. */
struct task {
    struct pg *pg;
    const struct job *job;
    const struct job_limits *limits;
    const struct stored *stored;
    struct instance instance; /* as the machine changes it */
    struct outcome outcome;
    int64_t loaded_us, loaded_mono_ms;
    struct buffer patch;
    char reason[SAGA_REASON_MAX + 1];
    struct store_batch *again; /* receives the saga anew, if it goes on at once */
};

/* The database's clock, without asking it. */
static int64_t
now_us(const struct task *task)
{
    return task->loaded_us + (clock_mono_ms() - task->loaded_mono_ms) * 1000;
}

static void
move(struct task *task, const struct event *event)
{
    machine_move(&task->job->definition, &task->instance, event, now_us(task), backoff_random(),
                 &task->outcome);
}

/* --- saving ----------------------------------------------------------------------- */

static bool
goes_on_at_once(const struct task *task)
{
    return task->instance.due_us != 0 && task->instance.due_us <= now_us(task) &&
           !atomic_load(task->limits->stop);
}

static void
log_alarm(const struct task *task)
{
    char id[37];

    saga_uuid_text(&task->stored->id, id);
    log_event(task->pg->log, SAGA_LOG_WARNING, "a saga needs somebody to look at it",
              LOG_TEXT("saga", id), LOG_TEXT("definition", task->job->definition.name),
              LOG_TEXT("state", instance_state_name(task->instance.state)),
              LOG_TEXT("reason", task->outcome.reason));
}

static int
save(struct task *task, struct saga_error *err)
{
    bool again = goes_on_at_once(task);
    const struct store_change change = {
        .id = &task->stored->id,
        .version = task->stored->version,
        .instance = &task->instance,
        .outcome = &task->outcome,
        .patch = { task->patch.data, task->patch.len },
        .hold_ms = again ? task->limits->grace_ms : 0,
        /* Where it cannot be carried out it is left to a worker who can. */
        .request_done = task->stored->matches && task->stored->request != REQUEST_NONE,
    };
    int rc = store_save_and_commit(task->pg, &task->job->definition, &change,
                                   task->limits->lease_ms, again ? task->again : NULL, err);

    if (rc == 0 && task->outcome.alarm)
        log_alarm(task);
    return rc;
}

/* In a transaction of its own: nothing else of this attempt is left. */
static int
save_alone(struct task *task, struct saga_error *err)
{
    int rc;

    buffer_clear(&task->patch);
    pg_rollback(task->pg);
    CRASH_POINT("worker.after_rollback");
    rc = pg_connect(task->pg, err);
    if (rc == 0)
        rc = pg_begin(task->pg, err);
    return rc != 0 ? rc : save(task, err);
}

/* The server refused something, and will again: not lost, not overtaken, not a
 * matter of time. */
static bool
is_refusal(const struct saga_error *err)
{
    return err->code == SAGA_EDB &&
           (err->flags & (SAGA_ERR_FATAL | SAGA_ERR_RETRIABLE | SAGA_ERR_UNKNOWN)) == 0;
}

/* A saga that cannot be saved because of what it contains would come back for
 * ever, before all others. */
static int
park_unsaveable(struct task *task, struct saga_error *err)
{
    bool its_own_fault = strncmp(err->sqlstate, "22", 2) == 0 || //
                         strncmp(err->sqlstate, "23", 2) == 0;
    char reason[SAGA_REASON_MAX + 1];

    if (!is_refusal(err) || !its_own_fault)
        return err->code;
    memcpy(reason, err->message, sizeof reason);
    task->instance = task->stored->instance;
    move(task, &(struct event){ .kind = EVENT_MISMATCH, .reason = reason });
    return save_alone(task, err);
}

/* --- a step ------------------------------------------------------------------------- */

static enum event_kind
event_of(int answer)
{
    switch (answer) {
    case SAGA_DONE:
        return EVENT_DONE;
    case SAGA_WAIT:
        return EVENT_WAIT;
    case SAGA_RETRY:
        return EVENT_RETRY;
    case SAGA_REFUSED:
        return EVENT_REFUSED;
    default:
        return EVENT_ERROR;
    }
}

/* The step's rows and the saga's row commit together. If that fails, neither
 * is there, and it was an attempt that failed. */
static int
save_with_step(struct task *task, struct event *event, struct saga_error *err)
{
    const struct instance before = task->instance;
    int rc;

    move(task, event);
    rc = save(task, err);
    if (rc == 0 || rc == SAGA_EFENCED || (!is_refusal(err) && !pg_error_overslept(err)))
        return rc;
    memcpy(task->reason, err->message, sizeof task->reason);
    task->instance = before;
    event->kind = EVENT_ERROR;
    event->reason = task->reason;
    move(task, event);
    return save_alone(task, err);
}

static int
record_answer(struct task *task, struct saga_ctx *ctx, int answer, struct saga_error *err)
{
    struct event event = { .kind = event_of(answer),
                           .step = (size_t)task->outcome.run,
                           .delay_ms = ctx->retry_ms,
                           .reason = ctx->reason[0] != '\0' ? ctx->reason : NULL };

    CRASH_POINT("worker.after_step");
    if (answer == SAGA_DONE || answer == SAGA_WAIT) {
        context_changes_json(ctx, &task->patch);
        if (task->patch.failed)
            return error_set(err, SAGA_ENOMEM, "out of memory");
        return save_with_step(task, &event, err);
    }
    /* What it wrote is undone before its answer is recorded; whoever takes
     * the saga in between finds it as it was, and the version decides. */
    move(task, &event);
    return save_alone(task, err);
}

/* No answer, and no attempt: whatever becomes of the server would otherwise
 * use up the attempts of sagas. If it is the step that does it every time, this
 * is where one sees it. */
static void
log_lost(const struct task *task, const char *step)
{
    char id[37];

    saga_uuid_text(&task->stored->id, id);
    log_event(task->pg->log, SAGA_LOG_WARNING, "the connection was lost inside a step",
              LOG_TEXT("saga", id), LOG_TEXT("definition", task->job->definition.name),
              LOG_TEXT("step", step));
}

static int
run_step(struct task *task, struct saga_error *err)
{
    const struct step_now *now = &task->instance.steps[task->outcome.run];
    const struct saga_step *step = &task->job->definition.steps[task->outcome.run];
    struct saga_ctx ctx;
    int rc, answer = 0;

    context_init(&ctx, task->pg, &task->stored->id, now->attempt);
    rc = context_take(&ctx, task->stored->values, err);
    if (rc == 0) {
        answer = context_run(&ctx, now->state == STEP_COMPENSATING ? step->compensate : step->run,
                             task->job->user, err);
        /* A connection that was lost is no answer. One that we have given up
         * because a statement took too long is, and so is one that the server
         * has ended because the function did: both will again. */
        if (answer < 0 && !pg_connected(task->pg) && ctx.answer != SAGA_ETIMEOUT) {
            log_lost(task, step->name);
            rc = answer;
        }
    }
    if (rc == 0)
        rc = record_answer(task, &ctx, answer, err);
    context_clear(&ctx);
    return rc;
}

/* --- one change ----------------------------------------------------------------------- */

static int
next_event(struct task *task, struct event *event, struct saga_error *err)
{
    const struct stored *stored = task->stored;

    *event = (struct event){ .kind = EVENT_DUE };
    if (!stored->matches) {
        *event = (struct event){ .kind = EVENT_MISMATCH, .reason = task->reason };
        return store_difference(task->pg, &task->job->definition, stored, task->reason, err);
    }
    if (stored->request != REQUEST_NONE) {
        event->kind = stored->request == REQUEST_CANCEL ? EVENT_CANCEL : EVENT_RESUME;
        event->reason = stored->request_reason;
    }
    return 0;
}

/* From the loaded saga to the committed change. */
static int
change_once(struct task *task, struct saga_error *err)
{
    struct event event;
    int rc = next_event(task, &event, err);

    if (rc != 0)
        return rc;
    move(task, &event);
    rc = task->outcome.run != NO_STEP ? run_step(task, err) : save(task, err);
    if (rc != 0 && rc != SAGA_EFENCED)
        rc = park_unsaveable(task, err);
    buffer_clear(&task->patch);
    return rc;
}

/* One that is due, at random: other workers have found the same ones. */
static struct store_due
pick(struct job *job)
{
    size_t i = backoff_random() % job->n_due;
    struct store_due picked = job->due[i];

    job->due[i] = job->due[--job->n_due];
    return picked;
}

/* `batch` stays empty if nothing is due. What others were quicker to take is
 * out of the list by the next search. */
static int
take_one(struct pg *pg, struct job *job, const struct job_limits *limits, struct store_batch *batch,
         struct saga_error *err)
{
    for (;;) {
        struct store_due due;
        int rc = 0;

        if (job->n_due == 0)
            rc = store_find_due(pg, &job->definition, JOB_DUE_MAX, job->due, &job->n_due, err);
        if (rc != 0 || job->n_due == 0)
            return rc;
        due = pick(job);
        rc = store_take(pg, &job->definition, &due, limits->lease_ms, batch, err);
        if (rc != 0 || batch->n > 0)
            return rc;
        store_batch_clear(batch);
        pg_rollback(pg);
    }
}

static int
drive(struct pg *pg, const struct job *job, const struct job_limits *limits,
      struct store_batch *batch, struct saga_error *err)
{
    struct store_batch again = { .rows = PG_ROWS_INIT };
    int rc = 0;

    while (rc == 0 && batch->n > 0) {
        struct task task = { .pg = pg,
                             .job = job,
                             .limits = limits,
                             .stored = &batch->stored[0],
                             .instance = batch->stored[0].instance,
                             .loaded_us = batch->now_us,
                             .loaded_mono_ms = clock_mono_ms(),
                             .again = &again };

        rc = change_once(&task, err);
        store_batch_clear(batch);
        *batch = again;
        again = (struct store_batch){ .rows = PG_ROWS_INIT };
    }
    return rc;
}

int
job_drive(struct pg *pg, struct job *job, const struct job_limits *limits, bool *found,
          struct saga_error *err)
{
    struct store_batch batch = { .rows = PG_ROWS_INIT };
    int rc = take_one(pg, job, limits, &batch, err);

    *found = rc == 0 && batch.n > 0;
    CRASH_POINT("worker.after_take");
    if (rc == 0)
        rc = drive(pg, job, limits, &batch, err);
    store_batch_clear(&batch);
    pg_rollback(pg); /* what is still open has taken nothing, or failed */
    return rc == SAGA_EFENCED ? 0 : rc;
}
