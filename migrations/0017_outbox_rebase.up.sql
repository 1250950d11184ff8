-- SPDX-License-Identifier: Apache-2.0
--
-- An outbox that has come to another cluster: restored from a dump, or
-- replicated table by table. What is published is known by transaction ids, and
-- the old cluster's mean nothing here, so the relay refuses, and an operator
-- calls outbox.rebase() (sagactl outbox rebase).
--
-- Only outbox.message and outbox.stream are changed; nothing else says anything by
-- xid. Parked messages keep their seq, and everything that is yet to be published
-- gets a higher one, so that the order of their keys stays, and their markers
-- hold for what comes. Delayed messages get xid and seq when they are due. Ranges of
-- offsets speak of seqs that are published, and do not reach up to the new ones.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- What becomes of each row. `copied`: the cursor's xids are another cluster's,
-- and say nothing of rows that were written here since. Those are told by xmin,
-- the row's true writer: it is what their xid says, or comes after it where
-- they were written behind a savepoint. A transaction that brought rows of
-- several xids here has restored them. Where it brought those of a single one,
-- it may be either, and if the cursor calls them published they are doubtful:
-- publishing again what a consumer knows is better than losing it.
CREATE FUNCTION outbox.rebase_rows(present pg_snapshot, copied boolean,
                                   OUT part oid, OUT place tid, OUT here boolean, OUT verdict text)
    RETURNS SETOF record
    LANGUAGE sql STABLE ROWS 1000000
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH restored AS (
        SELECT m.xmin AS writer FROM outbox.message m WHERE m.xid > '3'
         GROUP BY m.xmin HAVING min(m.xid::text::bigint) <> max(m.xid::text::bigint))
    SELECT m.tableoid, m.ctid, h.here,
           CASE WHEN h.here AND (a.apart = 0 OR NOT p.published) THEN 'written here'
                WHEN h.here THEN 'doubtful'
                WHEN p.published THEN 'published'
                ELSE 'unpublished' END
      FROM outbox.message m
      JOIN outbox.stream s
        ON s.stream = outbox.stream_of(m.key, m.message_id, (SELECT max(n.streams) FROM outbox.stream n))
      LEFT JOIN restored r ON r.writer = m.xmin
     CROSS JOIN LATERAL (
           SELECT pg_visible_in_snapshot(m.xid, s.prev)
                  OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                      AND pg_visible_in_snapshot(m.xid, s.cur)) AS published) p
     -- xmin has the lower 32 bits of an xid.
     CROSS JOIN LATERAL (
           SELECT (m.xmin::text::bigint - m.xid::text::bigint) & 4294967295 AS apart) a
     CROSS JOIN LATERAL (
           SELECT copied AND r.writer IS NULL AND m.xid > '3' AND a.apart < 2147483648
                  AND m.xid::text::bigint + a.apart < pg_snapshot_xmax(present)::text::bigint AS here) h
$$;
COMMENT ON FUNCTION outbox.rebase_rows(pg_snapshot, boolean) IS 'part of outbox.rebase';

-- Whether xids in here are another cluster's. After pg_upgrade the cluster is
-- another one too, but its xids are the old one's, and so are all writers: no row
-- names an xid that its writer cannot have had, and no row of the cursor one that
-- came later than what wrote it.
CREATE FUNCTION outbox.rebase_copied(present pg_snapshot) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (
               SELECT FROM outbox.stream s,
                      LATERAL (SELECT pg_snapshot_xmax(present)::text::bigint AS upto) u
                WHERE greatest(pg_snapshot_xmax(s.prev), s.floor_xid, pg_snapshot_xmax(s.cur),
                               s.cur_floor_xid)::text::bigint
                      > u.upto - ((u.upto - s.xmin::text::bigint) & 4294967295))
        OR EXISTS (
               SELECT FROM outbox.message m WHERE m.xid > '3' GROUP BY m.xmin
               HAVING min(m.xid::text::bigint) <> max(m.xid::text::bigint)
                   OR min(m.xid::text::bigint)
                      + ((m.xmin::text::bigint - min(m.xid::text::bigint)) & 4294967295)
                      >= pg_snapshot_xmax(present)::text::bigint)
