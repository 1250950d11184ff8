/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The worker: a connection, the definitions it runs, and the loop that looks
 * for due sagas. What is done with one is in worker_job.c.
 */
#include "base/backoff.h"
#include "base/options.h"
#include "base/schema.h"
#include "saga/worker_job.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    STATEMENT_MS = 30000,
    LEASE_MS = 60000,
    GRACE_MS = 5000,
    POLL_MS = 250,
    POLL_FIRST_MS = 1,
    RECONNECT_FIRST_MS = 50,
    RECONNECT_LONGEST_MS = 5000
};

struct saga_worker {
    struct pg pg;
    struct saga_log log;
    struct job_limits limits;
    int32_t poll_ms;
    struct job *jobs;
    size_t n_jobs;
    atomic_bool stop;
};

static int
check_options(const struct saga_worker_options *options, struct saga_error *err)
{
    if (options->statement_ms < 0 || options->lease_ms < 0 || options->grace_ms < 0 ||
        options->poll_ms < 0)
        return error_set(err, SAGA_EINVAL, "times must not be negative");
    return 0;
}

int
saga_worker_new(struct saga_worker **worker, const struct saga_worker_options *options,
                struct saga_error *err)
{
    struct saga_worker_options read;
    struct saga_worker *made;
    int rc;

    error_clear(err);
    if (worker == NULL)
        return error_set(err, SAGA_EINVAL, "no place for the worker: `worker` is NULL");
    if ((rc = options_read(&read, sizeof read, options, err)) != 0 ||
        (rc = check_options(&read, err)) != 0)
        return rc;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    made->log = read.log;
    made->limits = (struct job_limits){ (int32_t)option_or(read.lease_ms, LEASE_MS),
                                        (int32_t)option_or(read.grace_ms, GRACE_MS), &made->stop };
    made->poll_ms = (int32_t)option_or(read.poll_ms, POLL_MS);
    rc = pg_init(&made->pg, read.conninfo, "saga-worker",
                 (int32_t)option_or(read.statement_ms, STATEMENT_MS), &made->log, err);
    if (rc != 0) {
        free(made);
        return rc;
    }
    made->pg.role = "saga_app";
    *worker = made;
    return 0;
}

void
saga_worker_free(struct saga_worker *worker)
{
    if (worker == NULL)
        return;
    pg_clear(&worker->pg);
    free(worker->jobs);
    free(worker);
}

void
saga_worker_stop(struct saga_worker *worker)
{
    atomic_store(&worker->stop, true);
}

static int
check_new(const struct saga_worker *worker, const struct definition *definition,
          struct saga_error *err)
{
    for (size_t i = 0; i < worker->n_jobs; i++)
        if (strcmp(worker->jobs[i].definition.name, definition->name) == 0)
            return error_set(err, SAGA_ESTATE, "the worker has a definition \"%s\" already",
                             definition->name);
    return 0;
}

int
saga_worker_add(struct saga_worker *worker, const struct saga_definition *definition, void *user,
                struct saga_error *err)
{
    struct job job = { .user = user };
    struct job *grown;
    int rc;

    error_clear(err);
    if (worker == NULL)
        return error_set(err, SAGA_EINVAL, "no worker: it is NULL");
    if ((rc = definition_read(&job.definition, definition, DEFINITION_OF_SAGA, err)) != 0 ||
        (rc = check_new(worker, &job.definition, err)) != 0)
        return rc;
    grown = realloc(worker->jobs, (worker->n_jobs + 1) * sizeof *grown);
    if (grown == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    worker->jobs = grown;
    if ((rc = pg_connect(&worker->pg, err)) != 0)
        return rc;
    schema_warn(&worker->pg);
    if ((rc = store_register(&worker->pg, &job.definition, err)) != 0)
        return rc;
    worker->jobs[worker->n_jobs++] = job;
    return 0;
}

/* --- the loop ---------------------------------------------------------------------- */

/* A signal ends it early, so that its handler's saga_worker_stop() is seen. */
static void
rest(int64_t ms)
{
    struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

    nanosleep(&time, NULL);
}

/* One saga of each definition. */
static int
round_of_jobs(struct saga_worker *worker, bool *found, struct saga_error *err)
{
    int rc = pg_connect(&worker->pg, err);

    *found = false;
    for (size_t i = 0; rc == 0 && i < worker->n_jobs && !atomic_load(&worker->stop); i++) {
        bool one = false;

        rc = job_drive(&worker->pg, &worker->jobs[i], &worker->limits, &one, err);
        *found |= one;
    }
    return rc;
}

/* Whether it is worth trying again; says so, and waits. */
static bool
outlast(struct saga_worker *worker, int32_t failures, const struct saga_error *err)
{
    if (err->code == SAGA_ESCHEMA || err->code == SAGA_ENOMEM)
        return false;
    log_error(&worker->log, SAGA_LOG_WARNING, "the worker tries again after an error", err);
    rest(backoff_ms(RECONNECT_FIRST_MS, RECONNECT_LONGEST_MS, failures, backoff_random()));
    return true;
}

static int
run_until(struct saga_worker *worker, int mode, struct saga_error *err)
{
    int64_t pause_ms = POLL_FIRST_MS;
    int32_t failures = 0;
    bool found;

    while (!atomic_load(&worker->stop)) {
        int rc = round_of_jobs(worker, &found, err);

        if (rc != 0) {
            if (mode == SAGA_RUN_UNTIL_IDLE || !outlast(worker, ++failures, err))
                return rc;
            continue;
        }
        failures = 0;
        if (found) {
            pause_ms = POLL_FIRST_MS;
            continue;
        }
        if (mode == SAGA_RUN_UNTIL_IDLE)
            return 0;
        rest(pause_ms);
        pause_ms = pause_ms * 2 < worker->poll_ms ? pause_ms * 2 : worker->poll_ms;
    }
    error_clear(err);
    return 0;
}

int
saga_worker_run(struct saga_worker *worker, int mode, struct saga_error *err)
{
    struct saga_error own;
    int rc;

    if (err == NULL)
        err = &own;
    error_clear(err);
    if (worker == NULL || worker->n_jobs == 0)
        return error_set(err, SAGA_EINVAL, "nothing to run: call saga_worker_add() first");
    if (mode != SAGA_RUN_UNTIL_STOP && mode != SAGA_RUN_UNTIL_IDLE)
        return error_set(err, SAGA_EINVAL, "mode %d is none of SAGA_RUN_UNTIL_*", mode);
    rc = run_until(worker, mode, err);
    atomic_store(&worker->stop, false);
    return rc;
}
