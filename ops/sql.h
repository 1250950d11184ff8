/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every statement of sagactl. A query that is shown is written once, as a table
 * of named columns; output.c makes text or JSON of it.
 */
#ifndef OPS_SQL_H
#define OPS_SQL_H

/* --- migrate -------------------------------------------------------------- */

#define SQL_ENCODING "SELECT pg_catalog.current_setting('server_encoding')"

/* From the catalogue: to_regclass() would need rights on the schema. */
#define SQL_HAS_BOOK                                                                               \
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c"                                             \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                                    \
    " WHERE n.nspname = 'saga' AND c.relname = 'migration')"

/* The number means nothing; it only has to be the same in every version. */
#define SQL_LOCK_NUMBER "7093614458270127"
#define SQL_TRY_LOCK    "SELECT pg_catalog.pg_try_advisory_xact_lock(" SQL_LOCK_NUMBER ")"
#define SQL_LOCK                                                                                   \
    "SELECT pg_catalog.set_config('lock_timeout', '0', true),"                                     \
    " pg_catalog.pg_advisory_xact_lock(" SQL_LOCK_NUMBER ")"

/* What the login's or the database's defaults must not change. */
#define SQL_SETTINGS                                                                               \
    "SELECT pg_catalog.set_config('lock_timeout', $1, true),"                                      \
    " pg_catalog.set_config('statement_timeout', '0', true),"                                      \
    " pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true),"                    \
    " pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),"                          \
    " pg_catalog.set_config('check_function_bodies', 'on', true),"                                 \
    " pg_catalog.set_config('client_min_messages', 'warning', true)"

#define SQL_BECOME_OWNER                                                                           \
    "SELECT pg_catalog.set_config('role', r.rolname, true) FROM pg_catalog.pg_namespace n"         \
    " JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'saga'"

/* PostgreSQL computes the checksum, so that no library is needed for it. */
#define SQL_SHA256(text)                                                                           \
    "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(" text ", 'UTF8')), 'hex')"

#define SQL_FULL_JOIN(book)                                                                        \
    " FROM ROWS FROM (pg_catalog.unnest($1::int4[]), pg_catalog.unnest($2::text[]),"               \
    " pg_catalog.unnest($3::text[])) AS f (number, name, up)"                                      \
    " FULL JOIN " book " AS m ON m.number = f.number"
#define SQL_NO_BOOK                                                                                \
    "(SELECT NULL::int4 AS number, NULL::text AS name, NULL::text AS sha256,"                      \
    " NULL::int8 AS position, NULL::timestamptz AS applied_at, NULL::text AS applied_by"           \
    " WHERE false)"

#define SQL_CHANGED "coalesce(m.sha256 <> " SQL_SHA256("f.up") ", false)"
#define SQL_STATES_FROM(book)                                                                      \
    "SELECT coalesce(f.number, m.number), coalesce(m.name, f.name), f.number IS NOT NULL,"         \
    " m.number IS NOT NULL, " SQL_CHANGED ", m.position" SQL_FULL_JOIN(book) " ORDER BY 1"
#define SQL_STATES              SQL_STATES_FROM("saga.migration")
#define SQL_STATES_WITHOUT_BOOK SQL_STATES_FROM(SQL_NO_BOOK)

#define SQL_STATUS_FROM(book)                                                                      \
    "SELECT coalesce(m.name, f.name) AS migration,"                                                \
    " CASE WHEN m.number IS NULL THEN 'pending'"                                                   \
    "      WHEN f.number IS NULL THEN 'applied, unknown to this program'"                          \
    "      WHEN " SQL_CHANGED " THEN 'applied, changed since'"                                     \
    "      ELSE 'applied' END AS state,"                                                           \
    " m.applied_at, m.applied_by" SQL_FULL_JOIN(book) " ORDER BY coalesce(f.number, m.number)"
#define SQL_STATUS              SQL_STATUS_FROM("saga.migration")
#define SQL_STATUS_WITHOUT_BOOK SQL_STATUS_FROM(SQL_NO_BOOK)

