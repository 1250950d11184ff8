/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of sagactl outbox status, parked, retry, discard, show and audit.
 */
#ifndef OPS_OUTBOX_SQL_H
#define OPS_OUTBOX_SQL_H

#include "ops/sql.h"

/* clang-format off */

#define SQL_ASKED_AT(request) "(SELECT a.at FROM outbox.audit a WHERE a.id = " request ")"

/* --- status --------------------------------------------------------------- */

#define SQL_OUTBOX_STATUS_JSON                                                                     \
    "SELECT s.*, extract(epoch FROM s.lag) AS lag_seconds FROM outbox.status s ORDER BY s.stream"

/* One stream needs no sum. */
#define SQL_OUTBOX_STATUS                                                                          \
    "SELECT coalesce(s.stream::text, 'all') AS stream, s.relay, s.instance, s.epoch,"              \
    " CASE WHEN s.relay = 'running' THEN pg_catalog.round(extract(epoch FROM"                      \
    "      s.lease_until - pg_catalog.clock_timestamp())::numeric, 1) || ' s' END AS lease,"       \
    " CASE WHEN s.pending_exact THEN '' ELSE 'about ' END || s.pending AS pending,"                \
    " " SQL_AT("s.oldest_pending") " AS oldest_pending,"                                           \
    " pg_catalog.date_trunc('milliseconds', s.lag) AS lag"                                         \
    " FROM (SELECT t.*, count(*) OVER () AS n FROM outbox.status t) AS s"                          \
    " WHERE s.stream IS NOT NULL OR s.n > 2 ORDER BY s.stream"

#define SQL_ABOUT(number) "CASE WHEN " number " > 10000 THEN 'about ' ELSE '' END || " number
#define SQL_OUTBOX_BESIDE                                                                          \
    "SELECT " SQL_ABOUT("s.parked_keys") " AS parked_keys,"                                        \
    " " SQL_ABOUT("s.parked") " AS parked_messages,"                                               \
    " " SQL_ABOUT("s.delayed") " AS delayed_messages,"                                             \
    " " SQL_AT("s.next_due") " AS next_due, s.oldest_open AS oldest_open_transaction,"             \
    " " SQL_AT("s.oldest_open_since") " AS open_since"                                             \
    " FROM outbox.status s WHERE s.stream IS NULL"

/* --- parked ---------------------------------------------------------------- */

/* Those who wait longest first. Messages without a key wait each for itself. */
#define SQL_PARKED_PAIRS                                                                           \
    "SELECT p.topic, p.key, coalesce(p.n, (SELECT count(*) FROM outbox.parked m"                   \
    "        WHERE m.topic = p.topic AND m.key = p.key)) AS messages, p.parked_at, p.error,"       \
    "       " SQL_ASKED_AT("p.request") " AS retry_asked_at"                                       \
    "  FROM (SELECT k.topic, k.key, NULL::bigint AS n, k.parked_at, k.error, k.request"            \
    "          FROM outbox.parked_key k"                                                           \
    "        UNION ALL"                                                                            \
    "        SELECT m.topic, NULL, count(*), min(m.parked_at), min(m.error), max(m.request)"       \
    "          FROM outbox.parked m WHERE m.key IS NULL GROUP BY m.topic"                          \
    "         ORDER BY 4 LIMIT $1) AS p ORDER BY p.parked_at"
#define SQL_PARKED_MESSAGES                                                                        \
    "SELECT m.message_id AS id, m.topic, m.key, m.created_at, m.parked_at, m.attempts, m.error,"   \
    "       " SQL_ASKED_AT("coalesce(m.request, k.request)") " AS retry_asked_at"                  \
    "  FROM outbox.parked m"                                                                       \
    "       LEFT JOIN outbox.parked_key k ON k.topic = m.topic AND k.key = m.key"                  \
    " WHERE m.topic = $2 AND ($3::text IS NULL OR m.key = $3) ORDER BY m.seq LIMIT $1"

#define SQL_PARKED_PAIRS_SHORT                                                                     \
    "SELECT " SQL_CUT("p.topic", "40") " AS topic,"                                                \
    " coalesce(" SQL_CUT("p.key", "40") ", '(none)') AS key, p.messages,"                          \
    " " SQL_AT("p.parked_at") " AS since, " SQL_CUT("p.error", "70") " AS error,"                  \
    " " SQL_AT("p.retry_asked_at") " AS retry_asked_at FROM (" SQL_PARKED_PAIRS ") AS p"
