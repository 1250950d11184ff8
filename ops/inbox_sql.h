/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of sagactl's verbs for the inbox.
 */
#ifndef OPS_INBOX_SQL_H
#define OPS_INBOX_SQL_H

#include "ops/sql.h"

/* A key is bytes. As it is shown it can be typed again. */
#define SQL_KEY(key) "pg_catalog.encode(" key ", 'escape')"

/* --- the quarantine; $1 limit, $2 consumer or NULL ---------------------------- */

#define SQL_HELD                                                                                   \
    "SELECT q.id, q.consumer, q.reason, q.message_id, q.topic, q.partition, q.\"offset\","         \
    "       " SQL_KEY("q.key") " AS key, q.received_at"                                            \
                               "  FROM idempotency.quarantine q"                                   \
                               " WHERE q.state = 'held' AND ($2::text IS NULL OR q.consumer = "    \
                               "$2) ORDER BY q.id LIMIT $1"
#define SQL_HELD_SHORT                                                                             \
    "SELECT h.id, " SQL_CUT(                                                                       \
        "h.consumer", "30") " AS consumer, h.message_id,"                                          \
                            " " SQL_CUT("h.topic",                                                 \
                                        "30") " AS topic, h.partition, h.\"offset\","              \
                                              " " SQL_AT("h.received_at") " AS since, " SQL_CUT(   \
                                                  "h.reason", "70") " AS reason"                   \
                                                                    " FROM (" SQL_HELD ") AS h"
#define SQL_RELEASE                                                                                \
    "SELECT pg_catalog.json_build_object('id', $1::bigint, 'released', true)::text"                \
    "  FROM idempotency.release($1, $2)"
#define SQL_REJECT                                                                                 \
    "SELECT pg_catalog.json_build_object('id', $1::bigint, 'rejected', true)::text"                \
    "  FROM idempotency.reject($1, $2)"

/* --- what is parked; $1 limit, $2 consumer or NULL, $3 topic or NULL ---------- */

#define SQL_INBOX_PARKED                                                                           \
    "SELECT p.consumer, p.topic, " SQL_KEY(                                                        \
        "p.key") " AS key, p.message_id AS id, p.attempts,"                                        \
                 "       p.parked_at, p.error,"                                                    \
                 "       coalesce(p.request, k.request) IS NOT NULL AS retry_asked"                \
                 "  FROM idempotency.parked p"                                                     \
                 "       LEFT JOIN idempotency.parked_key k"                                       \
                 "              ON k.consumer = p.consumer AND k.topic = p.topic AND k.key = "     \
                 "p.key"                                                                           \
                 " WHERE ($2::text IS NULL OR p.consumer = $2) AND ($3::text IS NULL OR p.topic "  \
                 "= $3)"                                                                           \
                 " ORDER BY p.id LIMIT $1"
#define SQL_INBOX_PARKED_SHORT                                                                     \
    "SELECT " SQL_CUT("p.consumer", "30") " AS consumer, " SQL_CUT(                                \
        "p.topic", "30") " AS topic,"                                                              \
                         " coalesce(" SQL_CUT(                                                     \
                             "p.key",                                                              \
                             "40") ", '(none)') AS key, p.id, p.attempts,"                         \
                                   " " SQL_AT("p.parked_at") " AS since,"                          \
                                                             " coalesce(" SQL_CUT(                 \
                                                                 "p.error",                        \
                                                                 "70") ", '(its key waits)') AS "  \
                                                                       "error, p.retry_asked"      \
                                                                       " FROM (" SQL_INBOX_PARKED  \
                                                                       ") AS p"
#define SQL_INBOX_RETRY                                                                            \
    "SELECT pg_catalog.json_build_object('consumer', $1::text, 'topic', $2::text,"                 \
    "       'key', $3::text, 'request', 'retry')::text"                                            \
    "  FROM idempotency.retry($1, $2, pg_catalog.decode($3, 'escape'), $4)"
#define SQL_INBOX_RETRY_ALL                                                                        \
    "SELECT pg_catalog.json_build_object('consumer', $1::text, 'topic', $2::text,"                 \
    "       'keys', a.keys, 'without_key', a.without_key, 'request', 'retry')::text,"              \
    "       pg_catalog.format('retry is asked for (keys: %s; messages without a key: %s); the"     \
    " consumer carries it out (sagactl inbox parked shows what is left)', a.keys, a.without_key)"  \
    "  FROM idempotency.retry_all($1, $2, $3) AS a"
#define SQL_INBOX_DISCARD                                                                          \
    "SELECT pg_catalog.json_build_object('consumer', $1::text, 'id', $2::uuid,"                    \
    "       'discarded', true)::text FROM idempotency.discard($1, $2, $3)"

/* --- commands in hand; $1 limit, $2 consumer or NULL ----------------------------- */

#define SQL_WAITING                                                                                \
    "SELECT * FROM idempotency.waiting w"                                                          \
    " WHERE $2::text IS NULL OR w.consumer = $2 ORDER BY w.since LIMIT $1"
/* The token says consumer, saga, step and action. */
#define SQL_WAITING_SHORT                                                                          \
    "SELECT pg_catalog.date_trunc('seconds', w.waited) AS waited, " SQL_AT(                        \
        "w.since") " AS since,"                                                                    \
                   " w.token FROM (" SQL_WAITING ") AS w"