$$;
COMMENT ON FUNCTION outbox.rebase_copied(pg_snapshot) IS 'part of outbox.rebase';

-- Where the sequence stands, and the highest seq that anything speaks of.
CREATE FUNCTION outbox.rebase_top(OUT stands bigint, OUT top bigint)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN q.is_called THEN q.last_value ELSE q.last_value - 1 END,
           greatest((SELECT max(m.seq) FROM outbox.message m),
                    (SELECT max(p.seq) FROM outbox.parked p),
                    (SELECT max(greatest(s.floor_seq, s.cur_floor_seq, s.last_seq))
                       FROM outbox.stream s))
      FROM outbox.message_seq_seq q
$$;
COMMENT ON FUNCTION outbox.rebase_top() IS 'part of outbox.rebase';

-- Why the outbox cannot have been written here, or NULL. What is committed has a
-- lower xid than the xmax of `present`. (There is no max(xid8) before version 15.)
CREATE FUNCTION outbox.rebase_why(present pg_snapshot) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(
        (SELECT format('its cursor was made in the cluster %s, and this is %s',
                       s.system_identifier, c.system_identifier)
           FROM outbox.stream s, pg_control_system() c
          WHERE s.system_identifier <> c.system_identifier LIMIT 1),
        (SELECT format('it has transaction id %s, and this cluster has only come to %s',
                       x.xid, pg_snapshot_xmax(present))
           FROM (SELECT greatest(pg_snapshot_xmax(s.prev), s.floor_xid,
                                 pg_snapshot_xmax(s.cur), s.cur_floor_xid) AS xid
                   FROM outbox.stream s
                 UNION ALL
                 (SELECT m.xid FROM outbox.message m ORDER BY m.xid DESC LIMIT 1)) x
          WHERE x.xid > pg_snapshot_xmax(present) ORDER BY x.xid DESC LIMIT 1),
        (SELECT format('it has come to seq %s, and its sequence only to %s', t.top, t.stands)
           FROM outbox.rebase_top() t WHERE t.top > t.stands))
$$;
COMMENT ON FUNCTION outbox.rebase_why(pg_snapshot) IS 'part of outbox.rebase';

