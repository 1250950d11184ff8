/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two clocks, read from the system unless a test has replaced them.
 */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static int64_t
system_wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t
system_mono_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t
system_mono_coarse_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t (*wall_clock)(void) = system_wall_us;
static int64_t (*mono_clock)(void) = system_mono_ms;
static int64_t (*mono_coarse_clock)(void) = system_mono_coarse_ms;

int64_t
clock_wall_us(void)
{
    return wall_clock();
}

int64_t
clock_mono_ms(void)
{
    return mono_clock();
}

int64_t
clock_mono_coarse_ms(void)
{
    return mono_coarse_clock();
}

int64_t
clock_left_ms(int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_mono_ms();

    return left > 0 ? left : 0;
}

void
clock_replace(int64_t (*wall_us)(void), int64_t (*mono_ms)(void))
{
    wall_clock = wall_us != NULL ? wall_us : system_wall_us;
    mono_clock = mono_ms != NULL ? mono_ms : system_mono_ms;
    mono_coarse_clock = mono_ms != NULL ? mono_ms : system_mono_coarse_ms;
}
