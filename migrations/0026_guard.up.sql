-- SPDX-License-Identifier: Apache-2.0
--
-- Doing a thing once for who may ask twice, in any language and in the caller's
-- own transaction: the barrier of sagas as functions, and a guard of the same
-- kind for HTTP requests, cron jobs and whatever else has a key.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- Whether a row that is seen was written by the transaction that asks, or a
-- savepoint of it: then its writer is still in progress.
CREATE FUNCTION idempotency.is_mine(writer xid) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(pg_xact_status((m.n + ((writer::text::bigint - m.n) << 32 >> 32))::text::xid8)
                    = 'in progress', false)
      FROM (SELECT pg_current_xact_id()::text::bigint AS n) m
$$;
COMMENT ON FUNCTION idempotency.is_mine(xid) IS
    'whether the transaction that asks has written the row with this xmin';

-- Before a CHECK does, which would not say what to do about it.
CREATE FUNCTION idempotency.check_name(what text, name text, remedy text) RETURNS void
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF name IS NULL OR name = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = format('the %s is empty', what);
    ELSIF octet_length(name) > 255 THEN
        RAISE program_limit_exceeded USING
            MESSAGE = format('the %s has %s bytes, and at most 255 are allowed', what,
                             octet_length(name)),
            HINT = remedy;
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.check_name(text, text, text) IS
    'part of idempotency.enter: 22023 without a name, 54000 where it is too long';

