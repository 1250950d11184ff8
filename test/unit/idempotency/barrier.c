/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier's rule, by its table.
 */
#include "idempotency/barrier_judge.h"
#include "test/support/run.h"

static const struct {
    const char *name;
    enum barrier_action action;
    bool is_new, forgotten;
    enum barrier_step step;
    enum barrier_verdict verdict;
} rules[] = {
    { "a step that comes for the first time is run", BARRIER_RUN, true, false, BARRIER_STEP_ABSENT,
      BARRIER_ENTER },
    { "a step that was done is answered", BARRIER_RUN, false, false, BARRIER_STEP_DONE,
      BARRIER_ANSWERED },
    { "a step that was refused, or compensated before it came, is answered", BARRIER_RUN, false,
      false, BARRIER_STEP_REFUSED, BARRIER_ANSWERED },
    { "what was done is undone", BARRIER_COMPENSATE, true, false, BARRIER_STEP_DONE,
      BARRIER_ENTER },
    { "what never came has nothing to undo", BARRIER_COMPENSATE, true, false, BARRIER_STEP_ABSENT,
      BARRIER_NOTHING_TO_UNDO },
    /* trap: I27 */
    { "what was refused has nothing to undo", BARRIER_COMPENSATE, true, false, BARRIER_STEP_REFUSED,
      BARRIER_NOTHING_TO_UNDO },
    { "a compensation that was done is answered", BARRIER_COMPENSATE, false, false,
      BARRIER_STEP_DONE, BARRIER_ANSWERED },
    { "a compensation that had nothing to undo is answered", BARRIER_COMPENSATE, false, false,
      BARRIER_STEP_REFUSED, BARRIER_ANSWERED },
    /* trap: I28 */
    { "a step of a saga that is forgotten may have been done", BARRIER_RUN, true, true,
      BARRIER_STEP_ABSENT, BARRIER_UNKNOWN },
    { "what is forgotten may have to be undone", BARRIER_COMPENSATE, true, true,
      BARRIER_STEP_ABSENT, BARRIER_UNKNOWN },
    { "what is forgotten may have been undone", BARRIER_COMPENSATE, true, true, BARRIER_STEP_DONE,
      BARRIER_UNKNOWN },
    { "an answer that is still there counts", BARRIER_COMPENSATE, false, true, BARRIER_STEP_DONE,
      BARRIER_ANSWERED },
};

START_TEST(test_barrier_judges_by_its_table)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        enum barrier_verdict verdict =
            barrier_judge(rules[i].action, rules[i].is_new, rules[i].forgotten, rules[i].step);

        ck_assert_msg(verdict == rules[i].verdict, "%s: verdict %d, not %d", rules[i].name,
                      (int)verdict, (int)rules[i].verdict);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "idempotency/barrier",
                                      .tests = TESTS(test_barrier_judges_by_its_table) });
}
