-- SPDX-License-Identifier: Apache-2.0
--
-- How far the outbox is published, and which relay does it: the relay's cursor
-- and lease.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- One row for each stream of the outbox. Updated all the time: room for the new
-- versions on the same page.
CREATE TABLE outbox.stream (
    stream            integer     PRIMARY KEY,
    streams           integer     NOT NULL DEFAULT 1 CHECK (streams BETWEEN 1 AND 64),

    prev              pg_snapshot NOT NULL,
    floor_seq         bigint      NOT NULL,
    floor_xid         xid8        NOT NULL,
    cur               pg_snapshot,
    cur_floor_seq     bigint,
    cur_floor_xid     xid8,
    last_seq          bigint      NOT NULL DEFAULT 0,

    owner             uuid,
    epoch             bigint      NOT NULL DEFAULT 0,
    lease_until       timestamptz NOT NULL DEFAULT '-infinity',
    instance          text,
    wanted            text,
    transactional     boolean     NOT NULL DEFAULT false,

    system_identifier bigint,
    timeline          integer,

    CONSTRAINT stream_number CHECK (stream >= 0 AND stream < streams),
    CONSTRAINT stream_pair CHECK ((cur IS NULL) = (cur_floor_seq IS NULL)
                                  AND (cur IS NULL) = (cur_floor_xid IS NULL)
                                  AND (cur IS NOT NULL OR last_seq = 0))
) WITH (fillfactor = 20);

COMMENT ON TABLE outbox.stream IS
    'how far the outbox is published, and which relay does it; written by outbox-relay only';
COMMENT ON COLUMN outbox.stream.stream IS 'number of the stream, from 0';
COMMENT ON COLUMN outbox.stream.streams IS
    'how many there are, the same in all rows; changed by outbox.set_streams only';
COMMENT ON COLUMN outbox.stream.prev IS 'everything that this snapshot shows is published';
COMMENT ON COLUMN outbox.stream.floor_seq IS
    'rows up to this seq that prev does not show are found by their xid';
COMMENT ON COLUMN outbox.stream.floor_xid IS
    'transactions with a later xid write only seqs above floor_seq';
COMMENT ON COLUMN outbox.stream.cur IS
    'set while the rows that it shows and prev does not are being published';
COMMENT ON COLUMN outbox.stream.cur_floor_seq IS 'floor_seq, once cur becomes prev';
COMMENT ON COLUMN outbox.stream.cur_floor_xid IS 'floor_xid, once cur becomes prev';
COMMENT ON COLUMN outbox.stream.last_seq IS
    'of the rows being published, those up to this seq are acknowledged';
COMMENT ON COLUMN outbox.stream.owner IS 'the relay that publishes; random for each start';
COMMENT ON COLUMN outbox.stream.epoch IS 'raised with each new owner';
COMMENT ON COLUMN outbox.stream.lease_until IS
    'when the owner counts as gone unless it renews, by this database''s clock';
COMMENT ON COLUMN outbox.stream.instance IS 'the process that the owner is part of; it shares with others';
COMMENT ON COLUMN outbox.stream.wanted IS
    'the instance that asks for the stream because it has fewer, and for which it is kept until '
    'lease_until once the owner has given it free';
COMMENT ON COLUMN outbox.stream.transactional IS 'whether the owner publishes in transactions of Kafka';
COMMENT ON COLUMN outbox.stream.system_identifier IS 'of the cluster that all the xids belong to';
COMMENT ON COLUMN outbox.stream.timeline IS 'of that cluster, when the owner took over';

-- Nothing is published yet, whatever transactions are running by now.
INSERT INTO outbox.stream (stream, prev, floor_seq, floor_xid) VALUES (0, '3:3:', 0, '3');

ALTER TABLE outbox.stream OWNER TO saga_owner;

-- Which stream a message belongs to. Not by one of the server's own hashes, which
-- may change with its version. With a body of this kind, and no SET, it becomes
-- a part of the statement that uses it, and with one stream it costs nothing.
CREATE FUNCTION outbox.stream_of(key text, message_id uuid, streams integer) RETURNS integer
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN CASE WHEN streams = 1 THEN 0
           ELSE ('x' || left(encode(sha256(coalesce(convert_to(key, 'UTF8'), uuid_send(message_id))),
                                    'hex'), 7))::bit(28)::integer % streams END;
COMMENT ON FUNCTION outbox.stream_of(text, uuid, integer) IS
    'which of so many streams a message belongs to: the first 28 bits of the SHA-256 of its key in '
    'UTF-8, or of its id''s 16 bytes where it has no key, modulo their number';