CREATE FUNCTION idempotency.enter(consumer text, saga_id uuid, step text, action text,
                                  message_id uuid)
    RETURNS TABLE (verdict text, outcome text, reason text, reply text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    days integer := idempotency.day_of(uuid_send(enter.saga_id));
    mine text[];
    before text;
    overtakes boolean := false;
BEGIN
    IF (enter.action IN ('run', 'compensate')) IS NOT TRUE THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('action must be run or compensate, not "%s"', enter.action);
    END IF;
    IF (octet_length(enter.consumer) BETWEEN 1 AND 255 AND octet_length(enter.step) BETWEEN 1 AND 255)
       IS NOT TRUE THEN
        PERFORM idempotency.check_name('consumer', enter.consumer,
                    'It is the participant''s own name, which its Kafka group has, too.'),
                idempotency.check_name('step', enter.step,
                    'No participant has a step of that name: put the command aside, in '
                    'idempotency.quarantine.');
    END IF;
    -- The step's row first, for both, so that two of them meet in a queue.
    WITH entered AS (
        INSERT INTO idempotency.barrier AS b
               (consumer, saga_id, step, action, outcome, reason, message_id, saga_started_at)
        SELECT enter.consumer, enter.saga_id, enter.step, r.action, r.outcome, r.reason,
               enter.message_id, idempotency.start_of(enter.saga_id)
          FROM (VALUES (1, 'run', 'done', NULL),
                       (2, 'run', 'refused', 'compensated before it came'),
                       (3, 'compensate', 'done', NULL)) AS r (n, action, outcome, reason)
         WHERE (r.n = 1) = (enter.action = 'run')
         ORDER BY r.n
        ON CONFLICT DO NOTHING
        RETURNING b.action)
    SELECT array_agg(e.action) INTO mine FROM entered e;
    IF enter.action = 'compensate' THEN
        -- Waits for an idempotency.reply that is at it, and counts what that leaves.
        UPDATE idempotency.barrier b
           SET outcome = 'refused', reason = 'compensated before it was answered',
               overtaken_at = clock_timestamp()
         WHERE b.consumer = enter.consumer AND b.saga_id = enter.saga_id AND b.step = enter.step
           AND b.action = 'run' AND b.outcome = 'waiting'
           -- Of a forgotten saga nothing is compensated.
           AND NOT coalesce(days < pg_sequence_last_value('idempotency.barrier_mark'), false);
        overtakes := FOUND;
    END IF;
    SELECT b.outcome INTO before FROM idempotency.barrier b
     WHERE b.consumer = enter.consumer AND b.saga_id = enter.saga_id AND b.step = enter.step
       AND b.action = 'run' AND NOT 'run' = ANY (coalesce(mine, '{}'));

    IF NOT enter.action = ANY (coalesce(mine, '{}')) THEN
        verdict := 'answered';
    ELSIF days < pg_sequence_last_value('idempotency.barrier_mark') AND NOT overtakes THEN
        verdict := 'answered';
        UPDATE idempotency.barrier b
           SET outcome = 'unknown', reason = 'the saga is older than what this participant remembers'
         WHERE b.consumer = enter.consumer AND b.saga_id = enter.saga_id AND b.step = enter.step
           AND b.action = ANY (mine);
    ELSIF enter.action = 'compensate' AND before IS DISTINCT FROM 'done' AND NOT overtakes THEN
        verdict := 'answered';
        UPDATE idempotency.barrier b SET reason = 'nothing to undo'
         WHERE b.consumer = enter.consumer AND b.saga_id = enter.saga_id AND b.step = enter.step
           AND b.action = 'compensate';
    ELSE
        verdict := 'enter';
    END IF;
    RETURN QUERY SELECT CASE WHEN b.outcome = 'waiting' THEN 'waiting' ELSE verdict END,
                        b.outcome, b.reason, b.reply
      FROM idempotency.barrier b
     WHERE b.consumer = enter.consumer AND b.saga_id = enter.saga_id AND b.step = enter.step
       AND b.action = enter.action;
END
$$;
COMMENT ON FUNCTION idempotency.enter(text, uuid, text, text, uuid) IS
    'the barrier of a saga''s participant, at the beginning of the command''s transaction; see '
    'docs/protocol.md. enter: do it (run or compensate) and say idempotency.answer or '
    'idempotency.wait, or roll back. answered: do nothing, and reply with outcome, reason and reply '
    'as they are returned. waiting: do nothing and do not reply; idempotency.reply will. No consumer, '
    'step or action: 22023. More than 255 bytes: 54000';

CREATE FUNCTION idempotency.answer(consumer text, saga_id uuid, step text, action text, outcome text,
                                   reason text DEFAULT NULL, reply jsonb DEFAULT '{}')
    RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stored text;
BEGIN
    -- Stored, it would be given again for ever, and no orchestrator could read it.
    IF jsonb_typeof(answer.reply) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a reply is a JSON object of values';
    END IF;
    UPDATE idempotency.barrier b
       SET outcome = answer.outcome, reason = answer.reason, reply = answer.reply::text
     WHERE b.consumer = answer.consumer AND b.saga_id = answer.saga_id AND b.step = answer.step
       AND b.action = answer.action AND idempotency.is_mine(b.xmin)
    RETURNING b.reply INTO stored;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('this transaction has not entered step "%s" of saga %s',
                             answer.step, answer.saga_id);
    END IF;
    RETURN stored;
END
$$;
COMMENT ON FUNCTION idempotency.answer(text, uuid, text, text, text, text, jsonb) IS
    'stores the final answer to a command that idempotency.enter has let in, in the same '
    'transaction: done, or refused with a reason (roll back what was done to a savepoint after '
    'enter). Returns the reply''s payload. Not entered in this transaction: 55000. No object: 22023';

CREATE TABLE idempotency.guard (
    scope       text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    status      integer,
    response    bytea,
    entered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT guard_pkey PRIMARY KEY (scope, key),
    CONSTRAINT guard_names CHECK (scope <> '' AND octet_length(scope) <= 255
                                  AND key <> '' AND octet_length(key) <= 255)
);
-- For cleaning up.
CREATE INDEX guard_entered_at ON idempotency.guard (entered_at);

COMMENT ON TABLE idempotency.guard IS
    'One row for each request that was carried out, committed together with its effect, and what it '
    'was answered. Written by idempotency.enter() and answer().';
COMMENT ON COLUMN idempotency.guard.scope IS 'What the keys belong to: an endpoint and its client.';
COMMENT ON COLUMN idempotency.guard.key IS 'The request''s idempotency key.';
COMMENT ON COLUMN idempotency.guard.fingerprint IS
    'A hash of the request. The same key with another one is another request: refused.';
COMMENT ON COLUMN idempotency.guard.status IS 'Of the answer, an HTTP status for instance.';
COMMENT ON COLUMN idempotency.guard.response IS 'The answer, given again to a repetition.';
COMMENT ON COLUMN idempotency.guard.entered_at IS
    'When it was carried out. After its retention the key is new again.';

-- The wait for a rival is in a block of its own, so that giving up leaves the
-- caller's transaction whole.
CREATE FUNCTION idempotency.enter(scope text, key text, fingerprint bytea,
                                  wait_ms integer DEFAULT 5000)
    RETURNS TABLE (verdict text, status integer, response bytea)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '5s'
AS $$
#variable_conflict use_column
DECLARE
    stored idempotency.guard;
BEGIN
    IF (octet_length(enter.scope) BETWEEN 1 AND 255 AND octet_length(enter.key) BETWEEN 1 AND 255)
       IS NOT TRUE THEN
        PERFORM idempotency.check_name('scope', enter.scope, 'Enter a hash of the scope in its place.'),
                idempotency.check_name('key', enter.key,
                    'Refuse the request, or enter a hash of the key in its place.');
    END IF;
    PERFORM set_config('lock_timeout', greatest(enter.wait_ms, 1) || 'ms', true);
    BEGIN
        INSERT INTO idempotency.guard (scope, key, fingerprint)
            VALUES (enter.scope, enter.key, enter.fingerprint) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN QUERY SELECT 'fresh', NULL::integer, NULL::bytea;
            RETURN;
        END IF;
    EXCEPTION WHEN lock_not_available THEN
        RETURN QUERY SELECT 'busy', NULL::integer, NULL::bytea;
        RETURN;
    END;
    SELECT g.* INTO stored FROM idempotency.guard g
     WHERE g.scope = enter.scope AND g.key = enter.key;
    IF NOT FOUND THEN
        RAISE serialization_failure USING
            MESSAGE = 'the stored response has just been cleaned up',
            HINT = 'Roll back and try again.';
    ELSIF stored.fingerprint <> enter.fingerprint THEN
        RETURN QUERY SELECT 'other', NULL::integer, NULL::bytea;
    ELSE
        RETURN QUERY SELECT 'answered', stored.status, stored.response;
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.enter(text, text, bytea, integer) IS
    'the guard, at the beginning of a request''s transaction. fresh: carry it out and say '
    'idempotency.answer. answered: do nothing, and answer as is returned. other: the key was used '
    'for another request; refuse. busy: a transaction that is at it has not ended within wait_ms; '
    'let the client come again. No scope or key: 22023. More than 255 bytes: 54000';

CREATE FUNCTION idempotency.answer(scope text, key text, status integer, response bytea)
    RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE idempotency.guard g SET status = answer.status, response = answer.response
     WHERE g.scope = answer.scope AND g.key = answer.key AND idempotency.is_mine(g.xmin);
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('this transaction has not entered key "%s" of "%s"', answer.key,
                             answer.scope);
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.answer(text, text, integer, bytea) IS
    'stores what the request is answered with, in the transaction that has entered it. Not entered '
    'in this transaction: 55000';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['TABLE idempotency.guard', 'FUNCTION idempotency.is_mine(xid)',
        'FUNCTION idempotency.check_name(text, text, text)',
        'FUNCTION idempotency.enter(text, uuid, text, text, uuid)',
        'FUNCTION idempotency.answer(text, uuid, text, text, text, text, jsonb)',
        'FUNCTION idempotency.enter(text, text, bytea, integer)',
        'FUNCTION idempotency.answer(text, text, integer, bytea)'] LOOP
        EXECUTE 'ALTER ' || name || ' OWNER TO saga_owner';
    END LOOP;
END
$$;

GRANT SELECT ON idempotency.guard TO saga_monitor;
REVOKE EXECUTE ON FUNCTION idempotency.is_mine(xid), idempotency.check_name(text, text, text),
    idempotency.enter(text, uuid, text, text, uuid),
    idempotency.answer(text, uuid, text, text, text, text, jsonb),
    idempotency.enter(text, text, bytea, integer),
    idempotency.answer(text, text, integer, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotency.enter(text, uuid, text, text, uuid),
    idempotency.answer(text, uuid, text, text, text, text, jsonb),
    idempotency.enter(text, text, bytea, integer),
    idempotency.answer(text, text, integer, bytea) TO saga_app;