#define SQL_BOOK_ADD                                                                               \
    "INSERT INTO saga.migration (number, name, sha256) VALUES ($1, $2, " SQL_SHA256("$3") ")"
#define SQL_BOOK_REMOVE "DELETE FROM saga.migration WHERE number = $1"

/* What would be lost. Counting further than this is not worth the time. */
#define LOSS_MOST       INT64_C(10000)
#define SQL_COUNT(rows) "SELECT count(*) FROM (SELECT FROM " rows " LIMIT 10001) AS q"
#define SQL_HAS_RELATION                                                                           \
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c"                                             \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                                    \
    " WHERE n.nspname || '.' || c.relname = $1)"
#define SQL_LOSS_SAGAS   SQL_COUNT("saga.instance WHERE state NOT IN ('completed', 'compensated')")
#define SQL_LOSS_PENDING SQL_COUNT("outbox.pending")
#define SQL_LOSS_MESSAGES                                                                          \
    SQL_COUNT("outbox.message WHERE pg_catalog.to_regclass('outbox.pending') IS NULL")
#define SQL_LOSS_DELAYED      SQL_COUNT("outbox.delayed")
#define SQL_LOSS_PARKED       SQL_COUNT("outbox.parked")
#define SQL_LOSS_INBOX_PARKED SQL_COUNT("idempotency.parked")
#define SQL_LOSS_HELD         SQL_COUNT("idempotency.quarantine WHERE state = 'held'")
#define SQL_LOSS_WAITING      SQL_COUNT("idempotency.barrier WHERE outcome = 'waiting'")

#define SQL_DONE_JSON                                                                              \
    "SELECT pg_catalog.jsonb_build_object($1::text, pg_catalog.to_jsonb($2::text[]))::text"

/* --- sagas ---------------------------------------------------------------- */

/* For people, microseconds are noise. */
#define SQL_AT(column) "pg_catalog.date_trunc('milliseconds', " column ")"

/* clang-format off */
/* For people: no more of a text than fits beside the others, in characters. */
#define SQL_CUT(text, length)                                                                      \
    "CASE WHEN pg_catalog.char_length(" text ") > " length                                         \
    " THEN pg_catalog.left(" text ", " length " - 1) || '…' ELSE " text " END"
/* clang-format on */

/* Ids are of version 7, so that their order is the order of starting. */
#define SQL_LIST                                                                                   \
    "SELECT i.id, i.definition, i.business_key, i.state,"                                          \
    " (SELECT pg_catalog.string_agg(s.name, ', ' ORDER BY s.place)"                                \
    "    FROM ROWS FROM (pg_catalog.unnest(i.steps), pg_catalog.unnest(i.step_states))"            \
    "         WITH ORDINALITY AS s (name, state, place)"                                           \
    "   WHERE s.state IN ('running', 'waiting', 'compensating')) AS at_step, " SQL_AT(             \
        "i.updated_at") " AS updated_at, i.reason"                                                 \
                        " FROM saga.instance i"                                                    \
                        " WHERE ($1::text IS NULL OR i.state = $1) AND ($2::text IS NULL OR "      \
                        "i.definition = $2)"                                                       \
                        " ORDER BY i.id DESC LIMIT $3"

/* A business key may look like an id. Two rows are enough to see that it is
 * not the only one. */
#define SQL_FIND                                                                                   \
    "SELECT i.id FROM saga.instance i"                                                             \
    " WHERE (i.id = $1 OR i.business_key = $2) AND ($3::text IS NULL OR i.definition = $3)"        \
    " ORDER BY i.id LIMIT 2"

