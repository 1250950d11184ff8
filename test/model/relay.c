/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The relay's model, every state of it: it holds, and with a known fault built in it does not.
 */
#include "test/support/model.h"
#include "test/support/run.h"

/* Two takeovers and a crash; three takeovers without one. All at once has seven times as many
 * states: make model. */
#define CRASH     "-DEPOCHS=2"
#define TAKEOVERS "-DCRASHES=0"

START_TEST(test_model_holds_when_postgresql_crashes)
{
    MODEL_HOLDS("relay", CRASH);
}
END_TEST

START_TEST(test_model_holds_when_the_stream_is_taken_over_again_and_again)
{
    MODEL_HOLDS("relay", TAKEOVERS);
}
END_TEST

/* An end that nobody reaches would hold too. */
START_TEST(test_model_comes_to_an_end_where_all_is_published)
{
    MODEL_FAILS("crashed", "relay", CRASH, "-DEND");
}
END_TEST

START_TEST(test_model_publishes_what_is_not_on_disk_with_o2)
{
    MODEL_FAILS("disk.committed", "relay", CRASH, "-DO2");
}
END_TEST

START_TEST(test_model_publishes_a_key_out_of_order_with_o3)
{
    MODEL_FAILS("seq[", "relay", CRASH, "-DO3");
}
END_TEST

START_TEST(test_model_passes_what_is_not_published_with_o9)
{
    MODEL_FAILS("now.committed&now.prev", "relay", CRASH, "-DO9");
}
END_TEST

START_TEST(test_model_passes_what_is_not_acknowledged_with_o10)
{
    MODEL_FAILS("now.last", "relay", CRASH, "-DO10");
}
END_TEST

START_TEST(test_model_leaves_a_row_out_with_o23)
{
    MODEL_FAILS("now.committed&now.prev", "relay", CRASH, "-DO23");
}
END_TEST

START_TEST(test_model_trusts_its_memory_after_a_crash_with_o24)
{
    MODEL_FAILS("disk.committed", "relay", CRASH, "-DO24");
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
