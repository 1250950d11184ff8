-- SPDX-License-Identifier: Apache-2.0
--
-- How far each consumer has come, written in the transaction of the effects.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE TABLE idempotency.consumer_offset (
    consumer    text        NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    next_offset bigint      NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    open_in     xid8,

    CONSTRAINT consumer_offset_pkey PRIMARY KEY (consumer, topic, partition),
    CONSTRAINT consumer_offset_next CHECK (next_offset >= 0)
)
-- One row is updated again and again: leave room beside it, so that no index changes.
WITH (fillfactor = 20);

COMMENT ON TABLE idempotency.consumer_offset IS
    'How far each consumer has come in each partition, committed together with the effects. Where '
    'Kafka''s own offset is further, this database has lost commits (a failover, a restore), and '
    'the consumer reads again from here.';
COMMENT ON COLUMN idempotency.consumer_offset.consumer IS 'Consumer group.';
COMMENT ON COLUMN idempotency.consumer_offset.topic IS 'Topic.';
COMMENT ON COLUMN idempotency.consumer_offset.partition IS 'Partition of the topic.';
COMMENT ON COLUMN idempotency.consumer_offset.next_offset IS
    'The offset to be read next. Duplicates that a Redis mark has shown move it a moment later.';
COMMENT ON COLUMN idempotency.consumer_offset.updated_at IS 'When it moved last.';
COMMENT ON COLUMN idempotency.consumer_offset.open_in IS
    'Inside a transaction: it is at work in this partition, and cannot be committed. NULL in every '
    'row that is committed.';

-- A handler that commits in the middle of a batch would commit the inbox rows of the messages behind
-- it, and they would count as applied. So it cannot.
CREATE FUNCTION idempotency.refuse_open_offset() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM idempotency.consumer_offset o
                WHERE o.consumer = NEW.consumer AND o.topic = NEW.topic AND o.partition = NEW.partition
                  AND o.open_in IS NOT NULL) THEN
        RAISE EXCEPTION 'a handler must not end the consumer''s transaction'
            USING ERRCODE = 'invalid_transaction_termination',
                  HINT = 'The consumer commits when all handlers of the batch have succeeded.';
    END IF;
    RETURN NULL;
END
$$;

COMMENT ON FUNCTION idempotency.refuse_open_offset() IS
    'Refuses a COMMIT while the offsets of a batch are open.';

CREATE CONSTRAINT TRIGGER consumer_offset_open
    AFTER INSERT OR UPDATE ON idempotency.consumer_offset
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.open_in IS NOT NULL)
    EXECUTE FUNCTION idempotency.refuse_open_offset();

ALTER TABLE idempotency.consumer_offset OWNER TO saga_owner;
ALTER FUNCTION idempotency.refuse_open_offset() OWNER TO saga_owner;

GRANT SELECT, INSERT ON idempotency.consumer_offset TO saga_app;
GRANT UPDATE (next_offset, updated_at, open_in) ON idempotency.consumer_offset TO saga_app;
GRANT SELECT ON idempotency.consumer_offset TO saga_monitor;
