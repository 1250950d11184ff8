/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's model, every state of it: it holds, and with a known fault built in it does not.
 */
#include "test/support/model.h"
#include "test/support/run.h"

/* Two messages of one key, which the other topic has, too; two keys, so that one may wait and the
 * other go on; and two faults, but no failover. All at once: make model. */
#define ONE_KEY    "-DFAULTS=1"
#define TWO_KEYS   "-DFAULTS=1", "-DKEYS=2", "-DELSEWHERE=0"
#define TWO_FAULTS "-DFAULTS=2", "-DFAILOVERS=0"

#define ALL_IS_APPLIED "now.applied==("
#define KEYS_ORDER     "now.applied&(1<<1)"

MODEL_HOLDS(test_consumer_model_holds_with_one_key, "consumer", ONE_KEY);
MODEL_HOLDS(test_consumer_model_holds_when_a_message_waits_and_others_go_on, "consumer", TWO_KEYS);
MODEL_HOLDS(test_consumer_model_holds_with_two_faults, "consumer", TWO_FAULTS);
MODEL_HOLDS(test_consumer_model_always_comes_to_an_end, "--ends", "consumer", "-DFAULTS=1",
            "-DELSEWHERE=0");

/* An end that nobody reaches would hold too. */
MODEL_FAILS(test_consumer_model_comes_to_an_end_after_a_fault_and_a_failover, "faults==0",
            "consumer", ONE_KEY, "-DEND");
MODEL_FAILS(test_consumer_model_loses_a_message_with_i1, ALL_IS_APPLIED, "consumer", ONE_KEY,
            "-DI1");
MODEL_FAILS(test_consumer_model_overtakes_the_dropped_message_with_i2, KEYS_ORDER, "consumer",
            ONE_KEY, "-DI2");
MODEL_FAILS(test_consumer_model_loses_a_message_with_i5, ALL_IS_APPLIED, "consumer", ONE_KEY,
            "-DI5");
MODEL_FAILS(test_consumer_model_believes_marks_of_what_is_lost_with_i9, ALL_IS_APPLIED, "consumer",
            TWO_KEYS, "-DI9");
MODEL_FAILS(test_consumer_model_does_not_read_again_what_is_lost_with_i26, ALL_IS_APPLIED,
            "consumer", ONE_KEY, "-DI26");
MODEL_FAILS(test_consumer_model_loses_what_is_behind_one_that_waits_i26, ALL_IS_APPLIED, "consumer",
            TWO_KEYS, "-DBEHIND");
MODEL_FAILS(test_consumer_model_loses_one_that_waited_i26, ALL_IS_APPLIED, "consumer", TWO_KEYS,
            "-DWAITED");

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "model/consumer",
        .tests = TESTS(test_consumer_model_holds_with_one_key,
                       test_consumer_model_holds_when_a_message_waits_and_others_go_on,
                       test_consumer_model_holds_with_two_faults,
                       test_consumer_model_always_comes_to_an_end,
                       test_consumer_model_comes_to_an_end_after_a_fault_and_a_failover,
                       test_consumer_model_loses_a_message_with_i1,
                       test_consumer_model_overtakes_the_dropped_message_with_i2,
                       test_consumer_model_loses_a_message_with_i5,
                       test_consumer_model_believes_marks_of_what_is_lost_with_i9,
                       test_consumer_model_does_not_read_again_what_is_lost_with_i26,
                       test_consumer_model_loses_what_is_behind_one_that_waits_i26,
                       test_consumer_model_loses_one_that_waited_i26),
        .timeout_s = 250,
    });
}
