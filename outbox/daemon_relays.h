/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relays of this process: one handle and one thread for each stream.
 *
 * Owns making, starting, stopping and joining them, and that there are as many
 * as the outbox has streams, which the relay of stream 0 finds out and which may
 * change while they run. One thread (main's) does all that; any thread may look.
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
    bool running;      /* started and not joined */
    atomic_bool ended; /* by itself */
    atomic_bool gone;  /* there is no such stream any more; there may be again */
    bool overtaken;    /* ended so, and runs again */
    int mode, rc, wake_fd;
    _Atomic int64_t started_us;
    struct saga_error err;
    char name[32]; /* in its log lines */
};

struct relays {
    struct relay_thread *all; /* room for SAGA_RELAY_STREAMS_MAX */
    atomic_int n;             /* how many have a handle; never fewer than before */
    int mode, wake_fd;        /* an eventfd; written when a thread has ended */
    bool stopping;
    bool superfluous;       /* and therefore stopping */
    int64_t done, moved_ms; /* relays_stuck(): messages that are settled; since when */
    struct saga_relay_options options;
};

/* Makes `n` handles. Connects to nothing; SAGA_EINVAL if the library does not
 * take the settings, whose memory must outlive the relays. */
int relays_make(struct relays *relays, const struct settings *settings, int n, int wake_fd,
                struct saga_error *err);

/* `mode` is saga_relay_run()'s. A thread that cannot be made counts as one that has failed. */
void relays_start(struct relays *relays, int mode);
void relays_stop(struct relays *relays);

/*
 * Joins those that have ended, and sees to it that there is one for each stream.
 * Who was overtaken runs again, because that is also how owners learn that the
 * number of streams has changed; if it has not, and there is one only, this
 * process has nothing left to do and the answer is SAGA_EFENCED. To be called when `wake_fd` was
 * written, and now and then. True: none runs any more.
 */
bool relays_tend(struct relays *relays);

/* Whether no message has been published or parked for `ms`. Waiting for another
 * relay's lease does not count. To be called now and then. */
bool relays_stuck(struct relays *relays, int32_t ms);

/* What the first that failed has answered, or 0. */
int relays_answer(const struct relays *relays, struct saga_error *err);

void relays_free(struct relays *relays);

#endif
