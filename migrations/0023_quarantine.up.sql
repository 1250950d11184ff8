-- SPDX-License-Identifier: Apache-2.0
--
-- What consumers must not apply, kept whole, and what operators do about it.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE TABLE idempotency.quarantine (
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    consumer    text        NOT NULL,
    reason      text        NOT NULL,
    message_id  uuid,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    hash        bytea       NOT NULL,
    key         bytea,
    payload     bytea,
    headers     text[]      NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state       text        NOT NULL DEFAULT 'held',

    CONSTRAINT quarantine_pkey PRIMARY KEY (id),
    CONSTRAINT quarantine_state CHECK (state IN ('held', 'released', 'rejected')),
    -- A message that is read again is kept once. With the hash, because a topic that was
    -- deleted and made again has the same offsets with other messages.
    CONSTRAINT quarantine_once UNIQUE (consumer, topic, partition, "offset", hash)
);

COMMENT ON TABLE idempotency.quarantine IS
    'Messages that were not applied and never will be by themselves: without a usable message-id, '
    'with the id of another message, or with an id so old that nobody knows whether it was applied. '
    'Kept whole, so that nothing is lost. idempotency.release(id, reason) applies one all the same; '
    'idempotency.reject(id, reason) settles that it never will be.';
COMMENT ON COLUMN idempotency.quarantine.id IS 'In the order of arrival.';
COMMENT ON COLUMN idempotency.quarantine.consumer IS 'Consumer group that refused it.';
COMMENT ON COLUMN idempotency.quarantine.reason IS 'Why.';
COMMENT ON COLUMN idempotency.quarantine.message_id IS
    'Header message-id, where it is one; look it up in idempotency.inbox.';
COMMENT ON COLUMN idempotency.quarantine.topic IS 'Where it was read.';
COMMENT ON COLUMN idempotency.quarantine.partition IS 'Partition of that topic.';
COMMENT ON COLUMN idempotency.quarantine."offset" IS 'Offset in that partition.';
COMMENT ON COLUMN idempotency.quarantine.hash IS 'SHA-256 over key and payload.';
COMMENT ON COLUMN idempotency.quarantine.key IS 'The record''s key.';
COMMENT ON COLUMN idempotency.quarantine.payload IS 'The record''s value.';
COMMENT ON COLUMN idempotency.quarantine.headers IS
    'Name, value, name, value ... in their order. What is not UTF-8 text, or begins with \x, is '
    'written as \x and hexadecimal digits.';
COMMENT ON COLUMN idempotency.quarantine.received_at IS 'When it was refused.';

COMMENT ON COLUMN idempotency.quarantine.state IS
    'held; or released: handed to the consumer by idempotency.release; or rejected. A settled row '
    'stays, so that the same record is not held once more when it is read again.';

CREATE INDEX quarantine_held ON idempotency.quarantine (id) WHERE state = 'held';

CREATE FUNCTION idempotency.settle(id bigint, verb text, state text, reason text)
    RETURNS idempotency.quarantine
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held idempotency.quarantine;
BEGIN
    SELECT q.* INTO held FROM idempotency.quarantine q WHERE q.id = settle.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('there is no message %s in the quarantine', id);
    ELSIF held.state <> 'held' THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('message %s of the quarantine is %s already', id, held.state);
    END IF;
    UPDATE idempotency.quarantine q SET state = settle.state WHERE q.id = settle.id;
    PERFORM idempotency.note(verb, held.consumer, held.topic, held.key, held.message_id, reason);
    RETURN held;
END
$$;
COMMENT ON FUNCTION idempotency.settle(bigint, text, text, text) IS
    'part of idempotency.release and idempotency.reject';

-- Writes the inbox row that the message would have, unless the mark guards it
-- already: applied from here, it must not be new when it is read once more.
CREATE FUNCTION idempotency.remember(held idempotency.quarantine) RETURNS void
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    day integer := idempotency.day_of(uuid_send(held.message_id));
    mark integer := pg_sequence_last_value('idempotency.inbox_mark');
    known bytea;
