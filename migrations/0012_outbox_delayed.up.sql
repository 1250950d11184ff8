-- SPDX-License-Identifier: Apache-2.0
--
-- Messages that are to be published later: they wait here, and are written to
-- the outbox when they are due.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- Written by outbox.enqueue() and saga_enqueue(). A message is refused here for
-- what it would be refused for in outbox.message. (An id is made of deliver_at,
-- and there is no room in it for infinity, or for what was before 1970.)
CREATE TABLE outbox.delayed (
    deliver_at timestamptz            NOT NULL
               CONSTRAINT delayed_deliver_at CHECK (deliver_at > '1970-01-01 00:00:00+00'
                                                  AND deliver_at < '10000-01-01 00:00:00+00'),
    n          bigint                 GENERATED ALWAYS AS IDENTITY (CACHE 1),
    message_id outbox.message_id      NOT NULL,
    topic      outbox.message_topic   NOT NULL,
    key        outbox.message_key,
    headers    outbox.message_headers NOT NULL DEFAULT '',
    payload    outbox.message_payload,
    created_at timestamptz            NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT delayed_pkey PRIMARY KEY (deliver_at, n)
);

COMMENT ON TABLE outbox.delayed IS
    'messages that are not due yet; the relay moves them to outbox.message when they are';
COMMENT ON COLUMN outbox.delayed.deliver_at IS 'when it is due, by this database''s clock';
COMMENT ON COLUMN outbox.delayed.n IS 'order of writing, for those due at the same moment';
COMMENT ON COLUMN outbox.delayed.message_id IS 'as in outbox.message; made of the time of deliver_at';
COMMENT ON COLUMN outbox.delayed.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.delayed.key IS 'key of the record';
COMMENT ON COLUMN outbox.delayed.headers IS 'a line "name: value" for each';
COMMENT ON COLUMN outbox.delayed.payload IS 'value of the record; NULL: a tombstone';
COMMENT ON COLUMN outbox.delayed.created_at IS 'when it was written, before its commit';

-- The relay calls it all the time: where nothing is due it is one probe of the
-- index. A moved row leaves its place in the index until no transaction could
-- see it any more; whoever moves many in several calls says where the one before
-- has ended, and does not walk over them again.
CREATE FUNCTION outbox.deliver_due(max integer, after timestamptz DEFAULT '-infinity',
                                   after_n bigint DEFAULT 0,
                                   OUT moved integer, OUT last timestamptz, OUT last_n bigint,
                                   OUT more boolean)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    -- Whoever locks the table delays what is in it, and nothing else.
    SET lock_timeout = '50ms'
    -- A plan that was made while the table was small must do when it is large.
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET jit = off
AS $$
DECLARE
    moment timestamptz := clock_timestamp();
BEGIN
    moved := 0;
    more := false;
    PERFORM FROM outbox.delayed d WHERE (d.deliver_at, d.n) > (after, after_n)
        AND d.deliver_at <= moment ORDER BY d.deliver_at, d.n LIMIT 1;
    -- A row is moved once, whoever tries; two at a time would wait for each other.
    IF NOT FOUND OR NOT pg_try_advisory_xact_lock(1935763297, 12) THEN
        RETURN;
    END IF;

    -- By ctid: found by the index, whatever the planner believes of the table.
    -- Not more than 8 MB and a message: whoever calls has a lease to renew.
    WITH look AS MATERIALIZED (
        SELECT d.place, coalesce(sum(d.size) OVER (ORDER BY d.deliver_at, d.n
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
          FROM (SELECT d.ctid AS place, d.deliver_at, d.n,
                       coalesce(octet_length(d.payload), 0) + pg_column_size(d.headers) AS size
                  FROM outbox.delayed d WHERE (d.deliver_at, d.n) > (after, after_n)
                   AND d.deliver_at <= moment ORDER BY d.deliver_at, d.n LIMIT max) d),
    due AS (
        DELETE FROM outbox.delayed WHERE ctid = ANY (ARRAY(
            SELECT l.place FROM look l WHERE l.before < 8388608))
        RETURNING *),
    message AS (
        INSERT INTO outbox.message (message_id, topic, key, headers, payload)
        SELECT d.message_id, d.topic, d.key, d.headers, d.payload FROM due d
         ORDER BY d.deliver_at, d.n)
    SELECT d.deliver_at, d.n, count(*) OVER (),
           (SELECT count(*) = max OR bool_or(l.before >= 8388608) FROM look l)
      INTO last, last_n, moved, more FROM due d
     ORDER BY d.deliver_at DESC, d.n DESC LIMIT 1;
    moved := coalesce(moved, 0);
    more := coalesce(more, false);
END
$$;
COMMENT ON FUNCTION outbox.deliver_due(integer, timestamptz, bigint) IS
    'moves up to max messages that are due to outbox.message, in the order of deliver_at, '
    'and says how many, and whether more may be due; the relay does it';

ALTER TABLE outbox.delayed OWNER TO saga_owner;
ALTER FUNCTION outbox.deliver_due(integer, timestamptz, bigint) OWNER TO saga_owner;

GRANT INSERT (message_id, topic, key, headers, payload, deliver_at) ON outbox.delayed TO saga_app;
GRANT SELECT ON outbox.delayed TO saga_relay, saga_monitor;
REVOKE EXECUTE ON FUNCTION outbox.deliver_due(integer, timestamptz, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.deliver_due(integer, timestamptz, bigint) TO saga_relay;
