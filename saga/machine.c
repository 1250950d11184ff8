/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The saga machine. Three ideas carry it:
 *
 * A step is run until its outcome is known. A step that is `running` is known
 * not to be done, because whatever its attempts wrote was undone; one that is
 * `waiting` may be done. So a saga that turns round undoes what is done and
 * what may be done, and leaves alone what is known not to be.
 *
 * There is a point of no return: the first step that cannot be undone and that
 * is done, or may be. Before it, everything that goes wrong turns the saga
 * round; behind it, nothing does.
 *
 * Everything is bounded. Forward, each step has its attempts; backward, the
 * whole has a budget of time, and each compensation at least one attempt.
 * What is used up parks the saga, with a reason, for a person to look at.
 *
 * Read from machine_move(), at the end, upwards.
 */
#include "saga/machine.h"

#include "base/backoff.h"
#include "base/utf8.h"

#include <stdio.h>

/* One call of machine_move(). */
struct move {
    const struct definition *definition;
    struct instance *instance;
    const struct event *event;
    int64_t now_us;
    uint64_t random;
    struct outcome *out;
};

/* --- small questions ------------------------------------------------------------- */

static struct step_now *
step_at(const struct move *m, size_t i)
{
    return &m->instance->steps[i];
}

static const struct saga_step *
policy(const struct move *m, size_t i)
{
    return &m->definition->steps[i];
}

static bool
is_command(const struct move *m, size_t i)
{
    return policy(m, i)->command_topic != NULL;
}

/* Under way: something is still to come of it. */
static bool
is_active(const struct step_now *step)
{
    return step->state == STEP_RUNNING || step->state == STEP_WAITING ||
           step->state == STEP_COMPENSATING;
}

static bool
is_due(const struct move *m, const struct step_now *step)
{
    return step->due_us != 0 && step->due_us <= m->now_us;
}

static bool
past_return(const struct move *m)
{
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        enum step_state state = step_at(m, i)->state;

        if (policy(m, i)->kind != SAGA_COMPENSATABLE &&
            (state == STEP_WAITING || state == STEP_DONE))
            return true;
    }
    return false;
}

/* Which way a parked saga was going: one that is being undone always has a
 * step that is compensating. */
static bool
was_compensating(const struct instance *instance)
{
    for (size_t i = 0; i < instance->n_steps; i++)
        if (instance->steps[i].state == STEP_COMPENSATING)
            return true;
    return false;
}

static int64_t
budget_end(const struct move *m)
{
    return m->now_us + m->definition->compensation_ms * 1000;
}

/* Not before `ms` have passed, and up to a quarter later: those who were told
 * the same time do not come back together. */
static int64_t
after(const struct move *m, int64_t ms)
{
    return m->now_us + (ms + (int64_t)(m->random % (uint64_t)(ms / 4 + 1))) * 1000;
}

static int64_t
next_attempt(const struct move *m, size_t i)
{
    const struct saga_step *step = policy(m, i);

    if (m->event->delay_ms > 0)
        return after(m, m->event->delay_ms);
    return m->now_us + 1000 * backoff_ms(step->first_delay_ms, step->longest_delay_ms,
                                         step_at(m, i)->attempt, m->random);
}

/* --- the only places that change states (state.c says which changes there are)
 * --------------------------------------------- */

static void
change(struct move *m, enum instance_state to)
{
    if (instance_move_legal(m->instance->state, to))
        m->instance->state = to;
}

static void
change_step(struct move *m, size_t i, enum step_state to, int64_t due_us)
{
    struct step_now *step = step_at(m, i);

    if (step->state != to && !step_move_legal(step->state, to))
        return;
    if (to == STEP_COMPENSATING && step->state != to)
        step->attempt = 0; /* its compensation's attempts are counted from here */
    step->state = to;
    step->due_us = due_us;
}

static void
tell(struct move *m, const char *what, int step)
{
    m->out->what = what;
    m->out->step = step;
    m->out->reason = m->event->reason;
    if (step != NO_STEP) {
        m->out->undo = step_at(m, (size_t)step)->state == STEP_COMPENSATING;
        m->out->attempt = step_at(m, (size_t)step)->attempt;
    }
}

