-- SPDX-License-Identifier: Apache-2.0
--
-- The outbox: messages that were written in the transaction of the business
-- change.
--
-- A row of outbox.message is never updated. What people want to know about it
-- (pending, published) follows from the relay's cursor: see outbox.stream and
-- outbox.local_messages.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- What can never be published is refused where it is written, where the caller
-- can react. The numbers are those of include/saga/outbox.h. Domains and not
-- CHECKs of the table: a session prepares these once, those for each statement,
-- and other tables that hold messages have the same limits by the same names.
-- (A length in the regular expression, {1,249}, would cost fifty times as much.)
CREATE DOMAIN outbox.message_id AS uuid
    CONSTRAINT message_id_set CHECK (VALUE <> '00000000-0000-0000-0000-000000000000');
CREATE DOMAIN outbox.message_topic AS text COLLATE "C"
    CONSTRAINT message_topic CHECK (VALUE !~ '[^A-Za-z0-9._-]' AND VALUE NOT IN ('', '.', '..')
                                    AND octet_length(VALUE) <= 249);
CREATE DOMAIN outbox.message_key AS text COLLATE "C"
    CONSTRAINT message_key_limit CHECK (octet_length(VALUE) <= 1024);
CREATE DOMAIN outbox.message_headers AS text COLLATE "C"
    CONSTRAINT message_headers_limit CHECK (octet_length(VALUE) <= 16384);
CREATE DOMAIN outbox.message_payload AS bytea
    CONSTRAINT message_payload_limit CHECK (octet_length(VALUE) <= 983040);

-- The slot that new messages are written to, as a sequence's last value: a
-- number that every statement reads for half a microsecond a row, that changes
-- for all of them at once, and that no snapshot shows as it was. Set by
-- outbox.clean_up() (0016); never drawn from.
CREATE SEQUENCE outbox.message_slot AS smallint MINVALUE 0 MAXVALUE 3 START 0;
DO $$ BEGIN PERFORM pg_catalog.setval('outbox.message_slot', 0); END $$;

-- The order of the columns matters: defaults are evaluated from left to right,
-- and the relay rests on a transaction having its xid before it draws a seq.
CREATE TABLE outbox.message (
    xid        xid8                   NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
    seq        bigint                 GENERATED ALWAYS AS IDENTITY (CACHE 1),
    message_id outbox.message_id      NOT NULL,
    topic      outbox.message_topic   NOT NULL,
    key        outbox.message_key,
    headers    outbox.message_headers NOT NULL DEFAULT '',
    payload    outbox.message_payload,
    created_at timestamptz            NOT NULL DEFAULT clock_timestamp(),
    slot       smallint               NOT NULL
               DEFAULT pg_catalog.pg_sequence_last_value('outbox.message_slot')
) PARTITION BY LIST (slot);

-- A ring of four, so that cleaning up empties a table instead of deleting rows.
-- None is ever attached or detached, so no insert can miss its own.
-- docs/decisions/0006-retention.md
CREATE TABLE outbox.message_0 PARTITION OF outbox.message FOR VALUES IN (0);
CREATE TABLE outbox.message_1 PARTITION OF outbox.message FOR VALUES IN (1);
CREATE TABLE outbox.message_2 PARTITION OF outbox.message FOR VALUES IN (2);
CREATE TABLE outbox.message_3 PARTITION OF outbox.message FOR VALUES IN (3);

-- The order of publishing. Nobody can supply a seq, so nothing needs to check
-- that it is unique; over partitions a constraint could not.
CREATE INDEX message_seq ON outbox.message (seq);

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
COMMENT ON COLUMN outbox.message.headers IS
    'a line "name: value" for each; \n, \\ and \: stand for line end, backslash, and colon in a name';
COMMENT ON COLUMN outbox.message.payload IS 'value of the record; NULL: a tombstone';
COMMENT ON COLUMN outbox.message.created_at IS 'when it was written, before its commit';
COMMENT ON COLUMN outbox.message.slot IS 'the partition it is in; they are emptied in turn';
COMMENT ON SEQUENCE outbox.message_slot IS
    'its last value is the slot that messages are written to; set by outbox.clean_up() only';
