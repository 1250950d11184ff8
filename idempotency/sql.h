/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of inbox and consumer.
 */
#ifndef IDEMPOTENCY_SQL_H
#define IDEMPOTENCY_SQL_H

/* Waits for a transaction that is at the same message: if that one rolls back,
 * the row is inserted after all. */
#define SQL_INBOX_RECEIVE                                                                          \
    "SELECT verdict FROM idempotency.receive($1, ARRAY[$2::uuid], ARRAY[$3::bytea],"               \
    " ARRAY[$4::text], ARRAY[$5::int4], ARRAY[$6::int8])"

#define SQL_INBOX_RECEIVE_MANY "SELECT n, verdict FROM idempotency.receive($1, $2, $3, $4, $5, $6)"

#define SQL_INBOX_KNOWN "SELECT ids, hashes FROM idempotency.known($1, $2, $3)"

/* Asked at once, so that a schema of another version shows before the first message: what the
 * statements below need that has not always been there, or may go. */
#define SQL_SCHEMA                                                                                 \
    "SELECT o.open_in, q.hash, k.request, p.request, h.keep_inbox,"                                \
    " 'idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[])'::regprocedure,"    \
    " 'idempotency.known(text, uuid[], boolean)'::regprocedure,"                                   \
    " 'idempotency.park(text, text, bytea, uuid, bytea, integer, bigint, text[], bytea, text,"     \
    " integer)'::regprocedure,"                                                                    \
    " 'idempotency.take_retried(text, text[], integer)'::regprocedure,"                            \
    " 'idempotency.clean_up(integer, integer)'::regprocedure"                                      \
    " FROM idempotency.inbox, idempotency.consumer_offset o, idempotency.quarantine q,"            \
    " idempotency.parked_key k, idempotency.parked p, idempotency.horizon h WHERE false"

/* The transaction of somebody who was stopped would hold the inbox row, and
 * with it his successor, for as long as the operating system keeps the
 * connection; and the successor does not wait for ever either. */
#define SQL_SESSION                                                                                \
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $1, false),"              \
    " pg_catalog.set_config('lock_timeout', $2, false)"

/* Which database this is. A promoted standby has the same system identifier and
 * another timeline; that is read from the WAL file's name, because the control
 * file lags behind. */
#define SQL_IDENTITY "SELECT " IDENTITY
#define IDENTITY                                                                                   \
    "pg_catalog.concat_ws('.', (SELECT system_identifier FROM"                                     \
    " pg_catalog.pg_control_system()),"                                                            \
    " pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, "   \
    "8),"                                                                                          \
    " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

/* No row: this consumer has never committed in that partition. */
#define SQL_OFFSET_READ                                                                            \
    "SELECT next_offset FROM idempotency.consumer_offset"                                          \
    " WHERE consumer = $1 AND topic = $2 AND partition = $3"

/*
 * A batch opens the offsets of the partitions that it touches, which must be
 * where this consumer left them: if one is not, somebody else has the partition,
 * or the database has gone back in time. Until they are closed again, COMMIT is
 * refused (idempotency.refuse_open_offset): a handler that commits would commit
 * the inbox rows of messages behind it, which then nobody would handle any more.
 *
 * What comes back are the ordinals of those that were found in their place. The
 * second one is for partitions without a row.
 */
#define SQL_OFFSETS_OPEN                                                                           \
    "UPDATE idempotency.consumer_offset o SET open_in = pg_catalog.pg_current_xact_id()"           \
    " FROM unnest($2::text[], $3::int4[], $4::int8[]) WITH ORDINALITY"                             \
    "  AS t (topic, partition, at, ordinality)"                                                    \
    " WHERE o.consumer = $1 AND o.topic = t.topic AND o.partition = t.partition"                   \
    "  AND o.next_offset = t.at RETURNING t.ordinality"
#define SQL_OFFSETS_MAKE                                                                           \
    "INSERT INTO idempotency.consumer_offset (consumer, topic, partition, next_offset, open_in)"   \
    " SELECT $1, t.topic, t.partition, t.at, pg_catalog.pg_current_xact_id()"                      \
    " FROM unnest($2::text[], $3::int4[], $4::int8[]) AS t (topic, partition, at)"                 \
    " ON CONFLICT DO NOTHING"

/* Touches nothing that this very transaction has not opened: a handler may have
 * rolled back and begun another one. */
#define SQL_OFFSETS_CLOSE                                                                          \
    "UPDATE idempotency.consumer_offset o"                                                         \
    " SET next_offset = t.next, updated_at = pg_catalog.clock_timestamp(), open_in = NULL"         \
    " FROM unnest($2::text[], $3::int4[], $4::int8[]) AS t (topic, partition, next)"               \
    " WHERE o.consumer = $1 AND o.topic = t.topic AND o.partition = t.partition"                   \
    "  AND o.open_in = pg_catalog.pg_current_xact_id()"

/* After the offset: who parks a key moves the offset with it. */
#define SQL_PARKED_KEYS "SELECT key FROM idempotency.parked_key WHERE consumer = $1 AND topic = $2"

#define SQL_PARK "SELECT idempotency.park($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"

/* Of duplicates that somebody waits for the answer to: they get it when they are
 * tried again. */
#define SQL_PARKED                                                                                 \
    "SELECT p.message_id FROM idempotency.parked p"                                                \
    " WHERE p.consumer = $1 AND p.message_id = ANY ($2)"

/* Cheap, and mostly no: both are partial indexes that are nearly always empty. And which database
 * answers: a pooler may have changed the server behind a connection that lives on. */
#define SQL_RETRY_ASKED                                                                            \
    "SELECT EXISTS (SELECT FROM idempotency.parked_key"                                            \
    " WHERE consumer = $1 AND request IS NOT NULL AND topic = ANY ($2))"                           \
    " OR EXISTS (SELECT FROM idempotency.parked"                                                   \
    " WHERE consumer = $1 AND request IS NOT NULL AND topic = ANY ($2)), " IDENTITY
#define SQL_TAKE_RETRIED                                                                           \
    "SELECT id, topic, key, message_id, hash, partition, \"offset\", headers, payload, attempts"   \
    " FROM idempotency.take_retried($1, $2)"

/* A handler that has rolled back has brought it back. */
#define SQL_STILL_PARKED "SELECT FROM idempotency.parked WHERE id = $1"
#define SQL_PARK_AGAIN   "SELECT idempotency.park_again($1, $2)"

/* Read again after a crash: kept once. */
#define SQL_QUARANTINE                                                                             \
    "INSERT INTO idempotency.quarantine (consumer, reason, message_id, topic, partition,"          \
    " \"offset\", hash, key, payload, headers)"                                                    \
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"

/* In milliseconds: how long an id of version 7 is known, and how long another one. */
#define SQL_HORIZON                                                                                \
    "SELECT (EXTRACT(epoch FROM keep_inbox) * 1000)::int8,"                                        \
    "       (EXTRACT(epoch FROM keep_foreign) * 1000)::int8 FROM idempotency.horizon"

/* One step of forgetting. */
#define SQL_CLEAN_UP "SELECT did, what, n, held_by FROM idempotency.clean_up()"

#endif