static void
keep_reason(struct move *m, const char *reason)
{
    struct instance *instance = m->instance;

    snprintf(instance->reason, sizeof instance->reason, "%s", reason != NULL ? reason : "");
    utf8_repair(instance->reason);
    m->out->reason = utf8_trim(instance->reason);
}

static void
park(struct move *m, const char *reason)
{
    change(m, INSTANCE_PARKED);
    keep_reason(m, reason);
    m->out->alarm = true;
}

static void
park_step(struct move *m, size_t i, const char *why)
{
    char reason[SAGA_REASON_MAX + 1];
    const char *said = m->event->reason;
    bool undo = step_at(m, i)->state == STEP_COMPENSATING;

    snprintf(reason, sizeof reason, "%s %.64s: %s%s%.110s", undo ? "compensation of step" : "step",
             policy(m, i)->name, why, said != NULL ? ": " : "", said != NULL ? said : "");
    park(m, reason);
}

/* --- turning round ------------------------------------------------------------------ */

/* What is known not to be done is left alone; the rest waits for its turn. */
static void
turn_round(struct move *m, const char *reason)
{
    if (m->instance->state != INSTANCE_RUNNING)
        return;
    change(m, INSTANCE_COMPENSATING);
    keep_reason(m, reason);
    m->instance->undo_deadline_us = budget_end(m);
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        struct step_now *step = step_at(m, i);

        if (step->state == STEP_RUNNING)
            change_step(m, i, step->attempt == 0 ? STEP_PENDING : STEP_FAILED, 0);
        else
            step->due_us = 0;
    }
}

/* The attempts are used up, or the time for an answer is. */
static void
give_up(struct move *m, size_t i, const char *why)
{
    char reason[SAGA_REASON_MAX + 1];
    const char *said = m->event->reason;
    int32_t kind = policy(m, i)->kind;
    bool may_be_done = step_at(m, i)->state == STEP_WAITING;

    /* Behind the point of no return there is no way back, and whether this step
     * has passed it nobody knows: never assume. */
    if (kind == SAGA_RETRIABLE || (kind == SAGA_PIVOT && may_be_done)) {
        park_step(m, i, why);
        return;
    }
    snprintf(reason, sizeof reason, "step %.64s: %s%s%.110s", policy(m, i)->name, why,
             said != NULL ? ": " : "", said != NULL ? said : "");
    turn_round(m, reason);
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
            change_step(m, i, STEP_RUNNING, m->now_us);
            return;
        }
    }
    change(m, INSTANCE_COMPLETED);
    m->instance->reason[0] = '\0';
}

/* In reverse order: the last step that is done, or may be. */
static void
undo_next(struct move *m)
{
    if (was_compensating(m->instance))
        return;
    for (size_t i = m->instance->n_steps; i-- > 0;) {
        enum step_state state = step_at(m, i)->state;

        if (state == STEP_DONE || state == STEP_WAITING) {
            change_step(m, i, STEP_COMPENSATING, m->now_us);
            return;
        }
    }
    change(m, INSTANCE_COMPENSATED);
}

static void
send_command(struct move *m, size_t i)
{
    struct step_now *step = step_at(m, i);

    step->attempt++;
    m->out->send |= 1U << i;
    change_step(m, i, step->state == STEP_RUNNING ? STEP_WAITING : step->state,
                after(m, policy(m, i)->timeout_ms));
}

/* After every change: what comes next, and commands at once, in the same
 * transaction. Local steps are left to EVENT_DUE. */
static void
go_on(struct move *m)
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
            send_command(m, i);
    }
}

/* --- a worker has it in its hands ------------------------------------------------------ */

static void
deadline_passed(struct move *m)
{
    tell(m, "deadline", NO_STEP);
    if (past_return(m)) {
        m->instance->overdue = true;
        m->out->alarm = true;
        m->out->reason = "the deadline passed behind the point of no return";
    } else {
        turn_round(m, "the deadline passed");
        go_on(m);
    }
}

