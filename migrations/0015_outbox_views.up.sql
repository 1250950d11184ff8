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

-- At the same cost for ten messages behind and for ten million: of each stream
-- the first rows are looked at, in the two ways of outbox.pending. (With a LIMIT
-- it is many rows that have to be expected, so that they are read in order.)
CREATE VIEW outbox.status AS
    WITH stream AS (
        SELECT s.stream,
               CASE WHEN s.owner IS NOT NULL AND s.lease_until > clock_timestamp() THEN 'running'
                    ELSE 'none' END AS relay,
               s.instance, s.owner, s.epoch,
               nullif(s.lease_until, '-infinity') AS lease_until,
               below.n + CASE WHEN above.seen < 1000 THEN above.n
                              ELSE above.n * greatest(stands.seq - place.seq, above.seen)
                                   / above.seen END AS pending,
               above.seen < 1000 AND below.seen < 1000 AS pending_exact,
               least(above.oldest, below.oldest) AS oldest_pending
          FROM outbox.stream s
               CROSS JOIN (SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END AS seq
                             FROM outbox.message_seq_seq) AS stands
               CROSS JOIN LATERAL (SELECT greatest(s.floor_seq, s.last_seq) AS seq) AS place
               CROSS JOIN LATERAL (
                   SELECT count(*) AS seen, count(*) FILTER (WHERE m.ours) AS n,
                          min(m.created_at) FILTER (WHERE m.ours) AS oldest
                     FROM (SELECT r.created_at,
                                  outbox.stream_of(r.key, r.message_id, s.streams) = s.stream
                                  AND NOT pg_visible_in_snapshot(r.xid, s.prev) AS ours
                             FROM (SELECT m.xid, m.key, m.message_id, m.created_at
                                     FROM outbox.message m
                                    WHERE m.seq > place.seq
                                    ORDER BY m.seq LIMIT 1000) AS r) AS m) AS above
               CROSS JOIN LATERAL (
                   SELECT count(*) AS seen, count(*) FILTER (WHERE m.ours) AS n,
                          min(m.created_at) FILTER (WHERE m.ours) AS oldest
                     FROM (SELECT r.created_at,
                                  outbox.stream_of(r.key, r.message_id, s.streams) = s.stream
                                  AND NOT pg_visible_in_snapshot(r.xid, s.prev)
                                  AND NOT (s.cur IS NOT NULL AND r.seq <= s.last_seq
                                           AND pg_visible_in_snapshot(r.xid, s.cur)) AS ours
                             FROM (SELECT m.xid, m.seq, m.key, m.message_id, m.created_at
                                     FROM (SELECT x, x FROM unnest(ARRAY(
                                                      SELECT pg_snapshot_xip(s.prev))) AS x
                                           UNION ALL SELECT pg_snapshot_xmax(s.prev), s.floor_xid
                                           UNION ALL SELECT x, x FROM unnest(ARRAY(
                                                      SELECT pg_snapshot_xip(s.cur))) AS x
                                                      WHERE x > s.floor_xid
                                           UNION ALL SELECT pg_snapshot_xmax(s.cur), s.cur_floor_xid
                                          ) AS late (low, high)
                                          CROSS JOIN LATERAL (
                                              SELECT * FROM outbox.message m
                                               WHERE (m.xid, m.seq) > (late.low, 0)
                                                 AND (m.xid, m.seq) <= (late.high, place.seq)
                                                 AND m.seq <= place.seq
                                               ORDER BY m.xid, m.seq LIMIT 1000) AS m
                                    LIMIT 1000) AS r) AS m) AS below),
    -- Beside the streams. Larger numbers are what the last ANALYZE has found.
    counted (what, n) AS (
        SELECT 'parked_key', count(*) FROM (SELECT FROM outbox.parked_key LIMIT 10001) AS t
        UNION ALL
        SELECT 'parked', count(*) FROM (SELECT FROM outbox.parked LIMIT 10001) AS t
        UNION ALL
        SELECT 'delayed', count(*) FROM (SELECT FROM outbox.delayed LIMIT 10001) AS t),
    beside (what, n) AS (
        SELECT what, CASE WHEN n <= 10000 THEN n
                          ELSE greatest(n, (SELECT c.reltuples::bigint FROM pg_class c
                                             WHERE c.relnamespace = 'outbox'::regnamespace
                                               AND c.relname = what)) END
          FROM counted),
    -- Who has written before, and not ended, has at least the xmin; who began to
    -- write later has a later xid. The first such message shows a moment.
    running (xid) AS (
        SELECT pg_snapshot_xmin(now) FROM pg_current_snapshot() AS now
         WHERE pg_snapshot_xmin(now) < pg_snapshot_xmax(now))
    SELECT s.*, clock_timestamp() - s.oldest_pending AS lag, NULL::bigint AS parked_keys,
           NULL::bigint AS parked, NULL::bigint AS delayed, NULL::timestamptz AS next_due,
           NULL::xid8 AS oldest_open, NULL::timestamptz AS oldest_open_since
      FROM stream s
    UNION ALL
    SELECT NULL, CASE WHEN bool_and(s.relay = 'running') THEN 'running' ELSE 'none' END, NULL, NULL,
           NULL, min(s.lease_until), sum(s.pending)::bigint, bool_and(s.pending_exact),
           min(s.oldest_pending), clock_timestamp() - min(s.oldest_pending),
           (SELECT n FROM beside WHERE what = 'parked_key'),
           (SELECT n FROM beside WHERE what = 'parked'),
           (SELECT n FROM beside WHERE what = 'delayed'),
           (SELECT min(d.deliver_at) FROM outbox.delayed d),
           (SELECT xid FROM running),
           (SELECT coalesce(
                (SELECT a.xact_start FROM pg_stat_activity a WHERE a.backend_xid = r.xid::xid LIMIT 1),
                (SELECT p.prepared FROM pg_prepared_xacts p WHERE p.transaction = r.xid::xid LIMIT 1),
                (SELECT m.created_at FROM outbox.message m
                  WHERE m.xid > r.xid AND m.xid <= '18446744073709551615'::xid8
                  ORDER BY m.xid, m.seq LIMIT 1))
              FROM running r)
      FROM stream s;

