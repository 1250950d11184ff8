-- SPDX-License-Identifier: Apache-2.0
--
-- The inbox: which messages a consumer has applied, written in the transaction
-- of their effect. docs/decisions/0009-inbox-ring.md
--
-- The rows of a day are in one of 32 partitions, which are made once and never
-- attached, detached or dropped: old days go by emptying theirs (0024).

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- A domain and not CHECKs of each table: a session prepares these once, those
-- for each statement.
CREATE DOMAIN idempotency.consumer AS text
    CONSTRAINT consumer_name CHECK (VALUE <> '' AND octet_length(VALUE) <= 255);
COMMENT ON DOMAIN idempotency.consumer IS 'a consumer group: at most 255 bytes';

-- The day inside a version-7 id, counted from 1970; NULL for an id of another
-- version. Days of milliseconds, in UTC, whatever a session calls a day.
CREATE FUNCTION idempotency.day_of(id bytea) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    -- No SET clause: it is put into the statements that call it.
AS $$
    SELECT CASE WHEN (pg_catalog.get_byte(id, 6) OPERATOR(pg_catalog.>>) 4) OPERATOR(pg_catalog.=) 7 THEN
        (((pg_catalog.get_byte(id, 0)::bigint OPERATOR(pg_catalog.<<) 40)
          OPERATOR(pg_catalog.|) (pg_catalog.get_byte(id, 1)::bigint OPERATOR(pg_catalog.<<) 32)
          OPERATOR(pg_catalog.|) (pg_catalog.get_byte(id, 2)::bigint OPERATOR(pg_catalog.<<) 24)
          OPERATOR(pg_catalog.|) (pg_catalog.get_byte(id, 3)::bigint OPERATOR(pg_catalog.<<) 16)
          OPERATOR(pg_catalog.|) (pg_catalog.get_byte(id, 4)::bigint OPERATOR(pg_catalog.<<) 8)
          OPERATOR(pg_catalog.|) pg_catalog.get_byte(id, 5)::bigint)
         OPERATOR(pg_catalog./) 86400000)::integer
    END
$$;
COMMENT ON FUNCTION idempotency.day_of(bytea) IS
    'the day inside a version-7 id, counted from 1970 in UTC; NULL: it is of another version';

-- The low-water mark: the oldest day that is kept. As a sequence's last value,
-- because no snapshot shows that as it was: who holds the lock of his insert and
-- then reads this knows of every partition that was emptied before. Its
-- changes are not undone by a rollback; that makes us refuse more, never less.
CREATE SEQUENCE idempotency.inbox_mark AS integer MINVALUE 0;
COMMENT ON SEQUENCE idempotency.inbox_mark IS
    'its last value is the oldest day, counted from 1970, whose message-ids are still known; ids of '
    'before go to the quarantine. Only ever raised, by idempotency.clean_up(); see idempotency.horizon';

-- As far back as the ring reaches.
DO $$ BEGIN
    PERFORM pg_catalog.setval('idempotency.inbox_mark',
        pg_catalog.floor(extract(epoch FROM pg_catalog.clock_timestamp()) / 86400)::integer - 29);
END $$;

CREATE TABLE idempotency.inbox (
    consumer    idempotency.consumer NOT NULL,
    message_id  uuid                 NOT NULL,
    hash        bytea                NOT NULL,
    topic       text                 NOT NULL,
    partition   integer              NOT NULL,
    "offset"    bigint               NOT NULL,
    answer      bytea,
    received_at timestamptz          NOT NULL DEFAULT clock_timestamp(),
    slot        smallint             NOT NULL
) PARTITION BY LIST (slot);

-- Not the topic: a message that comes again through a retry topic is the same
-- message. And not the id alone: two consumers in one database both want it.
-- The slot follows from the id, and only receive() writes it, so what is unique
-- in a partition is unique; in the index it would cost a fifth of its size. The id
-- first: it tells rows apart at the first comparison, and is found whatever is known
-- of a partition that was empty a moment ago (docs/decisions/0010-consumer-speed.md).
DO $$ BEGIN
    FOR slot IN 0 .. 31 LOOP
        EXECUTE pg_catalog.format(
            'CREATE TABLE idempotency.inbox_%1$s PARTITION OF idempotency.inbox FOR VALUES IN (%1$s);'
            'ALTER TABLE idempotency.inbox_%1$s ADD CONSTRAINT inbox_%1$s_pkey'
            ' PRIMARY KEY (message_id, consumer)', slot);
    END LOOP;
END $$;

COMMENT ON TABLE idempotency.inbox IS
    'One row for each message that a consumer has applied, committed together with its effect. '
    'The truth about "was this applied already?"; Redis only makes asking cheaper. Written by '
    'idempotency.receive().';
