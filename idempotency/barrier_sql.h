/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of the barrier.
 */
#ifndef IDEMPOTENCY_BARRIER_SQL_H
#define IDEMPOTENCY_BARRIER_SQL_H

/* $4 is the action.
 *
 * A conflict with a transaction that is still open waits for its end; with one
 * that has committed it does nothing, and the action is not among the rows
 * that come back. */
#define SQL_BARRIER_RUN                                                                            \
    "INSERT INTO idempotency.barrier"                                                              \
    " (consumer, saga_id, step, action, outcome, message_id, saga_started_at)"                     \
    " VALUES ($1, $2, $3, $4, 'done', $5, idempotency.start_of($2))"                               \
    " ON CONFLICT DO NOTHING RETURNING action"

/* The step's row first, in the same order of locks as above: a step that is at
 * work now is waited for, one that comes later finds the refusal. */
#define SQL_BARRIER_COMPENSATE                                                                     \
    "INSERT INTO idempotency.barrier"                                                              \
    " (consumer, saga_id, step, action, outcome, reason, message_id, saga_started_at)"             \
    " VALUES ($1, $2, $3, 'run', 'refused', 'compensated before it came', $5,"                     \
    " idempotency.start_of($2)),"                                                                  \
    " ($1, $2, $3, $4, 'done', NULL, $5, idempotency.start_of($2))"                                \
    " ON CONFLICT DO NOTHING RETURNING action"

/* The saga is older than what is kept. Read after the INSERT: who removes rows raises
 * the mark first, so that no row can have gone before and be missed here. */
#define IS_FORGOTTEN                                                                               \
    "COALESCE(idempotency.day_of(pg_catalog.uuid_send($2))"                                        \
    " < pg_catalog.pg_sequence_last_value('idempotency.barrier_mark'), false)"

/* A compensation does not wait for an answer that may never come; if somebody
 * is giving it just now, it waits for his end and counts what he leaves. One that
 * comes later finds this, and fails. Of a forgotten saga nothing is compensated. */
#define SQL_BARRIER_OVERTAKE                                                                       \
    "UPDATE idempotency.barrier SET outcome = 'refused',"                                          \
    " reason = 'compensated before it was answered', overtaken_at = pg_catalog.clock_timestamp()"  \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = 'run'"                       \
    " AND outcome = 'waiting' AND NOT " IS_FORGOTTEN " RETURNING true"

/* A statement of its own: the snapshot of the INSERT is older than a rival that
 * it has waited for. */
#define SQL_BARRIER_STEP                                                                           \
    "SELECT (SELECT outcome FROM idempotency.barrier"                                              \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = 'run'),"                     \
    " " IS_FORGOTTEN ","                                                                           \
    " (SELECT outcome = 'waiting' FROM idempotency.barrier"                                        \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = $4)"

/* Only ever in the transaction that has written the row. */
#define SQL_BARRIER_ANSWER                                                                         \
    "UPDATE idempotency.barrier SET outcome = $5, reason = $6,"                                    \
    " reply = pg_catalog.jsonb_object($7::text[], $8::text[])::text"                               \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = $4"

/* The same row: the answer will come from idempotency.reply(), which needs all
 * this. */
#define SQL_BARRIER_WAIT                                                                           \
    "UPDATE idempotency.barrier SET outcome = 'waiting',"                                          \
    " accepted = pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("                      \
    "'reply-to', $5::text, 'traceparent', $6::text,"                                               \
    " 'values', pg_catalog.jsonb_object($7::text[], $8::text[])))"                                 \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = $4"

/* What this command has written, for who asks before it is removed again. */
#define SQL_BARRIER_FORGOTTEN                                                                      \
    "UPDATE idempotency.barrier SET outcome = 'unknown', reason ="                                 \
    " 'the saga is older than what this participant remembers'"                                    \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND message_id = $5"

#endif