COMMENT ON VIEW outbox.status IS
    'a row for each stream, and one for all together (stream is NULL); costs the same however much is '
    'pending';
COMMENT ON COLUMN outbox.status.stream IS 'number of the stream; NULL: all together';
COMMENT ON COLUMN outbox.status.relay IS 'running, or none (of all: none if one has none)';
COMMENT ON COLUMN outbox.status.instance IS 'the process that publishes';
COMMENT ON COLUMN outbox.status.owner IS 'the relay in it; random for each start';
COMMENT ON COLUMN outbox.status.epoch IS 'raised with each new owner';
COMMENT ON COLUMN outbox.status.lease_until IS 'when the owner counts as gone unless it renews';
COMMENT ON COLUMN outbox.status.pending IS
    'messages that Kafka has not acknowledged; an estimate if not pending_exact';
COMMENT ON COLUMN outbox.status.pending_exact IS 'whether pending was counted to its end';
COMMENT ON COLUMN outbox.status.oldest_pending IS
    'when the oldest of them was written, of those that were looked at';
COMMENT ON COLUMN outbox.status.lag IS 'how long ago that is';
COMMENT ON COLUMN outbox.status.parked_keys IS
    'pairs of topic and key that are parked; from 10001 on an estimate';
COMMENT ON COLUMN outbox.status.parked IS 'messages in outbox.parked; from 10001 on an estimate';
COMMENT ON COLUMN outbox.status.delayed IS 'messages in outbox.delayed; from 10001 on an estimate';
COMMENT ON COLUMN outbox.status.next_due IS 'when the next of them is due';
COMMENT ON COLUMN outbox.status.oldest_open IS
    'the oldest transaction of the cluster that has written and not ended';
