-- SPDX-License-Identifier: Apache-2.0
--
-- The barrier of saga participants: what each step and each compensation was
-- answered, so that it is answered the same whenever it is asked again.

-- As idempotency.inbox_mark. Rows are deleted, not emptied with a partition:
-- docs/decisions/0009-inbox-ring.md
CREATE SEQUENCE idempotency.barrier_mark AS integer MINVALUE 0 START 0;
COMMENT ON SEQUENCE idempotency.barrier_mark IS
    'its last value is the oldest day, counted from 1970, whose sagas are still known. Only ever '
    'raised, by idempotency.clean_up(); see idempotency.horizon';
DO $$ BEGIN PERFORM pg_catalog.setval('idempotency.barrier_mark', 0); END $$;

-- A time that is still to come tells nothing either, and rows that bear it would
-- not be forgotten for as long. Up to tomorrow, as in idempotency.receive, it is a
-- clock that goes a little before ours: then the id's time, so that all rows of
-- the saga have the same.
CREATE FUNCTION idempotency.start_of(saga_id uuid) RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN idempotency.day_of(uuid_send(saga_id)) <= floor(extract(epoch FROM now()) / 86400) + 1
                THEN to_timestamp(('x' || translate(left(saga_id::text, 13), '-', ''))
                                  ::bit(48)::bigint / 1000.0)
                ELSE now() END
$$;
COMMENT ON FUNCTION idempotency.start_of(uuid) IS
    'when the saga began, from its version-7 id; now, if that is of another version, or of the future';

CREATE TABLE idempotency.barrier (
    consumer        text        NOT NULL,
    saga_id         uuid        NOT NULL,
    step            text        NOT NULL,
    action          text        NOT NULL,
    outcome         text        NOT NULL,
    reason          text,
    reply           text        NOT NULL DEFAULT '{}',
    accepted        jsonb,
    answered_by     text,
    overtaken_at    timestamptz,
    message_id      uuid        NOT NULL,
    saga_started_at timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),

    -- Without the attempt: all attempts of a step are one step and get one answer.
    CONSTRAINT barrier_pkey PRIMARY KEY (consumer, saga_id, step, action),
    CONSTRAINT barrier_names CHECK (consumer <> '' AND octet_length(consumer) <= 255
                                    AND step <> '' AND octet_length(step) <= 255),
    CONSTRAINT barrier_action CHECK (action IN ('run', 'compensate')),
    -- A compensation is never refused: whatever stands against it is retried.
    CONSTRAINT barrier_outcome CHECK (outcome IN ('done', 'unknown')
                                      OR (outcome = 'refused' AND action = 'run')
                                      OR (outcome = 'waiting' AND accepted IS NOT NULL)),
    CONSTRAINT barrier_reason CHECK (outcome IN ('done', 'waiting') OR reason IS NOT NULL),
    CONSTRAINT barrier_overtaken CHECK (overtaken_at IS NULL OR (action = 'run' AND outcome = 'refused'
                                                                 AND accepted IS NOT NULL))
);

-- For cleaning up by the age of the saga.
CREATE INDEX barrier_saga_started_at ON idempotency.barrier (saga_started_at);

-- For idempotency.waiting: few rows of very many.
CREATE INDEX barrier_waiting ON idempotency.barrier (created_at) WHERE outcome = 'waiting';

COMMENT ON TABLE idempotency.barrier IS
    'One row for each step of each saga that this database takes part in, and one for its '
    'compensation: the final answer, given again whenever the command comes again; or that the '
    'answer is still to come. Rows of a command that is still being tried do not exist.';
COMMENT ON COLUMN idempotency.barrier.consumer IS
    'Consumer group of the participant; two participants in one database do not share answers.';
COMMENT ON COLUMN idempotency.barrier.saga_id IS
    'Header saga-id of the command: the instance at the orchestrator.';
COMMENT ON COLUMN idempotency.barrier.step IS 'Header saga-step of the command.';
COMMENT ON COLUMN idempotency.barrier.action IS
    'Header saga-action: run, or compensate (undo what run did).';
COMMENT ON COLUMN idempotency.barrier.outcome IS
    'done: its rows were committed together with this one. refused: nothing was done and never '
    'will be, because of the reason. unknown: the saga was too old when it was asked. waiting: '
    'it is in hand, and idempotency.reply() will tell.';
COMMENT ON COLUMN idempotency.barrier.reason IS
    'Why it was refused; or a remark on what was done, such as a compensation that found nothing '
    'to undo.';
COMMENT ON COLUMN idempotency.barrier.reply IS
    'The reply''s payload, byte for byte: a JSON object of the values that the step has set.';
COMMENT ON COLUMN idempotency.barrier.accepted IS
    'Of a command whose answer came later, or is to come: where its reply goes, its trace, and the '
    'values that were set when it was taken in hand. NULL: it was answered at once.';
COMMENT ON COLUMN idempotency.barrier.answered_by IS
    'Which login has answered it by idempotency.reply(). NULL: nobody has, or it was answered at once.';
COMMENT ON COLUMN idempotency.barrier.overtaken_at IS
    'When its compensation came, if it was still waiting then: any answer is too late since.';
COMMENT ON COLUMN idempotency.barrier.message_id IS
    'Header message-id of the command that made this row (of the compensation, where that came '
    'before the step).';
COMMENT ON COLUMN idempotency.barrier.saga_started_at IS
    'When the saga began, from its version-7 id. Rows are kept by this age, so that a step and '
    'its compensation go together. Of an id of another version, or of the future: when the row was '
    'written.';
COMMENT ON COLUMN idempotency.barrier.created_at IS 'When the answer was first given.';

ALTER TABLE idempotency.barrier OWNER TO saga_owner;
ALTER SEQUENCE idempotency.barrier_mark OWNER TO saga_owner;
ALTER FUNCTION idempotency.start_of(uuid) OWNER TO saga_owner;

-- Participants write answers and never take one back.
GRANT SELECT, INSERT ON idempotency.barrier TO saga_app;
GRANT UPDATE (outcome, reason, reply, accepted, overtaken_at) ON idempotency.barrier TO saga_app;
GRANT SELECT ON idempotency.barrier TO saga_monitor;
GRANT SELECT ON SEQUENCE idempotency.barrier_mark TO saga_app, saga_monitor;
REVOKE EXECUTE ON FUNCTION idempotency.start_of(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotency.start_of(uuid) TO saga_app;
