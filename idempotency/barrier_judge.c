/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rule of the barrier.
 */
#include "idempotency/barrier_judge.h"

enum barrier_verdict
barrier_judge(enum barrier_action action, bool is_new, bool forgotten, enum barrier_step step)
{
    /* Whatever has changed in the world since: the first answer stands. */
    if (!is_new)
        return BARRIER_ANSWERED;
    if (forgotten)
        return BARRIER_UNKNOWN;
    if (action == BARRIER_COMPENSATE && step != BARRIER_STEP_DONE)
        return BARRIER_NOTHING_TO_UNDO;
    return BARRIER_ENTER;
}
