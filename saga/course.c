/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The course of a saga: which step is next on the way forward, which is undone
 * next on the way back, and where it turns.
 */
#include "saga/course.h"

#include <stdio.h>

/* --- turning round ------------------------------------------------------------------ */

void
course_turn_round(struct move *m, const char *reason)
{
    if (m->instance->state != INSTANCE_RUNNING)
        return;
    move_change(m, INSTANCE_COMPENSATING);
    move_keep_reason(m, reason);
    m->instance->undo_deadline_us = move_budget_end(m);
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        struct step_now *step = step_at(m, i);

        if (step->state == STEP_RUNNING)
            move_change_step(m, i, step->attempt == 0 ? STEP_PENDING : STEP_FAILED, 0);
        else
            step->due_us = 0;
    }
}

void
course_give_up(struct move *m, size_t i, const char *why)
{
    char reason[SAGA_REASON_MAX + 1];
    const char *said = m->event->reason;
    int32_t kind = policy(m, i)->kind;
    bool may_be_done = step_at(m, i)->state == STEP_WAITING;

    /* Behind the point of no return there is no way back, and whether this step
     * has passed it nobody knows: never assume. */
    if (kind == SAGA_RETRIABLE || (kind == SAGA_PIVOT && may_be_done)) {
        move_park_step(m, i, why);
        return;
    }
    snprintf(reason, sizeof reason, "step %.64s: %s%s%.110s", policy(m, i)->name, why,
             said != NULL ? ": " : "", said != NULL ? said : "");
    course_turn_round(m, reason);
}

/* --- going on ----------------------------------------------------------------------- */

static bool
any_active(const struct move *m)
{
    for (size_t i = 0; i < m->instance->n_steps; i++)
        if (is_active(step_at(m, i)))
            return true;
    return false;
}

static void
begin_next(struct move *m)
{
    if (any_active(m))
        return;
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        if (step_at(m, i)->state == STEP_PENDING) {
            move_change_step(m, i, STEP_RUNNING, m->now_us);
            return;
        }
    }
    move_change(m, INSTANCE_COMPLETED);
    m->instance->reason[0] = '\0';
}

/* In reverse order: the last step that is done, or may be. */
static void
undo_next(struct move *m)
{
    if (move_was_compensating(m))
        return;
    for (size_t i = m->instance->n_steps; i-- > 0;) {
        enum step_state state = step_at(m, i)->state;

        if (state == STEP_DONE || state == STEP_WAITING) {
            move_change_step(m, i, STEP_COMPENSATING, m->now_us);
            return;
        }
    }
    move_change(m, INSTANCE_COMPENSATED);
}

void
course_send(struct move *m, size_t i)
{
    struct step_now *step = step_at(m, i);

    step->attempt++;
    m->out->send |= 1U << i;
    move_change_step(m, i, step->state == STEP_RUNNING ? STEP_WAITING : step->state,
                     move_after(m, policy(m, i)->timeout_ms));
}

void
course_go_on(struct move *m)
{
    if (m->instance->state == INSTANCE_RUNNING)
        begin_next(m);
    else if (m->instance->state == INSTANCE_COMPENSATING)
        undo_next(m);
    else
        return;
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        const struct step_now *step = step_at(m, i);

        if (is_active(step) && is_command(m, i) && step->attempt == 0 && is_due(m, step))
            course_send(m, i);
    }
}