/* A command, or a step that answered SAGA_WAIT, has had its time. */
static void
timed_out(struct move *m, size_t i)
{
    const struct step_now *step = step_at(m, i);

    tell(m, "timeout", (int)i);
    if (step->state == STEP_COMPENSATING) {
        if (m->now_us >= m->instance->undo_deadline_us)
            park_step(m, i, "no answer within the time for compensations");
        else
            send_command(m, i);
    } else if (step->attempt >= policy(m, i)->attempts_max) {
        give_up(m, i, "no answer to any of its attempts");
        go_on(m);
    } else {
        send_command(m, i);
    }
}

static void
attend(struct move *m, size_t i)
{
    struct step_now *step = step_at(m, i);

    if (is_command(m, i) || (step->state == STEP_WAITING && //
                             step->attempt >= policy(m, i)->attempts_max)) {
        timed_out(m, i);
        return;
    }
    step->attempt++;
    m->out->run = (int)i;
}

static void
look(struct move *m)
{
    struct instance *instance = m->instance;

    if (instance->state != INSTANCE_RUNNING && instance->state != INSTANCE_COMPENSATING)
        return;
    if (instance->state == INSTANCE_RUNNING && instance->deadline_us != 0 && !instance->overdue &&
        m->now_us >= instance->deadline_us) {
        deadline_passed(m);
        return;
    }
    go_on(m);
    if (m->out->send != 0)
        return;
    for (size_t i = 0; i < instance->n_steps; i++) {
        if (is_active(step_at(m, i)) && is_due(m, step_at(m, i))) {
            attend(m, i);
            return;
        }
    }
}

/* --- answers -------------------------------------------------------------------------- */

/* Not done this time, and nothing of it stays. */
static void
failed_attempt(struct move *m, size_t i)
{
    struct step_now *step = step_at(m, i);

    if (step->state == STEP_COMPENSATING) {
        int64_t due = next_attempt(m, i), end = m->instance->undo_deadline_us;

        if (m->now_us >= end)
            park_step(m, i, "still fails at the end of the time for compensations");
        else
            change_step(m, i, STEP_COMPENSATING, due < end ? due : end);
    } else if (step->attempt >= policy(m, i)->attempts_max) {
        give_up(m, i, "its attempts are used up");
    } else {
        keep_reason(m, m->event->reason);
        change_step(m, i, step->state, next_attempt(m, i));
    }
}

static void
done(struct move *m, size_t i)
{
    tell(m, "done", (int)i);
    if (step_at(m, i)->state == STEP_COMPENSATING) {
        change_step(m, i, STEP_COMPENSATED, 0);
        return;
    }
    change_step(m, i, STEP_DONE, 0);
    if (m->instance->state == INSTANCE_RUNNING)
        m->instance->reason[0] = '\0';
}

static void
waits(struct move *m, size_t i)
{
    enum step_state state = step_at(m, i)->state;

    tell(m, "wait", (int)i);
    if (state == STEP_COMPENSATING && m->now_us >= m->instance->undo_deadline_us)
        park_step(m, i, "still waits at the end of the time for compensations");
    else
        change_step(m, i, state == STEP_RUNNING ? STEP_WAITING : state,
                    after(m, policy(m, i)->timeout_ms));
}

/* A refusal is a fact: the step is not done, and is not compensated. */
static void
refused(struct move *m, size_t i)
{
    tell(m, "refused", (int)i);
    if (step_at(m, i)->state == STEP_COMPENSATING || policy(m, i)->kind == SAGA_RETRIABLE) {
        failed_attempt(m, i);
        return;
    }
    change_step(m, i, STEP_FAILED, 0);
    turn_round(m, m->event->reason);
}

static void
answer(struct move *m, enum event_kind kind)
{
    size_t i = m->event->step;

    switch (kind) {
    case EVENT_DONE:
        done(m, i);
        break;
    case EVENT_WAIT:
        waits(m, i);
        break;
    case EVENT_REFUSED:
        refused(m, i);
        break;
    default:
        tell(m, kind == EVENT_RETRY ? "retry" : "error", (int)i);
        failed_attempt(m, i);
    }
    go_on(m);
}

