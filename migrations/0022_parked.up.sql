-- SPDX-License-Identifier: Apache-2.0
--
-- Messages that a consumer's handler could not apply, the later ones of their
-- keys, and what operators do about them.
--
-- A message that is parked has its inbox row already, written in the transaction
-- that parked it, so that it is a duplicate when Kafka delivers it again. Its
-- being in here is the proof that it was not applied: who takes it out applies it
-- in the same transaction, whatever the inbox still knows.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE TABLE idempotency.parked (
    id         bigint               GENERATED ALWAYS AS IDENTITY (CACHE 1),
    consumer   idempotency.consumer NOT NULL,
    topic      text                 NOT NULL,
    key        bytea,
    message_id uuid                 NOT NULL,
    hash       bytea                NOT NULL,
    partition  integer              NOT NULL,
    "offset"   bigint               NOT NULL,
    headers    text[]               NOT NULL,
    payload    bytea,
    error      text,
    attempts   integer              NOT NULL,
    parked_at  timestamptz          NOT NULL DEFAULT clock_timestamp(),
    request    bigint,

    CONSTRAINT parked_pkey PRIMARY KEY (id),
    CONSTRAINT parked_once UNIQUE (consumer, message_id)
);
CREATE INDEX parked_order ON idempotency.parked (consumer, topic, key, id);
CREATE INDEX parked_request ON idempotency.parked (consumer, request) WHERE request IS NOT NULL;

COMMENT ON TABLE idempotency.parked IS
    'messages that could not be applied, and the later ones of the same topic and key. '
    'idempotency.retry(consumer, topic, key, reason) tries again; '
    'idempotency.discard(consumer, message_id, reason) gives one up';
COMMENT ON COLUMN idempotency.parked.id IS 'order within a key';
COMMENT ON COLUMN idempotency.parked.consumer IS 'consumer group';
COMMENT ON COLUMN idempotency.parked.topic IS 'where it was read';
COMMENT ON COLUMN idempotency.parked.key IS 'the record''s key; NULL: it holds nobody up';
COMMENT ON COLUMN idempotency.parked.message_id IS 'header message-id';
COMMENT ON COLUMN idempotency.parked.hash IS 'SHA-256 over key and payload';
COMMENT ON COLUMN idempotency.parked.partition IS 'partition of that topic';
COMMENT ON COLUMN idempotency.parked."offset" IS 'offset in that partition';
COMMENT ON COLUMN idempotency.parked.headers IS 'as in idempotency.quarantine';
COMMENT ON COLUMN idempotency.parked.payload IS 'the record''s value';
COMMENT ON COLUMN idempotency.parked.error IS
    'why it could not be applied; NULL: it waits behind another one of its key';
COMMENT ON COLUMN idempotency.parked.attempts IS 'how often the handler has failed on it';
COMMENT ON COLUMN idempotency.parked.parked_at IS 'since when';
COMMENT ON COLUMN idempotency.parked.request IS
    'idempotency.audit.id of the retry that is asked for, of a message that waits behind none';

-- Apart from the messages, so that there is one row to lock for a key: KEY SHARE
-- by who parks one more behind, UPDATE by who takes some out.
CREATE TABLE idempotency.parked_key (
    consumer  idempotency.consumer NOT NULL,
    topic     text                 NOT NULL,
    key       bytea                NOT NULL,
    parked_at timestamptz          NOT NULL DEFAULT clock_timestamp(),
    error     text                 NOT NULL,
    request   bigint,

    CONSTRAINT parked_key_pkey PRIMARY KEY (consumer, topic, key)
);
CREATE INDEX parked_key_request ON idempotency.parked_key (consumer, request)
    WHERE request IS NOT NULL;

COMMENT ON TABLE idempotency.parked_key IS
    'the keys whose messages are parked, for each consumer and topic; there are few. Read the '
    'partition''s offset first and then these: who parks a key moves the offset with it';
COMMENT ON COLUMN idempotency.parked_key.consumer IS 'consumer group';
COMMENT ON COLUMN idempotency.parked_key.topic IS 'topic of Kafka';
COMMENT ON COLUMN idempotency.parked_key.key IS 'key of the records';
COMMENT ON COLUMN idempotency.parked_key.parked_at IS 'since when';
COMMENT ON COLUMN idempotency.parked_key.error IS 'why its first message could not be applied';
COMMENT ON COLUMN idempotency.parked_key.request IS
    'idempotency.audit.id of the retry that is asked for and not yet carried out';

