/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to wait before the next attempt.
 */
#include "base/backoff.h"

#include <sys/random.h>

int64_t
backoff_ms(int64_t first_ms, int64_t longest_ms, int32_t attempt, uint64_t random)
{
    int64_t delay = first_ms > 0 ? first_ms : 1;

    for (int32_t i = 1; i < attempt && delay < longest_ms; i++)
        delay *= 2;
    if (delay > longest_ms)
        delay = longest_ms > 0 ? longest_ms : 1;
    return delay - (int64_t)(random % (uint64_t)(delay / 2 + 1));
}

uint64_t
backoff_random(void)
{
    uint64_t random = 0;

    /* Without random numbers there is no jitter, and nothing worse. */
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
        return 0;
    return random;
}
