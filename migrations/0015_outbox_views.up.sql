-- SPDX-License-Identifier: Apache-2.0
--
-- The outbox as people look at it.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- Two branches, so that asking for the pending ones reads only these, by the
-- index on xid: whatever is older than the oldest transaction that prev does
-- not show is published. (The upper bound is always true. With two bounds the
-- planner expects few rows, which is right, and not a third of the table.)
CREATE VIEW outbox.local_messages AS
    SELECT m.message_id AS id, m.topic, m.key, m.payload, 'pending' AS status, m.created_at
      FROM outbox.stream s, outbox.message m
     WHERE outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
       AND m.xid >= pg_snapshot_xmin(s.prev) AND m.xid <= '18446744073709551615'::xid8
       AND NOT (pg_visible_in_snapshot(m.xid, s.prev)
                OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                    AND pg_visible_in_snapshot(m.xid, s.cur)))
    UNION ALL
    SELECT m.message_id, m.topic, m.key, m.payload, 'published', m.created_at
      FROM outbox.stream s, outbox.message m
     WHERE outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
       AND (pg_visible_in_snapshot(m.xid, s.prev)
            OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                AND pg_visible_in_snapshot(m.xid, s.cur)))
       AND NOT EXISTS (SELECT FROM outbox.parked p WHERE p.seq = m.seq)
       AND NOT EXISTS (SELECT FROM outbox.audit a
                        WHERE a.verb = 'discard' AND a.message_id = m.message_id)
    UNION ALL
    SELECT p.message_id, p.topic, p.key, p.payload, 'parked', p.created_at FROM outbox.parked p;

COMMENT ON VIEW outbox.local_messages IS
    'the messages that this database has written, and whether Kafka has acknowledged them; not those '
    'that operators have discarded';
COMMENT ON COLUMN outbox.local_messages.id IS 'message-id';
COMMENT ON COLUMN outbox.local_messages.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.local_messages.key IS 'key of the record';
COMMENT ON COLUMN outbox.local_messages.payload IS 'value of the record';
COMMENT ON COLUMN outbox.local_messages.status IS
    'pending, published (acknowledged by Kafka), or parked (see outbox.parked)';
COMMENT ON COLUMN outbox.local_messages.created_at IS 'when it was written, before its commit';

ALTER VIEW outbox.local_messages OWNER TO saga_owner;

GRANT SELECT ON outbox.local_messages TO saga_app, saga_monitor;