-- Messages that are not published are written again, by this transaction and
-- so with an xid and seqs of this cluster: first those that came with the copy,
-- then those that were written here since, each in their order. Published ones
-- get an xid that every snapshot shows, and that says nothing to the next rebase.
CREATE FUNCTION outbox.rebase(dry_run boolean, OUT unpublished bigint, OUT written_here bigint,
                              OUT doubtful bigint, OUT published bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    present pg_snapshot;
    copied boolean;
    why text;
    subscription name;
    seqs record;
BEGIN
    -- A snapshot takes its own transaction's xid for one that has ended; and it
    -- must be younger than the locks.
    IF pg_current_xact_id_if_assigned() IS NOT NULL
       OR current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE active_sql_transaction USING
            MESSAGE = 'outbox.rebase must be the first in a READ COMMITTED transaction';
    END IF;

    -- No relay begins meanwhile; and writers end first and wait then, or one that
    -- is under way would be published before what its key's earlier ones wrote.
    IF NOT dry_run THEN
        LOCK TABLE outbox.stream IN EXCLUSIVE MODE;
        LOCK TABLE outbox.message IN SHARE ROW EXCLUSIVE MODE;
        PERFORM set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') IN ('off', 'local');
    END IF;
    present := pg_current_snapshot();

    why := outbox.rebase_why(present);
    IF why IS NULL THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'this outbox is no copy: its relay can go on, and nothing needs to be done';
    END IF;
    IF EXISTS (SELECT FROM outbox.stream s
                WHERE s.owner IS NOT NULL AND s.lease_until > clock_timestamp()
                  AND s.lease_until <= clock_timestamp() + interval '300 seconds') THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'a relay''s lease is running: stop the relay, or wait for the lease to end';
    END IF;
    SELECT s.subname INTO subscription
      FROM pg_subscription s JOIN pg_subscription_rel r ON r.srsubid = s.oid
      JOIN pg_class c ON c.oid = r.srrelid
     WHERE s.subenabled AND c.relnamespace = 'outbox'::regnamespace LIMIT 1;
    IF FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('subscription "%s" still writes to this outbox: disable or drop it first',
                             subscription);
    END IF;

    copied := outbox.rebase_copied(present);
    IF dry_run THEN
        SELECT count(*) FILTER (WHERE r.verdict = 'unpublished'), count(*) FILTER (WHERE r.verdict = 'written here'),
               count(*) FILTER (WHERE r.verdict = 'doubtful'), count(*) FILTER (WHERE r.verdict = 'published')
          INTO unpublished, written_here, doubtful, published
          FROM outbox.rebase_rows(present, copied) r;
        RETURN;
    END IF;

    -- Whatever is written from now on lies above the floor.
    SELECT t.stands, t.top INTO seqs FROM outbox.rebase_top() t;
    IF seqs.top > seqs.stands THEN
        PERFORM setval('outbox.message_seq_seq', seqs.top);
    END IF;
    WITH judged AS MATERIALIZED (SELECT * FROM outbox.rebase_rows(present, copied)),
    again AS (
        INSERT INTO outbox.message (message_id, topic, key, headers, payload, created_at)
        SELECT m.message_id, m.topic, m.key, m.headers, m.payload, m.created_at
          FROM judged j JOIN outbox.message m ON m.tableoid = j.part AND m.ctid = j.place
         WHERE j.verdict <> 'published' ORDER BY j.here, m.seq),
    gone AS (
        DELETE FROM outbox.message m USING judged j
         WHERE m.tableoid = j.part AND m.ctid = j.place AND j.verdict <> 'published'),
    kept AS (
        UPDATE outbox.message m SET xid = '3' FROM judged j
         WHERE m.tableoid = j.part AND m.ctid = j.place AND j.verdict = 'published'
           AND m.xid > '3' AND (copied OR NOT pg_visible_in_snapshot(m.xid, present)))
    SELECT count(*) FILTER (WHERE j.verdict = 'unpublished'), count(*) FILTER (WHERE j.verdict = 'written here'),
           count(*) FILTER (WHERE j.verdict = 'doubtful'), count(*) FILTER (WHERE j.verdict = 'published')
      INTO unpublished, written_here, doubtful, published
      FROM judged j;
    UPDATE outbox.stream
       SET prev = present, floor_seq = greatest(seqs.top, seqs.stands), floor_xid = pg_current_xact_id(),
           cur = NULL, cur_floor_seq = NULL, cur_floor_xid = NULL, last_seq = 0,
           owner = NULL, instance = NULL, wanted = NULL, lease_until = '-infinity', epoch = epoch + 1, timeline = NULL,
           system_identifier = (SELECT c.system_identifier FROM pg_control_system() c);
    INSERT INTO outbox.audit (verb, reason) VALUES ('rebase', why);
END
$$;
COMMENT ON FUNCTION outbox.rebase(boolean) IS
    'makes an outbox that was restored or replicated from another cluster fit for a relay here; with dry_run only '
    'counts: unpublished and written here are published next, doubtful again to be safe, published stays';

ALTER FUNCTION outbox.rebase_rows(pg_snapshot, boolean) OWNER TO saga_owner;
ALTER FUNCTION outbox.rebase_copied(pg_snapshot) OWNER TO saga_owner;
ALTER FUNCTION outbox.rebase_why(pg_snapshot) OWNER TO saga_owner;
ALTER FUNCTION outbox.rebase_top() OWNER TO saga_owner;
ALTER FUNCTION outbox.rebase(boolean) OWNER TO saga_owner;

-- An administrator's business: a member of saga_owner, or whom he grants it to.
REVOKE EXECUTE ON FUNCTION outbox.rebase(boolean), outbox.rebase_rows(pg_snapshot, boolean),
    outbox.rebase_copied(pg_snapshot), outbox.rebase_why(pg_snapshot), outbox.rebase_top() FROM PUBLIC;