#define SQL_INSTANCE                                                                                                                                   \
    "SELECT i.id, i.definition, i.business_key, i.state, i.reason, i.request, "                                                                        \
    "i.request_reason, " SQL_AT("i.created_at") " AS created_at, " SQL_AT(                                                                             \
        "i.updated_at") " AS updated_at, " SQL_AT("i.due_at") " AS due_at, " SQL_AT("i.deadline_"                                                      \
                                                                                    "at") " AS "                                                       \
                                                                                          "deadli"                                                     \
                                                                                          "ne_at,"                                                     \
                                                                                          " " SQL_AT(                                                  \
                                                                                              "i."                                                     \
                                                                                              "un"                                                     \
                                                                                              "do"                                                     \
                                                                                              "_d"                                                     \
                                                                                              "ea"                                                     \
                                                                                              "dl"                                                     \
                                                                                              "in"                                                     \
                                                                                              "e_"                                                     \
                                                                                              "a"                                                      \
                                                                                              "t") " AS undo_deadline_at, i.overdue, i.alarms, i.data" \
                                                                                                   " FROM saga.instance i WHERE i.id = $1"

/* Kind and topic as they were when it was started. */
#define SQL_STEPS                                                                                  \
    "SELECT s.name AS step, d.step ->> 'kind' AS kind, s.state, s.attempts, " SQL_AT(              \
        "s.due_at") " AS due_at, d.step ->> 'topic' AS topic"                                      \
                    " FROM saga.instance i"                                                        \
                    " CROSS JOIN LATERAL ROWS FROM (pg_catalog.unnest(i.steps),"                   \
                    "      pg_catalog.unnest(i.step_states), pg_catalog.unnest(i.step_attempts),"  \
                    "      pg_catalog.unnest(i.step_due_at)) WITH ORDINALITY"                      \
                    "      AS s (name, state, attempts, due_at, place)"                            \
                    " LEFT JOIN LATERAL (SELECT def.steps -> (s.place - 1)::int4 AS step FROM "    \
                    "saga.definition def"                                                          \
                    "      WHERE def.name = i.definition AND def.digest = i.digest) AS d ON true"  \
                    " WHERE i.id = $1 ORDER BY s.place"

#define SQL_HISTORY                                                                                \
    "SELECT " SQL_AT("h.at") " AS at, h.event, h.step, h.action, h.attempt, h.step_state,"         \
                             " h.state AS saga_state, h.reason, h.message_id"                      \
                             " FROM saga.history h WHERE h.saga_id = $1 ORDER BY h.id"

#define SQL_SAGA_AUDIT                                                                             \
    "SELECT " SQL_AT("a.at") " AS at, a.who, a.verb, a.reason"                                     \
                             " FROM saga.audit a WHERE a.saga_id = $1 ORDER BY a.id"

#define SQL_JSON_ROWS(query) "(SELECT coalesce(pg_catalog.json_agg(q), '[]') FROM (" query ") AS q)"
#define SQL_SHOW_JSON                                                                              \
    "SELECT pg_catalog.json_build_object("                                                         \
    "'instance', (SELECT pg_catalog.row_to_json(q) FROM (" SQL_INSTANCE ") AS q),"                 \
    "'steps', " SQL_JSON_ROWS(SQL_STEPS) ", 'history', " SQL_JSON_ROWS(                            \
        SQL_HISTORY) ","                                                                           \
                     "'audit', " SQL_JSON_ROWS(SQL_SAGA_AUDIT) ")::text"

#define SQL_AUDIT                                                                                  \
    "SELECT " SQL_AT("a.at") " AS at, a.who, a.verb, a.saga_id, a.reason"                          \
                             " FROM saga.audit a WHERE $1::uuid IS NULL OR a.saga_id = $1 ORDER "  \
                             "BY a.id DESC LIMIT $2"

/* What a saga waits for, in words. Of its steps the first that is under way
 * counts, and of that step the last thing that happened. */
#define SQL_UNDER_WAY                                                                              \
    "SELECT s.name, s.state, s.due_at, d.steps -> (s.place - 1)::int4 ->> 'topic' AS topic"        \
    "  FROM ROWS FROM (pg_catalog.unnest(i.steps), pg_catalog.unnest(i.step_states),"              \
    "       pg_catalog.unnest(i.step_due_at)) WITH ORDINALITY AS s (name, state, due_at, place)"   \
    "  LEFT JOIN saga.definition d ON d.name = i.definition AND d.digest = i.digest"               \
    " WHERE s.state IN ('running', 'waiting', 'compensating') ORDER BY s.place LIMIT 1"
