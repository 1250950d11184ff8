-- SPDX-License-Identifier: Apache-2.0
--
-- How long consumers remember, and forgetting: the only place where rows of the
-- inbox, the barrier and the guard are removed.
-- docs/decisions/0009-inbox-ring.md

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE TABLE idempotency.retention (
    what text     NOT NULL,
    keep interval NOT NULL,

    CONSTRAINT retention_pkey PRIMARY KEY (what),
    CONSTRAINT retention_what CHECK (what IN ('inbox', 'foreign', 'barrier', 'guard')),
    CONSTRAINT retention_keep CHECK (keep > interval '0'
                                     AND (what <> 'inbox' OR keep BETWEEN '1 day' AND '29 days')
                                     AND (what <> 'barrier' OR keep >= '1 day'))
);
INSERT INTO idempotency.retention VALUES
    ('inbox', '10 days'), ('foreign', '10 days'), ('barrier', '180 days'), ('guard', '7 days');

COMMENT ON TABLE idempotency.retention IS
    'how long is remembered what was applied and answered; set by idempotency.keep()';
COMMENT ON COLUMN idempotency.retention.what IS
    'inbox: messages, by the time inside their ids. foreign: messages whose ids tell no time, since '
    'they were received. barrier: answers to sagas, by the start of the saga. guard: since the request';
COMMENT ON COLUMN idempotency.retention.keep IS
    'the inbox''s must exceed the topics'' retention plus the longest lag; between 1 and 29 days. The '
    'barrier''s must exceed the longest saga; at least 1 day';

CREATE VIEW idempotency.horizon AS
    SELECT to_timestamp(pg_sequence_last_value('idempotency.inbox_mark') * 86400.0) AS oldest,
           to_timestamp((floor(extract(epoch FROM clock_timestamp()) / 86400)::float8 + 2) * 86400)
               AS newest,
           interval '1 day' AS slot,
           (SELECT keep FROM idempotency.retention WHERE what = 'inbox') AS keep_inbox,
           (SELECT keep FROM idempotency.retention WHERE what = 'foreign') AS keep_foreign,
           to_timestamp(pg_sequence_last_value('idempotency.barrier_mark') * 86400.0)
               AS oldest_saga,
           (SELECT keep FROM idempotency.retention WHERE what = 'barrier') AS keep_barrier,
           (SELECT keep FROM idempotency.retention WHERE what = 'guard') AS keep_guard;

COMMENT ON VIEW idempotency.horizon IS 'one row: between which times messages are known';
COMMENT ON COLUMN idempotency.horizon.oldest IS
    'a message-id of before this goes to the quarantine: whether it was applied is not known any more';
COMMENT ON COLUMN idempotency.horizon.newest IS 'and so does one of this time or later';
COMMENT ON COLUMN idempotency.horizon.slot IS 'in such steps messages are forgotten';
COMMENT ON COLUMN idempotency.horizon.keep_inbox IS 'for so long they are known at least';
COMMENT ON COLUMN idempotency.horizon.keep_foreign IS
    'for so long those are whose ids are not of version 7';
COMMENT ON COLUMN idempotency.horizon.oldest_saga IS
    'a command of a saga that began before this is answered "unknown"';
COMMENT ON COLUMN idempotency.horizon.keep_barrier IS
    'for so long answers to sagas are kept at least';
COMMENT ON COLUMN idempotency.horizon.keep_guard IS 'for so long keys of requests are';

