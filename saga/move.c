/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One move: what it asks of the instance, the times it reckons, and the changes
 * it makes. Which changes of state there are, state.c says.
 */
#include "saga/move.h"

#include "base/backoff.h"
#include "base/utf8.h"

#include <stdio.h>

/* --- questions ------------------------------------------------------------------- */

bool
move_past_return(const struct move *m)
{
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        enum step_state state = step_at(m, i)->state;

        if (policy(m, i)->kind != SAGA_COMPENSATABLE &&
            (state == STEP_WAITING || state == STEP_DONE))
            return true;
    }
    return false;
}

bool
move_was_compensating(const struct move *m)
{
    for (size_t i = 0; i < m->instance->n_steps; i++)
        if (step_at(m, i)->state == STEP_COMPENSATING)
            return true;
    return false;
}

int64_t
move_budget_end(const struct move *m)
{
    return m->now_us + m->definition->compensation_ms * 1000;
}

int64_t
move_after(const struct move *m, int64_t ms)
{
    return m->now_us + (ms + (int64_t)(m->random % (uint64_t)(ms / 4 + 1))) * 1000;
}

int64_t
move_next_attempt(const struct move *m, size_t i)
{
    const struct saga_step *step = policy(m, i);

    if (m->event->delay_ms > 0)
        return move_after(m, m->event->delay_ms);
    return m->now_us + 1000 * backoff_ms(step->first_delay_ms, step->longest_delay_ms,
                                         step_at(m, i)->attempt, m->random);
}

static int64_t
earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

int64_t
move_next_look(const struct move *m)
{
    const struct instance *instance = m->instance;
    int64_t due = 0;

    if (instance->state != INSTANCE_RUNNING && instance->state != INSTANCE_COMPENSATING)
        return 0;
    for (size_t i = 0; i < instance->n_steps; i++)
        if (is_active(&instance->steps[i]))
            due = earlier(due, instance->steps[i].due_us);
    if (due == 0)
        return instance->due_us; /* not begun yet */
    if (instance->state == INSTANCE_RUNNING && !instance->overdue)
        due = earlier(due, instance->deadline_us);
    return due;
}

/* --- the only places that change states ------------------------------------------ */

void
move_change(struct move *m, enum instance_state to)
{
    if (instance_move_legal(m->instance->state, to))
        m->instance->state = to;
}

void
move_change_step(struct move *m, size_t i, enum step_state to, int64_t due_us)
{
    struct step_now *step = step_at(m, i);

    if (step->state != to && !step_move_legal(step->state, to))
        return;
    if (to == STEP_COMPENSATING && step->state != to)
        step->attempt = 0; /* its compensation's attempts are counted from here */
    step->state = to;
    step->due_us = due_us;
}

void
move_tell(struct move *m, const char *what, int step)
{
    m->out->what = what;
    m->out->step = step;
    m->out->reason = m->event->reason;
    if (step != NO_STEP) {
        m->out->undo = step_at(m, (size_t)step)->state == STEP_COMPENSATING;
        m->out->attempt = step_at(m, (size_t)step)->attempt;
    }
}

void
move_keep_reason(struct move *m, const char *reason)
{
    struct instance *instance = m->instance;

    snprintf(instance->reason, sizeof instance->reason, "%s", reason != NULL ? reason : "");
    utf8_repair(instance->reason);
    m->out->reason = utf8_trim(instance->reason);
}

void
move_park(struct move *m, const char *reason)
{
    move_change(m, INSTANCE_PARKED);
    move_keep_reason(m, reason);
    m->out->alarm = true;
}

void
move_park_step(struct move *m, size_t i, const char *why)
{
    char reason[SAGA_REASON_MAX + 1];
    const char *said = m->event->reason;
    bool undo = step_at(m, i)->state == STEP_COMPENSATING;

    snprintf(reason, sizeof reason, "%s %.64s: %s%s%.110s", undo ? "compensation of step" : "step",
             policy(m, i)->name, why, said != NULL ? ": " : "", said != NULL ? said : "");
    move_park(m, reason);
}
