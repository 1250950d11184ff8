/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relays of this process: one handle and one thread for each stream.
 *
 * Owns making, starting, stopping and joining them, and what they have counted
 * over all their lives. One thread (main's) does all that; any thread may look.
 */
#ifndef OUTBOX_DAEMON_RELAYS_H
#define OUTBOX_DAEMON_RELAYS_H

#include "outbox/daemon_settings.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct relay_thread {
    struct saga_relay *relay;
    pthread_t thread;
    bool running; /* started and not joined */
    atomic_bool ended;
    int mode, rc, wake_fd;
    int64_t started_us;
    struct saga_error err;
    char name[32]; /* in its log lines */
};

struct relays {
    struct relay_thread *all;
    int n;
};

/* Makes a handle for each of `n` streams. Connects to nothing; SAGA_EINVAL if
 * the library does not take the settings, which must outlive the relays. */
int relays_make(struct relays *relays, const struct settings *settings, int n, int wake_fd,
                struct saga_error *err);

/* `mode` is saga_relay_run()'s. A thread that cannot be made counts as one that has failed. */
void relays_start(struct relays *relays, int mode);
void relays_stop(struct relays *relays);

/* Joins those that have ended. True: none runs any more. */
bool relays_ended(struct relays *relays);

/* What the first that failed has answered, or 0. */
int relays_answer(const struct relays *relays, struct saga_error *err);

void relays_free(struct relays *relays);

#endif
