-- SPDX-License-Identifier: Apache-2.0
--
-- Commands of sagas that are taken in hand now and answered later, by whoever
-- has their token.
--
-- A token is the barrier row's name and the id of the command that was accepted:
-- saga-id/message-id/action/step/consumer. Nothing is kept under it; that of a
-- transaction that was rolled back fits no command.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

CREATE FUNCTION idempotency.wait(consumer text, saga_id uuid, step text, action text, reply_to text,
                                 traceparent text DEFAULT NULL, reply jsonb DEFAULT '{}')
    RETURNS text
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    token text;
BEGIN
    IF wait.step !~ '^[A-Za-z0-9._-]+$' OR wait.reply_to IS NULL THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('step "%s" cannot wait: its name is not of A-Z a-z 0-9 . _ -, or it has '
                             'no topic for its reply', wait.step);
    ELSIF jsonb_typeof(wait.reply) <> 'object' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a reply is a JSON object of values';
    END IF;
    UPDATE idempotency.barrier b
       SET outcome = 'waiting', reason = NULL, reply = '{}',
           accepted = jsonb_strip_nulls(jsonb_build_object('reply-to', wait.reply_to,
               'traceparent', wait.traceparent, 'values', wait.reply))
     WHERE b.consumer = wait.consumer AND b.saga_id = wait.saga_id AND b.step = wait.step
       AND b.action = wait.action AND idempotency.is_mine(b.xmin)
    RETURNING concat_ws('/', b.saga_id, b.message_id, b.action, b.step, b.consumer) INTO token;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('this transaction has not entered step "%s" of saga %s',
                             wait.step, wait.saga_id);
    END IF;
    RETURN token;
END
$$;
COMMENT ON FUNCTION idempotency.wait(text, uuid, text, text, text, text, jsonb) IS
    'says of a command that idempotency.enter has let in, in the same transaction, that it is taken '
    'in hand and will be answered later. Do not reply. Returns the token that idempotency.reply '
    'needs. Not entered in this transaction: 55000';

-- The row's lock decides between two who answer, and between an answer and the
-- compensation: who comes second sees what the first has left.
CREATE FUNCTION idempotency.reply(token text, outcome text, reason text DEFAULT NULL,
                                  reply jsonb DEFAULT '{}')
    RETURNS boolean
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    part text[] := regexp_match(reply.token, '^([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})'
        '/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/(run|compensate)/([A-Za-z0-9._-]+)/(.+)$');
    command idempotency.barrier;
    answer text;
