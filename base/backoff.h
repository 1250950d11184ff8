/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long to wait before the next attempt: doubling, capped, with jitter, so
 * that many who failed together do not come back together.
 */
#ifndef BASE_BACKOFF_H
#define BASE_BACKOFF_H

#include <stdint.h>

/*
 * The delay before attempt `attempt` + 1 (attempts count from 1), between half
 * and all of first_ms * 2^(attempt - 1), at most longest_ms: "equal jitter"
 * (Brooker, Exponential Backoff and Jitter, 2015). `random` is any number.
 */
int64_t backoff_ms(int64_t first_ms, int64_t longest_ms, int32_t attempt, uint64_t random);

/* A random number that is good for jitter and for nothing else. Any thread. */
uint64_t backoff_random(void);

#endif
