-- SPDX-License-Identifier: Apache-2.0
--
-- Sagas: what they are (definition), where they stand (instance), how they came
-- there (history), what operators did (audit); starting one, and the operators'
-- verbs. Only workers and reply loops decide what becomes of a saga: the verbs
-- here leave a request in its row, and wake a worker.
--
-- SQLSTATEs of our own: SG001 overtaken by another worker, SG002 started before
-- with other values.

CREATE TABLE saga.definition (
    name          text        NOT NULL,
    digest        text        NOT NULL,
    steps         jsonb       NOT NULL,
    deadline_ms   bigint,
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),

    -- Older ones stay: a saga that was started with one still says what it was.
    CONSTRAINT definition_pkey PRIMARY KEY (name, digest),
    CONSTRAINT definition_name CHECK (name ~ '^[A-Za-z0-9._-]{1,64}$')
);

COMMENT ON TABLE saga.definition IS
    'Tables of steps, as workers have registered them. New sagas use the one registered last.';
COMMENT ON COLUMN saga.definition.name IS 'The saga''s name.';
COMMENT ON COLUMN saga.definition.digest IS
    'FNV-1a, 128 bits, over the steps'' names and kinds in their order, and which are commands.';
COMMENT ON COLUMN saga.definition.steps IS
    'In order: name; kind (compensatable, pivot, retriable); topic, if a participant does it.';
COMMENT ON COLUMN saga.definition.deadline_ms IS
    'From the start, in milliseconds; then a saga turns round. NULL: none.';
COMMENT ON COLUMN saga.definition.registered_at IS 'When a worker registered it last.';

-- The uniqueness of business keys, apart from the instances, so that those can
-- be partitioned by their id and dropped by age.
CREATE TABLE saga.business_key (
    definition text  NOT NULL,
    key        text  NOT NULL,
    saga_id    uuid  NOT NULL,
    hash       bytea NOT NULL,

    CONSTRAINT business_key_pkey PRIMARY KEY (definition, key),
    CONSTRAINT business_key_length CHECK (key <> '' AND octet_length(key) <= 512)
);

COMMENT ON TABLE saga.business_key IS
    'Which saga was started for a business key: the reason why starting twice gives one saga.';
COMMENT ON COLUMN saga.business_key.definition IS 'The saga''s name.';
COMMENT ON COLUMN saga.business_key.key IS 'As the starter gave it.';
COMMENT ON COLUMN saga.business_key.saga_id IS 'The saga that was started first.';
COMMENT ON COLUMN saga.business_key.hash IS 'SHA-256 of the values it was started with.';

CREATE TABLE saga.instance (
    id               uuid          NOT NULL,
    definition       text          NOT NULL,
    business_key     text          NOT NULL,
    state            text          NOT NULL DEFAULT 'running',
    reason           text,
    steps            text[]        NOT NULL,
    step_states      text[]        NOT NULL,
    step_attempts    integer[]     NOT NULL,
    step_due_at      timestamptz[] NOT NULL,
    data             jsonb         NOT NULL,
    due_at           timestamptz,
    deadline_at      timestamptz,
    undo_deadline_at timestamptz,
    overdue          boolean       NOT NULL DEFAULT false,
    alarms           integer       NOT NULL DEFAULT 0,
    request          text,
    request_reason   text,
    digest           text          NOT NULL,
    traceparent      text,
    version          bigint        NOT NULL DEFAULT 0,
    created_at       timestamptz   NOT NULL DEFAULT clock_timestamp(),
    updated_at       timestamptz   NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT instance_pkey PRIMARY KEY (id),
    CONSTRAINT instance_state
        CHECK (state IN ('running', 'compensating', 'completed', 'compensated', 'parked')),
    CONSTRAINT instance_step_states
        CHECK (step_states <@ ARRAY['pending', 'running', 'waiting', 'done', 'failed',
                                    'compensating', 'compensated', 'skipped']
               AND cardinality(step_states) = cardinality(steps)
               AND cardinality(step_attempts) = cardinality(steps)
               AND cardinality(step_due_at) = cardinality(steps)),
    CONSTRAINT instance_parked CHECK (state <> 'parked' OR reason IS NOT NULL),
    CONSTRAINT instance_finished
        CHECK (state NOT IN ('completed', 'compensated') OR due_at IS NULL),
    CONSTRAINT instance_data
        CHECK (jsonb_typeof(data) = 'object' AND octet_length(data::text) <= 65536),
    CONSTRAINT instance_request CHECK (request IN ('cancel', 'retry'))
)
WITH (fillfactor = 70);

