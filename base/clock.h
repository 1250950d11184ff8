/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two clocks: one for dates, one for durations. Tests replace both.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

int64_t clock_wall_us(void); /* Unix microseconds; may jump */
int64_t clock_mono_ms(void); /* for deadlines; never goes back */

/* The same, some milliseconds ago, for a fifth of the cost. */
int64_t clock_mono_coarse_ms(void);

/* Milliseconds until `deadline_ms` (of clock_mono_ms), never below 0. */
int64_t clock_left_ms(int64_t deadline_ms);

/* For tests: NULL goes back to the system's clock. Not thread-safe. */
void clock_replace(int64_t (*wall_us)(void), int64_t (*mono_ms)(void));

#endif
