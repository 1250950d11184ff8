/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a saga and of its steps. The same words in C, SQL, logs and
 * documentation.
 *
 * Owns which changes of state there are; when they happen is the machine's.
 */
#ifndef SAGA_STATE_H
#define SAGA_STATE_H

#include <stdbool.h>
#include <stddef.h>

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
    STEP_PENDING, /* not begun */
    STEP_RUNNING, /* to be run, or to be run again */
    STEP_WAITING, /* asked; the answer or the timeout will come */
    STEP_DONE,
    STEP_FAILED,       /* known not to be done: refused, or given up */
    STEP_COMPENSATING, /* to be undone, again, or asked to */
    STEP_COMPENSATED,
    STEP_SKIPPED /* by an operator */
};

const char *instance_state_name(enum instance_state state);
const char *step_state_name(enum step_state state);
/* False: no such word. */
bool instance_state_parse(enum instance_state *state, const char *name);
bool step_state_parse(enum step_state *state, const char *name, size_t len);

/* Which changes of state there are at all. */
bool instance_move_legal(enum instance_state from, enum instance_state to);
bool step_move_legal(enum step_state from, enum step_state to);

#endif