#define SQL_PARKED_MESSAGES_SHORT                                                                  \
    "SELECT p.id, coalesce(" SQL_CUT("p.key", "40") ", '(none)') AS key,"                          \
    " " SQL_AT("p.created_at") " AS created_at, p.attempts, " SQL_CUT("p.error", "70") " AS error," \
    " " SQL_AT("p.retry_asked_at") " AS retry_asked_at FROM (" SQL_PARKED_MESSAGES ") AS p"

/* --- retry and discard ----------------------------------------------------- */

/* The functions check the state, and write the audit in the same transaction.
 * The first column is how many keys are to be tried. */
#define SQL_OUTBOX_RETRY                                                                           \
    "SELECT 1, pg_catalog.json_build_object('topic', $1::text, 'key', $2::text,"                   \
    "       'request', 'retry')::text FROM outbox.retry($1, $2, $3)"
#define SQL_OUTBOX_RETRY_ALL                                                                       \
    "WITH pair AS (SELECT k.key FROM outbox.parked_key k WHERE k.topic = $1"                       \
    "     UNION ALL SELECT NULL WHERE EXISTS (SELECT FROM outbox.parked m"                         \
    "                                          WHERE m.topic = $1 AND m.key IS NULL)),"            \
    " asked AS MATERIALIZED (SELECT outbox.retry($1, pair.key, $2) FROM pair)"                     \
    " SELECT count(*)::integer, pg_catalog.json_build_object('topic', $1::text,"                   \
    "        'keys', count(*), 'request', 'retry')::text FROM asked"
#define SQL_OUTBOX_DISCARD                                                                         \
    "SELECT pg_catalog.json_build_object('id', $1::uuid, 'discarded', true)::text"                 \
    "  FROM outbox.discard($1, $2)"

/* --- show ------------------------------------------------------------------- */

#define SQL_MESSAGE                                                                                \
    "SELECT m.status, m.id, m.topic, m.key, m.payload_bytes,"                                      \
    " pg_catalog.replace(m.headers, E'\\n', ', ') AS headers,"                                      \
    " " SQL_AT("m.created_at") " AS created_at, " SQL_AT("m.deliver_at") " AS deliver_at,"         \
    " " SQL_AT("m.parked_at") " AS parked_at, m.error, m.attempts,"                                \
    " " SQL_AT("m.retry_asked_at") " AS retry_asked_at, m.stream, m.seq"                           \
    " FROM outbox.show($1) AS m"
#define SQL_MESSAGE_PAYLOADS                                                                       \
    "SELECT coalesce(m.payload, m.payload_hex), m.payload IS NULL FROM outbox.show($1, true) m"
#define SQL_MESSAGE_KAFKA                                                                          \
    "SELECT k.partition, k.first_offset, k.last_offset,"                                           \
    " " SQL_AT("k.published_at") " AS published_at, k.passed_by, k.awaits"                         \
    " FROM outbox.where_in_kafka($1) AS k"
#define SQL_MESSAGE_AUDIT                                                                          \
    "SELECT " SQL_AT("a.at") " AS at, a.who, a.verb, a.reason FROM outbox.audit a"                 \
    " WHERE a.message_id = $1 OR (a.message_id IS NULL AND EXISTS (SELECT FROM outbox.parked p"    \
    "       WHERE p.message_id = $1 AND p.topic = a.topic"                                         \
    "         AND p.key IS NOT DISTINCT FROM a.key AND p.parked_at <= a.at)) ORDER BY a.id"
#define SQL_MESSAGE_JSON                                                                           \
    "SELECT pg_catalog.json_build_object("                                                         \
    "'messages', (SELECT coalesce(pg_catalog.json_agg(m), '[]') FROM outbox.show($1, $2) AS m),"   \
    "'kafka', (SELECT coalesce(pg_catalog.json_agg(k), '[]') FROM outbox.where_in_kafka($1) k),"   \
    "'audit', " SQL_JSON_ROWS(SQL_MESSAGE_AUDIT) ")::text"

/* --- audit ------------------------------------------------------------------ */

#define SQL_OUTBOX_AUDIT                                                                           \
    "SELECT " SQL_AT("a.at") " AS at, a.who, a.verb, a.topic, a.key, a.message_id, a.reason"       \
    "  FROM outbox.audit a ORDER BY a.id DESC LIMIT $1"

/* clang-format on */

#endif
