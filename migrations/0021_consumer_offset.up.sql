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
    'The offset to be read next. Duplicates that a Redis mark has shown do not move it.';
COMMENT ON COLUMN idempotency.consumer_offset.updated_at IS 'When it moved last.';

ALTER TABLE idempotency.consumer_offset OWNER TO saga_owner;

GRANT SELECT, INSERT ON idempotency.consumer_offset TO saga_app;
GRANT UPDATE (next_offset, updated_at) ON idempotency.consumer_offset TO saga_app;
GRANT SELECT ON idempotency.consumer_offset TO saga_monitor;
