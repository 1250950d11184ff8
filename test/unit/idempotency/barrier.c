/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier's rule, by its table.
 */
#include "idempotency/barrier_judge.h"
#include "test/support/run.h"

static const struct {
    const char *name;
    enum barrier_action action;
    enum barrier_own own;
    bool forgotten;
    enum barrier_step step;
    enum barrier_verdict verdict;
} rules[] = {
    { "a step that comes for the first time is run", BARRIER_RUN, BARRIER_OWN_NEW, false,
      BARRIER_STEP_ABSENT, BARRIER_ENTER },
    { "a step that was done is answered", BARRIER_RUN, BARRIER_OWN_ANSWERED, false,
      BARRIER_STEP_DONE, BARRIER_ANSWERED },
    { "a step that was refused, or compensated before it came, is answered", BARRIER_RUN,
      BARRIER_OWN_ANSWERED, false, BARRIER_STEP_REFUSED, BARRIER_ANSWERED },
    { "what was done is undone", BARRIER_COMPENSATE, BARRIER_OWN_NEW, false, BARRIER_STEP_DONE,
      BARRIER_ENTER },
    { "what never came has nothing to undo", BARRIER_COMPENSATE, BARRIER_OWN_NEW, false,
      BARRIER_STEP_ABSENT, BARRIER_NOTHING_TO_UNDO },
    /* trap: I27 */
    { "what was refused has nothing to undo", BARRIER_COMPENSATE, BARRIER_OWN_NEW, false,
      BARRIER_STEP_REFUSED, BARRIER_NOTHING_TO_UNDO },
    { "a compensation that was done is answered", BARRIER_COMPENSATE, BARRIER_OWN_ANSWERED, false,
      BARRIER_STEP_DONE, BARRIER_ANSWERED },
    { "a compensation that had nothing to undo is answered", BARRIER_COMPENSATE,
      BARRIER_OWN_ANSWERED, false, BARRIER_STEP_REFUSED, BARRIER_ANSWERED },
    { "a step that is in hand is neither run again nor answered", BARRIER_RUN, BARRIER_OWN_WAITING,
      false, BARRIER_STEP_WAITING, BARRIER_WAITING },
    { "what is in hand and may be done is undone", BARRIER_COMPENSATE, BARRIER_OWN_NEW, false,
      BARRIER_STEP_WAITING, BARRIER_ENTER },
    { "a compensation that is in hand waits", BARRIER_COMPENSATE, BARRIER_OWN_WAITING, false,
      BARRIER_STEP_DONE, BARRIER_WAITING },
    { "so it does when its saga is forgotten", BARRIER_RUN, BARRIER_OWN_WAITING, true,
      BARRIER_STEP_WAITING, BARRIER_WAITING },
    /* trap: I28 */
    { "a step of a saga that is forgotten may have been done", BARRIER_RUN, BARRIER_OWN_NEW, true,
      BARRIER_STEP_ABSENT, BARRIER_UNKNOWN },
    { "what is forgotten may have to be undone", BARRIER_COMPENSATE, BARRIER_OWN_NEW, true,
      BARRIER_STEP_ABSENT, BARRIER_UNKNOWN },
    { "what is forgotten may have been undone", BARRIER_COMPENSATE, BARRIER_OWN_NEW, true,
      BARRIER_STEP_DONE, BARRIER_UNKNOWN },
    { "an answer that is still there counts", BARRIER_COMPENSATE, BARRIER_OWN_ANSWERED, true,
      BARRIER_STEP_DONE, BARRIER_ANSWERED },
};

START_TEST(test_barrier_judges_by_its_table)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        enum barrier_verdict verdict =
            barrier_judge(rules[i].action, rules[i].own, rules[i].forgotten, rules[i].step);

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