#define SQL_LAST_OF_STEP                                                                           \
    "SELECT h.at, h.event, h.action, h.attempt, h.message_id FROM saga.history h"                  \
    " WHERE h.saga_id = i.id AND h.step = s.name ORDER BY h.id DESC LIMIT 1"
/* clang-format off */

/* What has become of the command in the outbox; NULL: nothing is known of it. */
#define SQL_COMMAND_LEFT                                                                           \
    "coalesce((SELECT pg_catalog.format('which is parked (%s): sagactl outbox retry %s %s"         \
    " --reason ...', p.error, p.topic, p.key) FROM outbox.parked p"                                \
    "   WHERE p.message_id = h.message_id LIMIT 1),"                                               \
    " CASE WHEN EXISTS (SELECT FROM outbox.local_messages m"                                       \
    "                    WHERE m.status = 'pending' AND m.id = h.message_id)"                      \
    "       THEN 'which outbox-relay has not published yet'"                                       \
    "      WHEN EXISTS (SELECT FROM outbox.audit a"                                                \
    "                    WHERE a.verb = 'discard' AND a.message_id = h.message_id)"                \
    "       THEN 'which an operator has discarded (sagactl outbox show)' END)"

/* And at its participant, if that has this database; or of the reply, which comes here. By the
 * saga's key: where an earlier attempt is parked, this one is, or will be, behind it. */
#define SQL_SAGA_KEY "pg_catalog.convert_to(i.id::text, 'UTF8')"
#define SQL_WHICH(record)                                                                          \
    "CASE WHEN 'saga-outcome' = ANY (" record ".headers) THEN 'whose reply' ELSE 'which' END"
#define SQL_COMMAND_CAME                                                                           \
    "coalesce((SELECT pg_catalog.format('%s consumer %s has parked (%s): %s', " SQL_WHICH("p") "," \
    "    p.consumer, coalesce(p.error, k.error), CASE WHEN coalesce(p.request, k.request) IS NULL" \
    "     THEN pg_catalog.format('sagactl inbox retry %s %s %s --reason ...', p.consumer, p.topic,"\
    "                            i.id) ELSE 'a retry is asked for' END)"                           \
    "   FROM idempotency.parked p"                                                                 \
    "   LEFT JOIN idempotency.parked_key k USING (consumer, topic, key)"                           \
    "  WHERE p.key = " SQL_SAGA_KEY " AND (p.topic = s.topic OR 'saga-outcome' = ANY (p.headers))" \
    "  ORDER BY p.id LIMIT 1),"                                                                    \
    " (SELECT pg_catalog.format('%s is number %s in the quarantine of consumer %s (%s)',"          \
    "    " SQL_WHICH("q") ", q.id, q.consumer, q.reason) FROM idempotency.quarantine q"            \
    "  WHERE q.state = 'held' AND (q.message_id = h.message_id OR (q.key = " SQL_SAGA_KEY          \
    "        AND 'saga-outcome' = ANY (q.headers) AND q.received_at >= h.at))"                     \
    "  ORDER BY q.id LIMIT 1),"                                                                    \
    " (SELECT pg_catalog.format('which consumer %s has taken in hand (sagactl inbox waiting %1$s)'," \
    "    b.consumer) FROM idempotency.barrier b WHERE b.outcome = 'waiting'"                       \
    "    AND b.saga_id = i.id AND b.step = s.name AND b.action = h.action LIMIT 1),"               \
    " (SELECT pg_catalog.format('which an operator has discarded at consumer %s (%s)', a.consumer,"\
    "    a.reason) FROM idempotency.audit a"                                                       \
    "  WHERE a.verb = 'discard' AND a.message_id = h.message_id LIMIT 1))"

