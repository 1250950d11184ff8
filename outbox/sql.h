/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every SQL statement of the outbox, each with its reason. The tables are in
 * migrations/0010_outbox.up.sql.
 */
#ifndef OUTBOX_SQL_H
#define OUTBOX_SQL_H

#include <inttypes.h>

/* --- writing ----------------------------------------------------------- */

/*
 * Procedures of ours, so that a session plans the INSERT once: planning it each
 * time would double the price of a single message. $1 says that the caller
 * knows a transaction to be open; in pipeline mode only the server does.
 */
#define SQL_ENQUEUE_ONE "CALL outbox.enqueue_one($1, $2, $3, $4, $5, $6, $7)"
#define SQL_ENQUEUE_ALL "CALL outbox.enqueue_all($1, $2, $3, $4, $5, $6, $7)"

/* Where the sequence stands; one that was never used says 1 and not called. */
#define SQL_SEQUENCE_STANDS                                                                        \
    "       (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END"                   \
    "          FROM outbox.message_seq_seq)"

/* --- owning the stream ------------------------------------------------- */

/*
 * Where we are. The highest xid in the table is read before the stream is taken
 * and so before that transaction gets its own: a row can only have a later one
 * if the table comes from somewhere else. (No max(xid8) before PostgreSQL 15.)
 */
#define SQL_PLACE                                                                                  \
    "SELECT pg_catalog.pg_is_in_recovery(),"                                                       \
    "       (SELECT system_identifier FROM pg_catalog.pg_control_system()),"                       \
    "       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN"                                     \
    "           ('x' || pg_catalog.left(pg_catalog.pg_walfile_name("                               \
    "               pg_catalog.pg_current_wal_insert_lsn()), 8))::bit(32)::integer END,"           \
    "       (SELECT xid FROM outbox.message ORDER BY xid DESC LIMIT 1)"

/*
 * Who owns the stream, until when by the database's clock, how far it is
 * published, and how the streams are shared: how many its owner's instance and
 * $2, ours, have and are promised, and which is the last that nobody has asked
 * the owner's for. Nobody holds a lock while he owns it: behind a pooler no
 * session is his, and what a session held would be somebody else's.
 */
#define SQL_LEASE_LOOK                                                                             \
    "SELECT s.owner, s.epoch, s.lease_until > pg_catalog.clock_timestamp(),"                       \
    "       (1000 * extract(epoch FROM CASE WHEN s.lease_until > '-infinity'"                      \
    "           THEN s.lease_until - pg_catalog.clock_timestamp() END))::bigint,"                  \
    "       s.streams, s.instance, s.wanted IS DISTINCT FROM $2 AND s.wanted IS NOT NULL,"         \
    "       share.theirs, share.ours, share.last, s.system_identifier, s.timeline,"                \
    "       s.prev::text, s.floor_seq, s.floor_xid, s.cur::text, s.cur_floor_seq,"                 \
    "       s.cur_floor_xid, s.last_seq"                                                           \
    "  FROM outbox.stream s,"                                                                      \
    "       LATERAL (SELECT count(*) FILTER (WHERE o.instance = s.instance AND o.wanted IS NULL)," \
    "                       max(o.stream) FILTER (WHERE o.instance = s.instance"                   \
    "                                               AND o.wanted IS NULL),"                        \
    "                       count(*) FILTER (WHERE coalesce(o.wanted, o.instance) = $2)"           \
    "                  FROM outbox.stream o"                                                       \
    "                 WHERE o.lease_until > pg_catalog.clock_timestamp())"                         \
    "           AS share (theirs, last, ours)"                                                     \
    " WHERE s.stream = $1"
#define SQL_LEASE_LOCK SQL_LEASE_LOOK " FOR UPDATE OF s"

/* The locked row must not wait for a relay that is stopped in between. */
#define SQL_LEASE_HURRY                                                                            \
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $1, true)"

/* A commit whose wait for synchronous standbys is cancelled succeeds with a
 * warning, which the login's settings must not hide. */
