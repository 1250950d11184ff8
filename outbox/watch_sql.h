/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements about what consumers have done, each with its reason. The
 * tables are in migrations/0014_outbox_consumed.up.sql.
 */
#ifndef OUTBOX_WATCH_SQL_H
#define OUTBOX_WATCH_SQL_H

/*
 * Goes in one transaction with a write of the cursor, before it. Fenced like
 * that one: of a relay that has been overtaken nothing is kept. The same
 * first_seq comes again while a range grows, and after a crash, with other
 * offsets; two of the same statement are put together first.
 */
#define SQL_RANGES_STORE                                                                           \
    "INSERT INTO outbox.published_range AS r (stream, streams, topic, partition, first_seq,"       \
    "       last_seq, first_offset, last_offset)"                                                  \
    " SELECT s.stream, s.streams, a.topic, a.partition, a.first_seq,"                              \
    "        max(a.last_seq), min(a.first_offset), max(a.last_offset)"                             \
    "   FROM (SELECT stream, streams FROM outbox.stream"                                           \
    "          WHERE stream = $1 AND owner = $2 AND epoch = $3 FOR NO KEY UPDATE) AS s,"           \
    "        ROWS FROM (pg_catalog.unnest($4::text[]), pg_catalog.unnest($5::integer[]),"          \
    "                   pg_catalog.unnest($6::bigint[]), pg_catalog.unnest($7::bigint[]),"         \
    "                   pg_catalog.unnest($8::bigint[]), pg_catalog.unnest($9::bigint[]))"         \
    "        AS a (topic, partition, first_seq, last_seq, first_offset, last_offset)"              \
    "  GROUP BY s.stream, s.streams, a.topic, a.partition, a.first_seq"                            \
    " ON CONFLICT (topic, partition, first_seq, stream, streams) DO UPDATE"                        \
    "   SET last_seq = greatest(r.last_seq, excluded.last_seq),"                                   \
    "       first_offset = least(r.first_offset, excluded.first_offset),"                          \
    "       last_offset = greatest(r.last_offset, excluded.last_offset)"

/* Before each of the statements below, in its transaction: whoever has locked
 * their tables delays what is known of consumers, and nothing else. */
#define SQL_WATCH_PATIENCE "SELECT pg_catalog.set_config('lock_timeout', '50ms', true)"

/*
 * Ranges that tell of nothing any more: of messages that are gone. They are
 * looked for now and then, and few at a time.
 */
#define SQL_RANGES_PURGE                                                                           \
    "DELETE FROM outbox.published_range WHERE ctid = ANY (ARRAY("                                  \
    "  SELECT ctid FROM outbox.published_range"                                                    \
    "   WHERE pg_catalog.int8range(first_seq, last_seq, '[]') OPERATOR(pg_catalog.<<)"             \
    "         pg_catalog.int8range(coalesce((SELECT min(seq) FROM outbox.message),"                \
    "             (SELECT last_value FROM outbox.message_seq_seq)), NULL)"                         \
    "   LIMIT 10000))"

/* Nobody is watched: ranges would be missing, and the old ones claim too much.
 * So would those of streams as they were divided before. */
#define SQL_RANGES_FORGET                                                                          \
    "DELETE FROM outbox.published_range r USING outbox.stream s"                                   \
    " WHERE s.stream = $1 AND (r.stream = s.stream OR r.streams <> s.streams)"
#define SQL_WATCHED_FORGET "DELETE FROM outbox.watched"

/*
 * What groups have committed, instead of what was known before. $5 are the
 * groups that have answered: of one that has not, what is known stays. $6 are
 * those that are watched at all.
 */
#define SQL_WATCHED_STORE                                                                          \
    "WITH now AS (SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]),"                         \
    "     pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::integer[]),"                        \
    "     pg_catalog.unnest($4::bigint[])) AS a (group_name, topic, partition, committed)),"       \
    " gone AS (DELETE FROM outbox.watched w WHERE group_name <> ALL ($6::text[])"                  \
    "     OR (group_name = ANY ($5::text[]) AND NOT EXISTS (SELECT FROM now"                       \
    "         WHERE now.group_name = w.group_name AND now.topic = w.topic"                         \
    "           AND now.partition = w.partition)))"                                                \
    " INSERT INTO outbox.watched AS w (group_name, topic, partition, committed)"                   \
    " SELECT * FROM now"                                                                           \
    "  WHERE pg_catalog.set_config('synchronous_commit', 'off', true) IS NOT NULL"                 \
    " ON CONFLICT (topic, group_name, partition) DO UPDATE"                                        \
    "   SET committed = excluded.committed, at = pg_catalog.clock_timestamp()"                     \
    " WHERE w.committed <> excluded.committed"

#endif
