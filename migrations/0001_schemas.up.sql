-- SPDX-License-Identifier: Apache-2.0
--
-- Roles, schemas and the book of applied migrations. What lies in the schemas
-- is made by later migrations; who may log in is the administrator's business:
--
--     GRANT saga_app TO order_service;
--
-- Roles belong to the cluster and are shared by all its databases, so another
-- database's migration may create them at the same moment, and no .down.sql
-- drops them.

DO $$
DECLARE
    role text;
    missing text := '';
BEGIN
    FOREACH role IN ARRAY ARRAY['saga_owner', 'saga_app', 'saga_relay', 'saga_monitor'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role);
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION
            -- Somebody was quicker: seen at once, or after waiting for his commit.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                missing := missing || pg_catalog.format('CREATE ROLE %I NOLOGIN; ', role);
        END;
    END LOOP;
    IF missing <> '' THEN
        RAISE insufficient_privilege USING MESSAGE = pg_catalog.format(
            'user "%s" may not create roles; an administrator must run: %sGRANT saga_owner TO %I;',
            current_user, missing, current_user);
    END IF;
END
$$;

-- Everything belongs to saga_owner, not to whoever happens to migrate: the next
-- migration may be another administrator's, and a function that runs with its
-- owner's rights should not run with a superuser's.
DO $$
BEGIN
    -- From 16 on, who has created the role is a member who may not become it, and may grant himself that.
    IF NOT pg_catalog.pg_has_role(current_user, 'saga_owner',
            CASE WHEN pg_catalog.current_setting('server_version_num')::integer >= 160000
                 THEN 'SET' ELSE 'MEMBER' END) THEN
        EXECUTE pg_catalog.format('GRANT saga_owner TO %I', current_user);
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE insufficient_privilege USING MESSAGE = pg_catalog.format(
            'user "%s" is no member of saga_owner, which is to own the schema; an administrator '
            'must run: GRANT saga_owner TO %I;', current_user, current_user);
END
$$;

CREATE SCHEMA saga AUTHORIZATION saga_owner;
CREATE SCHEMA outbox AUTHORIZATION saga_owner;
CREATE SCHEMA idempotency AUTHORIZATION saga_owner;

-- A member that does not inherit has to become the owner before he may do more.
DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

COMMENT ON SCHEMA saga IS 'sagas: definitions, instances, their history, and what operators did';
COMMENT ON SCHEMA outbox IS
    'messages written in the transaction of the business change, published to Kafka by outbox-relay';
COMMENT ON SCHEMA idempotency IS 'which messages were handled, and how they were answered';

-- The relay has nothing to look for outside the outbox.
GRANT USAGE ON SCHEMA saga, outbox, idempotency TO saga_app, saga_monitor;
GRANT USAGE ON SCHEMA outbox TO saga_relay;

CREATE TABLE saga.migration (
    number integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    position bigint GENERATED ALWAYS AS IDENTITY,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text NOT NULL DEFAULT session_user
);
ALTER TABLE saga.migration OWNER TO saga_owner;
COMMENT ON TABLE saga.migration IS 'migrations that are applied; written by "sagactl migrate" only';
COMMENT ON COLUMN saga.migration.number IS 'the number that the file''s name begins with';
COMMENT ON COLUMN saga.migration.name IS 'the file''s name, without .up.sql';
COMMENT ON COLUMN saga.migration.sha256 IS 'of the .up.sql file, as it was applied';
COMMENT ON COLUMN saga.migration.position IS 'order of application; the highest is undone first';
COMMENT ON COLUMN saga.migration.applied_at IS 'when';
COMMENT ON COLUMN saga.migration.applied_by IS 'the login that did it';
GRANT SELECT ON saga.migration TO saga_app, saga_monitor;

-- The relay has no business in the other schema.
CREATE VIEW outbox.migration AS SELECT number, name FROM saga.migration;
ALTER VIEW outbox.migration OWNER TO saga_owner;
COMMENT ON VIEW outbox.migration IS
    'saga.migration for all roles: by it programs tell that the database is newer than they are';
GRANT SELECT ON outbox.migration TO saga_app, saga_relay, saga_monitor;
