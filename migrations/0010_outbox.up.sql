-- SPDX-License-Identifier: Apache-2.0
--
-- The outbox: messages that were written in the transaction of the business
-- change.
--
-- A row of outbox.message is never updated. What people want to know about it
-- (pending, published) follows from the relay's cursor: see outbox.stream and
-- outbox.local_messages.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- The order of the columns matters: defaults are evaluated from left to right,
-- and the relay rests on a transaction having its xid before it draws a seq.
CREATE TABLE outbox.message (
    xid        xid8        NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    seq        bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1),
    message_id uuid        NOT NULL,
    topic      text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C",
    headers    text[]      COLLATE "C" NOT NULL DEFAULT '{}',
    payload    bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    -- Partitioned so that cleaning up can drop tables instead of deleting rows.
    CONSTRAINT message_pkey PRIMARY KEY (seq),

    -- What can never be published is refused here, where the caller can react.
    -- The numbers are those of include/saga/outbox.h. (A length in the regular
    -- expression, {1,249}, would cost fifty times as much.)
    CONSTRAINT message_id_set CHECK (message_id <> '00000000-0000-0000-0000-000000000000'),
    CONSTRAINT message_topic CHECK (topic !~ '[^A-Za-z0-9._-]' AND topic NOT IN ('', '.', '..')
                                    AND octet_length(topic) <= 249),
    CONSTRAINT message_key_limit CHECK (octet_length(key) <= 1024),
    CONSTRAINT message_headers_limit CHECK (octet_length(array_to_string(headers, '')) <= 16384),
    CONSTRAINT message_headers_pairs CHECK (headers = '{}' OR (array_ndims(headers) = 1
        AND cardinality(headers) % 2 = 0 AND array_position(headers, NULL) IS NULL)),
    CONSTRAINT message_payload_limit CHECK (octet_length(payload) <= 983040)
) PARTITION BY RANGE (seq);

-- One for all rows; it is split when there is something to drop.
CREATE TABLE outbox.message_0 PARTITION OF outbox.message FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

-- The rows of transactions that ended after others with later seqs had been
-- published, in the order in which they are published.
CREATE INDEX message_xid ON outbox.message (xid, seq);

COMMENT ON TABLE outbox.message IS
    'messages for Kafka, as written; append-only: never update, delete or restart the sequence';
COMMENT ON COLUMN outbox.message.xid IS 'the transaction that wrote it';
COMMENT ON COLUMN outbox.message.seq IS 'order of writing; holes are normal';
COMMENT ON COLUMN outbox.message.message_id IS
    'the record''s header message-id; consumers recognise repetitions by it';
COMMENT ON COLUMN outbox.message.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.message.key IS 'key of the record; NULL: no order is promised';
COMMENT ON COLUMN outbox.message.headers IS 'name, value, name, value, ...';
COMMENT ON COLUMN outbox.message.payload IS 'value of the record; NULL: a tombstone';
COMMENT ON COLUMN outbox.message.created_at IS 'when it was written, before its commit';

