/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule of the barrier: what a participant does with a command, given what
 * the barrier knows of the step. Decides and does nothing else.
 *
 *     command      its own row  the step's row    what to do
 *     run          new                            call the function
 *     run          there                          the first answer again
 *     compensate   new          done, or waiting  call the function
 *     compensate   new          refused, or none  nothing; it is undone already
 *     compensate   there                          the first answer again
 *     any          new, and forgotten             say that nobody knows
 *     any          waiting                        nothing: the answer is to come
 *
 * Forgotten: the saga is so old that rows of it have been removed, so that a
 * new row does not mean that there was none.
 *
 * Waiting: the function has taken the command in hand, and what it wrote for
 * that stays. Whether the step is done will be told later.
 *
 * A step that comes after its compensation needs no line of its own: the
 * compensation has written the step's row, as a refusal. So it does where the
 * step was waiting: an answer that comes then is too late.
 */
#ifndef IDEMPOTENCY_BARRIER_JUDGE_H
#define IDEMPOTENCY_BARRIER_JUDGE_H

#include <stdbool.h>

enum barrier_action { BARRIER_RUN, BARRIER_COMPENSATE };

/* The step's own row, as it was before a compensation asked. */
enum barrier_step {
    BARRIER_STEP_ABSENT,
    BARRIER_STEP_DONE,
    BARRIER_STEP_REFUSED,
    BARRIER_STEP_WAITING
};

/* The row of this very action, as it was before. */
enum barrier_own { BARRIER_OWN_NEW, BARRIER_OWN_WAITING, BARRIER_OWN_ANSWERED };

enum barrier_verdict {
    BARRIER_ENTER,
    BARRIER_ANSWERED,
    BARRIER_WAITING,
    BARRIER_NOTHING_TO_UNDO,
    BARRIER_UNKNOWN
};

enum barrier_verdict barrier_judge(enum barrier_action action, enum barrier_own own, bool forgotten,
                                   enum barrier_step step);

#endif
