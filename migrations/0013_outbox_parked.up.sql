-- SPDX-License-Identifier: Apache-2.0
--
-- Messages that can never be delivered as they are, the later ones of their
-- keys, and what operators do about them.
--
-- The relay puts rows in here in the statement in which its cursor passes them,
-- and only it takes published ones out. Operators ask: outbox.retry lets the
-- relay try again, outbox.discard takes one message out for good.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE TABLE outbox.parked (
    seq        bigint      NOT NULL,
    message_id uuid        NOT NULL,
    topic      text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C",
    headers    text        COLLATE "C" NOT NULL,
    payload    bytea,
    created_at timestamptz NOT NULL,
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    error      text        NOT NULL,
    attempts   integer     NOT NULL,
    request    bigint,

    CONSTRAINT parked_pkey PRIMARY KEY (seq)
);

-- A pair's messages in order; an operator's message; what is to be tried again.
CREATE INDEX parked_pair ON outbox.parked (topic, key, seq);
CREATE INDEX parked_message ON outbox.parked (message_id);
CREATE INDEX parked_request ON outbox.parked (request) WHERE request IS NOT NULL;

COMMENT ON TABLE outbox.parked IS
    'messages that can never be delivered as they are, and the later ones of the same topic and key. '
    'outbox.retry(topic, key, reason) tries again; outbox.discard(message_id, reason) gives one up';
COMMENT ON COLUMN outbox.parked.seq IS 'order of writing, as in outbox.message';
COMMENT ON COLUMN outbox.parked.message_id IS 'the record''s header message-id';
COMMENT ON COLUMN outbox.parked.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.parked.key IS 'key of the record; NULL: it holds nobody up';
COMMENT ON COLUMN outbox.parked.headers IS 'a line "name: value" for each';
COMMENT ON COLUMN outbox.parked.payload IS 'value of the record; NULL: a tombstone';
COMMENT ON COLUMN outbox.parked.created_at IS 'when it was written';
COMMENT ON COLUMN outbox.parked.parked_at IS 'when it was parked';
COMMENT ON COLUMN outbox.parked.error IS 'why it cannot be delivered, or what it waits for';
COMMENT ON COLUMN outbox.parked.attempts IS
    'how often it was found undeliverable; 0: it waits behind another one of its key';
COMMENT ON COLUMN outbox.parked.request IS
    'outbox.audit.id of the retry that is asked for, where there is no key; else NULL';

-- While a pair is in here, all its new messages are parked too. Apart from the
-- messages, because it stays until the last of them is acknowledged.
CREATE TABLE outbox.parked_key (
    topic     text        COLLATE "C" NOT NULL,
    key       text        COLLATE "C" NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    error     text        NOT NULL,
    request   bigint,

    CONSTRAINT parked_key_pkey PRIMARY KEY (topic, key)
);
CREATE INDEX parked_key_request ON outbox.parked_key (request) WHERE request IS NOT NULL;

COMMENT ON TABLE outbox.parked_key IS 'the pairs of topic and key whose messages are parked';
COMMENT ON COLUMN outbox.parked_key.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.parked_key.key IS 'key of the records';
COMMENT ON COLUMN outbox.parked_key.parked_at IS 'since when';
COMMENT ON COLUMN outbox.parked_key.error IS 'why its first message cannot be delivered';
COMMENT ON COLUMN outbox.parked_key.request IS
    'outbox.audit.id of the retry that is asked for and not yet carried out';

CREATE TABLE outbox.audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text        NOT NULL DEFAULT session_user,
    verb       text        NOT NULL,
    topic      text        COLLATE "C",
    key        text        COLLATE "C",
    message_id uuid,
    reason     text        NOT NULL,

    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_message_id ON outbox.audit (message_id) WHERE message_id IS NOT NULL;

COMMENT ON TABLE outbox.audit IS 'what operators did, written in the transaction that did it';
COMMENT ON COLUMN outbox.audit.id IS 'in order';
COMMENT ON COLUMN outbox.audit.at IS 'when';
COMMENT ON COLUMN outbox.audit.who IS 'the login that did it';
COMMENT ON COLUMN outbox.audit.verb IS 'retry, discard, streams or rebase';
COMMENT ON COLUMN outbox.audit.topic IS 'topic of what it was done to';
COMMENT ON COLUMN outbox.audit.key IS 'key of what it was done to; NULL: messages without one';
COMMENT ON COLUMN outbox.audit.message_id IS 'the message that was discarded';
COMMENT ON COLUMN outbox.audit.reason IS 
    'why, in the operator''s words; of a rebase: how the copy was known; of streams: how many there were '
    'and are';

CREATE FUNCTION outbox.check_reason(reason text) RETURNS void
LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF check_reason.reason IS NULL OR btrim(check_reason.reason) = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a reason is needed; the audit keeps it';
    END IF;
END
$$;
COMMENT ON FUNCTION outbox.check_reason(text) IS 'used by outbox.retry and outbox.discard';

