/* SPDX-License-Identifier: Apache-2.0 */
/* release only */
/*
 * tools/servers leaves no server and no data behind, however it ends.
 */
#include "test/support/process.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { START_MS = 20000, GONE_MS = 10000 };

struct run {
    struct process *process;
    const char *dir;
    int redis_pid;
};

/* The dead whom nobody has waited for yet have no working directory. */
static bool
is_running(int pid)
{
    char place[512];

    return readlink(text_of("/proc/%d/cwd", pid), place, sizeof place) > 0;
}

static struct run
given_run(const char *command)
{
    struct run run = { .process = start_process(ARGS(text_of("%s/tools/servers", source_dir()),
                                                     "--redis", "--", "sh", "-c", command),
                                                NULL) };
    char *dir = NULL;

    WAIT_UNTIL(sscanf(process_output(run.process), "%ms %d\n", &dir, &run.redis_pid) == 2,
               START_MS);
    at_test_end(free, dir);
    run.dir = dir;
    ck_assert(is_running(run.redis_pid));
    return run;
}

#define ANNOUNCE "echo $SAGA_RUN $(cat $SAGA_RUN/redis/pid); "

static void
expect_nothing_left(const struct run *run)
{
    WAIT_UNTIL(!is_running(run->redis_pid), GONE_MS);
    WAIT_UNTIL(access(run->dir, F_OK) != 0, GONE_MS);
}

START_TEST(test_servers_end_with_their_command_and_its_exit_code)
{
    /* Not before they were seen to run. */
    struct run run =
        given_run("mkfifo $SAGA_RUN/end; " ANNOUNCE "read -r _ <$SAGA_RUN/end; exit 3");
    FILE *end = fopen(text_of("%s/end", run.dir), "w");

    ck_assert_ptr_nonnull(end);
    fclose(end);
    process_expect(run.process, 3, GONE_MS);
    expect_nothing_left(&run);
}
END_TEST

START_TEST(test_terminated_servers_leave_nothing)
{
    struct run run = given_run(ANNOUNCE "exec tail -f /dev/null");

    process_signal(run.process, SIGTERM);
    process_expect(run.process, 128 + SIGTERM, GONE_MS);
    expect_nothing_left(&run);
}
END_TEST

START_TEST(test_killed_servers_leave_nothing)
{
    struct run run = given_run(ANNOUNCE "exec tail -f /dev/null");

    process_kill(run.process);
    expect_nothing_left(&run);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "support/tools",
        .timeout_s = 60,
        .tests = TESTS(test_servers_end_with_their_command_and_its_exit_code,
                       test_terminated_servers_leave_nothing, test_killed_servers_leave_nothing),
    });
}
