-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the outbox's views out.

DROP FUNCTION outbox.where_in_kafka(uuid);
DROP FUNCTION outbox.show(uuid, boolean);
DROP FUNCTION outbox.as_text(bytea);
DROP FUNCTION outbox.seqs_of(uuid);
DROP VIEW outbox.status;
DROP VIEW outbox.local_messages;
DROP VIEW outbox.published;
DROP VIEW outbox.pending;
