/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Polls: often at first, every 20 ms in the end.
 */
#include "test/support/wait.h"

#include <stdlib.h>
#include <time.h>

enum { FIRST_STEP_US = 500, LONGEST_STEP_US = 20000 };

int64_t
monotonic_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct deadline
deadline_exactly_in(int ms)
{
    return (struct deadline){ .at_us = monotonic_us() + (int64_t)ms * 1000,
                              .step_us = FIRST_STEP_US };
}

struct deadline
deadline_in(int ms)
{
    const char *multiplier = getenv("CK_TIMEOUT_MULTIPLIER");
    int times = multiplier != NULL ? atoi(multiplier) : 1;

    return deadline_exactly_in(ms * (times > 1 ? times : 1));
}

bool
wait_a_little(struct deadline *deadline)
{
    struct timespec step = { .tv_nsec = deadline->step_us * 1000L };

    if (monotonic_us() >= deadline->at_us)
        return false;
    nanosleep(&step, NULL);
    if (deadline->step_us < LONGEST_STEP_US)
        deadline->step_us *= 2;
    return true;
}

bool
wait_until(bool (*condition)(void *arg), void *arg, int ms)
{
    struct deadline deadline = deadline_in(ms);

    while (!condition(arg))
        if (!wait_a_little(&deadline))
            return condition(arg);
    return true;
}
