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

#include <stdbool.h>

enum instance_state {
    INSTANCE_RUNNING,
    INSTANCE_COMPENSATING,
    INSTANCE_COMPLETED,
    INSTANCE_COMPENSATED,
    INSTANCE_PARKED
};

/*
 * A step that is waiting may have been done, whatever happens next; one that
 * is running has not: all that its earlier attempts wrote was undone.
 */
enum step_state {
    STEP_PENDING,      /* not begun */
    STEP_RUNNING,      /* to be run, or to be run again */
    STEP_WAITING,      /* asked; the answer or the timeout will come */
    STEP_DONE,         /*  */
    STEP_FAILED,       /* known not to be done: refused, or given up */
    STEP_COMPENSATING, /* to be undone, again, or asked to */
    STEP_COMPENSATED,  /*  */
    STEP_SKIPPED       /* by an operator */
};

const char *instance_state_name(enum instance_state state);
const char *step_state_name(enum step_state state);
/* False: no such word. */
bool instance_state_parse(enum instance_state *state, const char *name);
bool step_state_parse(enum step_state *state, const char *name, size_t len);

/* Which changes of state there are at all. */
bool instance_move_legal(enum instance_state from, enum instance_state to);
bool step_move_legal(enum step_state from, enum step_state to);

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

    /* What the function of `step` answered, after OUTCOME's `run`. */
    EVENT_DONE,
    EVENT_WAIT,
    EVENT_RETRY, /* not before `delay_ms`, if that is set */
    EVENT_REFUSED,
    EVENT_ERROR,

    /* A participant's reply for `step`, from whichever attempt. */
    EVENT_REPLY_DONE,
    EVENT_REPLY_REFUSED,

    EVENT_CANCEL,  /* an operator wants it undone */
    EVENT_RESUME,  /* an operator wants a parked one to go on */
    EVENT_MISMATCH /* this worker's definition is not the instance's */
};

struct event {
    enum event_kind kind;
    size_t step;
    bool undo; /* about the compensation of `step` */
    int64_t delay_ms;
    const char *reason; /* may be NULL */
};

enum { NO_STEP = -1 };

/* What came of an event, and what the caller has to do. */
struct outcome {
    /* For the history: one word, NULL if nothing has changed and nothing is
     * to be saved (a stale reply; a local step that is to be run). */
    const char *what;
    int step; /* which it is about, or NO_STEP */
    bool undo;
    int32_t attempt; /* of that step, before its budget was renewed */
    const char *reason;

    int run;       /* call this step's function and come back with its answer; or NO_STEP.
                    * Its compensation, if the step is compensating */
    uint32_t send; /* bit i: send the command of step i in the transaction of the
                    * change; its compensation, if the step is compensating */
    bool alarm;    /* a person should know */
};

/*
 * `random` is for the jitter of delays. Every `outcome` that has `what` is one
 * change to be saved; one with `run` is none: the instance then only counts
 * the attempt, for the event that follows.
 */
void machine_move(const struct definition *definition, struct instance *instance,
                  const struct event *event, int64_t now_us, uint64_t random,
                  struct outcome *outcome);

#endif