CREATE TABLE idempotency.audit (
    id         bigint      GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text        NOT NULL DEFAULT session_user,
    verb       text        NOT NULL,
    consumer   text,
    topic      text,
    key        bytea,
    message_id uuid,
    reason     text        NOT NULL,

    CONSTRAINT audit_pkey PRIMARY KEY (id),
    CONSTRAINT audit_reason CHECK (btrim(reason) <> '')
);

COMMENT ON TABLE idempotency.audit IS 'what operators did, written in the transaction that did it';
COMMENT ON COLUMN idempotency.audit.id IS 'in order';
COMMENT ON COLUMN idempotency.audit.at IS 'when';
COMMENT ON COLUMN idempotency.audit.who IS 'the login that did it';
COMMENT ON COLUMN idempotency.audit.verb IS
    'retry or discard, of parked messages; release or reject, of the quarantine''s; keep, of a retention';
COMMENT ON COLUMN idempotency.audit.consumer IS 'consumer group of what it was done to';
COMMENT ON COLUMN idempotency.audit.topic IS 'its topic; with keep: what is kept';
COMMENT ON COLUMN idempotency.audit.key IS
    'its key; NULL: those without one, or, where the reason says so, all';
COMMENT ON COLUMN idempotency.audit.message_id IS 'the message; NULL: all of the key';
COMMENT ON COLUMN idempotency.audit.reason IS 'why, in the operator''s words';

CREATE FUNCTION idempotency.note(verb text, consumer text, topic text, key bytea, message_id uuid,
                                 reason text) RETURNS bigint
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    noted bigint;
BEGIN
    IF note.reason IS NULL OR btrim(note.reason) = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a reason is needed; the audit keeps it';
    END IF;
    INSERT INTO idempotency.audit (verb, consumer, topic, key, message_id, reason)
        VALUES (note.verb, note.consumer, note.topic, note.key, note.message_id, note.reason)
        RETURNING id INTO noted;
    RETURN noted;
END
$$;
COMMENT ON FUNCTION idempotency.note(text, text, text, bytea, uuid, text) IS
    'part of the operators'' verbs: a row of idempotency.audit';

-- Whether the key is parked is asked under a lock that its last retry has to
-- wait for: nothing is left behind a key that flows again.
CREATE FUNCTION idempotency.park(consumer text, topic text, key bytea, message_id uuid, hash bytea,
                                 partition integer, "offset" bigint, headers text[], payload bytea,
                                 error text, attempts integer)
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    WHILE park.key IS NOT NULL LOOP
        PERFORM FROM idempotency.parked_key k
          WHERE k.consumer = park.consumer AND k.topic = park.topic AND k.key = park.key
            FOR KEY SHARE;
        EXIT WHEN FOUND;
        IF park.error IS NULL THEN
            RETURN false;
        END IF;
        INSERT INTO idempotency.parked_key (consumer, topic, key, error)
            VALUES (park.consumer, park.topic, park.key, park.error) ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
    INSERT INTO idempotency.parked (consumer, topic, key, message_id, hash, partition, "offset",
                                    headers, payload, error, attempts)
        VALUES (park.consumer, park.topic, park.key, park.message_id, park.hash, park.partition,
                park."offset", park.headers, park.payload, park.error, park.attempts)
        -- Read again when the inbox has forgotten it.
        ON CONFLICT ON CONSTRAINT parked_once DO NOTHING;
    RETURN true;
END
$$;
COMMENT ON FUNCTION idempotency.park(text, text, bytea, uuid, bytea, integer, bigint, text[], bytea,
                                     text, integer) IS
    'parks a message that idempotency.receive has just called fresh, in the same transaction. With '
    'an error: it and its key. error NULL: behind its key, if that is parked; false: it is not (any '
    'more), apply the message';

CREATE FUNCTION idempotency.take_retried(consumer text, topics text[], at_most integer DEFAULT 1)
    RETURNS SETOF idempotency.parked
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked idempotency.parked_key;
    taken bigint[];
