-- SPDX-License-Identifier: Apache-2.0
--
-- Cleaning up: which of the outbox's slots is written to, and when one is
-- emptied. docs/decisions/0006-retention.md

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- Each column is one look at an end of an index.
CREATE VIEW outbox.slots AS
    SELECT n::smallint AS slot,
           n = pg_catalog.pg_sequence_last_value('outbox.message_slot') AS current,
           (SELECT m.created_at FROM outbox.message m WHERE m.slot = n ORDER BY m.seq LIMIT 1)
               AS oldest,
           (SELECT m.created_at FROM outbox.message m WHERE m.slot = n ORDER BY m.seq DESC LIMIT 1)
               AS newest,
           pg_catalog.pg_total_relation_size('outbox.message_' || n) AS bytes
      FROM pg_catalog.generate_series(0, 3) n;

COMMENT ON VIEW outbox.slots IS
    'the partitions of outbox.message: one is written to, the others wait until all in them is '
    'published and old enough, and are emptied';
COMMENT ON COLUMN outbox.slots.slot IS 'n of outbox.message_n';
COMMENT ON COLUMN outbox.slots.current IS 'whether new messages are written to it';
COMMENT ON COLUMN outbox.slots.oldest IS 'when its first message was written; NULL: it is empty';
COMMENT ON COLUMN outbox.slots.newest IS 'when its last message was written';
COMMENT ON COLUMN outbox.slots.bytes IS 'its size on disk, with indexes';

-- Whether the prev of each stream shows every row of a slot. A snapshot does not
-- show what has an xid from xmax on, or one in its list; the index answers both,
-- however many rows there are and however long a transaction has been open.
CREATE FUNCTION outbox.slot_is_published(slot smallint) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    -- A plan that was made while a slot was empty must do when it is full.
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET jit = off
AS $$
    SELECT count(*) > 0 AND NOT bool_or(
           EXISTS (SELECT FROM outbox.message m
                    WHERE m.slot = slot_is_published.slot AND m.xid >= pg_snapshot_xmax(s.prev))
           OR EXISTS (SELECT FROM pg_snapshot_xip(s.prev) x, outbox.message m
                       WHERE m.slot = slot_is_published.slot AND m.xid = x))
      FROM outbox.stream s
$$;
COMMENT ON FUNCTION outbox.slot_is_published(smallint) IS 'part of outbox.clean_up';

-- One step of cleaning up, which the relay takes about every second. A row of
-- the answer for each thing done, or that could not be done because somebody
-- holds a lock; mostly none.
--
-- The only lock is that on the slot itself, to which nobody writes any more,
-- and it is not waited for longer than lock_ms: whoever reads the outbox waits
-- behind us. Writers look up the slot in a sequence, so they are not in our way
-- and we are not in theirs, whatever happens here.
CREATE FUNCTION outbox.clean_up(retention_ms bigint, lock_ms integer DEFAULT 50)
    RETURNS TABLE (slot smallint, did text, held_by text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '50ms'
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    writing smallint := pg_sequence_last_value('outbox.message_slot');
    moment timestamptz := clock_timestamp();
    keep interval := retention_ms * interval '1 millisecond';
    old smallint;
    leaf regclass;
BEGIN
    IF retention_ms <= 0 OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE invalid_parameter_value USING MESSAGE =
            'outbox.clean_up needs a retention above 0 and isolation level READ COMMITTED';
    END IF;

    SELECT s.slot INTO old FROM outbox.slots s
     WHERE s.slot <> writing AND s.newest <= moment - keep ORDER BY s.newest LIMIT 1;
    IF FOUND AND outbox.slot_is_published(old) AND pg_try_advisory_xact_lock(1935763297, 16) THEN
        leaf := 'outbox.message_' || old;
        PERFORM set_config('lock_timeout', lock_ms || 'ms', true);
        BEGIN
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);

            -- Somebody may have written to it, days after it was left or while we
            -- waited. He has ended by now, and this looks with a new snapshot.
            IF outbox.slot_is_published(old) THEN
                EXECUTE format('TRUNCATE %s', leaf);
                slot := old;
                did := 'emptied';
                RETURN NEXT;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            SELECT old, 'locked', coalesce(string_agg(DISTINCT CASE WHEN l.pid IS NULL
                       THEN 'a prepared transaction'
                       ELSE format('process %s (%s)', l.pid, a.application_name) END, ', '),
                   'nobody any more')
              INTO slot, did, held_by
              FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
             WHERE l.relation = leaf AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
               AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
            RETURN NEXT;
        END;
    END IF;

    -- A slot is left when it has been written to for half of the retention: two
    -- are then waiting, one is written to, and one is empty. If none is empty,
    -- this one is written to for longer.
    SELECT e.slot, 'current', NULL INTO slot, did, held_by FROM outbox.slots c, outbox.slots e
     WHERE c.slot = writing AND c.oldest <= moment - keep / 2 AND e.slot <> writing
       AND e.oldest IS NULL
     ORDER BY (e.slot - writing + 4) % 4 LIMIT 1;
    IF FOUND THEN
        PERFORM setval('outbox.message_slot', slot);
        RETURN NEXT;
    END IF;
END
$$;
COMMENT ON FUNCTION outbox.clean_up(bigint, integer) IS
    'empties a slot in which everything is published and older than retention_ms, and makes the '
    'next slot the current one; the relay does it';

ALTER VIEW outbox.slots OWNER TO saga_owner;
ALTER FUNCTION outbox.slot_is_published(smallint) OWNER TO saga_owner;
ALTER FUNCTION outbox.clean_up(bigint, integer) OWNER TO saga_owner;

GRANT SELECT ON outbox.slots TO saga_relay, saga_monitor;
REVOKE EXECUTE ON FUNCTION outbox.slot_is_published(smallint), outbox.clean_up(bigint, integer)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.clean_up(bigint, integer) TO saga_relay;
