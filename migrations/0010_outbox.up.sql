-- SPDX-License-Identifier: Apache-2.0
--
-- The outbox: messages that were written in the transaction of the business
-- change, and the cursor that tells which of them are in Kafka.
--
-- A row of outbox.message is never updated. What people want to know about it
-- (pending, published) follows from the cursor: see outbox.local_messages.

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

-- One row for each stream of the outbox; in this version there is one.
-- Updated all the time: room for the new versions on the same page.
CREATE TABLE outbox.stream (
    stream            integer     PRIMARY KEY CHECK (stream = 0),

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

    system_identifier bigint,
    timeline          integer,

    CONSTRAINT stream_pair CHECK ((cur IS NULL) = (cur_floor_seq IS NULL)
                                  AND (cur IS NULL) = (cur_floor_xid IS NULL)
                                  AND (cur IS NOT NULL OR last_seq = 0))
) WITH (fillfactor = 20);

COMMENT ON TABLE outbox.stream IS
    'how far the outbox is published, and which relay does it; written by outbox-relay only';
COMMENT ON COLUMN outbox.stream.stream IS 'number of the stream';
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
COMMENT ON COLUMN outbox.stream.system_identifier IS 'of the cluster that all the xids belong to';
COMMENT ON COLUMN outbox.stream.timeline IS 'of that cluster, when the owner took over';

-- Nothing is published yet, whatever transactions are running by now.
INSERT INTO outbox.stream (stream, prev, floor_seq, floor_xid) VALUES (0, '3:3:', 0, '3');

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

-- Two branches, so that asking for the pending ones reads only these, by the
-- index on xid: whatever is older than the oldest transaction that prev does
-- not show is published. (The upper bound is always true. With two bounds the
-- planner expects few rows, which is right, and not a third of the table.)
CREATE VIEW outbox.local_messages AS
    SELECT m.message_id AS id, m.topic, m.key, m.payload, 'pending' AS status, m.created_at
      FROM outbox.stream s, outbox.message m
     WHERE s.stream = 0
       AND m.xid >= pg_snapshot_xmin(s.prev) AND m.xid <= '18446744073709551615'::xid8
       AND NOT (pg_visible_in_snapshot(m.xid, s.prev)
                OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                    AND pg_visible_in_snapshot(m.xid, s.cur)))
    UNION ALL
    SELECT m.message_id, m.topic, m.key, m.payload, 'published', m.created_at
      FROM outbox.stream s, outbox.message m
     WHERE s.stream = 0
       AND (pg_visible_in_snapshot(m.xid, s.prev)
            OR (s.cur IS NOT NULL AND m.seq <= s.last_seq
                AND pg_visible_in_snapshot(m.xid, s.cur)));

COMMENT ON VIEW outbox.local_messages IS
    'the messages that this database has written, and whether Kafka has acknowledged them';
COMMENT ON COLUMN outbox.local_messages.id IS 'message-id';
COMMENT ON COLUMN outbox.local_messages.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.local_messages.key IS 'key of the record';
COMMENT ON COLUMN outbox.local_messages.payload IS 'value of the record';
COMMENT ON COLUMN outbox.local_messages.status IS 'pending, or published (acknowledged by Kafka)';
COMMENT ON COLUMN outbox.local_messages.created_at IS 'when it was written, before its commit';

ALTER TABLE outbox.message OWNER TO saga_owner;
ALTER TABLE outbox.message_0 OWNER TO saga_owner;
ALTER TABLE outbox.stream OWNER TO saga_owner;
ALTER VIEW outbox.local_messages OWNER TO saga_owner;
ALTER FUNCTION outbox.uuid_v7() OWNER TO saga_owner;
ALTER FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz) OWNER TO saga_owner;
ALTER FUNCTION outbox.call_try_rollback() OWNER TO saga_owner;
ALTER PROCEDURE outbox.try_rollback() OWNER TO saga_owner;
ALTER PROCEDURE outbox.enqueue_all(uuid[], text[], text[], text[], bytea[]) OWNER TO saga_owner;

-- Services write messages. Not xid, seq or created_at: the relay rests on them.
GRANT INSERT (message_id, topic, key, headers, payload) ON outbox.message TO saga_app;
GRANT SELECT ON outbox.local_messages TO saga_app;

-- The relay reads messages and moves the cursor; it writes no message.
GRANT SELECT ON outbox.message TO saga_relay;
GRANT SELECT ON SEQUENCE outbox.message_seq_seq TO saga_relay;
GRANT SELECT, UPDATE ON outbox.stream TO saga_relay;

GRANT SELECT ON outbox.message, outbox.stream, outbox.local_messages TO saga_monitor;
GRANT SELECT ON SEQUENCE outbox.message_seq_seq TO saga_monitor;
