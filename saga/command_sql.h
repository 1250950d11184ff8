/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of a participant and of the reply handler.
 */
#ifndef SAGA_COMMAND_SQL_H
#define SAGA_COMMAND_SQL_H

/* The values of a JSON object as name, value, name, value ... */
#define SQL_COMMAND_VALUES                                                                         \
    "SELECT ARRAY(SELECT pg_catalog.unnest(ARRAY[e.key, e.value])"                                 \
    " FROM pg_catalog.jsonb_each_text($1::pg_catalog.jsonb) e)"

/* Who discards a parked message says so here. Asked only where inbox and barrier
 * disagree. */
#define SQL_COMMAND_DISCARDED                                                                      \
    "SELECT EXISTS (SELECT FROM idempotency.audit"                                                 \
    " WHERE verb = 'discard' AND consumer = $1 AND message_id = $2)"

/* What the function writes may have to go while inbox row, barrier and reply
 * stay; of a command that comes again, for which no function is called, what the
 * barrier writes. RELEASE fails if the function has ended the transaction. */
#define SQL_COMMAND_SAVEPOINT "SAVEPOINT saga_step"
#define SQL_COMMAND_KEEP      "RELEASE SAVEPOINT saga_step"
#define SQL_COMMAND_UNDO      "ROLLBACK TO SAVEPOINT saga_step"

/* Always from the stored answer, so that the first reply and the hundredth are
 * the same. The message's id is a new one each time: the orchestrator may have
 * seen the earlier reply when it was of no use, and need it now. */
#define SQL_COMMAND_REPLY                                                                          \
    "SELECT outbox.enqueue($5, pg_catalog.convert_to(reply, 'UTF8'), saga_id::text,"               \
    " pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object("                                 \
    "'saga-id', saga_id::text, 'saga-step', step, 'saga-action', action,"                          \
    " 'saga-outcome', outcome, 'saga-reason', reason, 'traceparent', $6::text)))"                  \
    " FROM idempotency.barrier"                                                                    \
    " WHERE consumer = $1 AND saga_id = $2 AND step = $3 AND action = $4"

/* The rules are the function's: migrations/0028_reply.up.sql */
#define SQL_REPLY_LATER                                                                            \
    "SELECT idempotency.reply($1, $2, $3, pg_catalog.jsonb_object($4::text[], $5::text[]))"

/* Texts whatever the members were (a participant in another language may send
 * numbers); nulls tell nothing. */
#define SQL_REPLY_VALUES                                                                           \
    "SELECT pg_catalog.jsonb_object_agg(name, value)::text"                                        \
    " FROM pg_catalog.jsonb_each_text($1::jsonb) AS o(name, value) WHERE value IS NOT NULL"

#endif