/* --- parked sagas, replies, operators ---------------------------------------------------- */

static void
unpark(struct move *m)
{
    if (was_compensating(m->instance)) {
        change(m, INSTANCE_COMPENSATING);
        m->instance->undo_deadline_us = budget_end(m);
    } else {
        change(m, INSTANCE_RUNNING);
    }
}

/* All attempts get the same answer from the participant's barrier, so it does
 * not matter which of them this one belongs to. If a parked saga's answer comes
 * at last, that was what it lacked. */
static bool
waits_for_reply(const struct move *m)
{
    const struct step_now *step = step_at(m, m->event->step);

    return m->event->step < m->instance->n_steps &&
           (m->event->undo ? step->state == STEP_COMPENSATING && step->attempt > 0 : //
                step->state == STEP_WAITING);
}

static void
reply(struct move *m, enum event_kind answer_kind)
{
    if (!waits_for_reply(m)) {
        m->out->stale = true;
        return;
    }
    if (m->instance->state == INSTANCE_PARKED)
        unpark(m);
    answer(m, answer_kind);
}

/* Asking again would get the same answer; only a person can find out. */
static void
reply_unknown(struct move *m)
{
    if (!waits_for_reply(m) || m->instance->state == INSTANCE_PARKED) {
        m->out->stale = true;
        return;
    }
    tell(m, "unknown", (int)m->event->step);
    park_step(m, m->event->step, "nobody knows whether it was done");
}

static void
cancel(struct move *m)
{
    bool forward = m->instance->state == INSTANCE_RUNNING ||
                   (m->instance->state == INSTANCE_PARKED && !was_compensating(m->instance));

    if (!forward)
        return;
    tell(m, "cancel", NO_STEP);
    if (past_return(m)) {
        m->out->what = "cancel_refused";
        m->out->alarm = true;
        return;
    }
    if (m->instance->state == INSTANCE_PARKED)
        unpark(m);
    turn_round(m, m->event->reason);
    go_on(m);
}

static void
resume(struct move *m)
{
    if (m->instance->state != INSTANCE_PARKED)
        return;
    tell(m, "resumed", NO_STEP);
    unpark(m);
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        if (is_active(step_at(m, i))) {
            step_at(m, i)->attempt = 0;
            step_at(m, i)->due_us = m->now_us;
        }
    }
    go_on(m);
}

static void
mismatch(struct move *m)
{
    if (m->instance->state != INSTANCE_RUNNING && m->instance->state != INSTANCE_COMPENSATING)
        return;
    tell(m, "mismatch", NO_STEP);
    park(m, m->event->reason);
}

/* --- all of it ------------------------------------------------------------------------------ */

static int64_t
earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static int64_t
next_look(const struct instance *instance)
{
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

void
machine_move(const struct definition *definition, struct instance *instance,
             const struct event *event, int64_t now_us, uint64_t random, struct outcome *outcome)
{
    struct move m = { definition, instance, event, now_us, random, outcome };

    *outcome = (struct outcome){ .run = NO_STEP, .step = NO_STEP };
    switch (event->kind) {
    case EVENT_DUE:
        look(&m);
        break;
    case EVENT_DONE:
    case EVENT_WAIT:
    case EVENT_RETRY:
    case EVENT_REFUSED:
    case EVENT_ERROR:
        answer(&m, event->kind);
        break;
    case EVENT_REPLY_DONE:
        reply(&m, EVENT_DONE);
        break;
    case EVENT_REPLY_REFUSED:
        reply(&m, EVENT_REFUSED);
        break;
    case EVENT_REPLY_UNKNOWN:
        reply_unknown(&m);
        break;
    case EVENT_CANCEL:
        cancel(&m);
        break;
    case EVENT_RESUME:
        resume(&m);
        break;
    case EVENT_MISMATCH:
        mismatch(&m);
        break;
    }
    if (!outcome->stale)
        instance->due_us = next_look(instance);
}