COMMENT ON COLUMN outbox.status.oldest_open_since IS
    'when it began, if that may be seen (pg_read_all_stats); else a moment when it was already open, '
    'if that is known';

-- Where a message lies that has an id of version 7 and was written when that
-- was made, a moment more or less: seqs and times of writing ascend together, so
-- halving finds the place. Another one is looked for in the whole table.
CREATE FUNCTION outbox.seqs_of(message_id uuid) RETURNS SETOF bigint
    LANGUAGE plpgsql STABLE ROWS 1
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    made timestamptz := to_timestamp(('x' || left(replace(seqs_of.message_id::text, '-', ''), 12))
                                     ::bit(48)::bigint / 1000.0);
    low bigint := (SELECT min(m.seq) FROM outbox.message m);
    high bigint := (SELECT max(m.seq) FROM outbox.message m);
    middle bigint;
    past boolean;
BEGIN
    WHILE low < high LOOP
        middle := low + (high - low) / 2;
        SELECT m.created_at >= made - interval '5 seconds' INTO past
          FROM outbox.message m WHERE m.seq > middle ORDER BY m.seq LIMIT 1;
        IF past THEN
            high := middle;
        ELSE
            low := middle + 1;
        END IF;
    END LOOP;
    RETURN QUERY SELECT m.seq
        FROM (SELECT r.seq, r.message_id FROM outbox.message r WHERE r.seq >= low
               ORDER BY r.seq LIMIT 200000) AS m
        WHERE m.message_id = seqs_of.message_id;
    IF NOT FOUND THEN
        RETURN QUERY SELECT m.seq FROM outbox.message m WHERE m.message_id = seqs_of.message_id;
    END IF;
END
$$;
COMMENT ON FUNCTION outbox.seqs_of(uuid) IS 'part of outbox.show';