#define SQL_SHOW_WARNINGS                                                                          \
    "pg_catalog.set_config('client_min_messages', 'warning', true) IS NOT NULL"
#define SQL_STANDBY_NAMES "SELECT pg_catalog.current_setting('synchronous_standby_names')"

/* The transaction's own xid is later than any that is in use, and the sequence
 * stands above every floor. */
#define SQL_LEASE_TAKE                                                                             \
    "UPDATE outbox.stream"                                                                         \
    "   SET owner = $2, epoch = epoch + 1, system_identifier = $4, timeline = $5,"                 \
    "       instance = $6, wanted = NULL, transactional = $7,"                                     \
    "       lease_until = pg_catalog.clock_timestamp() + $3 * interval '1 millisecond'"            \
    " WHERE stream = $1 AND " SQL_SHOW_WARNINGS                                                    \
    " RETURNING epoch, pg_catalog.pg_current_xact_id()," SQL_SEQUENCE_STANDS

/* Asks the owner for the stream; he sees it when he next writes his cursor. */
#define SQL_LEASE_ASK                                                                              \
    "UPDATE outbox.stream SET wanted = $3 WHERE stream = $1 AND epoch = $2 AND wanted IS NULL"     \
    "   AND pg_catalog.set_config('synchronous_commit', 'off', true) IS NOT NULL"

/* Unique among all databases that may use one Kafka; a standby that takes over
 * has the same. Two that share a prefix may be given rights by it. */
#define SQL_TRANSACTIONAL_ID                                                                       \
    "SELECT pg_catalog.concat_ws('-', 'outbox', c.system_identifier, d.oid, $1::integer)"          \
    "  FROM pg_catalog.pg_control_system() c, pg_catalog.pg_database d"                            \
    " WHERE d.datname = pg_catalog.current_database()"

/* --- moving the cursor ------------------------------------------------- */

/*
 * Every write of the cursor: the fence is owner, epoch and the position that
 * this relay wrote last, the lease is renewed, and $8 decides whether the commit
 * waits for the disk. A position that a crash takes back only means duplicates.
 */
#define SQL_CURSOR_UPDATE                                                                          \
    "UPDATE outbox.stream"                                                                         \
    "   SET lease_until = pg_catalog.clock_timestamp() + $7 * interval '1 millisecond'"
#define SQL_CURSOR_FENCE                                                                           \
    " WHERE stream = $1 AND owner = $2 AND epoch = $3 AND prev::text = $4"                         \
    "   AND cur::text IS NOT DISTINCT FROM $5 AND last_seq = $6"                                   \
    "   AND pg_catalog.set_config('synchronous_commit', $8, true) IS NOT NULL"
#define SQL_CURSOR_WANTED    " RETURNING wanted IS NOT NULL AS wanted"
#define SQL_CURSOR_RETURNING SQL_CURSOR_WANTED ", floor_xid, cur_floor_xid"

/* The floor: the sequence was read before, and now this transaction gets its
 * xid. Whoever has a later xid draws a later seq. */
#define SQL_CURSOR_BEGIN                                                                           \
    SQL_CURSOR_UPDATE                                                                              \
    ", cur = $9::pg_catalog.pg_snapshot, last_seq = 0, cur_floor_seq = $10,"                       \
    " cur_floor_xid = pg_catalog.pg_current_xact_id()" SQL_CURSOR_FENCE                            \
    " AND " SQL_SHOW_WARNINGS SQL_CURSOR_RETURNING
#define SQL_CURSOR_ADVANCE SQL_CURSOR_UPDATE ", last_seq = $9" SQL_CURSOR_FENCE SQL_CURSOR_RETURNING
#define SQL_CURSOR_FINISH                                                                          \
    SQL_CURSOR_UPDATE ", prev = cur, floor_seq = cur_floor_seq, floor_xid = cur_floor_xid,"        \
                      " cur = NULL, cur_floor_seq = NULL, cur_floor_xid = NULL,"                   \
                      " last_seq = 0" SQL_CURSOR_FENCE SQL_CURSOR_RETURNING
