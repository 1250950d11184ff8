/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting and stopping relays.
 */
#include "outbox/daemon_relays.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
relays_make(struct relays *relays, const struct settings *settings, int n, int wake_fd,
            struct saga_error *err)
{
    int rc = 0;

    *relays = (struct relays){ .all = calloc((size_t)n, sizeof *relays->all), .n = n };
    if (relays->all == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    for (int i = 0; rc == 0 && i < n; i++) {
        struct relay_thread *thread = &relays->all[i];
        struct saga_relay_options options = settings->options;

        thread->wake_fd = wake_fd;
        options.stream = i;
        if (n > 1) {
            snprintf(thread->name, sizeof thread->name, "%.20s/%d", (char *)options.log.user, i);
            options.log.user = thread->name;
        }
        rc = saga_relay_new(&thread->relay, &options, err);
    }
    if (rc != 0)
        relays_free(relays);
    return rc;
}

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

void
relays_start(struct relays *relays, int mode)
{
    for (int i = 0; i < relays->n; i++) {
        struct relay_thread *thread = &relays->all[i];
        int error;

        thread->mode = mode;
        thread->started_us = clock_mono_ms() * 1000;
        error = pthread_create(&thread->thread, NULL, run, thread);
        thread->running = error == 0;
        if (error != 0) {
            thread->rc =
                error_set(&thread->err, SAGA_ENOMEM, "cannot start a thread: %s", strerror(error));
            atomic_store(&thread->ended, true);
        }
    }
}

void
relays_stop(struct relays *relays)
{
    for (int i = 0; i < relays->n; i++)
        saga_relay_stop(relays->all[i].relay);
}

bool
relays_ended(struct relays *relays)
{
    bool all = true;

    for (int i = 0; i < relays->n; i++) {
        struct relay_thread *thread = &relays->all[i];

        if (thread->running && atomic_load(&thread->ended)) {
            pthread_join(thread->thread, NULL);
            thread->running = false;
        }
        all = all && !thread->running;
    }
    return all;
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
    return 0;
}

void
relays_free(struct relays *relays)
{
    for (int i = 0; i < relays->n; i++)
        saga_relay_free(relays->all[i].relay);
    free(relays->all);
    *relays = (struct relays){ 0 };
}