/* A participant is known here by the offset that it has left. */
#define SQL_COMMAND_IS                                                                             \
    "coalesce(" SQL_COMMAND_LEFT ", " SQL_COMMAND_CAME ", 'which is published' ||"                 \
    " CASE WHEN EXISTS (SELECT FROM idempotency.consumer_offset o WHERE o.topic = s.topic) THEN ''"\
    "  ELSE ' (has its participant parked it? sagactl inbox parked in that service''s database)'"  \
    " END)"
#define SQL_WAITS_FOR                                                                              \
    "CASE WHEN i.state IN ('completed', 'compensated') THEN 'nothing: it has ended'"               \
    " WHEN i.request IS NOT NULL THEN pg_catalog.format("                                          \
    "  'a worker of %s: an operator has asked for %s (%s)',"                                       \
    "  i.definition, i.request, i.request_reason)"                                                 \
    " WHEN i.state = 'parked' THEN 'a person: see the reason, then sagactl retry' || CASE"         \
    "  WHEN 'compensating' = ANY (i.step_states) THEN ', and it is undone further'"                \
    "  ELSE coalesce('; it cannot be undone any more (step ' || saga.past_return(i) || ')',"       \
    "                ' or sagactl cancel') END"                                                    \
    " WHEN i.due_at <= pg_catalog.clock_timestamp()"                                               \
    "  THEN pg_catalog.format('a worker of %s: it is due since %s', i.definition,"                 \
    "       " SQL_AT("i.due_at") ")"                                                               \
    " WHEN h.event = 'sent' THEN pg_catalog.format("                                               \
    "  'the reply of %s to attempt %s (%s) of step %s, sent %s as message %s, %s; until %s',"      \
    "  s.topic, h.attempt, h.action, s.name, " SQL_AT("h.at") ", h.message_id,"                    \
    "  " SQL_COMMAND_IS ", " SQL_AT("s.due_at") ")"                                                \
    " ELSE pg_catalog.format('the time to go on, %s', " SQL_AT("i.due_at") ") END"

/* clang-format on */

#define SQL_WHY                                                                                    \
    "SELECT i.id, i.definition, i.business_key, i.state, i.reason, s.name AS step,"                \
    " s.state AS step_state, " SQL_WAITS_FOR " AS waits_for, " SQL_AT(                             \
        "i.updated_at") " AS last_change"                                                          \
                        " FROM saga.instance i LEFT JOIN LATERAL (" SQL_UNDER_WAY ") AS s ON true" \
                        " LEFT JOIN LATERAL (" SQL_LAST_OF_STEP ") AS h ON true WHERE i.id = $1"

/* The functions check the state, and write the audit in the same transaction. */
#define SQL_RETRY                                                                                  \
    "SELECT pg_catalog.json_build_object('id', $1::uuid, 'request', 'retry')::text"                \
    " FROM saga.retry($1, $2)"
#define SQL_CANCEL                                                                                 \
    "SELECT pg_catalog.json_build_object('id', $1::uuid, 'request', 'cancel')::text"               \
    " FROM saga.cancel($1, $2)"

/* --- outbox --------------------------------------------------------------- */

/* For the session: sagactl's own, which ends with it. */
#define SQL_LOCK_TIMEOUT "SELECT pg_catalog.set_config('lock_timeout', $1, false)"

#define SQL_OUTBOX_REBASE                                                                          \
    "SELECT r.unpublished, r.written_here, r.doubtful, r.published,"                               \
    " pg_catalog.row_to_json(r)::text FROM outbox.rebase($1) AS r"

/* What changing the number of streams does; the last column is for programs. */
#define SQL_OUTBOX_STREAMS                                                                         \
    "SELECT s.streams_before, s.published_again,"                                                  \
    "       pg_catalog.json_build_object('streams_before', s.streams_before, 'streams', $1,"       \
    "           'published_again', s.published_again)::text"                                       \
    "  FROM outbox.set_streams($1, $2) AS s"

#endif