-- Only asks. Rows with a request are the relay's until it has answered: they
-- are not locked here a second time, so that no forgotten transaction of an
-- operator can hold it up.
CREATE FUNCTION outbox.retry(topic text, key text, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint;
    found_any boolean;
BEGIN
    PERFORM outbox.check_reason(retry.reason);
    IF retry.key IS NULL THEN
        found_any := EXISTS (SELECT FROM outbox.parked p WHERE p.topic = retry.topic AND p.key IS NULL);
    ELSE
        found_any := EXISTS (SELECT FROM outbox.parked_key k
                              WHERE k.topic = retry.topic AND k.key = retry.key);
    END IF;
    IF NOT found_any THEN
        RAISE no_data_found USING MESSAGE = CASE WHEN retry.key IS NULL
            THEN format('no message of topic "%s" without a key is parked', retry.topic)
            ELSE format('key "%s" of topic "%s" is not parked', retry.key, retry.topic) END;
    END IF;
    INSERT INTO outbox.audit (verb, topic, key, reason)
        VALUES ('retry', retry.topic, retry.key, retry.reason) RETURNING id INTO asked;
    IF retry.key IS NULL THEN
        UPDATE outbox.parked p SET request = asked
            WHERE p.topic = retry.topic AND p.key IS NULL AND p.request IS NULL;
    ELSE
        UPDATE outbox.parked_key k SET request = asked
            WHERE k.topic = retry.topic AND k.key = retry.key AND k.request IS NULL;
    END IF;
END
$$;
COMMENT ON FUNCTION outbox.retry(text, text, text) IS
    'asks the relay to publish what is parked of this topic and key, in order, and then to let the '
    'key flow again; key NULL: the topic''s messages without a key. What fails again stays parked '
    'with its new error. Not parked: P0002. No reason: 22023';

CREATE FUNCTION outbox.discard(message_id uuid, reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen outbox.parked;
    behind outbox.parked;
    asked bigint;
    of_key boolean := false;
BEGIN
    PERFORM outbox.check_reason(discard.reason);
    SELECT p.* INTO seen FROM outbox.parked p WHERE p.message_id = discard.message_id
        ORDER BY p.seq LIMIT 1;
    IF NOT FOUND THEN
        RAISE no_data_found USING
            MESSAGE = format('message %s is not parked', discard.message_id);
    END IF;
    -- First without a lock: see outbox.retry.
    SELECT k.request INTO asked FROM outbox.parked_key k
        WHERE k.topic = seen.topic AND k.key = seen.key;
    IF asked IS NULL THEN
        SELECT k.request INTO asked FROM outbox.parked_key k
            WHERE k.topic = seen.topic AND k.key = seen.key FOR UPDATE;
        of_key := FOUND;
    END IF;
    IF asked IS NULL THEN
        DELETE FROM outbox.parked p
            WHERE p.message_id = discard.message_id AND p.topic = seen.topic
              AND p.key IS NOT DISTINCT FROM seen.key AND p.request IS NULL;
    END IF;
    IF asked IS NOT NULL OR NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('cannot discard message %s: a retry is asked for and not yet carried out',
                             discard.message_id),
            HINT = 'Once the relay has tried, the message is published or can be discarded.';
    END IF;
    INSERT INTO outbox.audit (verb, topic, key, message_id, reason)
        VALUES ('discard', seen.topic, seen.key, discard.message_id, discard.reason)
        RETURNING id INTO asked;
    IF NOT of_key THEN
        RETURN;
    END IF;
    -- The key has the reason of its first message, which may have none of its own.
    SELECT p.* INTO behind FROM outbox.parked p
        WHERE p.topic = seen.topic AND p.key = seen.key ORDER BY p.seq LIMIT 1;
    IF NOT FOUND THEN
        UPDATE outbox.parked_key k SET request = asked
            WHERE k.topic = seen.topic AND k.key = seen.key;
    ELSIF behind.attempts = 0 THEN
        behind.error := 'the message before it was discarded; it needs a retry';
        UPDATE outbox.parked p SET error = behind.error WHERE p.seq = behind.seq;
    END IF;
    UPDATE outbox.parked_key k SET error = behind.error
        WHERE k.topic = seen.topic AND k.key = seen.key AND behind.error <> k.error;
END
$$;
COMMENT ON FUNCTION outbox.discard(uuid, text) IS
    'takes one parked message out, for good. The later ones of its key stay parked until '
    'outbox.retry; if there are none, the key flows again. Not parked: P0002. A retry is asked for '
    'and not yet carried out: 55000. No reason: 22023';

ALTER TABLE outbox.parked OWNER TO saga_owner;
ALTER TABLE outbox.parked_key OWNER TO saga_owner;
ALTER TABLE outbox.audit OWNER TO saga_owner;
ALTER FUNCTION outbox.check_reason(text) OWNER TO saga_owner;
ALTER FUNCTION outbox.retry(text, text, text) OWNER TO saga_owner;
ALTER FUNCTION outbox.discard(uuid, text) OWNER TO saga_owner;

-- The relay parks and publishes; the audit is the operators'.
GRANT SELECT, INSERT, DELETE ON outbox.parked, outbox.parked_key TO saga_relay;
GRANT UPDATE (error, attempts, request) ON outbox.parked TO saga_relay;
GRANT UPDATE (error, request) ON outbox.parked_key TO saga_relay;
GRANT SELECT ON outbox.parked, outbox.parked_key, outbox.audit TO saga_app, saga_monitor;
REVOKE EXECUTE ON FUNCTION outbox.check_reason(text), outbox.retry(text, text, text),
    outbox.discard(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.retry(text, text, text), outbox.discard(uuid, text) TO saga_app;