COMMENT ON COLUMN idempotency.inbox.consumer IS
    'Consumer group; two of them in one database do not share what they have seen.';
COMMENT ON COLUMN idempotency.inbox.message_id IS 'Header message-id.';
COMMENT ON COLUMN idempotency.inbox.hash IS
    'SHA-256 over key and payload. The same id with another hash is another message that pretends '
    'to be this one: it goes to idempotency.quarantine.';
COMMENT ON COLUMN idempotency.inbox.topic IS 'Where it was read first.';
COMMENT ON COLUMN idempotency.inbox.partition IS 'Partition of that topic.';
COMMENT ON COLUMN idempotency.inbox."offset" IS 'Offset in that partition.';
COMMENT ON COLUMN idempotency.inbox.answer IS
    'What was answered, where the answer is given again to a duplicate; else NULL.';
COMMENT ON COLUMN idempotency.inbox.received_at IS 'When it was applied, or parked.';
COMMENT ON COLUMN idempotency.inbox.slot IS
    'The day inside message_id, modulo 32: the partition it is in. They are emptied in turn.';

-- Ids that do not tell when they were made.
CREATE TABLE idempotency.inbox_foreign (
    consumer    idempotency.consumer NOT NULL,
    message_id  uuid                 NOT NULL,
    hash        bytea                NOT NULL,
    topic       text                 NOT NULL,
    partition   integer              NOT NULL,
    "offset"    bigint               NOT NULL,
    received_at timestamptz          NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT inbox_foreign_pkey PRIMARY KEY (message_id, consumer)
);
-- For cleaning up.
CREATE INDEX inbox_foreign_received_at ON idempotency.inbox_foreign (received_at);

COMMENT ON TABLE idempotency.inbox_foreign IS
    'The same as idempotency.inbox for message-ids that are not of version 7. Nothing in them tells '
    'how old they are, so each is recognised for the configured time after it was received, and '
    'after that it is new again.';
COMMENT ON COLUMN idempotency.inbox_foreign.consumer IS 'Consumer group.';
COMMENT ON COLUMN idempotency.inbox_foreign.message_id IS 'Header message-id.';
COMMENT ON COLUMN idempotency.inbox_foreign.hash IS 'SHA-256 over key and payload.';
COMMENT ON COLUMN idempotency.inbox_foreign.topic IS 'Where it was read first.';
COMMENT ON COLUMN idempotency.inbox_foreign.partition IS 'Partition of that topic.';
COMMENT ON COLUMN idempotency.inbox_foreign."offset" IS 'Offset in that partition.';
COMMENT ON COLUMN idempotency.inbox_foreign.received_at IS 'When it was applied, or parked.';

-- What became of the messages, where not all are new. NULL: there is no row.
CREATE FUNCTION idempotency.received(consumer text, message_ids uuid[], hashes bytea[],
                                     fresh uuid[], low integer, high integer)
    RETURNS TABLE (n integer, verdict text)
    LANGUAGE plpgsql VOLATILE
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET jit = off
AS $$
DECLARE
    -- Row by row through the index, whatever is known of the partition's size: joined, a plan for
    -- what was an empty table reads all rows of the consumer for each message. By the partition's
    -- name: a plan for the whole ring locks all of it.
    compare text := 'SELECT ARRAY(SELECT CASE WHEN %1$s THEN (SELECT i.hash = m.hash '
                    'FROM idempotency.inbox_%2$s i WHERE i.consumer = $1 AND i.message_id = m.id) '
                    'END FROM unnest($2, $3, $4) AS m (id, hash, day))';
    days integer[] := ARRAY(SELECT idempotency.day_of(uuid_send(u.id))
                              FROM unnest(received.message_ids) AS u (id));
    day integer;
    found boolean[];
    same boolean[];
BEGIN
    FOR day IN SELECT DISTINCT d FROM unnest(days) AS d
                WHERE d IS NULL OR d BETWEEN received.low AND received.high LOOP
        EXECUTE format(compare, coalesce('day = ' || day, 'day IS NULL'),
                       coalesce((day % 32)::text, 'foreign'))
           INTO found USING received.consumer, received.message_ids, received.hashes, days;
        same := CASE WHEN same IS NULL THEN found
                     ELSE ARRAY(SELECT coalesce(u.a, u.b) FROM unnest(same, found) AS u (a, b)) END;
    END LOOP;

    RETURN QUERY
        SELECT m.n::integer,
               CASE WHEN m.day < received.low THEN 'below'
                    WHEN m.day > received.high THEN 'future'
                    WHEN f.id IS NOT NULL AND m.place = 1 THEN 'fresh'
                    WHEN m.same THEN 'duplicate'
                    WHEN NOT m.same THEN 'other' END
          FROM (SELECT u.*, row_number() OVER (PARTITION BY u.id ORDER BY u.n) AS place
                  FROM unnest(received.message_ids, days, same)
                       WITH ORDINALITY AS u (id, day, same, n)) AS m
               LEFT JOIN (SELECT unnest(received.fresh)) AS f (id) ON f.id = m.id
         ORDER BY m.n;
