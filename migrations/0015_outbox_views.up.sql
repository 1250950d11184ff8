-- SPDX-License-Identifier: Apache-2.0
--
-- The outbox as people look at it.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- A table that nobody has analysed counts as ten pages full.
ANALYZE outbox.stream;

-- There are two ways in, so that neither published messages nor a transaction
-- that is open for long make it slow. Above the place up to which the stream is
-- published, by seq: nearly everything there is pending. Below it, by xid: only
-- transactions that prev or cur saw running, or that began between one of them
-- and its floor. (Bounds that always hold make the planner expect few rows, which
-- is right, and not a third of the table or, after one large transaction, all of
-- it; the inner ORDER BY keeps it to the index that we mean. What it expects
-- decides about compiling, too, which takes a hundred times as long as the query.)
CREATE VIEW outbox.pending AS
    SELECT s.stream, m.seq, m.message_id, m.topic, m.key, m.payload, m.created_at
      FROM outbox.stream s
           CROSS JOIN LATERAL (
               SELECT * FROM outbox.message m
                WHERE m.seq > greatest(s.floor_seq, s.last_seq) AND m.seq <= 9223372036854775807
                ORDER BY m.seq OFFSET 0) AS m
     WHERE outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
       AND NOT pg_visible_in_snapshot(m.xid, s.prev)
    UNION ALL
    SELECT s.stream, m.seq, m.message_id, m.topic, m.key, m.payload, m.created_at
      FROM outbox.stream s
           CROSS JOIN LATERAL (
               SELECT x, x FROM unnest(ARRAY(SELECT pg_snapshot_xip(s.prev))) AS x
               UNION ALL SELECT pg_snapshot_xmax(s.prev), s.floor_xid
               UNION ALL SELECT x, x FROM unnest(ARRAY(SELECT pg_snapshot_xip(s.cur))) AS x
                          WHERE x > s.floor_xid
               UNION ALL SELECT pg_snapshot_xmax(s.cur), s.cur_floor_xid) AS late (low, high)
           CROSS JOIN LATERAL (
               SELECT * FROM outbox.message m
                WHERE m.xid >= late.low AND m.xid <= late.high
                  AND m.seq > 0 * s.floor_seq AND m.seq <= greatest(s.floor_seq, s.last_seq)
                ORDER BY m.xid, m.seq OFFSET 0) AS m
     WHERE outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
       AND NOT pg_visible_in_snapshot(m.xid, s.prev)
       AND NOT (s.cur IS NOT NULL AND m.seq <= s.last_seq
                AND pg_visible_in_snapshot(m.xid, s.cur));

COMMENT ON VIEW outbox.pending IS
    'committed messages that Kafka has not acknowledged; part of outbox.local_messages';
COMMENT ON COLUMN outbox.pending.stream IS 'stream that will publish it';

-- A message has been consumed if every range that covers it has been, and there
-- is one; and a range, if every watched group that consumes the topic has
-- committed an offset behind it. One that may still grow is not looked at yet.
CREATE VIEW outbox.published AS
    SELECT s.stream, m.seq, m.message_id, m.topic, m.key, m.payload, m.created_at,
           (SELECT EXISTS (SELECT FROM outbox.watched))
           AND coalesce((
               SELECT bool_and(r.at < clock_timestamp() - interval '1 second' AND (
                          SELECT count(*) FILTER (WHERE w.partition = r.partition
                                                        AND w.committed > r.last_offset)
                                 = nullif(count(DISTINCT w.group_name), 0)
                            FROM outbox.watched w WHERE w.topic = r.topic) IS TRUE)
                 FROM outbox.published_range r
                WHERE int8range(r.first_seq, r.last_seq, '[]') @> m.seq AND r.topic = m.topic
                  AND outbox.stream_of(m.key, m.message_id, r.streams) = r.stream),
               false) AS consumed
      FROM outbox.stream s, outbox.message m
     WHERE outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
       AND (pg_visible_in_snapshot(m.xid, s.prev)
            OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                AND pg_visible_in_snapshot(m.xid, s.cur)))
       -- What the relay has passed without publishing it.
       AND NOT EXISTS (SELECT FROM outbox.parked p WHERE p.seq = m.seq)
       AND NOT EXISTS (SELECT FROM outbox.audit a
                        WHERE a.message_id = m.message_id AND a.verb = 'discard');

COMMENT ON VIEW outbox.published IS
    'messages that Kafka has acknowledged; part of outbox.local_messages';
COMMENT ON COLUMN outbox.published.stream IS 'stream that has published it';
COMMENT ON COLUMN outbox.published.consumed IS
    'the watched groups that consume its topic have committed offsets behind it';

-- The status is a constant in each branch: who asks for one reads no other.
CREATE VIEW outbox.local_messages AS
    SELECT message_id AS id, topic, key, payload, 'pending' AS status, created_at
      FROM outbox.pending
    UNION ALL
    SELECT message_id, topic, key, payload, 'published', created_at
      FROM outbox.published WHERE NOT consumed
    UNION ALL
    SELECT message_id, topic, key, payload, 'consumed', created_at
      FROM outbox.published WHERE consumed
    UNION ALL
    SELECT message_id, topic, key, payload, 'delayed', created_at FROM outbox.delayed
    UNION ALL
    SELECT message_id, topic, key, payload, 'parked', created_at FROM outbox.parked;

COMMENT ON VIEW outbox.local_messages IS
    'the messages that this database has written, and what has become of them; without those that '
    'were given up by outbox.discard()';
COMMENT ON COLUMN outbox.local_messages.id IS 'message-id';
COMMENT ON COLUMN outbox.local_messages.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.local_messages.key IS 'key of the record';
COMMENT ON COLUMN outbox.local_messages.payload IS 'value of the record';
COMMENT ON COLUMN outbox.local_messages.status IS
    'pending; published (acknowledged by Kafka); consumed (the watched groups have committed '
    'offsets behind it); delayed (until its time); parked (refused by Kafka, or behind such a one)';
COMMENT ON COLUMN outbox.local_messages.created_at IS 'when it was written, before its commit';

ALTER VIEW outbox.pending OWNER TO saga_owner;
ALTER VIEW outbox.published OWNER TO saga_owner;
ALTER VIEW outbox.local_messages OWNER TO saga_owner;

GRANT SELECT ON outbox.local_messages TO saga_app, saga_monitor;
GRANT SELECT ON outbox.pending, outbox.published TO saga_monitor;
