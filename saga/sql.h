/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of the saga module.
 */
#ifndef SAGA_SQL_H
#define SAGA_SQL_H

#include "saga/wire.h"

/* READ COMMITTED, because a row is read after waiting for its lock. */
#define SQL_BEGIN "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"

/* What is read of an instance: the columns that store.c knows by number. The
 * values come as one array of names and values, which needs no parsing. */
#define SQL_INSTANCE_COLUMNS                                                                       \
    "i.id, i.version, i.digest = $2, i.request, i.request_reason, i.state, i.reason,"              \
    " i.step_states, i.step_attempts, i.step_due_at, i.deadline_at, i.undo_deadline_at,"           \
    " i.overdue,"                                                                                  \
    " ARRAY(SELECT pg_catalog.unnest(ARRAY[e.key, e.value])"                                       \
    "       FROM pg_catalog.jsonb_each_text(i.data) e),"                                           \
    " pg_catalog.clock_timestamp()"

/* A line of outbox.message.headers, written as headers_write() does; NULL for a
 * value that is NULL. */
#define SQL_HEADER(name, value)                                                                    \
    "'" name ": ' || pg_catalog.replace(pg_catalog.replace(" value                                 \
    ", E'\\\\', E'\\\\\\\\'), E'\\n', E'\\\\n')"

/*
 * Which sagas are due and in nobody's hands. The locks are given back at once,
 * and one of them is taken by SQL_TAKE: a row that has changed between this
 * snapshot and its lock is left out of the result but stays locked, and must
 * not stay so while a step of another saga runs.
 *
 * A parked one is due when an operator has asked for something, and that only
 * a worker of its own definition can carry out.
 *
 * The clock in a subquery: by itself it is volatile, and then no condition for
 * the index.
 */
#define SQL_DUE                                                                                    \
    "SELECT i.id, i.version FROM saga.instance i"                                                  \
    " WHERE i.definition = $1 AND i.due_at <= (SELECT pg_catalog.clock_timestamp())"               \
    " AND (i.state <> 'parked' OR i.digest = $3)"                                                  \
    " ORDER BY i.due_at LIMIT $2 FOR UPDATE SKIP LOCKED"

/* Whoever holds a row's lock is at work on it. */
#define SQL_TAKE                                                                                   \
    "SELECT " SQL_INSTANCE_COLUMNS " FROM saga.instance i"                                         \
    " WHERE i.definition = $1 AND i.id = $3 AND i.version = $4 FOR UPDATE SKIP LOCKED"

/* A worker goes on with the saga that it has just saved, unless somebody has
 * overtaken it. It waits for the lock: others look whether it is due. */
#define SQL_TAKE_AGAIN                                                                             \
    "SELECT " SQL_INSTANCE_COLUMNS " FROM saga.instance i"                                         \
    " WHERE i.definition = $1 AND i.id = $3 AND i.version = $4 FOR UPDATE"

/* Locked in the order of ids, so that two batches never wait for each other. */
#define SQL_LOAD                                                                                   \
    "SELECT " SQL_INSTANCE_COLUMNS " FROM saga.instance i"                                         \
    " WHERE i.definition = $1 AND i.id = ANY ($3) ORDER BY i.id FOR UPDATE"

/* Microseconds of Unix time, exactly. */
#define SQL_TIME(us) "('epoch'::timestamptz + " us " * interval '1 microsecond')"

/*
 * Saves instances ($1 to $20, an element each), their history, and the commands
 * that go out with them ($21 to $26, an element each).
 *
 * The version is compared in the UPDATE, and everything else is made from the
 * rows that it returns: who was overtaken writes nothing. That he learns by an
 * error, because his COMMIT may be on its way behind this statement. The
 * commands' numbers in the outbox are drawn while the saga's row is locked,
 * which makes their order that of the saga.
 *
 * An operator's request that has come meanwhile keeps the row due.
 *
 * (The formatter indents behind a macro that stands among texts: not here.)
 */
