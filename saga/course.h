/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The course of a saga: forwards from step to step, or back over those that are
 * done or may be. Private to the machine.
 *
 * Owns which step is next, and where the saga turns round. What makes it turn or
 * go on is the machine's.
 */
#ifndef SAGA_COURSE_H
#define SAGA_COURSE_H

#include "saga/move.h"

/* From running to compensating, and nothing in any other state. What is known
 * not to be done is left alone; the rest waits for its turn. */
void course_turn_round(struct move *m, const char *reason);

/* The step's attempts are used up, or the time for an answer is: turns round,
 * or parks where there is no way back. */
void course_give_up(struct move *m, size_t i, const char *why);

/* The step's command, once more, and its timeout. */
void course_send(struct move *m, size_t i);

/* After every change: what comes next, and commands at once, in the same
 * transaction. Local steps are left to EVENT_DUE. */
void course_go_on(struct move *m);

#endif