-- A payload as text, if it is one.
CREATE FUNCTION outbox.as_text(bytes bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION outbox.as_text(bytea) IS 'a payload as text; NULL: it is none (not UTF-8)';

CREATE FUNCTION outbox.show(message_id uuid, with_payload boolean DEFAULT false)
    RETURNS TABLE (status text, id uuid, topic text, key text, headers text, payload_bytes integer,
                   payload text, payload_hex text, created_at timestamptz, deliver_at timestamptz,
                   parked_at timestamptz, error text, attempts integer, retry_asked_at timestamptz,
                   stream integer, seq bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH found AS (
        SELECT 'delayed' AS status, d.topic, d.key, d.headers, d.payload, d.created_at, d.deliver_at,
               NULL::timestamptz AS parked_at, NULL AS error, NULL::integer AS attempts,
               NULL::bigint AS request, NULL::bigint AS seq
          FROM outbox.delayed d WHERE d.message_id = show.message_id
        UNION ALL
        SELECT 'parked', p.topic, p.key, p.headers, p.payload, p.created_at, NULL, p.parked_at,
               p.error, p.attempts, coalesce(p.request, k.request), p.seq
          FROM outbox.parked p
               LEFT JOIN outbox.parked_key k ON k.topic = p.topic AND k.key = p.key
         WHERE p.message_id = show.message_id
        UNION ALL
        SELECT coalesce((SELECT CASE WHEN p.consumed THEN 'consumed' ELSE 'published' END
                           FROM outbox.published p WHERE p.seq = at.seq),
                        (SELECT 'discarded' FROM outbox.audit a WHERE a.verb = 'discard'
                            AND a.message_id = m.message_id LIMIT 1),
                        'pending'),
               m.topic, m.key, m.headers, m.payload, m.created_at, NULL, NULL, NULL, NULL, NULL, m.seq
          FROM outbox.seqs_of(show.message_id) AS at (seq)
               JOIN outbox.message m ON m.seq = at.seq
         WHERE NOT EXISTS (SELECT FROM outbox.parked q WHERE q.seq = at.seq))
    SELECT f.status, show.message_id, f.topic, f.key, f.headers, octet_length(f.payload),
           CASE WHEN show.with_payload THEN outbox.as_text(f.payload) END,
           CASE WHEN show.with_payload AND outbox.as_text(f.payload) IS NULL
                THEN encode(f.payload, 'hex') END,
           f.created_at, f.deliver_at, f.parked_at, f.error, f.attempts, a.at,
           (SELECT outbox.stream_of(f.key, show.message_id, s.streams) FROM outbox.stream s LIMIT 1),
           f.seq
      FROM found f LEFT JOIN outbox.audit a ON a.id = f.request
     ORDER BY f.seq NULLS FIRST
$$;
COMMENT ON FUNCTION outbox.show(uuid, boolean) IS
    'all that is known of one message; several rows if its id was written several times, none if '
    'nothing is known (any more). Status as in outbox.local_messages, or discarded';

-- Where in Kafka a message lies: in one of these ranges.
CREATE FUNCTION outbox.where_in_kafka(message_id uuid)
    RETURNS TABLE (partition integer, first_offset bigint, last_offset bigint, published_at timestamptz,
                   passed_by text, awaits text)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.partition, r.first_offset, nullif(r.last_offset, 9223372036854775807), r.at,
           string_agg(g.group_name, ', ' ORDER BY g.group_name) FILTER (WHERE g.passed),
           string_agg(g.group_name, ', ' ORDER BY g.group_name) FILTER (WHERE NOT g.passed)
      FROM outbox.seqs_of(where_in_kafka.message_id) AS at (seq)
           JOIN outbox.message m ON m.seq = at.seq
           JOIN outbox.published_range r ON int8range(r.first_seq, r.last_seq, '[]') @> m.seq
                AND r.topic = m.topic
                AND outbox.stream_of(m.key, m.message_id, r.streams) = r.stream
           LEFT JOIN LATERAL (
               SELECT w.group_name, coalesce(bool_or(w.partition = r.partition
                                                     AND w.committed > r.last_offset), false) AS passed
                 FROM outbox.watched w WHERE w.topic = r.topic GROUP BY w.group_name) AS g ON true
     GROUP BY r.topic, r.partition, r.first_seq, r.stream, r.streams
     ORDER BY r.at, r.partition
$$;
COMMENT ON FUNCTION outbox.where_in_kafka(uuid) IS
    'the ranges of offsets in which a message may lie, and which watched consumer groups are past them';

ALTER VIEW outbox.pending OWNER TO saga_owner;
ALTER VIEW outbox.published OWNER TO saga_owner;
ALTER VIEW outbox.local_messages OWNER TO saga_owner;
ALTER VIEW outbox.status OWNER TO saga_owner;
ALTER FUNCTION outbox.seqs_of(uuid) OWNER TO saga_owner;
ALTER FUNCTION outbox.as_text(bytea) OWNER TO saga_owner;
ALTER FUNCTION outbox.show(uuid, boolean) OWNER TO saga_owner;
ALTER FUNCTION outbox.where_in_kafka(uuid) OWNER TO saga_owner;

GRANT SELECT ON outbox.local_messages, outbox.status TO saga_app, saga_monitor;
GRANT SELECT ON outbox.pending, outbox.published TO saga_monitor;
GRANT SELECT ON outbox.status TO saga_relay;
REVOKE EXECUTE ON FUNCTION outbox.seqs_of(uuid), outbox.as_text(bytea), outbox.show(uuid, boolean),
    outbox.where_in_kafka(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.as_text(bytea), outbox.show(uuid, boolean),
    outbox.where_in_kafka(uuid) TO saga_app, saga_monitor;
