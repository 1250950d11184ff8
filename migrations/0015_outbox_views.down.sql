-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the outbox's views out.

DROP VIEW outbox.local_messages;
DROP VIEW outbox.published;
DROP VIEW outbox.pending;