BEGIN
    IF part IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'this is no token of a command that waits',
            HINT = 'It is <saga-id>/<message-id>/<action>/<step>/<consumer>, the ids in lower case: see '
                   'idempotency.waiting.';
    ELSIF reply.outcome = 'done' AND jsonb_typeof(reply.reply) = 'object' THEN
        NULL;
    ELSIF reply.outcome = 'refused' AND part[3] = 'run' AND reply.reason <> ''
          AND reply.reply = '{}' THEN
        NULL;
    ELSE
        RAISE invalid_parameter_value USING
            MESSAGE = 'a command that waits is answered done, with an object of values, or, unless it '
                      'is a compensation, refused, with a reason and no values';
    END IF;
    SELECT b.* INTO command FROM idempotency.barrier b
     WHERE b.consumer = part[5] AND b.saga_id = part[1]::uuid AND b.step = part[4]
       AND b.action = part[3]
       FOR UPDATE;
    IF command.message_id IS DISTINCT FROM part[2]::uuid OR command.accepted IS NULL THEN
        RAISE no_data_found USING
            MESSAGE = format('no command waits under this token, for step "%s" of saga %s', part[4],
                             part[1]),
            HINT = 'The transaction that accepts a command must have committed before it is answered. '
                   'What waits in this database is in idempotency.waiting.';
    END IF;
    answer := (CASE WHEN reply.outcome = 'done' THEN coalesce(command.accepted -> 'values', '{}') ELSE '{}' END
               || reply.reply)::text;
    IF command.overtaken_at IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'SG003', MESSAGE = format(
            'step "%s" of saga %s was compensated before it was answered', part[4], part[1]),
            HINT = 'The saga counts it as undone. Undo what this answer tells of, unless the '
                   'compensation has done that.';
    ELSIF (command.outcome, coalesce(command.reason, ''), command.reply)
          = (reply.outcome, coalesce(reply.reason, ''), answer) THEN
        RETURN false;
    ELSIF command.outcome <> 'waiting' THEN
        RAISE EXCEPTION USING ERRCODE = 'SG002', MESSAGE = format(
            'step "%s" of saga %s was answered otherwise: %s', part[4], part[1],
            concat_ws(', ', command.outcome, command.reason)),
            HINT = 'That answer stands. The same one has its outcome, reason and values.';
    ELSIF octet_length(answer) > 65536 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'a reply''s values have at most 65536 bytes';
    END IF;
    UPDATE idempotency.barrier b
       SET outcome = reply.outcome, reason = nullif(reply.reason, ''), reply = answer,
           answered_by = session_user
     WHERE b.consumer = command.consumer AND b.saga_id = command.saga_id AND b.step = command.step
       AND b.action = command.action;
    PERFORM outbox.enqueue(command.accepted ->> 'reply-to', convert_to(answer, 'UTF8'),
        command.saga_id::text, jsonb_strip_nulls(jsonb_build_object(
            'saga-id', command.saga_id::text, 'saga-step', command.step, 'saga-action', command.action,
            'saga-outcome', reply.outcome, 'saga-reason', nullif(reply.reason, ''),
            'traceparent', command.accepted ->> 'traceparent')));
    RETURN true;
END
$$;
COMMENT ON FUNCTION idempotency.reply(text, text, text, jsonb) IS
    'answers a command that waits: stores the answer and writes the reply, in the caller''s '
    'transaction. false: it was answered like this before, and nothing is written. No such command, '
    'or not committed yet: P0002. Answered otherwise: SG002. Compensated before, so that the answer '
    'is too late and what it tells of may have to be undone: SG003. No token, or no answer: 22023';

CREATE VIEW idempotency.waiting AS
    SELECT b.created_at AS since, clock_timestamp() - b.created_at AS waited, b.consumer, b.saga_id,
           b.step, b.action, b.accepted ->> 'reply-to' AS reply_to,
           concat_ws('/', b.saga_id, b.message_id, b.action, b.step, b.consumer) AS token
      FROM idempotency.barrier b
     WHERE b.outcome = 'waiting';
COMMENT ON VIEW idempotency.waiting IS
    'commands that were taken in hand and are not answered: idempotency.reply(token, ...) does it. '
    'Costs as much as there are of them';
COMMENT ON COLUMN idempotency.waiting.since IS 'when the command was taken in hand';
COMMENT ON COLUMN idempotency.waiting.waited IS 'how long ago that is';
COMMENT ON COLUMN idempotency.waiting.consumer IS 'consumer group of the participant';
COMMENT ON COLUMN idempotency.waiting.saga_id IS 'the saga that waits, at its orchestrator';
COMMENT ON COLUMN idempotency.waiting.step IS 'of the saga''s steps';
COMMENT ON COLUMN idempotency.waiting.action IS 'run, or compensate';
COMMENT ON COLUMN idempotency.waiting.reply_to IS 'topic that the reply will go to';
COMMENT ON COLUMN idempotency.waiting.token IS 'what idempotency.reply and saga_reply() are called with';

ALTER VIEW idempotency.waiting OWNER TO saga_owner;
GRANT SELECT ON idempotency.waiting TO saga_app, saga_monitor;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['idempotency.wait', 'idempotency.reply'] LOOP
        EXECUTE 'ALTER FUNCTION ' || name || ' OWNER TO saga_owner';
    END LOOP;
END
$$;

REVOKE EXECUTE ON FUNCTION idempotency.wait(text, uuid, text, text, text, text, jsonb),
    idempotency.reply(text, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION idempotency.wait(text, uuid, text, text, text, text, jsonb),
    idempotency.reply(text, text, text, jsonb) TO saga_app;
