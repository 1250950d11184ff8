/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pace of a load: what a generator of load, or a fault that goes on for a
 * while, does every so often. Besides wait.h the only place that sleeps, and
 * never in order that something else may have happened: who needs that waits for
 * it (wait.h).
 */
#ifndef TEST_PACE_H
#define TEST_PACE_H

#include <stdint.h>

struct pace {
    int64_t at_us;
};

/* From now on. */
struct pace pace_begin(void);

/*
 * Returns `us` after the time at which the last call should have returned, so
 * that the rate does not depend on what the work between took. What is late by
 * more than that is not caught up with: a load that stood still goes on at its
 * rate.
 */
void pace_keep(struct pace *pace, int64_t us);

#endif
