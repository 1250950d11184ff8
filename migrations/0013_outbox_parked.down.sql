-- SPDX-License-Identifier: Apache-2.0
--
-- Drops what is parked, and who has done what about it. Published it never was.

DROP FUNCTION outbox.discard(uuid, text);
DROP FUNCTION outbox.retry(text, text, text);
DROP FUNCTION outbox.check_reason(text);
DROP TABLE outbox.audit;
DROP TABLE outbox.parked_key;
DROP TABLE outbox.parked;