#define SQL_CURSOR_SKIP                                                                            \
    SQL_CURSOR_UPDATE                                                                              \
    ", prev = $9::pg_catalog.pg_snapshot, floor_seq = $10,"                                        \
    " floor_xid = pg_catalog.pg_current_xact_id()" SQL_CURSOR_FENCE SQL_CURSOR_RETURNING
#define SQL_CURSOR_RENEW SQL_CURSOR_UPDATE SQL_CURSOR_FENCE SQL_CURSOR_RETURNING

/* Where another instance has asked for the stream, it is kept for that for half
 * a lease; it looks more often. */
#define SQL_CURSOR_RELEASE                                                                         \
    "UPDATE outbox.stream"                                                                         \
    "   SET owner = NULL, instance = NULL,"                                                        \
    "       lease_until = CASE WHEN wanted IS NULL THEN '-infinity'"                               \
    "           ELSE pg_catalog.clock_timestamp() + $7 / 2 * interval '1 millisecond' "            \
    "END" SQL_CURSOR_FENCE SQL_CURSOR_RETURNING

/* --- what operators are told --------------------------------------------- */

/*
 * The view that people look at, a row for each stream and one for all; compiling
 * it (JIT) would take longer than reading it.
 */
#define SQL_STATUS_SETTINGS "SELECT pg_catalog.set_config('jit', 'off', true)"
#define SQL_STATUS                                                                                 \
    "SELECT s.stream, s.pending, coalesce(extract(epoch FROM s.lag) * 1000000, 0)::bigint,"        \
    "       s.parked_keys, s.parked, s.delayed,"                                                   \
    "       greatest(extract(epoch FROM clock_timestamp() - s.next_due) * 1000000, 0)::bigint"     \
    "  FROM outbox.status s ORDER BY s.stream"
#define SQL_STATUS_SLOTS                                                                           \
    "SELECT sum(s.bytes)::bigint,"                                                                 \
    "       (extract(epoch FROM clock_timestamp() - min(s.oldest)) * 1000000)::bigint"             \
    "  FROM outbox.slots s"

/* --- reading ----------------------------------------------------------- */

/*
 * Whether there is something new. In this order: the snapshot is the statement's
 * own; then where the sequence stands; then the end of the WAL, behind the commits of all that the
 * snapshot shows, and whether it is on disk up to there.
 */
#define SQL_LOOK                                                                                   \
    "SELECT pg_catalog.pg_current_snapshot()::text," SQL_SEQUENCE_STANDS ","                       \
    "       pg_catalog.pg_current_wal_insert_lsn() > pg_catalog.pg_current_wal_flush_lsn()"

/*
 * What a page's COPY is told, which takes no parameters, in the statement before
 * it, which is in the same transaction. As text in the COPY itself it would make
 * every page another statement to pg_stat_statements. And for its plan: there is
 * one good one, and costs that are guessed must not lead to another. Nothing
 * of it outlives the transaction: behind a pooler the session is somebody else's
 * the next moment. Numbers, snapshots and an array of numbers need no quoting.
 */
#define SQL_PAGE_SETTINGS                                                                          \
    "SELECT pg_catalog.set_config(name, value, true)"                                              \
    "  FROM (VALUES ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off'),"      \
    "               ('outbox.rows', '%" PRId32 "'), ('outbox.last', '%" PRId64 "'),"               \
    "               ('outbox.floor', '%" PRId64 "'), ('outbox.floor_xid', '%" PRIu64 "'),"         \
    "               ('outbox.prev', '%s'), ('outbox.cur', '%s'), ('outbox.late', '{%s}'),"         \
    "               ('outbox.stream', '%" PRId32 "'), ('outbox.streams', '%" PRId32 "'))"          \
    "       AS setting (name, value); "
