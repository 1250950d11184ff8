/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One move of the machine: an instance, what happens to it, and what comes of
 * it. Private to the machine.
 *
 * Owns the small questions that every decision asks, the times that it reckons,
 * and the only places that change states. What is decided is not here.
 */
#ifndef SAGA_MOVE_H
#define SAGA_MOVE_H

#include "saga/machine.h"

/* One call of machine_move(). */
struct move {
    const struct definition *definition;
    struct instance *instance;
    const struct event *event;
    int64_t now_us;
    uint64_t random;
    struct outcome *out;
};

static inline struct step_now *
step_at(const struct move *m, size_t i)
{
    return &m->instance->steps[i];
}

static inline const struct saga_step *
policy(const struct move *m, size_t i)
{
    return &m->definition->steps[i];
}

static inline bool
is_command(const struct move *m, size_t i)
{
    return policy(m, i)->command_topic != NULL;
}

/* Under way: something is still to come of it. */
static inline bool
is_active(const struct step_now *step)
{
    return step->state == STEP_RUNNING || step->state == STEP_WAITING ||
           step->state == STEP_COMPENSATING;
}

static inline bool
is_due(const struct move *m, const struct step_now *step)
{
    return step->due_us != 0 && step->due_us <= m->now_us;
}

/* A step that cannot be undone is done, or may be. */
bool move_past_return(const struct move *m);

/* Which way a parked saga was going: one that is being undone always has a
 * step that is compensating. */
bool move_was_compensating(const struct move *m);

/* The end of the time for compensations, if they begin now. */
int64_t move_budget_end(const struct move *m);

/* Not before `ms` have passed, and up to a quarter later: those who were told
 * the same time do not come back together. */
int64_t move_after(const struct move *m, int64_t ms);

/* When the step is tried again. */
int64_t move_next_attempt(const struct move *m, size_t i);

/* When a worker has to look at the instance again; 0: never. */
int64_t move_next_look(const struct move *m);

/* Do nothing if there is no such change of state (state.c). */
void move_change(struct move *m, enum instance_state to);
void move_change_step(struct move *m, size_t i, enum step_state to, int64_t due_us);

/* What the history is told; `step` may be NO_STEP. */
void move_tell(struct move *m, const char *what, int step);

/* Why the instance is as it is. `reason` may be NULL. */
void move_keep_reason(struct move *m, const char *reason);

/* With an alarm. */
void move_park(struct move *m, const char *reason);

/* The same, because of a step; what the event says is added. */
void move_park_step(struct move *m, size_t i, const char *why);

#endif