/* clang-format off */
#define SQL_SAVE                                                                                   \
    "WITH c AS (SELECT * FROM ROWS FROM ("                                                         \
    "  pg_catalog.unnest($1::uuid[]), pg_catalog.unnest($2::bigint[]),"                            \
    "  pg_catalog.unnest($3::text[]), pg_catalog.unnest($4::text[]),"                              \
    "  pg_catalog.unnest($5::text[]), pg_catalog.unnest($6::text[]),"                              \
    "  pg_catalog.unnest($7::text[]), pg_catalog.unnest($8::bigint[]),"                            \
    "  pg_catalog.unnest($9::bigint[]), pg_catalog.unnest($10::int[]),"                            \
    "  pg_catalog.unnest($11::int[]), pg_catalog.unnest($12::text[]),"                             \
    "  pg_catalog.unnest($13::bigint[]), pg_catalog.unnest($14::int[]),"                           \
    "  pg_catalog.unnest($15::text[]), pg_catalog.unnest($16::text[]),"                            \
    "  pg_catalog.unnest($17::text[]), pg_catalog.unnest($18::int[]),"                             \
    "  pg_catalog.unnest($19::text[]), pg_catalog.unnest($20::text[]))"                            \
    " AS c (id, version, state, reason, step_states, step_attempts, step_due, due, undo_deadline," \
    "       overdue, alarm, patch, hold_ms, request_done, event, step, action, attempt,"           \
    "       step_state, event_reason)),"                                                           \
    "m AS (SELECT * FROM ROWS FROM ("                                                              \
    "  pg_catalog.unnest($21::uuid[]), pg_catalog.unnest($22::uuid[]),"                            \
    "  pg_catalog.unnest($23::text[]), pg_catalog.unnest($24::text[]),"                            \
    "  pg_catalog.unnest($25::text[]), pg_catalog.unnest($26::int[]))"                             \
    " AS m (id, message_id, topic, step, action, attempt)),"                                       \
    "u AS (UPDATE saga.instance i SET version = i.version + 1, state = c.state,"                   \
    "  reason = c.reason, step_states = c.step_states::text[],"                                    \
    "  step_attempts = c.step_attempts::int[],"                                                    \
    "  step_due_at = ARRAY(SELECT " SQL_TIME("t.us")                                               \
    "    FROM pg_catalog.unnest(c.step_due::bigint[]) WITH ORDINALITY t (us, n) ORDER BY t.n),"    \
    "  undo_deadline_at = " SQL_TIME("c.undo_deadline") ","                                        \
    "  overdue = c.overdue <> 0, alarms = i.alarms + c.alarm,"                                     \
    "  data = CASE WHEN c.patch IS NULL THEN i.data ELSE i.data || c.patch::jsonb END,"            \
    "  request = CASE WHEN c.request_done = 0 AND c.state NOT IN ('completed', 'compensated')"     \
    "    THEN i.request END,"                                                                      \
    "  request_reason = CASE WHEN c.request_done = 0"                                              \
    "    AND c.state NOT IN ('completed', 'compensated') THEN i.request_reason END,"               \
    "  due_at = CASE WHEN c.state IN ('completed', 'compensated') THEN NULL"                       \
    "    WHEN i.request IS NOT NULL AND c.request_done = 0 THEN pg_catalog.clock_timestamp()"      \
    "    WHEN c.due IS NULL THEN NULL"                                                             \
    "    ELSE greatest(" SQL_TIME("c.due") ","                                                     \
    "      pg_catalog.clock_timestamp() + nullif(c.hold_ms, 0) * interval '1 ms') END,"            \
    "  updated_at = pg_catalog.clock_timestamp()"                                                  \
    " FROM c WHERE i.id = c.id AND i.version = c.version"                                          \
    " RETURNING i.id, i.version, i.state, i.data, i.traceparent),"                                 \
    "h AS (INSERT INTO saga.history"                                                               \
    " (saga_id, version, event, step, action, attempt, step_state, state, reason, message_id)"     \
    " SELECT u.id, u.version, c.event, c.step, c.action, c.attempt, c.step_state, u.state,"        \
    "  c.event_reason, NULL FROM u JOIN c ON c.id = u.id WHERE c.event IS NOT NULL"                \
    " UNION ALL"                                                                                   \
    " SELECT u.id, u.version, 'sent', m.step, m.action, m.attempt,"                                \
    "  CASE m.action WHEN 'run' THEN 'waiting' ELSE 'compensating' END, u.state, NULL,"            \
    "  m.message_id FROM u JOIN m ON m.id = u.id),"                                                \
    "o AS (INSERT INTO outbox.message (message_id, topic, key, headers, payload)"                  \
    " SELECT m.message_id, m.topic, u.id::text,"                                                   \
    "  pg_catalog.concat_ws(E'\\n', '" WIRE_SAGA_ID ": ' || u.id,"                                 \
    "   " SQL_HEADER(WIRE_SAGA_DEFINITION, "$27") ", " SQL_HEADER(WIRE_SAGA_STEP, "m.step") ","    \
    "   '" WIRE_SAGA_ACTION ": ' || m.action, '" WIRE_SAGA_ATTEMPT ": ' || m.attempt,"             \
    "   " SQL_HEADER(WIRE_SAGA_REPLY_TO, "$28") ","                                                \
    "   " SQL_HEADER(WIRE_TRACEPARENT, "u.traceparent") "),"                                       \
    "  pg_catalog.convert_to(u.data::text, 'UTF8') FROM u JOIN m ON m.id = u.id)"                  \
    " SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM u) <> pg_catalog.cardinality($1)"          \
    "  THEN saga.overtaken() END"
/* clang-format on */

/* Steps of the definition that an instance was started with, as it was
 * registered then. */
#define SQL_STARTED_WITH                                                                           \
    "SELECT s.step ->> 'name', (s.step ->> 'kind') || CASE WHEN s.step ? 'topic'"                  \
    " THEN ' command' ELSE '' END FROM saga.instance i"                                            \
    " JOIN saga.definition d ON d.name = i.definition AND d.digest = i.digest,"                    \
    " pg_catalog.jsonb_array_elements(d.steps) WITH ORDINALITY s (step, n)"                        \
    " WHERE i.id = $1 ORDER BY s.n"

/* New sagas use the one registered last. */
#define SQL_REGISTER                                                                               \
    "INSERT INTO saga.definition AS d (name, digest, deadline_ms, steps)"                          \
    " SELECT $1, $2, nullif($3::bigint, 0), pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls("    \
    "   pg_catalog.jsonb_build_object('name', s.name, 'kind', s.kind, 'topic', s.topic))"          \
    "   ORDER BY s.n)"                                                                             \
    " FROM ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::text[]),"               \
    "  pg_catalog.unnest($6::text[])) WITH ORDINALITY s (name, kind, topic, n)"                    \
    " ON CONFLICT (name, digest) DO UPDATE SET steps = excluded.steps,"                            \
    "  deadline_ms = excluded.deadline_ms, registered_at = pg_catalog.clock_timestamp()"

#define SQL_START "SELECT saga.start($1, $2, pg_catalog.jsonb_object($3::text[], $4::text[]))"

#define SQL_STATE "SELECT i.state FROM saga.instance i WHERE i.id = $1"

/* For the time of one transaction: a worker that is stopped inside a step, or
 * whose host is gone, keeps its row's lock no longer. */
#define SQL_LEASE                                                                                  \
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $1::text, true)"

#endif