#define SQL_SET(name)     "pg_catalog.current_setting('outbox." name "')"
#define SQL_SET_ROWS      SQL_SET("rows") "::pg_catalog.int8"
#define SQL_SET_LAST      SQL_SET("last") "::pg_catalog.int8"
#define SQL_SET_FLOOR     SQL_SET("floor") "::pg_catalog.int8"
#define SQL_SET_FLOOR_XID SQL_SET("floor_xid") "::pg_catalog.xid8"
#define SQL_SET_PREV      SQL_SET("prev") "::pg_catalog.pg_snapshot"
#define SQL_SET_CUR       SQL_SET("cur") "::pg_catalog.pg_snapshot"
#define SQL_SET_LATE      SQL_SET("late") "::pg_catalog.text[]"
#define SQL_SET_STREAM    SQL_SET("stream") "::pg_catalog.int4"
#define SQL_SET_STREAMS   SQL_SET("streams") "::pg_catalog.int4"

/* The rows in the order of seq. If it ends before they do, at any row, the next
 * page goes on behind that. */
#define SQL_PAGE(rows) "COPY (" rows ") TO STDOUT (FORMAT binary)"
#define SQL_PAGE_MERGED(parts)                                                                     \
    SQL_PAGE("SELECT * FROM (" parts ") AS page ORDER BY seq LIMIT " SQL_SET_ROWS)

/* The length of headers, which are not NULL, ends the topic with a zero byte. */
#define SQL_PAGE_COLUMNS "m.seq, m.message_id, m.topic, m.headers, m.key, m.payload, m.created_at"

/*
 * What is added to a page's statement where there are several streams: only the
 * rows of this one, out of so many. With one stream nothing is added.
 */
#define SQL_OF_ALL_STREAMS ""
#define SQL_OF_STREAM                                                                              \
    " AND outbox.stream_of(m.key, m.message_id, (SELECT " SQL_SET_STREAMS "))"                     \
    "     = (SELECT " SQL_SET_STREAM ")"

/*
 * Rows of transactions that prev saw running and that have ended since. The
 * index on (xid, seq) gives those of each in order, and the comparison of whole
 * rows leaves the planner no other: after one large transaction it would
 * believe that every xid has so many rows, and walk along seq.
 */
#define SQL_PAGE_LATE(of_stream)                                                                   \
    "(SELECT late.* FROM pg_catalog.unnest(" SQL_SET_LATE ") AS ended (xid),"                      \
    " LATERAL (SELECT " SQL_PAGE_COLUMNS " FROM outbox.message m"                                  \
    "           WHERE (m.xid, m.seq) > (ended.xid::xid8, " SQL_SET_LAST ")"                        \
    "             AND (m.xid, m.seq) <= (ended.xid::xid8, " SQL_SET_FLOOR ")" of_stream            \
    "           ORDER BY m.xid, m.seq LIMIT " SQL_SET_ROWS ") AS late"                             \
    " ORDER BY late.seq LIMIT " SQL_SET_ROWS ")"

/*
 * Rows below the floor of transactions that began between prev and the floor.
 * A statement of its own, and seq hidden in an expression: the way in is the
 * index on xid, never a walk along seq from the beginning of the table.
 */
#define SQL_PAGE_EDGE(of_stream)                                                                   \
    "(SELECT " SQL_PAGE_COLUMNS " FROM outbox.message m"                                           \
    "  WHERE m.xid >= pg_catalog.pg_snapshot_xmax(" SQL_SET_PREV ")"                               \
    "    AND m.xid <= (" SQL_SET_FLOOR_XID ")"                                                     \
    "    AND m.seq + 0 > (SELECT " SQL_SET_LAST ")"                                                \
    "    AND m.seq + 0 <= (SELECT " SQL_SET_FLOOR ")"                                              \
    "    AND pg_catalog.pg_visible_in_snapshot(m.xid, (SELECT " SQL_SET_CUR "))" of_stream         \
    "  ORDER BY m.seq LIMIT " SQL_SET_ROWS ")"

/*
 * Rows above the floor that cur shows and prev does not. The snapshots are in
 * subqueries so that they are read from their texts once. In a backlog the first
 * comparison of each pair decides for nearly all rows, and costs less.
 */