BEGIN
    IF day IS NULL THEN
        INSERT INTO idempotency.inbox_foreign
               (consumer, message_id, hash, topic, partition, "offset")
        VALUES (held.consumer, held.message_id, held.hash, held.topic, held.partition, held."offset")
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT i.hash INTO known FROM idempotency.inbox_foreign i
             WHERE i.consumer = held.consumer AND i.message_id = held.message_id;
        END IF;
    ELSIF day > mark + 31 THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('the id of message %s is of %s, further ahead than the inbox can remember',
                             held.id, date '1970-01-01' + day),
            HINT = 'Reject it and send it again with a new id.';
    ELSIF day >= mark THEN
        INSERT INTO idempotency.inbox
               (consumer, message_id, hash, topic, partition, "offset", slot)
        VALUES (held.consumer, held.message_id, held.hash, held.topic, held.partition,
                held."offset", day % 32)
        ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            SELECT i.hash INTO known FROM idempotency.inbox i
             WHERE i.consumer = held.consumer AND i.message_id = held.message_id
               AND i.slot = day % 32;
        END IF;
    END IF;
    IF known = held.hash THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('message %s has been applied meanwhile', held.id),
            HINT = 'Reject it; nothing is missing.';
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.remember(idempotency.quarantine) IS 'part of idempotency.release';

CREATE FUNCTION idempotency.release(id bigint, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    held idempotency.quarantine := idempotency.settle(id, 'release', 'released', reason);
BEGIN
    IF held.message_id IS NULL THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('message %s has no message-id; the consumer could not tell it from '
                             'others', id),
            HINT = 'Reject it and send it again with one.';
    END IF;
    PERFORM idempotency.remember(held);
    INSERT INTO idempotency.parked (consumer, topic, key, message_id, hash, partition, "offset",
                                    headers, payload, error, attempts, request)
        VALUES (held.consumer, held.topic, held.key, held.message_id, held.hash, held.partition,
                held."offset", held.headers, held.payload, 'released: ' || held.reason, 0,
                (SELECT max(a.id) FROM idempotency.audit a WHERE a.message_id = held.message_id));
EXCEPTION WHEN unique_violation THEN
    RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('message %s is parked already', held.message_id);
END
$$;
COMMENT ON FUNCTION idempotency.release(bigint, text) IS
    'hands a message of the quarantine, by its id there, to the consumer, which applies it once, '
    'whatever the inbox knows; in no promised order with others of its key. Until it has, it is in '
    'idempotency.parked. Not there: P0002. Settled already, applied meanwhile, without a message-id '
    'or too far in the future: 55000. No reason: 22023';

CREATE FUNCTION idempotency.reject(id bigint, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM idempotency.settle(id, 'reject', 'rejected', reason);
END
$$;
COMMENT ON FUNCTION idempotency.reject(bigint, text) IS
    'settles that a message of the quarantine, by its id there, is never applied. Not there: P0002. '
    'Settled already: 55000. No reason: 22023';

ALTER TABLE idempotency.quarantine OWNER TO saga_owner;
ALTER FUNCTION idempotency.settle(bigint, text, text, text) OWNER TO saga_owner;
ALTER FUNCTION idempotency.remember(idempotency.quarantine) OWNER TO saga_owner;
ALTER FUNCTION idempotency.release(bigint, text) OWNER TO saga_owner;
ALTER FUNCTION idempotency.reject(bigint, text) OWNER TO saga_owner;

GRANT SELECT ON idempotency.quarantine TO saga_app, saga_monitor;
GRANT INSERT (consumer, reason, message_id, topic, partition, "offset", hash, key, payload, headers)
    ON idempotency.quarantine TO saga_app;
REVOKE EXECUTE ON FUNCTION idempotency.settle(bigint, text, text, text),
    idempotency.remember(idempotency.quarantine), idempotency.release(bigint, text),
    idempotency.reject(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotency.release(bigint, text), idempotency.reject(bigint, text)
    TO saga_app;
