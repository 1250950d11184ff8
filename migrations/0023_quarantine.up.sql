-- SPDX-License-Identifier: Apache-2.0
--
-- What consumers could not apply, kept whole.

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

ALTER TABLE idempotency.quarantine OWNER TO saga_owner;

GRANT SELECT, INSERT ON idempotency.quarantine TO saga_app;
GRANT SELECT ON idempotency.quarantine TO saga_monitor;