-- The workers' search. Finished and parked sagas are not in it, however many
-- there are.
CREATE INDEX instance_due ON saga.instance (definition, due_at) WHERE due_at IS NOT NULL;
-- What people search for: by key, and the ones that need them.
CREATE INDEX instance_business_key ON saga.instance (business_key, definition);
CREATE INDEX instance_parked ON saga.instance (updated_at) WHERE state = 'parked';

COMMENT ON TABLE saga.instance IS 'One row for each saga, finished ones too.';
COMMENT ON COLUMN saga.instance.id IS 'Version-7 uuid; header saga-id of its commands.';
COMMENT ON COLUMN saga.instance.definition IS 'The saga''s name; see saga.definition.';
COMMENT ON COLUMN saga.instance.business_key IS 'What it is about, as its starter named it.';
COMMENT ON COLUMN saga.instance.state IS
    'running; compensating (being undone, in reverse order); completed; compensated (all that was '
    'done is undone); parked (a person has to look: see reason, then saga.retry).';
COMMENT ON COLUMN saga.instance.reason IS
    'Why it turned round, or is parked, or what the last attempt failed with.';
COMMENT ON COLUMN saga.instance.steps IS 'Names of its steps, in order.';
COMMENT ON COLUMN saga.instance.step_states IS
    'Of each step: pending; running (to be run, or run again); waiting (a command was sent); done; '
    'failed (known not to be done); compensating; compensated; skipped.';
COMMENT ON COLUMN saga.instance.step_attempts IS
    'Of each step: attempts begun, forward or, once it is compensating, of its compensation.';
COMMENT ON COLUMN saga.instance.step_due_at IS 'Of each step: when to go on with it, if ever.';
COMMENT ON COLUMN saga.instance.data IS 'Its values: small named texts that steps read and set.';
COMMENT ON COLUMN saga.instance.due_at IS
    'When a worker has to look at it. A worker that is going on with it at once holds it a short '
    'grace ahead. NULL: finished or parked.';
COMMENT ON COLUMN saga.instance.deadline_at IS 'When it turns round, if it still can.';
COMMENT ON COLUMN saga.instance.undo_deadline_at IS
    'When a compensation that still fails parks it. Set when it turns round.';
COMMENT ON COLUMN saga.instance.overdue IS
    'The deadline passed when it could not turn round any more; the alarm was raised.';
COMMENT ON COLUMN saga.instance.alarms IS 'How often a person should have looked.';
COMMENT ON COLUMN saga.instance.request IS
    'cancel or retry: asked for by an operator, not yet carried out by a worker.';
COMMENT ON COLUMN saga.instance.request_reason IS 'The operator''s reason.';
COMMENT ON COLUMN saga.instance.digest IS 'Of the definition it was started with.';
COMMENT ON COLUMN saga.instance.traceparent IS 'Trace context of the start (W3C).';
COMMENT ON COLUMN saga.instance.version IS
    'Raised by every change. Who saves a change names the version he has read, and writes nothing '
    'if it is another.';
COMMENT ON COLUMN saga.instance.created_at IS 'When it was started.';
COMMENT ON COLUMN saga.instance.updated_at IS 'When it changed last.';

CREATE TABLE saga.history (
    saga_id     uuid        NOT NULL,
    id          bigint      GENERATED ALWAYS AS IDENTITY,
    version     bigint      NOT NULL,
    event       text        NOT NULL,
    step        text,
    action      text,
    attempt     integer,
    step_state  text,
    state       text        NOT NULL,
    reason      text,
    message_id  uuid,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),

    CONSTRAINT history_pkey PRIMARY KEY (saga_id, id),
    CONSTRAINT history_action CHECK (action IN ('run', 'compensate'))
);

