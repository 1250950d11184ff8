/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a program and tells what it took.
 *
 *     measure FILE PROGRAM [ARGUMENTS...]
 *
 * Writes to FILE.pid its process id, and to FILE when it has ended: seconds from
 * its start to its end, CPU seconds of user and system, and the peak of its
 * memory in MiB. SIGTERM is passed on to it. The exit code is its own.
 */
#include "bench/bench.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

static void
pass_on(int signal)
{
    kill(child, signal);
}

static FILE *
create(const char *name, const char *suffix)
{
    char path[512];
    FILE *made;

    snprintf(path, sizeof path, "%s%s", name, suffix);
    made = fopen(path, "w");
    if (made == NULL)
        die("%s: %s", path, strerror(errno));
    return made;
}

static double
seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

int
main(int argc, char **argv)
{
    struct rusage usage;
    int64_t begin = now_ns();
    int status;
    FILE *out;

    if (argc < 3)
        die("usage: measure FILE PROGRAM [ARGUMENTS...]");
    child = fork();
    if (child == 0) {
        execv(argv[2], argv + 2);
        die("%s: %s", argv[2], strerror(errno));
    }
    signal(SIGTERM, pass_on);
    out = create(argv[1], ".pid");
    fprintf(out, "%d\n", (int)child);
    fclose(out);
    while (wait4(child, &status, 0, &usage) < 0)
        if (errno != EINTR)
            die("wait4: %s", strerror(errno));
    out = create(argv[1], "");
    fprintf(out, "%.3f %.3f %.1f\n", (double)(now_ns() - begin) / 1e9,
            seconds(usage.ru_utime) + seconds(usage.ru_stime), (double)usage.ru_maxrss / 1024);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
