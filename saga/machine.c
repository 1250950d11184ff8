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
 * Here is what happens when something happens; which step is next, and where a
 * saga turns round, is course.h; the questions and changes of which all this is
 * made are move.h. Read from machine_move(), at the end, upwards.
 */
#include "saga/machine.h"

#include "saga/course.h"

/* --- a worker has it in its hands ------------------------------------------------------ */

static void
deadline_passed(struct move *m)
{
    move_tell(m, "deadline", NO_STEP);
    if (move_past_return(m)) {
        m->instance->overdue = true;
        m->out->alarm = true;
        m->out->reason = "the deadline passed behind the point of no return";
    } else {
        course_turn_round(m, "the deadline passed");
        course_go_on(m);
    }
}

/* A command, or a step that answered SAGA_WAIT, has had its time. */
static void
timed_out(struct move *m, size_t i)
{
    const struct step_now *step = step_at(m, i);

    move_tell(m, "timeout", (int)i);
    if (step->state == STEP_COMPENSATING) {
        if (m->now_us >= m->instance->undo_deadline_us)
            move_park_step(m, i, "no answer within the time for compensations");
        else
            course_send(m, i);
    } else if (step->attempt >= policy(m, i)->attempts_max) {
        course_give_up(m, i, "no answer to any of its attempts");
        course_go_on(m);
    } else {
        course_send(m, i);
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
    course_go_on(m);
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
        int64_t due = move_next_attempt(m, i), end = m->instance->undo_deadline_us;

        if (m->now_us >= end)
            move_park_step(m, i, "still fails at the end of the time for compensations");
        else
            move_change_step(m, i, STEP_COMPENSATING, due < end ? due : end);
    } else if (step->attempt >= policy(m, i)->attempts_max) {
        course_give_up(m, i, "its attempts are used up");
    } else {
        move_keep_reason(m, m->event->reason);
        move_change_step(m, i, step->state, move_next_attempt(m, i));
    }
}

static void
done(struct move *m, size_t i)
{
    move_tell(m, "done", (int)i);
    if (step_at(m, i)->state == STEP_COMPENSATING) {
        move_change_step(m, i, STEP_COMPENSATED, 0);
        return;
    }
    move_change_step(m, i, STEP_DONE, 0);
    if (m->instance->state == INSTANCE_RUNNING)
        m->instance->reason[0] = '\0';
}

static void
waits(struct move *m, size_t i)
{
    enum step_state state = step_at(m, i)->state;

    move_tell(m, "wait", (int)i);
    if (state == STEP_COMPENSATING && m->now_us >= m->instance->undo_deadline_us)
        move_park_step(m, i, "still waits at the end of the time for compensations");
    else
        move_change_step(m, i, state == STEP_RUNNING ? STEP_WAITING : state,
                         move_after(m, policy(m, i)->timeout_ms));
}

/* A refusal is a fact: the step is not done, and is not compensated. */
static void
refused(struct move *m, size_t i)
{
    move_tell(m, "refused", (int)i);
    if (step_at(m, i)->state == STEP_COMPENSATING || policy(m, i)->kind == SAGA_RETRIABLE) {
        failed_attempt(m, i);
        return;
    }
    move_change_step(m, i, STEP_FAILED, 0);
    course_turn_round(m, m->event->reason);
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
        move_tell(m, kind == EVENT_RETRY ? "retry" : "error", (int)i);
        failed_attempt(m, i);
    }
    course_go_on(m);
}

/* --- parked sagas, replies, operators ---------------------------------------------------- */

static void
unpark(struct move *m)
{
    if (move_was_compensating(m)) {
        move_change(m, INSTANCE_COMPENSATING);
        m->instance->undo_deadline_us = move_budget_end(m);
    } else {
        move_change(m, INSTANCE_RUNNING);
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
    move_tell(m, "unknown", (int)m->event->step);
    move_park_step(m, m->event->step, "nobody knows whether it was done");
}

static void
cancel(struct move *m)
{
    bool forward = m->instance->state == INSTANCE_RUNNING ||
                   (m->instance->state == INSTANCE_PARKED && !move_was_compensating(m));

    if (!forward)
        return;
    move_tell(m, "cancel", NO_STEP);
    if (move_past_return(m)) {
        m->out->what = "cancel_refused";
        m->out->alarm = true;
        return;
    }
    if (m->instance->state == INSTANCE_PARKED)
        unpark(m);
    course_turn_round(m, m->event->reason);
    course_go_on(m);
}

static void
resume(struct move *m)
{
    if (m->instance->state != INSTANCE_PARKED)
        return;
    move_tell(m, "resumed", NO_STEP);
    unpark(m);
    for (size_t i = 0; i < m->instance->n_steps; i++) {
        if (is_active(step_at(m, i))) {
            step_at(m, i)->attempt = 0;
            step_at(m, i)->due_us = m->now_us;
        }
    }
    course_go_on(m);
}

static void
mismatch(struct move *m)
{
    if (m->instance->state != INSTANCE_RUNNING && m->instance->state != INSTANCE_COMPENSATING)
        return;
    move_tell(m, "mismatch", NO_STEP);
    move_park(m, m->event->reason);
}

/* --- all of it ------------------------------------------------------------------------------ */

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
        instance->due_us = move_next_look(&m);
}