BEGIN
    LOOP
        SELECT k.* INTO asked FROM idempotency.parked_key k
         WHERE k.consumer = take_retried.consumer AND k.request IS NOT NULL
           AND k.topic = ANY (take_retried.topics)
         ORDER BY k.request LIMIT 1 FOR UPDATE SKIP LOCKED;
        EXIT WHEN NOT FOUND;
        taken := ARRAY(SELECT p.id FROM idempotency.parked p
                        WHERE p.consumer = asked.consumer AND p.topic = asked.topic
                          AND p.key = asked.key
                        ORDER BY p.id LIMIT take_retried.at_most);
        IF NOT EXISTS (SELECT FROM idempotency.parked p
                        WHERE p.consumer = asked.consumer AND p.topic = asked.topic
                          AND p.key = asked.key AND p.id <> ALL (taken)) THEN
            DELETE FROM idempotency.parked_key k
             WHERE k.consumer = asked.consumer AND k.topic = asked.topic AND k.key = asked.key;
        END IF;
        EXIT WHEN cardinality(taken) > 0;
    END LOOP;
    IF asked IS NULL THEN
        taken := ARRAY(SELECT p.id FROM idempotency.parked p
                        WHERE p.consumer = take_retried.consumer AND p.request IS NOT NULL
                          AND p.topic = ANY (take_retried.topics)
                        ORDER BY p.request, p.id LIMIT take_retried.at_most
                        FOR UPDATE SKIP LOCKED);
    END IF;
    RETURN QUERY
        WITH gone AS (DELETE FROM idempotency.parked p WHERE p.id = ANY (taken) RETURNING p.*)
        SELECT * FROM gone ORDER BY id;
END
$$;
COMMENT ON FUNCTION idempotency.take_retried(text, text[], integer) IS
    'takes out the next messages that are to be tried again, in order and of one key: apply them in '
    'this transaction, whatever the inbox says, or roll back and say idempotency.park_again. No row: '
    'there are none, or others are at them. READ COMMITTED only';