#define SQL_PAGE_NEW(of_stream)                                                                    \
    "(SELECT " SQL_PAGE_COLUMNS " FROM outbox.message m"                                           \
    "  WHERE m.seq > GREATEST(" SQL_SET_LAST ", " SQL_SET_FLOOR ")"                                \
    "    AND (m.xid >= (SELECT pg_catalog.pg_snapshot_xmax(" SQL_SET_PREV "))"                     \
    "         OR NOT pg_catalog.pg_visible_in_snapshot(m.xid, (SELECT " SQL_SET_PREV ")))"         \
    "    AND (m.xid < (SELECT pg_catalog.pg_snapshot_xmin(" SQL_SET_CUR "))"                       \
    "         OR pg_catalog.pg_visible_in_snapshot(m.xid, (SELECT " SQL_SET_CUR ")))" of_stream    \
    "  ORDER BY m.seq LIMIT " SQL_SET_ROWS ")"

/* What a page may consist of. */
#define SQL_AND " UNION ALL "
#define SQL_PAGES(of_stream)                                                                       \
    {                                                                                              \
        SQL_PAGE(SQL_PAGE_NEW(of_stream)), SQL_PAGE(SQL_PAGE_EDGE(of_stream)),                     \
            SQL_PAGE_MERGED(SQL_PAGE_EDGE(of_stream) SQL_AND SQL_PAGE_NEW(of_stream)),             \
            SQL_PAGE_MERGED(SQL_PAGE_LATE(of_stream) SQL_AND SQL_PAGE_EDGE(of_stream)),            \
            SQL_PAGE_MERGED(SQL_PAGE_LATE(of_stream) SQL_AND SQL_PAGE_EDGE(of_stream)              \
                                SQL_AND SQL_PAGE_NEW(of_stream))                                   \
    }

/* --- parking ------------------------------------------------------------ */

/*
 * The rows that are parked go where they belong in the statement in which the
 * cursor passes them, and from table to table: no payload travels. Row by row
 * by the index on seq, whatever the planner believes of the array's length. A
 * row that is there already was read a second time after a takeover. For pairs
 * that are there already, ON CONFLICT would wait for operators' transactions.
 */
#define SQL_CURSOR_PARK                                                                            \
    "WITH passed AS (" SQL_CURSOR_UPDATE ", last_seq = $9" SQL_CURSOR_FENCE SQL_CURSOR_WANTED ")," \
    " parked AS ("                                                                                 \
    "    INSERT INTO outbox.parked (seq, message_id, topic, key, headers, payload, created_at,"    \
    "                               error, attempts)"                                              \
    "    SELECT m.seq, m.message_id, m.topic, m.key, m.headers, m.payload, m.created_at,"          \
    "           coalesce(item.error, 'waits behind an earlier message of its key'),"               \
    "           CASE WHEN item.error IS NULL THEN 0 ELSE 1 END"                                    \
    "      FROM passed, ROWS FROM (pg_catalog.unnest($10::bigint[]),"                              \
    "                              pg_catalog.unnest($11::text[])) AS item (seq, error),"          \
    "           LATERAL (SELECT * FROM outbox.message WHERE seq = item.seq OFFSET 0) AS m"         \
    "    ON CONFLICT (seq) DO NOTHING"                                                             \
    "    RETURNING seq, topic, key, error),"                                                       \
    " keys AS ("                                                                                   \
    "    INSERT INTO outbox.parked_key (topic, key, error)"                                        \
    "    SELECT DISTINCT ON (p.topic, p.key) p.topic, p.key, p.error FROM parked p"                \
    "     WHERE p.key IS NOT NULL AND NOT EXISTS (SELECT FROM outbox.parked_key k"                 \
    "                                              WHERE k.topic = p.topic AND k.key = p.key)"     \
    "     ORDER BY p.topic, p.key, p.seq)"                                                         \
    " SELECT wanted FROM passed"

/* What the owner of stream $1 of $2 has to know of what is parked. */
#define SQL_PARKED_KEYS                                                                            \
    "SELECT topic, key FROM outbox.parked_key WHERE outbox.stream_of(key, NULL, $2) = $1"
#define SQL_PARKED_KEYLESS                                                                         \
    "SELECT EXISTS (SELECT FROM outbox.parked"                                                     \
    "                WHERE key IS NULL AND outbox.stream_of(NULL, message_id, $2) = $1)"