COMMENT ON DOMAIN outbox.message_id IS 'a message''s id: any but zero';
COMMENT ON DOMAIN outbox.message_topic IS 'what Kafka allows as a topic''s name';
COMMENT ON DOMAIN outbox.message_key IS 'at most 1024 bytes';
COMMENT ON DOMAIN outbox.message_headers IS 'lines "name: value", at most 16384 bytes';
COMMENT ON DOMAIN outbox.message_payload IS 'at most 983040 bytes';

-- Version 7 of RFC 9562: milliseconds, then random bits. A version-4 id has 4
-- where 7 is wanted; two bits make the difference. A message that is delivered
-- later has an id of that time: consumers forget ids by the time inside them.
CREATE FUNCTION outbox.uuid_v7(moment timestamptz DEFAULT NULL) RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid()) PLACING
               substring(int8send(floor(extract(epoch FROM greatest(clock_timestamp(), moment)) * 1000)
                                  ::bigint) FROM 3)
               FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
COMMENT ON FUNCTION outbox.uuid_v7(timestamptz) IS
    'a new version-7 id, of this moment or of a later one that is given';

CREATE FUNCTION outbox.enqueue(topic text, payload bytea, key text DEFAULT NULL,
                               headers jsonb DEFAULT '{}', message_id uuid DEFAULT NULL,
                               deliver_at timestamptz DEFAULT NULL)
    RETURNS uuid
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    -- (outbox.delayed refuses what is later.)
    id uuid := coalesce(enqueue.message_id, outbox.uuid_v7(
        CASE WHEN enqueue.deliver_at < '10000-01-01 00:00:00+00' THEN enqueue.deliver_at END));
    lines text := '';
    bad text;