CREATE FUNCTION idempotency.park_again(id bigint, error text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE idempotency.parked p
       SET error = park_again.error, attempts = p.attempts + 1, request = NULL
     WHERE p.id = park_again.id;
    UPDATE idempotency.parked_key k SET error = park_again.error, request = NULL
      FROM idempotency.parked p
     WHERE p.id = park_again.id AND k.consumer = p.consumer AND k.topic = p.topic AND k.key = p.key;
END
$$;
COMMENT ON FUNCTION idempotency.park_again(bigint, text) IS
    'a retry has failed, and what it did is rolled back: the message and its key stay parked, with '
    'this error, until the next retry is asked for';

CREATE FUNCTION idempotency.retry(consumer text, topic text, key bytea, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint := idempotency.note('retry', retry.consumer, retry.topic, retry.key, NULL,
                                     retry.reason);
BEGIN
    IF retry.key IS NULL THEN
        UPDATE idempotency.parked p SET request = asked
         WHERE p.consumer = retry.consumer AND p.topic = retry.topic AND p.key IS NULL;
    ELSE
        UPDATE idempotency.parked_key k SET request = asked
         WHERE k.consumer = retry.consumer AND k.topic = retry.topic AND k.key = retry.key;
        -- Released from the quarantine, and failed: its key was never held up.
        IF NOT FOUND THEN
            UPDATE idempotency.parked p SET request = asked
             WHERE p.consumer = retry.consumer AND p.topic = retry.topic AND p.key = retry.key;
        END IF;
    END IF;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = CASE WHEN retry.key IS NULL
            THEN format('no message without a key of topic "%s" is parked by consumer "%s"',
                        retry.topic, retry.consumer)
            ELSE format('key "%s" of topic "%s" is not parked by consumer "%s"',
                        encode(retry.key, 'escape'), retry.topic, retry.consumer) END;
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.retry(text, text, bytea, text) IS
    'asks the consumer to apply what is parked of this topic and key, in order, and then to let the '
    'key flow again; key NULL: the messages without a key. What fails again stays parked with its '
    'new error. Not parked: P0002. No reason: 22023';

-- The keys are locked first, and in order: two of these at once take turns, and what is counted
-- is what is asked for.
CREATE FUNCTION idempotency.retry_all(consumer text, topic text, reason text,
                                      OUT keys bigint, OUT without_key bigint)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asked bigint;
BEGIN
    PERFORM FROM idempotency.parked_key k
      WHERE k.consumer = retry_all.consumer AND k.topic = retry_all.topic
      ORDER BY k.key FOR NO KEY UPDATE;
    SELECT count(DISTINCT p.key), count(*) FILTER (WHERE p.key IS NULL) INTO keys, without_key
      FROM idempotency.parked p
     WHERE p.consumer = retry_all.consumer AND p.topic = retry_all.topic;
    IF keys + without_key = 0 THEN
        RAISE no_data_found USING MESSAGE = format('nothing of topic "%s" is parked by consumer "%s"',
                                                   retry_all.topic, retry_all.consumer);
    END IF;
    asked := idempotency.note('retry', retry_all.consumer, retry_all.topic, NULL, NULL,
        CASE WHEN btrim(retry_all.reason) <> ''
             THEN format('all keys (%s), messages without a key (%s): %s', keys, without_key,
                         retry_all.reason) END);
    UPDATE idempotency.parked_key k SET request = asked
     WHERE k.consumer = retry_all.consumer AND k.topic = retry_all.topic;
    UPDATE idempotency.parked p SET request = asked
     WHERE p.consumer = retry_all.consumer AND p.topic = retry_all.topic
       AND NOT EXISTS (SELECT FROM idempotency.parked_key k
                        WHERE k.consumer = p.consumer AND k.topic = p.topic AND k.key = p.key);
END
$$;
COMMENT ON FUNCTION idempotency.retry_all(text, text, text) IS
    'idempotency.retry of all keys of this topic and of the messages without a key, with one row of '
    'the audit. Returns how many. Nothing is parked: P0002. No reason: 22023';

-- Who is at the key just now, for as long as a handler takes, is not waited for.
CREATE FUNCTION idempotency.discard(consumer text, message_id uuid, reason text) RETURNS void
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen idempotency.parked;
BEGIN
    SELECT p.* INTO seen FROM idempotency.parked p
     WHERE p.consumer = discard.consumer AND p.message_id = discard.message_id;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('message %s is not parked by consumer "%s"',
                                                   discard.message_id, discard.consumer);
    END IF;
    PERFORM idempotency.note('discard', seen.consumer, seen.topic, seen.key, seen.message_id,
                             discard.reason);
    PERFORM FROM idempotency.parked_key k
      WHERE k.consumer = seen.consumer AND k.topic = seen.topic AND k.key = seen.key
        FOR UPDATE NOWAIT;
    PERFORM FROM idempotency.parked p WHERE p.id = seen.id FOR UPDATE NOWAIT;
    IF NOT FOUND THEN
        RAISE lock_not_available;
    END IF;
    DELETE FROM idempotency.parked p WHERE p.id = seen.id;
    DELETE FROM idempotency.parked_key k
     WHERE k.consumer = seen.consumer AND k.topic = seen.topic AND k.key = seen.key
       AND NOT EXISTS (SELECT FROM idempotency.parked p
                        WHERE p.consumer = seen.consumer AND p.topic = seen.topic
                          AND p.key = seen.key);
    -- The key has the reason of its first message, which may have none of its own.
    UPDATE idempotency.parked_key k
       SET error = coalesce((SELECT p.error FROM idempotency.parked p
                              WHERE p.consumer = seen.consumer AND p.topic = seen.topic
                                AND p.key = seen.key ORDER BY p.id LIMIT 1),
                            'the message before it was discarded; it needs a retry')
     WHERE k.consumer = seen.consumer AND k.topic = seen.topic AND k.key = seen.key;
EXCEPTION WHEN lock_not_available THEN
    RAISE object_not_in_prerequisite_state USING
        MESSAGE = format('cannot discard message %s: the consumer is at its key just now',
                         discard.message_id),
        HINT = 'Once it has tried, the message is applied or can be discarded.';
END
$$;
COMMENT ON FUNCTION idempotency.discard(text, uuid, text) IS
    'takes one parked message out, for good: it counts as applied. The later ones of its key stay '
    'parked until idempotency.retry; if there are none, the key flows again. Not parked: P0002. '
    'The consumer is at it: 55000. No reason: 22023';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['TABLE idempotency.parked', 'TABLE idempotency.parked_key',
        'TABLE idempotency.audit', 'FUNCTION idempotency.note', 'FUNCTION idempotency.park',
        'FUNCTION idempotency.take_retried', 'FUNCTION idempotency.park_again',
        'FUNCTION idempotency.retry', 'FUNCTION idempotency.retry_all',
        'FUNCTION idempotency.discard'] LOOP
        EXECUTE 'ALTER ' || name || ' OWNER TO saga_owner';
    END LOOP;
END
$$;

GRANT SELECT ON idempotency.parked, idempotency.parked_key, idempotency.audit
    TO saga_app, saga_monitor;
REVOKE EXECUTE ON FUNCTION idempotency.note(text, text, text, bytea, uuid, text),
    idempotency.park(text, text, bytea, uuid, bytea, integer, bigint, text[], bytea, text, integer),
    idempotency.take_retried(text, text[], integer), idempotency.park_again(bigint, text),
    idempotency.retry(text, text, bytea, text), idempotency.retry_all(text, text, text),
    idempotency.discard(text, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    idempotency.park(text, text, bytea, uuid, bytea, integer, bigint, text[], bytea, text, integer),
    idempotency.take_retried(text, text[], integer), idempotency.park_again(bigint, text),
    idempotency.retry(text, text, bytea, text), idempotency.retry_all(text, text, text),
    idempotency.discard(text, uuid, text) TO saga_app;