/* The oldest request; of messages without a key, each has its own. */
#define SQL_RETRY_NEXT                                                                             \
    "SELECT topic, key, request"                                                                   \
    "  FROM ((SELECT topic, key, request FROM outbox.parked_key"                                   \
    "          WHERE request IS NOT NULL AND outbox.stream_of(key, NULL, $2) = $1"                 \
    "          ORDER BY request LIMIT 1)"                                                          \
    "        UNION ALL"                                                                            \
    "        (SELECT topic, NULL, request FROM outbox.parked"                                      \
    "          WHERE request IS NOT NULL AND outbox.stream_of(NULL, message_id, $2) = $1"          \
    "          ORDER BY request LIMIT 1)) AS asked"                                                \
    " ORDER BY request LIMIT 1"

/*
 * A page of parked rows: the rows of `inner` in the order of seq, at most $1,
 * cut before the one that goes beyond $2 bytes. Sizes are known without
 * fetching what is stored apart.
 */
#define SQL_RETRY_PAGE(inner)                                                                      \
    "SELECT seq, message_id, topic, headers, key, payload, created_at"                             \
    "  FROM (SELECT rows.*, sum(size) OVER (ORDER BY seq ROWS UNBOUNDED PRECEDING) AS bytes"       \
    "          FROM (SELECT " SQL_PAGE_COLUMNS ", 200 + pg_catalog.pg_column_size(m.headers)"      \
    "                    + coalesce(pg_catalog.octet_length(m.payload), 0) AS size"                \
    "                  FROM outbox.parked m " inner ") AS rows) AS page"                           \
    " WHERE bytes - size < $2 ORDER BY seq"
#define SQL_RETRY_PAGE_KEY                                                                         \
    SQL_RETRY_PAGE("WHERE m.topic = $3 AND m.key = $4 ORDER BY m.seq LIMIT $1")
#define SQL_RETRY_PAGE_KEYLESS                                                                     \
    SQL_RETRY_PAGE("WHERE m.topic = $3 AND m.key IS NULL AND m.request IS NOT NULL"                \
                   "   AND outbox.stream_of(NULL, m.message_id, $5) = $4"                          \
                   " ORDER BY m.seq LIMIT $1")

/* Published ($9) is gone. $10 is the row that was refused again, if any: it
 * stays with its new error, and the request is answered. */
#define SQL_RETRY_STORE                                                                            \
    "WITH owner AS (" SQL_CURSOR_UPDATE SQL_CURSOR_FENCE SQL_CURSOR_WANTED "),"                    \
    " published AS ("                                                                              \
    "    DELETE FROM outbox.parked p USING owner WHERE p.seq = ANY ($9::bigint[])),"               \
    " refused AS ("                                                                                \
    "    UPDATE outbox.parked p SET error = $11, attempts = attempts + 1, request = NULL"          \
    "      FROM owner WHERE p.seq = $10 RETURNING p.topic, p.key),"                                \
    " answered AS ("                                                                               \
    "    UPDATE outbox.parked_key k SET error = $11, request = NULL"                               \
    "      FROM refused r WHERE k.topic = r.topic AND k.key = r.key)"                              \
    " SELECT wanted FROM owner"

/* Nothing is left of the pair; only the owner could have added to it. */
#define SQL_RETRY_RELEASE                                                                          \
    "WITH owner AS (" SQL_CURSOR_UPDATE SQL_CURSOR_FENCE SQL_CURSOR_WANTED "),"                    \
    " released AS ("                                                                               \
    "    DELETE FROM outbox.parked_key k USING owner WHERE k.topic = $9 AND k.key = $10)"          \
    " SELECT wanted FROM owner"

/* --- chores ------------------------------------------------------------ */

#define SQL_DELIVER_DUE                                                                            \
    "SELECT more, last, last_n FROM outbox.deliver_due(max => $1, after => $2, after_n => $3)"
#define SQL_CLEAN_UP "SELECT slot, did, held_by FROM outbox.clean_up($1)"

#endif
