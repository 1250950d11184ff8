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

MODEL_HOLDS(test_model_holds_when_postgresql_crashes, "relay", CRASH);
MODEL_HOLDS(test_model_holds_when_the_stream_is_taken_over_again_and_again, "relay", TAKEOVERS);

/* An end that nobody reaches would hold too. */
MODEL_FAILS(test_model_comes_to_an_end_where_all_is_published, "crashed", "relay", CRASH, "-DEND");
MODEL_FAILS(test_model_publishes_what_is_not_on_disk_with_o2, "disk.committed", "relay", CRASH,
            "-DO2");
MODEL_FAILS(test_model_publishes_a_key_out_of_order_with_o3, "seq[", "relay", CRASH, "-DO3");
MODEL_FAILS(test_model_passes_what_is_not_published_with_o9, "now.committed&now.prev", "relay",
            CRASH, "-DO9");
MODEL_FAILS(test_model_passes_what_is_not_acknowledged_with_o10, "now.last", "relay", CRASH,
            "-DO10");
MODEL_FAILS(test_model_leaves_a_row_out_with_o23, "now.committed&now.prev", "relay", CRASH,
            "-DO23");
MODEL_FAILS(test_model_trusts_its_memory_after_a_crash_with_o24, "disk.committed", "relay", CRASH,
            "-DO24");

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
