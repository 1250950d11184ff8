/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sleeps until an absolute time of the monotonic clock.
 */
#include "test/support/pace.h"

#include "test/support/wait.h"

#include <errno.h>
#include <time.h>

struct pace
pace_begin(void)
{
    return (struct pace){ .at_us = monotonic_us() };
}

void
pace_keep(struct pace *pace, int64_t us)
{
    int64_t now = monotonic_us();
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
