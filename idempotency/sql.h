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

/* Asked at once, so that a missing schema shows before the first message. */
#define SQL_SCHEMA                                                                                 \
    "SELECT FROM idempotency.inbox, idempotency.consumer_offset, idempotency.quarantine LIMIT 0"

/* The transaction of somebody who was stopped would hold the inbox row, and
 * with it his successor, for as long as the operating system keeps the
 * connection; and the successor does not wait for ever either. */
#define SQL_SESSION                                                                                \
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $1, false),"              \
    " pg_catalog.set_config('lock_timeout', $2, false)"

/* Which database this is. A promoted standby has the same system identifier and
 * another timeline; that is read from the WAL file's name, because the control
 * file lags behind. */
#define SQL_IDENTITY                                                                               \
    "SELECT pg_catalog.concat_ws('.', (SELECT system_identifier FROM"                              \
    " pg_catalog.pg_control_system()),"                                                            \
    " pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, "   \
    "8),"                                                                                          \
    " (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))"

/* No row: this consumer has never committed in that partition. */
#define SQL_OFFSET_READ                                                                            \
    "SELECT next_offset FROM idempotency.consumer_offset"                                          \
    " WHERE consumer = $1 AND topic = $2 AND partition = $3"

/*
 * Moves the offset from $4 (NULL: there was no row) to $5, and touches nothing
 * if it is not at $4: then somebody else has the partition, or the database
 * has gone back in time. Second column: whether the inbox row of message $6
 * (NULL: none is expected) was written by this very transaction; a handler
 * that has committed and begun another one would have its work counted twice.
 */
#define SQL_OFFSET_MOVE                                                                            \
    "WITH mine AS (SELECT $6::uuid IS NULL OR EXISTS ("                                            \
    "  SELECT FROM idempotency.inbox WHERE consumer = $1 AND message_id = $6"                      \
    "  AND slot = (idempotency.day_of(pg_catalog.uuid_send($6)) % 32)::int2"                       \
    "  AND xmin = pg_catalog.pg_current_xact_id()::xid) OR EXISTS ("                               \
    "  SELECT FROM idempotency.inbox_foreign WHERE consumer = $1 AND message_id = $6"              \
    "  AND xmin = pg_catalog.pg_current_xact_id()::xid) AS mine),"                                 \
    " moved AS (INSERT INTO idempotency.consumer_offset AS o"                                      \
    "  (consumer, topic, partition, next_offset)"                                                  \
    "  SELECT $1, $2, $3, $5 FROM mine WHERE mine AND ($4::int8 IS NULL OR EXISTS ("               \
    "   SELECT FROM idempotency.consumer_offset"                                                   \
    "   WHERE consumer = $1 AND topic = $2 AND partition = $3))"                                   \
    "  ON CONFLICT (consumer, topic, partition) DO UPDATE"                                         \
    "  SET next_offset = EXCLUDED.next_offset, updated_at = pg_catalog.clock_timestamp()"          \
    "  WHERE o.next_offset = $4 RETURNING 1)"                                                      \
    " SELECT EXISTS (SELECT FROM moved), mine FROM mine"

/* Read again after a crash: kept once. */
#define SQL_QUARANTINE                                                                             \
    "INSERT INTO idempotency.quarantine (consumer, reason, message_id, topic, partition,"          \
    " \"offset\", hash, key, payload, headers)"                                                    \
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING"

#endif