-- A takeover of all streams at once: every owner is fenced by the epoch, and all
-- new streams begin where the one that is furthest behind stood. Snapshots of
-- one cluster are totally ordered: a later one has a later xmax, or the same and
-- fewer transactions in its list. Nothing is lost, because nothing that the
-- oldest prev shows is unpublished in any stream; what others had published
-- beyond it is published again, in its order, but for what is parked or discarded.
CREATE FUNCTION outbox.set_streams(n integer, dry_run boolean DEFAULT false,
                                   OUT streams_before integer, OUT published_again bigint)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    oldest outbox.stream;
    kept bigint[];
BEGIN
    IF n IS NULL OR n NOT BETWEEN 1 AND 64 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('the number of streams must be from 1 to 64, not %s',
                             coalesce(n::text, 'NULL'));
    END IF;
    -- Whoever takes a stream locks its row first: this conflicts with that too,
    -- so that nobody holds a row and waits for us while we wait for it.
    IF NOT dry_run THEN
        LOCK TABLE outbox.stream IN EXCLUSIVE MODE;
    END IF;
    SELECT s.* INTO oldest FROM outbox.stream s
        ORDER BY pg_snapshot_xmax(s.prev),
                 (SELECT count(*) FROM pg_snapshot_xip(s.prev)) DESC, s.stream LIMIT 1;
    streams_before := oldest.streams;
    published_again := 0;
    IF n = streams_before THEN
        RETURN;
    END IF;
    -- The new streams' transactional.ids do not fence the old ones, and so an old
    -- owner could commit an old value behind a newer one.
    IF NOT dry_run AND EXISTS (
           SELECT FROM outbox.stream s
            WHERE s.transactional AND s.owner IS NOT NULL AND s.lease_until > clock_timestamp()
              AND s.lease_until <= clock_timestamp() + interval '300 seconds') THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'a relay that publishes in transactions is running: stop all relays first';
    END IF;
    SELECT count(*) FILTER (WHERE NOT k.unpublished), array_agg(m.seq) FILTER (WHERE k.unpublished)
        INTO published_again, kept
        FROM outbox.stream s
        JOIN outbox.message m ON m.xid >= pg_snapshot_xmin(oldest.prev)
            AND m.xid < pg_snapshot_xmax(coalesce(s.cur, s.prev))
            AND NOT pg_visible_in_snapshot(m.xid, oldest.prev)
            AND outbox.stream_of(m.key, m.message_id, s.streams) = s.stream
        CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM outbox.parked p WHERE p.seq = m.seq)
                OR EXISTS (SELECT FROM outbox.audit a
                            WHERE a.message_id = m.message_id AND a.verb = 'discard')) AS k (unpublished)
        WHERE pg_visible_in_snapshot(m.xid, s.prev)
           OR (s.cur IS NOT NULL AND m.seq <= s.last_seq AND pg_visible_in_snapshot(m.xid, s.cur));
    IF dry_run THEN
        RETURN;
    END IF;

    -- What was passed without being published stays passed: it is parked, or was
    -- discarded, now or before it would be read again. Even the first prev shows this xid.
    UPDATE outbox.message m SET xid = '2' WHERE m.seq = ANY (kept);

    -- A crash must not bring the old owners back.
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    oldest.epoch := (SELECT max(s.epoch) + 1 FROM outbox.stream s);
    DELETE FROM outbox.stream;
    INSERT INTO outbox.stream (stream, streams, prev, floor_seq, floor_xid, epoch,
                               system_identifier, timeline)
        SELECT i, n, oldest.prev, oldest.floor_seq, oldest.floor_xid, oldest.epoch,
               oldest.system_identifier, oldest.timeline
          FROM generate_series(0, n - 1) AS i;
    INSERT INTO outbox.audit (verb, reason)
        VALUES ('streams', format('from %s to %s', streams_before, n));
END
$$;
COMMENT ON FUNCTION outbox.set_streams(integer, boolean) IS
    'changes the number of streams, under the relays that run; returns how many there were, and how '
    'many messages that Kafka has acknowledged are published again. dry_run: only says so. Not from '
    '1 to 64: 22023. A relay that publishes in transactions is running: 55000. Run by members of '
    'saga_owner';

ALTER FUNCTION outbox.stream_of(text, uuid, integer) OWNER TO saga_owner;
ALTER FUNCTION outbox.set_streams(integer, boolean) OWNER TO saga_owner;
REVOKE EXECUTE ON FUNCTION outbox.set_streams(integer, boolean) FROM PUBLIC;

-- The relay moves the cursor.
GRANT SELECT, UPDATE ON outbox.stream TO saga_relay;
GRANT SELECT ON outbox.stream TO saga_monitor;
