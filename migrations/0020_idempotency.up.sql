-- SPDX-License-Identifier: Apache-2.0
--
-- What a consumer remembers: which messages it has applied, how far it has come
-- in each partition, and what it could not apply. All of it is written in the
-- transaction of the message's effect.

CREATE TABLE idempotency.inbox (
    consumer    text        NOT NULL,
    message_id  uuid        NOT NULL,
    hash        bytea       NOT NULL,
    topic       text        NOT NULL,
    partition   integer     NOT NULL,
    "offset"    bigint      NOT NULL,
    answer      bytea,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    -- Not the topic: a message that comes again through a retry topic is the same
    -- message. And not the id alone: two consumers in one database both want it.
    CONSTRAINT inbox_pkey PRIMARY KEY (consumer, message_id),
    CONSTRAINT inbox_consumer CHECK (consumer <> '' AND octet_length(consumer) <= 255)
);

COMMENT ON TABLE idempotency.inbox IS
    'One row for each message that a consumer has applied, committed together with its effect. '
    'The truth about "was this applied already?"; Redis only makes asking cheaper.';
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
COMMENT ON COLUMN idempotency.inbox.received_at IS 'When it was applied.';

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

    CONSTRAINT quarantine_pkey PRIMARY KEY (id),
    -- A message that is read again is kept once. With the hash, because a topic that was
    -- deleted and made again has the same offsets with other messages.
    CONSTRAINT quarantine_once UNIQUE (consumer, topic, partition, "offset", hash)
);

COMMENT ON TABLE idempotency.quarantine IS
    'Messages that were not applied and never will be by themselves: without a usable message-id, '
    'or with the id of another message. Kept whole, so that nothing is lost.';
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

ALTER TABLE idempotency.inbox OWNER TO saga_owner;
ALTER TABLE idempotency.consumer_offset OWNER TO saga_owner;
ALTER TABLE idempotency.quarantine OWNER TO saga_owner;

-- A service never takes back what it has seen; cleaning up is the owner's business.
GRANT SELECT, INSERT ON idempotency.inbox TO saga_app;
GRANT UPDATE (answer) ON idempotency.inbox TO saga_app;
GRANT SELECT, INSERT ON idempotency.consumer_offset TO saga_app;
GRANT UPDATE (next_offset, updated_at) ON idempotency.consumer_offset TO saga_app;
GRANT SELECT, INSERT ON idempotency.quarantine TO saga_app;
GRANT SELECT ON idempotency.inbox, idempotency.consumer_offset, idempotency.quarantine
    TO saga_monitor;