END
$$;
COMMENT ON FUNCTION idempotency.received(text, uuid[], bytea[], uuid[], integer, integer) IS
    'part of idempotency.receive';

-- First the rows, then the mark. An INSERT holds a lock on its partition, which
-- TRUNCATE wants for itself alone; so a partition that was emptied before our
-- insert had its mark written before we read it here, and one that we were
-- quicker at stays until we end.
CREATE FUNCTION idempotency.receive(consumer text, message_ids uuid[], hashes bytea[],
                                    topics text[], partitions integer[], offsets bigint[])
    RETURNS TABLE (n integer, verdict text)
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    low integer := pg_sequence_last_value('idempotency.inbox_mark');
    high integer := floor(extract(epoch FROM clock_timestamp()) / 86400)::integer + 1;
    mark integer;
    day integer; -- of a single message; of several: NULL
    fresh uuid[];
    more uuid[];
    verdicts text[];
BEGIN
    -- Who sees the row leaves the message alone, moves its offset and marks it in Redis: no crash
    -- may take it back then.
    IF current_setting('synchronous_commit') IN ('off', 'local') THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    IF cardinality(receive.message_ids) = 1 THEN
        day := idempotency.day_of(uuid_send(receive.message_ids[1]));
        IF day BETWEEN low AND high THEN
            INSERT INTO idempotency.inbox
                   (consumer, message_id, hash, topic, partition, "offset", slot)
            VALUES (receive.consumer, receive.message_ids[1], receive.hashes[1], receive.topics[1],
                    receive.partitions[1], receive.offsets[1], day % 32)
            ON CONFLICT DO NOTHING;
            IF FOUND THEN
                fresh := receive.message_ids;
            END IF;
        END IF;
    ELSE
        WITH entered AS (
            INSERT INTO idempotency.inbox AS i
                   (consumer, message_id, hash, topic, partition, "offset", slot)
            SELECT receive.consumer, m.id, m.hash, m.topic, m.partition, m."offset", m.day % 32
              FROM (SELECT u.*, idempotency.day_of(uuid_send(u.id)) AS day
                      FROM unnest(receive.message_ids, receive.hashes, receive.topics,
                                  receive.partitions, receive.offsets)
                           AS u (id, hash, topic, partition, "offset")
                    OFFSET 0) AS m
             WHERE m.day BETWEEN low AND high
            ON CONFLICT DO NOTHING
            RETURNING i.message_id)
        SELECT array_agg(e.message_id) INTO fresh FROM entered e;
    END IF;

    mark := pg_sequence_last_value('idempotency.inbox_mark');
    IF high - mark > 31 THEN
        -- Days without a clean_up(): the ring goes on, and its old rows wait.
        PERFORM idempotency.raise_marks();
        mark := pg_sequence_last_value('idempotency.inbox_mark');
    END IF;
    IF mark <> low AND EXISTS (SELECT FROM unnest(fresh) AS u (id)
                                WHERE idempotency.day_of(uuid_send(u.id)) < mark) THEN
        RAISE serialization_failure USING
            MESSAGE = 'the horizon has moved past a message that was about to be applied',
            HINT = 'Roll back and try again.';
    ELSIF high - mark > 31 THEN
        RAISE serialization_failure USING
            MESSAGE = 'the inbox has no room for tomorrow before somebody else has moved its mark',
            HINT = 'Roll back and try again.';
    END IF;

    IF cardinality(fresh) = cardinality(receive.message_ids) THEN
        RETURN QUERY SELECT g, 'fresh' FROM generate_series(1, cardinality(fresh)) AS g;
        RETURN;
    END IF;

    IF day IS NULL THEN
        WITH entered AS (
            INSERT INTO idempotency.inbox_foreign AS i
                   (consumer, message_id, hash, topic, partition, "offset")
            SELECT receive.consumer, u.*
              FROM unnest(receive.message_ids, receive.hashes, receive.topics,
                          receive.partitions, receive.offsets)
                   AS u (id, hash, topic, partition, "offset")
             WHERE idempotency.day_of(uuid_send(u.id)) IS NULL
            ON CONFLICT DO NOTHING
            RETURNING i.message_id)
        SELECT array_agg(e.message_id) INTO more FROM entered e;
    END IF;
    verdicts := ARRAY(SELECT r.verdict FROM idempotency.received(receive.consumer,
        receive.message_ids, receive.hashes, coalesce(fresh || more, '{}'), low, high) r);
    IF array_position(verdicts, NULL) IS NOT NULL THEN
        RAISE serialization_failure USING
            MESSAGE = 'a message was forgotten while it was received',
            HINT = 'Roll back and try again.';
    END IF;
    RETURN QUERY SELECT u.n::integer, u.verdict
                   FROM unnest(verdicts) WITH ORDINALITY AS u (verdict, n);
