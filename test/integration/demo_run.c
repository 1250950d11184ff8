/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The demo as a user starts it: it ends with its table, refuses what the mock
 * broker cannot hold, and leaves nothing behind when it is interrupted.
 */
#include "test/support/process.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* `mark` is in the environment of everything that it starts. */
static struct process *
given_demo(const char *orders, const char *mark)
{
    return start_process(ARGS(text_of("%s/tools/demo", source_dir())),
                         ARGS(text_of("BUILD=%s", build_dir()), text_of("ORDERS=%s", orders),
                              "KILLS=0", "KEEP=", "KAFKA=", "BROKERS=", text_of("MARK=%s", mark)));
}

/* How many processes live that have inherited `mark`. */
static int
marked_processes(const char *mark)
{
    FILE *list = popen(text_of("grep -lasF MARK=%s /proc/[0-9]*/environ | wc -l", mark), "r");
    int n = -1;

    ck_assert_int_eq(fscanf(list, "%d", &n), 1);
    pclose(list);
    return n;
}

START_TEST(test_demo_ends_with_every_order_accounted_for)
{
    struct process *demo = given_demo("40", "");

    process_expect(demo, 0, 60000);
    ck_assert_ptr_nonnull(strstr(process_output(demo), "fund safety check      clean"));
    ck_assert_ptr_nonnull(strstr(process_output(demo), "orders                 40\n"));
}
END_TEST

START_TEST(test_demo_beyond_what_the_mock_broker_holds_is_refused)
{
    struct process *demo = given_demo("100000", "");

    process_expect(demo, 2, 5000);
    ck_assert_ptr_nonnull(strstr(process_errors(demo), "KAFKA=real"));
}
END_TEST

START_TEST(test_demo_interrupted_leaves_no_process_behind)
{
    const char *mark = unique_name("demo");
    struct process *demo = given_demo("1000", mark);

    WAIT_UNTIL(strstr(process_output(demo), "placed") != NULL, 30000);
    ck_assert_int_gt(marked_processes(mark), 10);
    process_signal(demo, SIGINT);
    process_expect(demo, 130, 20000);
    WAIT_UNTIL(marked_processes(mark) == 0, 5000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "demo/run",
        .tests = TESTS(test_demo_ends_with_every_order_accounted_for,
                       test_demo_beyond_what_the_mock_broker_holds_is_refused,
                       test_demo_interrupted_leaves_no_process_behind),
        .timeout_s = 90,
    });
}
