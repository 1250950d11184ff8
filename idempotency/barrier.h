/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The barrier of a saga's participant: one final answer for each (consumer,
 * saga, step, action), written in the transaction of its effect and given again
 * whenever the command comes again.
 *
 * Owns idempotency.barrier; the rule is in barrier_judge.h. Knows nothing of
 * messages: who asks calls the function, sends the reply and ends the
 * transaction.
 *
 * The order of locks is the same for both actions, the step's row before the
 * compensation's, so that two of them meet in a queue and never in a deadlock.
 * A compensation writes the step's row, too, where there is none: as a
 * refusal, which a step that comes late then finds and is answered with.
 */
#ifndef IDEMPOTENCY_BARRIER_H
#define IDEMPOTENCY_BARRIER_H

#include "base/pg.h"
#include "idempotency/barrier_judge.h"

struct barrier_key {
    const char *consumer;
    struct saga_uuid saga_id;
    const char *step;
    enum barrier_action action;
    struct saga_uuid message_id; /* of the command: kept for people to find it */
};

/* One passing through the barrier. It must not move while its statements are
 * at work. */
struct barrier {
    const struct barrier_key *key;
    struct pg_rows inserted, overtaken, found;
    struct pg_arg args[8];
};

enum { BARRIER_STATEMENTS = 3 };

/*
 * Puts at most BARRIER_STATEMENTS statements into `into`, to go with others in
 * one pg_batch() inside a transaction; returns how many. They wait while another transaction is at
 * the same step. `key` is borrowed until barrier_clear().
 */
size_t barrier_enter(struct barrier *barrier, const struct barrier_key *key,
                     struct pg_statement *into);

/*
 * After the batch has succeeded. With BARRIER_ENTER and
 * BARRIER_NOTHING_TO_UNDO the rows are written as "done, with nothing to tell":
 * if that is not the answer, barrier_answer() must follow; if there is no
 * final answer yet, the transaction must be rolled back.
 */
enum barrier_verdict barrier_verdict(const struct barrier *barrier);

/*
 * The statement that changes the answer of the row just written. `reason` may
 * be NULL with done only; `names` and `values` are arrays of texts that become
 * the reply's JSON object.
 */
struct pg_statement barrier_answer(struct barrier *barrier, bool refused, const char *reason,
                                   struct pg_array *names, struct pg_array *values);

/* The statement instead of barrier_answer(): it is in hand, and
 * idempotency.reply() will send the answer to `reply_to`. */
struct pg_statement barrier_wait(struct barrier *barrier, const char *reply_to,
                                 const char *traceparent, struct pg_array *names,
                                 struct pg_array *values);

/* The statement after BARRIER_UNKNOWN: that nobody knows is the answer. */
struct pg_statement barrier_forgotten(struct barrier *barrier);

void barrier_clear(struct barrier *barrier);

#endif
