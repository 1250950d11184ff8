/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into a relay before everything else: its date is CLOCK_SHIFT seconds
 * off. Durations stay right, also where somebody waits until a date.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static time_t
shift(void)
{
    static time_t seconds;
    static int known;

    if (!known) {
        const char *text = getenv("CLOCK_SHIFT");

        seconds = text != NULL ? (time_t)strtoll(text, NULL, 10) : 0;
        known = 1;
    }
    return seconds;
}

/* NOLINTBEGIN: the system's names */
int
clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);

    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += shift();
    return rc;
}

int
timespec_get(struct timespec *now, int base)
{
    return clock_gettime(CLOCK_REALTIME, now) == 0 ? base : 0;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec time;

    (void)zone;
    clock_gettime(CLOCK_REALTIME, &time);
    *now = (struct timeval){ time.tv_sec, time.tv_nsec / 1000 };
    return 0;
}

time_t
time(time_t *now)
{
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    if (now != NULL)
        *now = time.tv_sec;
    return time.tv_sec;
}

/* librdkafka waits by this one, until a date that timespec_get() told it. */
int
cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex, const struct timespec *restrict until)
{
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    struct timespec shifted = *until;

    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "cnd_timedwait");
    shifted.tv_sec -= shift();
    return real(cond, mutex, &shifted);
}
/* NOLINTEND */
