/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The relay's model, every state of it: it holds, and with a known fault built in it does not.
 */
#include "test/support/process.h"
#include "test/support/run.h"

#include <string.h>

enum { CHECK_MS = 240000, HOLDS = 0, FAILS = 1 };

/* Two takeovers and a crash; three takeovers without one. All at once has seven times as many
 * states: make model. */
#define CRASH     "-DEPOCHS=2"
#define TAKEOVERS "-DCRASHES=0"

static const char *
check_model(const char *const *args, int answer)
{
    struct process *process = start_process(args, NULL);

    process_expect(process, answer, CHECK_MS);
    return process_output(process);
}
#define CHECK_MODEL(answer, ...)                                                                   \
    check_model(ARGS(text_of("%s/test/model/check", source_dir()), __VA_ARGS__), (answer))

START_TEST(test_model_holds_when_postgresql_crashes)
{
    CHECK_MODEL(HOLDS, CRASH);
}
END_TEST

START_TEST(test_model_holds_when_the_stream_is_taken_over_again_and_again)
{
    CHECK_MODEL(HOLDS, TAKEOVERS);
}
END_TEST

/* An end that nobody reaches would hold too. */
START_TEST(test_model_comes_to_an_end_where_all_is_published)
{
    CHECK_MODEL(FAILS, CRASH, "-DEND");
}
END_TEST

/* `notices`: what of the model's text must be in the assertion that fails. */
static void
expect_fault(const char *fault, const char *notices)
{
    const char *said = CHECK_MODEL(FAILS, CRASH, fault);

    ck_assert_msg(strstr(said, notices) != NULL, "%s: %s", fault, said);
}

START_TEST(test_model_publishes_what_is_not_on_disk_with_o2)
{
    expect_fault("-DO2", "disk.committed");
}
END_TEST

START_TEST(test_model_publishes_a_key_out_of_order_with_o3)
{
    expect_fault("-DO3", "seq[");
}
END_TEST

START_TEST(test_model_passes_what_is_not_published_with_o9)
{
    expect_fault("-DO9", "now.committed&now.prev");
}
END_TEST

START_TEST(test_model_passes_what_is_not_acknowledged_with_o10)
{
    expect_fault("-DO10", "now.last");
}
END_TEST

START_TEST(test_model_leaves_a_row_out_with_o23)
{
    expect_fault("-DO23", "now.committed&now.prev");
}
END_TEST

START_TEST(test_model_trusts_its_memory_after_a_crash_with_o24)
{
    expect_fault("-DO24", "disk.committed");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "model/relay",
        .tests = TESTS(test_model_holds_when_postgresql_crashes,
                       test_model_holds_when_the_stream_is_taken_over_again_and_again,
                       test_model_comes_to_an_end_where_all_is_published,
                       test_model_publishes_what_is_not_on_disk_with_o2,
                       test_model_publishes_a_key_out_of_order_with_o3,
                       test_model_passes_what_is_not_published_with_o9,
                       test_model_passes_what_is_not_acknowledged_with_o10,
                       test_model_leaves_a_row_out_with_o23,
                       test_model_trusts_its_memory_after_a_crash_with_o24),
        .timeout_s = 250,
    });
}