/* clang-format off */

/* --- one message; $1 its id or NULL, $2 its number in the quarantine or NULL, $3 payload, too? ---- */

/* A message has a row for each consumer, and one for each time that it was quarantined. */
#define SQL_INBOX_FOUND                                                                            \
    "SELECT 'parked' AS status, p.consumer, NULL::bigint AS number, p.message_id AS id, p.topic,"  \
    "       p.partition, p.\"offset\", p.key, p.headers, p.payload, p.parked_at AS since,"         \
    "       p.attempts, coalesce(p.error, 'its key waits: ' || k.error) AS error,"                 \
    "       coalesce(p.request, k.request) IS NOT NULL AS retry_asked"                             \
    "  FROM idempotency.parked p"                                                                  \
    "       LEFT JOIN idempotency.parked_key k USING (consumer, topic, key)"                       \
    " WHERE p.message_id = $1"                                                                     \
    " UNION ALL "                                                                                  \
    "SELECT CASE q.state WHEN 'held' THEN 'quarantined' ELSE q.state END, q.consumer, q.id,"       \
    "       q.message_id, q.topic, q.partition, q.\"offset\", q.key, q.headers, q.payload,"        \
    "       q.received_at, NULL, q.reason, NULL"                                                   \
    "  FROM idempotency.quarantine q WHERE q.message_id = $1 OR q.id = $2"                         \
    " UNION ALL "                                                                                  \
    "SELECT CASE WHEN EXISTS (SELECT FROM idempotency.audit a WHERE a.verb = 'discard'"            \
    "                            AND a.consumer = i.consumer AND a.message_id = $1)"               \
    "            THEN 'discarded' ELSE 'applied' END, i.consumer, NULL, i.message_id, i.topic,"    \
    "       i.partition, i.\"offset\", NULL, NULL, NULL, i.received_at, NULL, NULL, NULL"          \
    "  FROM (SELECT consumer, message_id, topic, partition, \"offset\", received_at"               \
    "          FROM idempotency.inbox WHERE message_id = $1 UNION ALL "                            \
    "        SELECT consumer, message_id, topic, partition, \"offset\", received_at"               \
    "          FROM idempotency.inbox_foreign WHERE message_id = $1) AS i"                         \
    " WHERE NOT EXISTS (SELECT FROM idempotency.parked p WHERE p.consumer = i.consumer"            \
    "                      AND p.message_id = i.message_id)"
#define SQL_INBOX_MESSAGE                                                                          \
    "SELECT f.status, f.consumer, f.number, f.id, f.topic, f.partition, f.\"offset\","             \
    " " SQL_KEY("f.key") " AS key, f.headers, pg_catalog.octet_length(f.payload) AS payload_bytes,"\
    " CASE WHEN $3 THEN outbox.as_text(f.payload) END AS payload,"                                 \
    " CASE WHEN $3 AND outbox.as_text(f.payload) IS NULL"                                          \
    "      THEN pg_catalog.encode(f.payload, 'hex') END AS payload_hex,"                           \
    " f.since, f.attempts, f.error, f.retry_asked"                                                 \
    " FROM (" SQL_INBOX_FOUND ") AS f ORDER BY f.consumer, f.since"
#define SQL_INBOX_IS_KNOWN "SELECT FROM (" SQL_INBOX_FOUND ") AS f LIMIT 1"
#define SQL_INBOX_MESSAGE_SHORT                                                                    \
    "SELECT m.status, m.consumer, m.number, m.id, m.topic, m.partition, m.\"offset\", m.key,"      \
    " (SELECT pg_catalog.string_agg(m.headers[n] || coalesce(': ' || m.headers[n + 1], ''), ', '"  \
    "    ORDER BY n)"                                                                              \
    "    FROM pg_catalog.generate_series(1, pg_catalog.cardinality(m.headers), 2) AS n) AS headers,"\
    " m.payload_bytes, " SQL_AT("m.since") " AS since, m.attempts, m.error, m.retry_asked"         \
    " FROM (" SQL_INBOX_MESSAGE ") AS m"
#define SQL_INBOX_PAYLOADS                                                                         \
    "SELECT coalesce(m.payload, m.payload_hex), m.payload IS NULL"                                 \
    " FROM (" SQL_INBOX_MESSAGE ") AS m WHERE m.headers IS NOT NULL"

#define SQL_INBOX_AUDIT                                                                            \
    "SELECT " SQL_AT("a.at") " AS at, a.who, a.verb, a.consumer, a.topic,"                         \
    " " SQL_KEY("a.key") " AS key, a.message_id, a.reason"                                         \
    "  FROM idempotency.audit a ORDER BY a.id DESC LIMIT $1"

/* clang-format on */

#define SQL_HORIZON                                                                                \
    "SELECT h.oldest, h.newest, h.keep_inbox, h.keep_foreign, h.oldest_saga,"                      \
    "       h.keep_barrier, h.keep_guard,"                                                         \
    " (SELECT count(*) FROM idempotency.quarantine q WHERE q.state = 'held') AS quarantined,"      \
    " (SELECT count(*) FROM idempotency.parked) AS parked"                                         \
    " FROM idempotency.horizon h"

#endif