BEGIN
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
        SELECT string_agg(replace(replace(replace(h.key, '\', '\\'), E'\n', '\n'), ':', '\:') || ': '
                          || replace(replace(h.value, '\', '\\'), E'\n', '\n'), E'\n' ORDER BY h.n)
            INTO lines FROM jsonb_each_text(enqueue.headers) WITH ORDINALITY h (key, value, n);
    END IF;
    IF enqueue.deliver_at > clock_timestamp() THEN
        INSERT INTO outbox.delayed (message_id, topic, key, headers, payload, deliver_at)
            VALUES (id, enqueue.topic, enqueue.key, lines, enqueue.payload,
                    enqueue.deliver_at);
    ELSE
        INSERT INTO outbox.message (message_id, topic, key, headers, payload)
            VALUES (id, enqueue.topic, enqueue.key, lines, enqueue.payload);
    END IF;
    RETURN id;
END
$$;
COMMENT ON FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz) IS
    'writes one message for Kafka inside the caller''s transaction; returns its id. The payload is bytes: '
    'convert_to(my_json::text, ''UTF8''), not a plain literal, in which backslashes are escapes. With '
    'deliver_at it is published not before then, in no promised order with others of its key';

-- A caller in libpq's pipeline mode learns only from the server whether a
-- transaction is open, and no function can tell. A procedure that is called at
-- the top can: ROLLBACK in a block with an exception handler always fails, but
-- not for the same reason in a transaction block as outside. The reason is only
-- in the message, which may be translated, so it is compared with the one that
-- a function always gets. None of these may have a SET clause; that would change it.
CREATE PROCEDURE outbox.try_rollback() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; END $$;
CREATE FUNCTION outbox.call_try_rollback() RETURNS void
    LANGUAGE plpgsql VOLATILE
AS $$ BEGIN CALL outbox.try_rollback(); END $$;
COMMENT ON PROCEDURE outbox.try_rollback() IS 'part of outbox.demand_transaction';
COMMENT ON FUNCTION outbox.call_try_rollback() IS 'part of outbox.demand_transaction';

CREATE PROCEDURE outbox.demand_transaction()
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
END
$$;
COMMENT ON PROCEDURE outbox.demand_transaction() IS
    'refuses outside a transaction block; part of outbox.enqueue_one and outbox.enqueue_all';

-- What saga_enqueue() calls. Procedures, because a session plans their
-- statements once, which for a single message is most of its cost.
--
-- in_transaction says that the caller knows it to be open. Who does not know
-- and has written something before, in a transaction that is open still, need
-- not ask either: the message commits together with that.
CREATE PROCEDURE outbox.enqueue_one(in_transaction boolean, id uuid, topic text, key text,
                                    headers text, payload bytea, deliver_at timestamptz)
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT in_transaction AND pg_catalog.pg_current_xact_id_if_assigned() IS NULL THEN
        CALL outbox.demand_transaction();
    END IF;
    IF deliver_at OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN
        INSERT INTO outbox.delayed (message_id, topic, key, headers, payload, deliver_at)
            VALUES (id, topic, key, headers, payload, deliver_at);
    ELSE
        INSERT INTO outbox.message (message_id, topic, key, headers, payload)
            VALUES (id, topic, key, headers, payload);
    END IF;
END
$$;
COMMENT ON PROCEDURE outbox.enqueue_one(boolean, uuid, text, text, text, bytea, timestamptz) IS
    'writes one message; for libsaga, others use outbox.enqueue';

-- The functions in FROM are scanned in step and from the front, and seq is drawn
-- as the rows come: the arrays' order is the order of publishing.
CREATE PROCEDURE outbox.enqueue_all(in_transaction boolean, ids uuid[], topics text[], keys text[],
                                    headers text[], payloads bytea[], deliver_ats timestamptz[])
    LANGUAGE plpgsql
AS $$
DECLARE
    moment timestamptz := pg_catalog.clock_timestamp();
BEGIN
    IF NOT in_transaction AND pg_catalog.pg_current_xact_id_if_assigned() IS NULL THEN
        CALL outbox.demand_transaction();
    END IF;
    INSERT INTO outbox.message (message_id, topic, key, headers, payload)
        SELECT m.id, m.topic, m.key, m.headers, m.payload
          FROM ROWS FROM (pg_catalog.unnest(ids), pg_catalog.unnest(topics),
                          pg_catalog.unnest(keys), pg_catalog.unnest(headers),
                          pg_catalog.unnest(payloads), pg_catalog.unnest(deliver_ats))
               AS m (id, topic, key, headers, payload, deliver_at)
         WHERE (m.deliver_at OPERATOR(pg_catalog.>) moment) IS NOT TRUE;
    IF deliver_ats IS NOT NULL THEN
        INSERT INTO outbox.delayed (message_id, topic, key, headers, payload, deliver_at)
            SELECT m.id, m.topic, m.key, m.headers, m.payload, m.deliver_at
              FROM ROWS FROM (pg_catalog.unnest(ids), pg_catalog.unnest(topics),
                              pg_catalog.unnest(keys), pg_catalog.unnest(headers),
                              pg_catalog.unnest(payloads), pg_catalog.unnest(deliver_ats))
                   AS m (id, topic, key, headers, payload, deliver_at)
             WHERE m.deliver_at OPERATOR(pg_catalog.>) moment;
    END IF;
END
$$;
COMMENT ON PROCEDURE outbox.enqueue_all(boolean, uuid[], text[], text[], text[], bytea[],
                                        timestamptz[]) IS
    'writes several messages; deliver_ats NULL: none is delayed; for libsaga';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'DOMAIN outbox.message_id', 'DOMAIN outbox.message_topic', 'DOMAIN outbox.message_key',
        'DOMAIN outbox.message_headers', 'DOMAIN outbox.message_payload',
        'SEQUENCE outbox.message_slot', 'TABLE outbox.message', 'TABLE outbox.message_0',
        'TABLE outbox.message_1', 'TABLE outbox.message_2', 'TABLE outbox.message_3',
        'FUNCTION outbox.uuid_v7', 'FUNCTION outbox.enqueue', 'FUNCTION outbox.call_try_rollback',
        'PROCEDURE outbox.try_rollback', 'PROCEDURE outbox.demand_transaction',
        'PROCEDURE outbox.enqueue_one', 'PROCEDURE outbox.enqueue_all'] LOOP
        EXECUTE 'ALTER ' || name || ' OWNER TO saga_owner';
    END LOOP;
END
$$;

-- Services write messages. Not xid, seq, created_at or slot: the relay rests on them.
GRANT INSERT (message_id, topic, key, headers, payload) ON outbox.message TO saga_app;
GRANT SELECT ON SEQUENCE outbox.message_slot TO saga_app, saga_relay, saga_monitor;

-- The relay reads messages; it writes none.
GRANT SELECT ON outbox.message TO saga_relay, saga_monitor;
GRANT SELECT ON SEQUENCE outbox.message_seq_seq TO saga_relay, saga_monitor;