COMMENT ON TABLE saga.history IS 'What happened to each saga. Rows are only ever added.';
COMMENT ON COLUMN saga.history.saga_id IS 'saga.instance.id.';
COMMENT ON COLUMN saga.history.id IS 'Ascending within a saga.';
COMMENT ON COLUMN saga.history.version IS 'saga.instance.version after it.';
COMMENT ON COLUMN saga.history.event IS
    'started; done, wait, retry, refused, error (what a step answered); sent (a command); timeout; '
    'unknown (the participant has forgotten); deadline; cancel; cancel_refused (behind the pivot); resumed; mismatch (no worker can go on '
    'with it as it is: see the reason).';
COMMENT ON COLUMN saga.history.step IS 'The step that it is about, if any.';
COMMENT ON COLUMN saga.history.action IS 'run, or compensate (the step''s compensation).';
COMMENT ON COLUMN saga.history.attempt IS 'Which attempt of it.';
COMMENT ON COLUMN saga.history.step_state IS 'State of the step after it.';
COMMENT ON COLUMN saga.history.state IS 'State of the saga after it.';
COMMENT ON COLUMN saga.history.reason IS 'In words.';
COMMENT ON COLUMN saga.history.message_id IS 'Of a command that was sent: see outbox.local_messages.';
COMMENT ON COLUMN saga.history.at IS 'When.';

