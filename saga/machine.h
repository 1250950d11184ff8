/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The saga machine: what happens to an instance when something happens.
 *
 *     (definition, instance, event, now) -> (instance, outcome)
 *
 * Decides and does nothing else: no database, no clock, no memory. The worker
 * and the reply handler load an instance, ask here, and save what came out.
 */
#ifndef SAGA_MACHINE_H
#define SAGA_MACHINE_H

#include "saga/definition.h"
#include "saga/state.h"

struct step_now {
    enum step_state state;
    int32_t attempt; /* begun in this direction, since the budget was last new */
    int64_t due_us;  /* running, waiting, compensating: when to go on; else 0 */
};

/* All times are Unix microseconds of the database's clock; 0 is never. */
struct instance {
    enum instance_state state;
    size_t n_steps;
    struct step_now steps[SAGA_STEPS_MAX];
    int64_t due_us;           /* when a worker has to look at it */
    int64_t deadline_us;      /* then it turns round */
    int64_t undo_deadline_us; /* set by turning round: then it parks */
    bool overdue;             /* the deadline passed too late to turn round */
    char reason[SAGA_REASON_MAX + 1];
};

enum event_kind {
    EVENT_DUE, /* a worker has it in its hands */

    /* What the function of `step` answered, after an outcome with `run`. */
    EVENT_DONE,
    EVENT_WAIT,
    EVENT_RETRY, /* not before `delay_ms`, if that is set */
    EVENT_REFUSED,
    EVENT_ERROR,

    /* A participant's reply for `step`, whichever attempt it answers. */
    EVENT_REPLY_DONE,
    EVENT_REPLY_REFUSED,
    EVENT_REPLY_UNKNOWN, /* it has forgotten: nobody knows whether it was done */

    EVENT_CANCEL,  /* an operator wants it undone */
    EVENT_RESUME,  /* an operator wants a parked one to go on */
    EVENT_MISMATCH /* this worker's definition is not the instance's */
};

struct event {
    enum event_kind kind;
    size_t step;
    bool undo; /* a reply to the compensation of `step` */
    int64_t delay_ms;
    const char *reason; /* may be NULL */
};

enum { NO_STEP = -1 };

/* What came of an event, and what the caller has to do. */
struct outcome {
    /* Call this step's function (its compensation, if the step is
     * compensating), and come back with the answer. Nothing is to be saved
     * before that: if it is undone, nothing has happened. Or NO_STEP. */
    int run;

    /* A reply for which nothing waits: nothing has changed, save nothing. */
    bool stale;

    /* Otherwise save the instance, and with it: */
    uint32_t send;    /* bit i: the command of step i (its compensation's, if it
                       * is compensating) */
    bool alarm;       /* a person should know */
    const char *what; /* for the history, one word; NULL: nothing to tell */
    int step;         /* which step it is about, or NO_STEP */
    bool undo;        /* about its compensation */
    int32_t attempt;
    const char *reason; /* borrowed from the event or the instance, or NULL */
};

/* `random` is for the jitter of delays. */
void machine_move(const struct definition *definition, struct instance *instance,
                  const struct event *event, int64_t now_us, uint64_t random,
                  struct outcome *outcome);

#endif
