-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the outbox out, with the messages that are not published yet.

DROP PROCEDURE outbox.enqueue_all(boolean, uuid[], text[], text[], text[], bytea[], timestamptz[]);
DROP PROCEDURE outbox.enqueue_one(boolean, uuid, text, text, text, bytea, timestamptz);
DROP PROCEDURE outbox.demand_transaction();
DROP FUNCTION outbox.call_try_rollback();
DROP PROCEDURE outbox.try_rollback();
DROP FUNCTION outbox.enqueue(text, bytea, text, jsonb, uuid, timestamptz);
DROP FUNCTION outbox.uuid_v7(timestamptz);
DROP TABLE outbox.message;
DROP SEQUENCE outbox.message_slot;
DROP DOMAIN outbox.message_id;
DROP DOMAIN outbox.message_topic;
DROP DOMAIN outbox.message_key;
DROP DOMAIN outbox.message_headers;
DROP DOMAIN outbox.message_payload;