CREATE FUNCTION idempotency.keep(what text, keep interval, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM idempotency.note('keep', NULL, keep.what, NULL, NULL,
                             CASE WHEN btrim(keep.reason) <> ''
                                  THEN format('%s: %s', keep.keep, keep.reason) END);
    UPDATE idempotency.retention r SET keep = keep.keep WHERE r.what = keep.what;
    IF NOT FOUND THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('"%s" is none of inbox, foreign, barrier, guard', keep.what);
    END IF;
EXCEPTION WHEN check_violation THEN
    RAISE invalid_parameter_value USING
        MESSAGE = format('%s cannot be kept for %s', keep.what, keep.keep),
        HINT = CASE keep.what
            WHEN 'inbox' THEN 'The inbox has room for 1 to 29 days.'
            WHEN 'barrier' THEN 'Sagas that are older are answered "unknown" and park: at least 1 day.'
            ELSE 'It must be more than nothing.' END;
END
$$;
COMMENT ON FUNCTION idempotency.keep(text, interval, text) IS
    'sets how long is remembered: inbox, foreign, barrier or guard. Forgetting is not undone';

-- Whether a partition holds no row that is still to be known: one look at the end of the index.
CREATE FUNCTION idempotency.slot_is_old(slot integer, mark integer) RETURNS boolean
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
AS $$
DECLARE
    lowest uuid := (lpad(to_hex(mark * 86400000::bigint), 12, '0') || repeat('0', 20))::uuid;
    found_one boolean;
BEGIN
    EXECUTE format('SELECT EXISTS (SELECT FROM idempotency.inbox_%s i WHERE i.message_id >= $1)', slot)
       INTO found_one USING lowest;
    RETURN NOT found_one;
END
$$;
COMMENT ON FUNCTION idempotency.slot_is_old(integer, integer) IS 'part of idempotency.clean_up';

-- The mark first, then the rows; see idempotency.receive. Whoever has read the
-- mark as it was holds the lock of his insert, so that TRUNCATE waits for him;
-- and what he has inserted is seen afterwards, with a new snapshot.
CREATE FUNCTION idempotency.empty_slot(slot integer, mark integer, lock_ms integer)
    RETURNS TABLE (did text, what text, n bigint, held_by text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    leaf regclass := 'idempotency.inbox_' || slot;
BEGIN
    PERFORM set_config('lock_timeout', lock_ms || 'ms', true);
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', leaf);
    IF idempotency.slot_is_old(slot, mark) THEN
        EXECUTE format('TRUNCATE %s', leaf);
        RETURN QUERY SELECT 'emptied', leaf::text, NULL::bigint, NULL::text;
    END IF;
EXCEPTION WHEN lock_not_available THEN
    RETURN QUERY
        SELECT 'locked', leaf::text, NULL::bigint,
               coalesce(string_agg(DISTINCT CASE WHEN l.pid IS NULL THEN 'a prepared transaction'
                   ELSE format('process %s (%s)', l.pid, a.application_name) END, ', '),
                   'nobody any more')
          FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
         WHERE l.relation = leaf AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
           AND l.database = (SELECT d.oid FROM pg_database d
                              WHERE d.datname = current_database());
END
$$;
COMMENT ON FUNCTION idempotency.empty_slot(integer, integer, integer) IS
    'part of idempotency.clean_up';

-- What somebody is just at, an answer that comes very late for instance, goes another time.
CREATE FUNCTION idempotency.delete_old(batch integer)
    RETURNS TABLE (did text, what text, n bigint, held_by text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    since jsonb := (SELECT jsonb_object_agg(r.what, clock_timestamp() - r.keep)
                      FROM idempotency.retention r);
    deleted bigint;
BEGIN
    DELETE FROM idempotency.inbox_foreign d WHERE d.ctid = ANY (ARRAY(
        SELECT i.ctid FROM idempotency.inbox_foreign i
         WHERE i.received_at < (since ->> 'foreign')::timestamptz
           AND NOT EXISTS (SELECT FROM idempotency.parked p -- not applied so far
                            WHERE p.consumer = i.consumer AND p.message_id = i.message_id)
         ORDER BY i.received_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted > 0 THEN
        RETURN QUERY SELECT 'deleted', 'idempotency.inbox_foreign', deleted, NULL::text;
    END IF;
    DELETE FROM idempotency.barrier d WHERE d.ctid = ANY (ARRAY(
        SELECT b.ctid FROM idempotency.barrier b
         WHERE b.saga_started_at < (SELECT h.oldest_saga FROM idempotency.horizon h)
         ORDER BY b.saga_started_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted > 0 THEN
        RETURN QUERY SELECT 'deleted', 'idempotency.barrier', deleted, NULL::text;
    END IF;
    DELETE FROM idempotency.guard d WHERE d.ctid = ANY (ARRAY(
        SELECT g.ctid FROM idempotency.guard g
         WHERE g.entered_at < (since ->> 'guard')::timestamptz
         ORDER BY g.entered_at LIMIT batch FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted > 0 THEN
        RETURN QUERY SELECT 'deleted', 'idempotency.guard', deleted, NULL::text;
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.delete_old(integer) IS 'part of idempotency.clean_up';

-- Raises the low-water marks to where the retentions want them. One at a time,
-- so that none is ever lowered; who is not the one does nothing.
CREATE FUNCTION idempotency.raise_marks()
    RETURNS TABLE (did text, what text, n bigint, held_by text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    sequence text;
    mark integer;
BEGIN
    IF NOT pg_try_advisory_xact_lock(1935763297, 20) THEN
        RETURN;
    END IF;
    FOR sequence, mark IN
        SELECT 'idempotency.' || r.what || '_mark', floor(extract(epoch FROM moment - r.keep) / 86400)
          FROM idempotency.retention r WHERE r.what IN ('inbox', 'barrier') LOOP
        IF mark > pg_sequence_last_value(sequence) THEN
            PERFORM setval(sequence, mark);
            RETURN QUERY SELECT 'moved', sequence, mark::bigint, NULL::text;
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION idempotency.raise_marks() IS
    'part of idempotency.clean_up; and of idempotency.receive, where nobody has called that for days';

CREATE FUNCTION idempotency.clean_up(batch integer DEFAULT 1000, lock_ms integer DEFAULT 50)
    RETURNS TABLE (did text, what text, n bigint, held_by text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '50ms'
AS $$
#variable_conflict use_column
DECLARE
    today integer := floor(extract(epoch FROM clock_timestamp()) / 86400);
    mark integer;
    slot integer;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE invalid_parameter_value USING MESSAGE =
            'idempotency.clean_up needs isolation level READ COMMITTED';
    END IF;
    IF NOT pg_try_advisory_xact_lock(1935763297, 20) THEN
        RETURN; -- somebody else is at it
    END IF;
    RETURN QUERY SELECT * FROM idempotency.raise_marks();
    mark := pg_sequence_last_value('idempotency.inbox_mark');

    -- A partition has one day that is known; if that is still to come, what is in
    -- it is old. One at a time: the next call takes the next.
    SELECT s INTO slot FROM generate_series(0, 31) s
     WHERE mark + (s - mark % 32 + 32) % 32 > today + 1
       AND pg_relation_size(('idempotency.inbox_' || s)::regclass) > 0
       AND idempotency.slot_is_old(s, mark)
     LIMIT 1;
    IF FOUND THEN
        RETURN QUERY SELECT * FROM idempotency.empty_slot(slot, mark, lock_ms);
    END IF;
    RETURN QUERY SELECT * FROM idempotency.delete_old(batch);
END
$$;
COMMENT ON FUNCTION idempotency.clean_up(integer, integer) IS
    'forgets what is older than its retention: raises the marks, empties one partition of the inbox, '
    'deletes up to `batch` rows of each other kind. A row for each thing done; mostly none. Consumers '
    'call it when they start and when they have nothing to do. Waits for nobody longer than lock_ms';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['TABLE idempotency.retention', 'VIEW idempotency.horizon',
        'FUNCTION idempotency.keep', 'FUNCTION idempotency.slot_is_old',
        'FUNCTION idempotency.empty_slot', 'FUNCTION idempotency.raise_marks',
        'FUNCTION idempotency.delete_old',
        'FUNCTION idempotency.clean_up'] LOOP
        EXECUTE 'ALTER ' || name || ' OWNER TO saga_owner';
    END LOOP;
END
$$;

GRANT SELECT ON idempotency.retention, idempotency.horizon TO saga_app, saga_monitor;
REVOKE EXECUTE ON FUNCTION idempotency.keep(text, interval, text),
    idempotency.slot_is_old(integer, integer), idempotency.empty_slot(integer, integer, integer),
    idempotency.delete_old(integer), idempotency.raise_marks(),
    idempotency.clean_up(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotency.clean_up(integer, integer) TO saga_app;