-- Version 7 of RFC 9562: milliseconds, then random bits. A version-4 id has 4
-- where 7 is wanted; two bits make the difference.
CREATE FUNCTION outbox.uuid_v7() RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
               substring(int8send(floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
               FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
COMMENT ON FUNCTION outbox.uuid_v7() IS 'a new version-7 id';

CREATE FUNCTION outbox.enqueue(topic text, payload bytea, key text DEFAULT NULL,
                               headers jsonb DEFAULT '{}', message_id uuid DEFAULT NULL,
                               deliver_at timestamptz DEFAULT NULL)
    RETURNS uuid
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    id uuid := coalesce(enqueue.message_id, outbox.uuid_v7());
    flat text[] := '{}';
    bad text;
BEGIN
    IF enqueue.deliver_at IS NOT NULL THEN
        RAISE feature_not_supported USING
            MESSAGE = 'deliver_at is not supported by this version',
            HINT = 'Leave it NULL: the message is delivered at once.';
    END IF;
    IF enqueue.headers <> '{}' THEN
        IF jsonb_typeof(enqueue.headers) <> 'object' THEN
            RAISE invalid_parameter_value USING
                MESSAGE = 'headers must be a JSON object of texts, not: '
                          || jsonb_typeof(enqueue.headers);
        END IF;
        SELECT h.key INTO bad FROM jsonb_each(enqueue.headers) h
            WHERE jsonb_typeof(h.value) <> 'string' LIMIT 1;
        IF FOUND THEN
            RAISE invalid_parameter_value USING
                MESSAGE = format('header "%s" is not a text', bad),
                HINT = 'Headers are a JSON object of texts; numbers and others need quotes.';
        END IF;
        IF enqueue.headers ? 'message-id' THEN
            RAISE invalid_parameter_value USING
                MESSAGE = 'header "message-id" is set by the relay',
                HINT = 'Pass the id as the argument message_id.';
        END IF;
        SELECT array_agg(t.text ORDER BY h.n, t.n) INTO flat
            FROM jsonb_each_text(enqueue.headers) WITH ORDINALITY h (key, value, n),
                 unnest(ARRAY[h.key, h.value]) WITH ORDINALITY t (text, n);
    END IF;
    INSERT INTO outbox.message (message_id, topic, key, headers, payload)
        VALUES (id, enqueue.topic, enqueue.key, coalesce(flat, '{}'), enqueue.payload);
    RETURN id;
END
$$;
COMMENT ON FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz) IS
    'writes one message for Kafka inside the caller''s transaction; returns its id. The payload is bytes: '
    'convert_to(my_json::text, ''UTF8''), not a plain literal, in which backslashes are escapes';

-- A caller in libpq's pipeline mode learns only from the server whether a
-- transaction is open, and no function can tell. A procedure that is called at
-- the top can: ROLLBACK in a block with an exception handler always fails, but
-- not for the same reason in a transaction block as outside. The reason is only
-- in the message, which may be translated, so it is compared with the one that
-- a function always gets. Neither may have a SET clause; that would change it.
CREATE PROCEDURE outbox.try_rollback() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; END $$;
CREATE FUNCTION outbox.call_try_rollback() RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $$ BEGIN CALL outbox.try_rollback(); END $$;
COMMENT ON PROCEDURE outbox.try_rollback() IS 'part of outbox.enqueue_all';
COMMENT ON FUNCTION outbox.call_try_rollback() IS 'part of outbox.enqueue_all';

CREATE PROCEDURE outbox.enqueue_all(ids uuid[], topics text[], keys text[], headers text[],
                                    payloads bytea[])
    LANGUAGE plpgsql
AS $$
DECLARE
    in_function text;
    here text;
BEGIN
    BEGIN
        PERFORM outbox.call_try_rollback();
    EXCEPTION WHEN invalid_transaction_termination THEN in_function := SQLERRM;
    END;
    BEGIN
        ROLLBACK;
    EXCEPTION WHEN invalid_transaction_termination THEN here := SQLERRM;
    END;
    IF in_function OPERATOR(pg_catalog.<>) here THEN
        RAISE no_active_sql_transaction USING
            MESSAGE = 'no transaction is open: a message must commit together with what it tells of';
    END IF;
    INSERT INTO outbox.message (message_id, topic, key, headers, payload)
        SELECT m.id, m.topic, m.key, m.headers::pg_catalog.text[], m.payload
          FROM ROWS FROM (pg_catalog.unnest(ids), pg_catalog.unnest(topics),
                          pg_catalog.unnest(keys), pg_catalog.unnest(headers),
                          pg_catalog.unnest(payloads)) AS m (id, topic, key, headers, payload);
END
$$;
COMMENT ON PROCEDURE outbox.enqueue_all(uuid[], text[], text[], text[], bytea[]) IS
    'writes several messages; refuses outside a transaction block; for libsaga in pipeline mode';

ALTER TABLE outbox.message OWNER TO saga_owner;
ALTER TABLE outbox.message_0 OWNER TO saga_owner;
ALTER FUNCTION outbox.uuid_v7() OWNER TO saga_owner;
ALTER FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz) OWNER TO saga_owner;
ALTER FUNCTION outbox.call_try_rollback() OWNER TO saga_owner;
ALTER PROCEDURE outbox.try_rollback() OWNER TO saga_owner;
ALTER PROCEDURE outbox.enqueue_all(uuid[], text[], text[], text[], bytea[]) OWNER TO saga_owner;

-- Services write messages. Not xid, seq or created_at: the relay rests on them.
GRANT INSERT (message_id, topic, key, headers, payload) ON outbox.message TO saga_app;

-- The relay reads messages; it writes none.
GRANT SELECT ON outbox.message TO saga_relay, saga_monitor;
GRANT SELECT ON SEQUENCE outbox.message_seq_seq TO saga_relay, saga_monitor;
