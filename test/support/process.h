/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that a test starts, stops, freezes and kills.
 *
 * None outlives its test, however that ends. What a program printed is kept in
 * build/<flavour>/test-output/ where the test failed.
 */
#ifndef TEST_PROCESS_H
#define TEST_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

struct process {
    pid_t pid;
    const char *name;
    const char *stdout_path, *stderr_path;
    bool ended;
    int status; /* as of waitpid(), once it has ended */
};

#define ARGS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * A name without a slash is a program of the build ("sagactl",
 * "outbox-relay", "test/programs/..." too), or else one on the PATH.
 * `environment` adds "NAME=value" to ours, may be NULL, and ends with NULL.
 *
 *     struct process *relay = start_process(ARGS("outbox-relay", "--once"), NULL);
 */
struct process *start_process(const char *const *args, const char *const *environment);

/* Starts it, waits, and fails the test if its exit code is not 0. Returns its standard output. */
const char *run_process(const char *const *args);

/* Has it ended? Does not wait. */
bool process_ended(struct process *process);

/* Its exit code, or minus the signal that killed it. The test fails if it is still running after
 * `ms`. */
int process_wait(struct process *process, int ms);

/* The test fails, and shows what the program said, if it does not end with `code` within `ms`. */
void process_expect(struct process *process, int code, int ms);

void process_signal(struct process *process, int signal);
void process_freeze(struct process *process); /* SIGSTOP, and waits until it stands */
void process_thaw(struct process *process);   /* SIGCONT */
void process_kill(struct process *process);   /* SIGKILL, and waits until it is gone */

/* What it has printed so far; lives until the test ends. */
const char *process_output(const struct process *process);
const char *process_errors(const struct process *process);

#endif