END
$$;
COMMENT ON FUNCTION idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[]) IS
    'enters messages for a consumer in the caller''s transaction, and tells for each, by its number '
    'from 1: fresh: apply it, its row is written; duplicate: applied before; other: the id of '
    'another message; below: its id is older than what is still known; future: its id is of later '
    'than tomorrow. The last three are never applied: they belong into idempotency.quarantine. '
    'Waits for a transaction that is at one of the messages. Sets synchronous_commit to on where it was off '
    'or local. 40001: roll back and try again';

-- For who is in the midst of duplicates: a look that locks nothing, waits for no other message
-- and takes a twentieth of what receive() takes for them, a tenth where they do not lie side by side. All in one
-- partition, that of the middle one's day: what is elsewhere is told by receive(), as is everything that is
-- not found here.
CREATE FUNCTION idempotency.known(consumer text, message_ids uuid[], side_by_side boolean,
                                  OUT ids uuid[], OUT hashes bytea[])
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET enable_seqscan = off
    SET enable_bitmapscan = off
    SET jit = off
AS $$
DECLARE
    n integer := cardinality(known.message_ids);
    slot text := coalesce((idempotency.day_of(uuid_send(known.message_ids[(n + 1) / 2])) % 32)::text, 'foreign');
BEGIN
    IF known.side_by_side THEN
        -- Also those of other consumers count for the limit: no more is read, whatever lies between.
        EXECUTE format('SELECT array_agg(i.message_id), array_agg(i.hash) FROM ('
                       'SELECT n.message_id, n.consumer, n.hash FROM idempotency.inbox_%s n '
                       'WHERE n.message_id BETWEEN $2 AND $3 ORDER BY n.message_id, n.consumer LIMIT $4'
                       ') i WHERE i.consumer = $1', slot)
           INTO ids, hashes
          USING known.consumer, known.message_ids[1], known.message_ids[n], 2 * n;
    ELSE
        EXECUTE format('SELECT array_agg(i.message_id), array_agg(i.hash) FROM ('
                       'SELECT k.message_id, k.hash FROM idempotency.inbox_%s k '
                       'WHERE k.consumer = $1 AND k.message_id = ANY ($2) ORDER BY k.message_id'
                       ') i', slot)
           INTO ids, hashes
          USING known.consumer, known.message_ids;
    END IF;
END
$$;
COMMENT ON FUNCTION idempotency.known(text, uuid[], boolean) IS
    'those of these messages that a consumer has applied before, in the order of their ids, and their '
    'hashes. side_by_side: the ids are in their order, and few others are expected between them: then '
    'up to twice as many rows from the first one on are read in one go, and those between are '
    'told of, too. An id is left out where it is of another day than the one in the middle, or its '
    'transaction is still open: of such a one only receive() can tell';

ALTER DOMAIN idempotency.consumer OWNER TO saga_owner;
ALTER SEQUENCE idempotency.inbox_mark OWNER TO saga_owner;
ALTER FUNCTION idempotency.day_of(bytea) OWNER TO saga_owner;
ALTER FUNCTION idempotency.received(text, uuid[], bytea[], uuid[], integer, integer) OWNER TO saga_owner;
ALTER FUNCTION idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[])
    OWNER TO saga_owner;
ALTER FUNCTION idempotency.known(text, uuid[], boolean) OWNER TO saga_owner;
ALTER TABLE idempotency.inbox OWNER TO saga_owner;
ALTER TABLE idempotency.inbox_foreign OWNER TO saga_owner;

-- A service never takes back what it has seen, and does not choose the slot.
GRANT SELECT ON SEQUENCE idempotency.inbox_mark TO saga_app, saga_monitor;
GRANT SELECT ON idempotency.inbox, idempotency.inbox_foreign TO saga_app, saga_monitor;
GRANT UPDATE (answer) ON idempotency.inbox TO saga_app;
REVOKE EXECUTE ON FUNCTION
    idempotency.received(text, uuid[], bytea[], uuid[], integer, integer),
    idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[]),
    idempotency.known(text, uuid[], boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[]),
    idempotency.known(text, uuid[], boolean) TO saga_app;