CREATE TABLE saga.audit (
    id      bigint      GENERATED ALWAYS AS IDENTITY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    who     text        NOT NULL DEFAULT session_user,
    verb    text        NOT NULL,
    saga_id uuid,
    reason  text        NOT NULL,

    CONSTRAINT audit_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_saga_id ON saga.audit (saga_id);

COMMENT ON TABLE saga.audit IS 'What operators did, written in the transaction that did it.';
COMMENT ON COLUMN saga.audit.id IS 'In order.';
COMMENT ON COLUMN saga.audit.at IS 'When.';
COMMENT ON COLUMN saga.audit.who IS 'The login that did it.';
COMMENT ON COLUMN saga.audit.verb IS 'retry or cancel.';
COMMENT ON COLUMN saga.audit.saga_id IS 'The saga it was done to.';
COMMENT ON COLUMN saga.audit.reason IS 'Why, in the operator''s words.';

CREATE FUNCTION saga.start(definition text, business_key text, data jsonb DEFAULT '{}')
RETURNS uuid
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    def     saga.definition;
    known   saga.business_key;
    vals    jsonb := coalesce(start.data, '{}');
    trace   text;
    bad     text;
    hash    bytea;
    saga_id uuid;
    names   text[];
BEGIN
    IF start.business_key IS NULL OR start.business_key = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a saga needs a business key';
    END IF;
    IF octet_length(start.business_key) > 512 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'a business key has at most 512 bytes';
    END IF;
    IF jsonb_typeof(vals) <> 'object' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'a saga''s data must be a JSON object, not ' || jsonb_typeof(vals);
    END IF;
    SELECT v.key INTO bad FROM jsonb_each(vals) v
        WHERE jsonb_typeof(v.value) IN ('object', 'array', 'null') LIMIT 1;
    IF FOUND THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('value "%s" is neither a text nor a number', bad),
            HINT = 'A saga''s values are texts. Numbers, true and false become texts.';
    END IF;
    SELECT coalesce(jsonb_object_agg(v.key, v.value), '{}') INTO vals FROM jsonb_each_text(vals) v;
    -- Another trace of the same request is no other request.
    trace := CASE WHEN octet_length(vals ->> 'traceparent') <= 256 THEN vals ->> 'traceparent' END;
    vals := vals - 'traceparent';
    IF octet_length(vals::text) > 65536 THEN
        RAISE program_limit_exceeded USING MESSAGE = 'a saga''s data has at most 65536 bytes';
    END IF;
    hash := sha256(convert_to(vals::text, 'UTF8'));

    SELECT d.* INTO def FROM saga.definition d WHERE d.name = start.definition
        ORDER BY d.registered_at DESC LIMIT 1;
    IF NOT FOUND THEN
        RAISE no_data_found USING
            MESSAGE = format('no worker has registered a saga "%s" in this database',
                             start.definition),
            HINT = 'Start a worker first: saga_worker_add() registers it.';
    END IF;

    -- A rival that has not committed is waited for here.
    saga_id := outbox.uuid_v7();
    LOOP
        INSERT INTO saga.business_key AS k (definition, key, saga_id, hash)
            VALUES (start.definition, start.business_key, saga_id, hash)
            ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        SELECT k.* INTO known FROM saga.business_key k
            WHERE k.definition = start.definition AND k.key = start.business_key;
        CONTINUE WHEN NOT FOUND;
        IF known.hash <> hash THEN
            RAISE EXCEPTION USING ERRCODE = 'SG002',
                MESSAGE = format('saga "%s" for "%s" was started before with other values, as %s',
                                 start.definition, start.business_key, known.saga_id);
        END IF;
        RETURN known.saga_id;
    END LOOP;

    SELECT array_agg(s.step ->> 'name' ORDER BY s.position) INTO names
        FROM jsonb_array_elements(def.steps) WITH ORDINALITY AS s(step, position);
    INSERT INTO saga.instance (id, definition, business_key, digest, data, traceparent, due_at,
                               deadline_at, steps, step_states, step_attempts, step_due_at)
        VALUES (saga_id, def.name, start.business_key, def.digest, vals, trace, clock_timestamp(),
                clock_timestamp() + def.deadline_ms * interval '1 ms', names,
                array_fill('pending'::text, ARRAY[cardinality(names)]),
                array_fill(0, ARRAY[cardinality(names)]),
                array_fill(NULL::timestamptz, ARRAY[cardinality(names)]));
    INSERT INTO saga.history (saga_id, version, event, state)
        VALUES (saga_id, 0, 'started', 'running');
    RETURN saga_id;
END
$$;
COMMENT ON FUNCTION saga.start(text, text, jsonb) IS
    'Starts a saga in the caller''s transaction and returns its id. Idempotent by definition and '
    'business key: the same data gives the first saga''s id; other data is refused (SG002), naming '
    'it. data: an object of texts (numbers and truths become texts) for the steps; traceparent among them is the trace context. No '
    'worker has registered the definition: P0002. Malformed: 22023. Too large: 54000.';

-- For a save that finds another version than it was made from. An error,
-- because the COMMIT may be under way already, and must become a rollback.
CREATE FUNCTION saga.overtaken() RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'SG001', MESSAGE = 'another worker has changed the saga';
END
$$;
COMMENT ON FUNCTION saga.overtaken() IS 'Raises SG001.';

-- The same rule as the workers' (move_past_return in saga/move.c), who decide: a
-- saga that runs may pass that step before they carry a request out.
CREATE FUNCTION saga.past_return(instance saga.instance) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.name
      FROM saga.definition d,
           ROWS FROM (unnest($1.steps), unnest($1.step_states)) WITH ORDINALITY
               AS s (name, state, place)
     WHERE d.name = $1.definition AND d.digest = $1.digest AND s.state IN ('waiting', 'done')
       AND d.steps -> (s.place - 1)::integer ->> 'kind' <> 'compensatable'
     ORDER BY s.place LIMIT 1
$$;
COMMENT ON FUNCTION saga.past_return(saga.instance) IS
    'The step that cannot be undone and is done, or may be: the saga can only go on. NULL: none is.';

-- Leaves an operator's request in the row, if its state is one of `states`.
CREATE FUNCTION saga.ask(id uuid, verb text, states text[], reason text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    seen saga.instance;
    step text;
BEGIN
    IF ask.reason IS NULL OR btrim(ask.reason) = '' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'a reason is needed; the audit keeps it';
    END IF;
    SELECT i.* INTO seen FROM saga.instance i WHERE i.id = ask.id FOR UPDATE;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('there is no saga %s', ask.id);
    END IF;
    IF NOT seen.state = ANY (ask.states) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('cannot %s saga %s: it is %s, not %s', ask.verb, ask.id, seen.state,
                             array_to_string(ask.states, ' or '));
    END IF;
    IF ask.verb = 'cancel' AND 'compensating' = ANY (seen.step_states) THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('cannot cancel saga %s: it was parked while it was being undone; retry '
                             'lets it go on', ask.id);
    END IF;
    IF ask.verb = 'cancel' AND seen.state = 'parked' THEN
        step := saga.past_return(seen);
        IF step IS NOT NULL THEN
            RAISE object_not_in_prerequisite_state USING
                MESSAGE = format('cannot cancel saga %s: it is behind its point of no return, step '
                                 '"%s", which is done or may be; retry lets it go on', ask.id, step);
        END IF;
    END IF;
    IF ask.verb = 'retry' AND seen.request = 'cancel' THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('cannot retry saga %s: somebody has asked to cancel it', ask.id);
    END IF;
    UPDATE saga.instance i SET request = ask.verb, request_reason = left(ask.reason, 200),
                               due_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE i.id = ask.id;
    INSERT INTO saga.audit (verb, saga_id, reason) VALUES (ask.verb, ask.id, ask.reason);
END
$$;
COMMENT ON FUNCTION saga.ask(uuid, text, text[], text) IS 'Used by saga.retry and saga.cancel.';

CREATE FUNCTION saga.retry(id uuid, reason text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT saga.ask($1, 'retry', ARRAY['parked'], $2) $$;
COMMENT ON FUNCTION saga.retry(uuid, text) IS
    'Lets a parked saga go on where it stands, with new budgets. No such saga: P0002. Not parked, '
    'or its cancellation is asked for: 55000. No reason: 22023.';

CREATE FUNCTION saga.cancel(id uuid, reason text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT saga.ask($1, 'cancel', ARRAY['running', 'parked'], $2) $$;
COMMENT ON FUNCTION saga.cancel(uuid, text) IS
    'Asks for a saga to be undone. A worker does it, if the pivot has not been sent; otherwise the '
    'saga goes on, and history and alarms say so. No such saga: P0002. Neither running nor parked, '
    'or parked while it was being undone or behind its pivot: 55000. No reason: 22023.';

ALTER TABLE saga.definition OWNER TO saga_owner;
ALTER TABLE saga.business_key OWNER TO saga_owner;
ALTER TABLE saga.instance OWNER TO saga_owner;
ALTER TABLE saga.history OWNER TO saga_owner;
ALTER TABLE saga.audit OWNER TO saga_owner;
ALTER FUNCTION saga.start(text, text, jsonb) OWNER TO saga_owner;
ALTER FUNCTION saga.overtaken() OWNER TO saga_owner;
ALTER FUNCTION saga.past_return(saga.instance) OWNER TO saga_owner;
ALTER FUNCTION saga.ask(uuid, text, text[], text) OWNER TO saga_owner;
ALTER FUNCTION saga.retry(uuid, text) OWNER TO saga_owner;
ALTER FUNCTION saga.cancel(uuid, text) OWNER TO saga_owner;

-- Services start sagas and run them; they add to the history and never change
-- it; the audit they write through the verbs only.
GRANT SELECT, INSERT ON saga.definition TO saga_app;
GRANT UPDATE (steps, deadline_ms, registered_at) ON saga.definition TO saga_app;
GRANT SELECT, INSERT ON saga.business_key TO saga_app;
GRANT SELECT, INSERT, UPDATE ON saga.instance TO saga_app;
GRANT SELECT, INSERT ON saga.history TO saga_app;
GRANT SELECT ON saga.audit TO saga_app;
GRANT SELECT ON saga.definition, saga.business_key, saga.instance, saga.history, saga.audit
    TO saga_monitor;
REVOKE EXECUTE ON FUNCTION saga.start(text, text, jsonb), saga.overtaken(),
    saga.past_return(saga.instance), saga.ask(uuid, text, text[], text), saga.retry(uuid, text),
    saga.cancel(uuid, text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION saga.start(text, text, jsonb), saga.overtaken(),
    saga.retry(uuid, text), saga.cancel(uuid, text)
    TO saga_app;
GRANT EXECUTE ON FUNCTION saga.past_return(saga.instance) TO saga_app, saga_monitor;
