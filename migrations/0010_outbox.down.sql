-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the outbox out, with the messages that are not published yet.

DROP PROCEDURE outbox.enqueue_all(uuid[], text[], text[], text[], bytea[]);
DROP FUNCTION outbox.call_try_rollback();
DROP PROCEDURE outbox.try_rollback();
DROP FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz);
DROP FUNCTION outbox.uuid_v7();
DROP TABLE outbox.message;
