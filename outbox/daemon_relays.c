/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting, tending and stopping relays.
 */
#include "outbox/daemon_relays.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- making and freeing ------------------------------------------------------ */

/* The next handle. Others see it only when it is complete. */
static int
make_one(struct relays *relays, struct saga_error *err)
{
    int i = atomic_load(&relays->n);
    struct relay_thread *thread = &relays->all[i];
    struct saga_relay_options options = relays->options;
    int rc;

    thread->wake_fd = relays->wake_fd;
    options.stream = i;
    if (i > 0) {
        snprintf(thread->name, sizeof thread->name, "%.20s/%d", (char *)options.log.user, i);
        options.log.user = thread->name;
    }
    rc = saga_relay_new(&thread->relay, &options, err);
    if (rc == 0)
        atomic_store(&relays->n, i + 1);
    return rc;
}

int
relays_make(struct relays *relays, const struct settings *settings, int n, int wake_fd,
            struct saga_error *err)
{
    int rc = 0;

    *relays = (struct relays){ .all = calloc(SAGA_RELAY_STREAMS_MAX, sizeof *relays->all),
                               .options = settings->options,
                               .wake_fd = wake_fd };
    if (relays->all == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    for (int i = 0; rc == 0 && i < n; i++)
        rc = make_one(relays, err);
    if (rc != 0)
        relays_free(relays);
    return rc;
}

void
relays_free(struct relays *relays)
{
    for (int i = 0; i < relays->n; i++)
        saga_relay_free(relays->all[i].relay);
    free(relays->all);
    *relays = (struct relays){ 0 };
}

/* --- running ------------------------------------------------------------------ */

static void *
run(void *arg)
{
    struct relay_thread *thread = arg;
    const uint64_t one = 1;

    thread->rc = saga_relay_run(thread->relay, thread->mode, &thread->err);
    atomic_store(&thread->ended, true);
    if (write(thread->wake_fd, &one, sizeof one) < 0)
        return NULL; /* main looks at us every second anyway */
    return NULL;
}

static void
start_one(struct relays *relays, struct relay_thread *thread)
{
    int error;

    thread->mode = relays->mode;
    thread->rc = 0;
    atomic_store(&thread->gone, false);
    atomic_store(&thread->ended, false);
    atomic_store(&thread->started_us, clock_mono_ms() * 1000);
    error = pthread_create(&thread->thread, NULL, run, thread);
    thread->running = error == 0;
    if (error != 0) {
        thread->rc =
            error_set(&thread->err, SAGA_ENOMEM, "cannot start a thread: %s", strerror(error));
        atomic_store(&thread->ended, true);
    }
}

void
relays_start(struct relays *relays, int mode)
{
    relays->mode = mode;
    for (int i = 0; i < relays->n; i++)
        start_one(relays, &relays->all[i]);
}

void
relays_stop(struct relays *relays)
{
    relays->stopping = true;
    for (int i = 0; i < relays->n; i++)
        saga_relay_stop(relays->all[i].relay);
}

/* --- tending ------------------------------------------------------------------ */

/* One has ended: it runs again if that makes sense. */
static void
take_in(struct relays *relays, int i)
{
    struct relay_thread *thread = &relays->all[i];
    int rc = thread->rc;

    pthread_join(thread->thread, NULL);
    thread->running = false;
    if (relays->mode == SAGA_RELAY_ONCE || (rc != SAGA_EFENCED && (rc != SAGA_ENOTFOUND || i == 0)))
        return;
    thread->rc = 0;
    if (relays->stopping)
        return; /* it would have given the stream free in a moment */
    if (rc == SAGA_ENOTFOUND) {
        atomic_store(&thread->gone, true);
        return;
    }
    log_event(&relays->options.log, SAGA_LOG_WARNING, "overtaken; looks again",
              LOG_INT("stream", i), LOG_TEXT("error", thread->err.message));
    thread->overtaken = true;
    start_one(relays, thread);
}

/* True: the only stream there is has another owner. */
static bool
is_superfluous(struct relays *relays)
{
    struct saga_relay_stats stats = { SAGA_RELAY_STATS };
    struct relay_thread *first = &relays->all[0];

    if (!first->overtaken || relays->stopping)
        return false;
    saga_relay_stats(first->relay, &stats);
    if (stats.state == SAGA_RELAY_OWNER || stats.streams > 1)
        first->overtaken = false;
    return stats.state == SAGA_RELAY_STANDBY && stats.streams == 1;
}

/* As many as the outbox has streams. */
static void
grow(struct relays *relays)
{
    struct saga_relay_stats stats = { SAGA_RELAY_STATS };
    struct relay_thread *first = &relays->all[0];
    struct saga_error err;

    saga_relay_stats(first->relay, &stats);
    if (relays->stopping || (!first->running && first->rc != 0))
        return;
    for (int i = 1; i < stats.streams && i < SAGA_RELAY_STREAMS_MAX; i++) {
        struct relay_thread *thread = &relays->all[i];
        bool new = i >= relays->n;

        if (new &&make_one(relays, &err) != 0) {
            log_error(&relays->options.log, SAGA_LOG_ERROR, "cannot make a relay", &err);
            return; /* tried again soon */
        }
        if (new || atomic_load(&thread->gone))
            start_one(relays, thread);
    }
}

bool
relays_tend(struct relays *relays)
{
    bool none = true;

    for (int i = 0; i < relays->n; i++)
        if (relays->all[i].running && atomic_load(&relays->all[i].ended))
            take_in(relays, i);
    grow(relays);
    if (is_superfluous(relays)) {
        relays->superfluous = true;
        relays_stop(relays);
    }
    for (int i = 0; i < relays->n; i++)
        none = none && !relays->all[i].running;
    return none;
}

bool
relays_stuck(struct relays *relays, int32_t ms)
{
    int64_t now = clock_mono_ms(), done = 0;
    bool standby = false;

    for (int i = 0; i < relays->n; i++) {
        struct saga_relay_stats stats = { SAGA_RELAY_STATS };

        saga_relay_stats(relays->all[i].relay, &stats);
        done += stats.published + stats.parked;
        standby = standby || (relays->all[i].running && stats.state == SAGA_RELAY_STANDBY);
    }
    if (relays->moved_ms == 0 || done != relays->done || standby)
        relays->moved_ms = now;
    relays->done = done;
    return now - relays->moved_ms >= ms;
}

int
relays_answer(const struct relays *relays, struct saga_error *err)
{
    for (int i = 0; i < relays->n; i++) {
        if (!relays->all[i].running && relays->all[i].rc != 0) {
            *err = relays->all[i].err;
            return relays->all[i].rc;
        }
    }
    if (relays->superfluous)
        return error_set(err, SAGA_EFENCED,
                         "another relay has taken over; it was thought that this one is gone");
    return 0;
}
