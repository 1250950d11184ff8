/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeps until an absolute time of the monotonic clock. Needs nothing of the other
 * helpers: the demo's checker is made with it where there is no Check.
 */
#include "test/support/pace.h"

#include <errno.h>
#include <time.h>

static int64_t
now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

struct pace
pace_begin(void)
{
    return (struct pace){ .at_us = now_us() };
}

void
pace_keep(struct pace *pace, int64_t us)
{
    int64_t now = now_us();
    struct timespec until;

    pace->at_us += us;
    if (pace->at_us < now) {
        pace->at_us = now;
        return;
    }
    until = (struct timespec){ .tv_sec = pace->at_us / 1000000,
                               .tv_nsec = pace->at_us % 1000000 * 1000 };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        continue;
}
