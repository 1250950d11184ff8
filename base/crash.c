/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash points: counts how often each was passed, and kills the process at the
 * one that SAGA_CRASH names.
 */
#include "base/crash.h"

#ifdef SAGA_CRASH_POINTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As many passings are worth a line; a busy loop must not fill the disk. */
enum { POINTS_MAX = 256, LOGGED_MAX = 3 };

/* Which passing of `name` this is, by any thread. */
static long
passing(const char *name)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct {
        const char *name;
        long passed;
    } points[POINTS_MAX];
    long n = 0;

    pthread_mutex_lock(&lock);
    for (int i = 0; i < POINTS_MAX && n == 0; i++) {
        if (points[i].name == NULL)
            points[i].name = name;
        if (strcmp(points[i].name, name) == 0)
            n = ++points[i].passed;
    }
    pthread_mutex_unlock(&lock);
    return n;
}

/* One write() a line: what is written before a SIGKILL stays. */
static void
log_line(const char *what, const char *name, long n)
{
    const char *path = getenv("SAGA_CRASH_LOG");
    int fd = path != NULL ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;

    if (fd < 0)
        return;
    dprintf(fd, "%s %s %ld\n", what, name, n);
    close(fd);
}

void
crash_here(const char *name)
{
    const char *wish = getenv("SAGA_CRASH");
    size_t len = strlen(name);
    long n = passing(name);

    if (n <= LOGGED_MAX)
        log_line("passed", name, n);
    if (wish == NULL || strncmp(wish, name, len) != 0 || (wish[len] != ':' && wish[len] != '\0'))
        return;
    if (n == (wish[len] == ':' ? atol(wish + len + 1) : 1)) {
        log_line("died", name, n);
        kill(getpid(), SIGKILL);
    }
}

#else
typedef int crash_points_are_compiled_out;
#endif
