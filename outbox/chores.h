/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the owner of stream 0 does beside publishing, between two pairs: moves
 * delayed messages into the outbox when they are due, and cleans up.
 *
 * Owns when this is done and what is said about it. How it is done, and that
 * nothing is lost by it, is the database's (migrations 0012 and 0016).
 */
#ifndef OUTBOX_CHORES_H
#define OUTBOX_CHORES_H

#include "base/pg.h"

struct chore {
    int64_t due_ms;   /* when it is to be done again, by clock_mono_ms() */
    int32_t failures; /* since it last could be done */
};

struct chores {
    int64_t retention_ms; /* below 0: nothing is cleaned up */
    const struct saga_log *log;

    int64_t mark_us, mark_n; /* the last message that was moved, while more are due */

    struct chore deliver, clean;

    /* Moments of clock_mono_ms(). */
    int64_t locked_ms; /* since when a slot could not be locked; 0: it could */
    int64_t told_ms, complained_ms;
    int32_t attempts; /* to lock it */
};

/* Does what is to be done now: a part of it, so that publishing goes on in
 * between, or with `all` everything that is due. Only a lost connection is an
 * error: publishing does not depend on any of this, and what fails or takes longer
 * than `pg` waits is tried again after a pause that grows. */
int chores_do(struct chores *chores, struct pg *pg, bool all, struct saga_error *err);

#endif
