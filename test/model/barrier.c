/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier's model, every state of it: it holds, and with a known fault built in it does not.
 */
#include "test/support/model.h"
#include "test/support/run.h"

MODEL_HOLDS(test_barrier_model_holds, "barrier");

/* Answers that nobody gives would hold too. */
MODEL_FAILS(test_barrier_model_answers_step_and_compensation, "row[", "barrier", "-DEND");
MODEL_FAILS(test_barrier_model_answers_a_duplicate_otherwise_with_i17, "reply[", "barrier",
            "-DI17");
MODEL_FAILS(test_barrier_model_lets_a_late_step_through_with_i19, "times_undone==times_done",
            "barrier", "-DI19");
MODEL_FAILS(test_barrier_model_undoes_what_was_refused_with_i27, "times_undone<=times_done",
            "barrier", "-DI27");

MODEL_FAILS(test_barrier_model_answers_what_was_taken_in_hand, "assertion violated 0", "barrier",
            "-DWAITS");
MODEL_FAILS(test_barrier_model_takes_an_answer_that_comes_too_late, "reply[", "barrier", "-DLATE");
MODEL_FAILS(test_barrier_model_takes_an_answer_beside_the_compensation, "reply[", "barrier",
            "-DUNLOCKED");

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "model/barrier",
        .tests = TESTS(test_barrier_model_holds, test_barrier_model_answers_step_and_compensation,
                       test_barrier_model_answers_a_duplicate_otherwise_with_i17,
                       test_barrier_model_lets_a_late_step_through_with_i19,
                       test_barrier_model_undoes_what_was_refused_with_i27,
                       test_barrier_model_answers_what_was_taken_in_hand,
                       test_barrier_model_takes_an_answer_that_comes_too_late,
                       test_barrier_model_takes_an_answer_beside_the_compensation),
        .timeout_s = 250,
    });
}
