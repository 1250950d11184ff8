/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule of the barrier.
 */
#include "idempotency/barrier_judge.h"

enum barrier_verdict
barrier_judge(enum barrier_action action, enum barrier_own own, bool forgotten,
              enum barrier_step step)
{
    /* Whatever has changed in the world since: the first answer stands. */
    if (own != BARRIER_OWN_NEW)
        return own == BARRIER_OWN_WAITING ? BARRIER_WAITING : BARRIER_ANSWERED;
    if (forgotten)
        return BARRIER_UNKNOWN;
    if (action == BARRIER_COMPENSATE && step != BARRIER_STEP_DONE && step != BARRIER_STEP_WAITING)
        return BARRIER_NOTHING_TO_UNDO;
    return BARRIER_ENTER;
}
