/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into a relay before everything else: its date is CLOCK_SHIFT seconds
 * off. Durations stay right, also where somebody waits until a date.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Nobody's clock that is not a date says more: thirty years since the start. */
enum { DATES_FROM = 1000000000 };

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

int
pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                       const struct timespec *restrict until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec shifted = *until;

    /* By its version: without one the oldest is found, which is another type's. */
    if (real == NULL)
        *(void **)&real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (shifted.tv_sec > DATES_FROM)
        shifted.tv_sec -= shift();
    return real(cond, mutex, &shifted);
}
/* NOLINTEND */
