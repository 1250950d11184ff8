-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the cleaning up out; messages stay where they are.

DROP FUNCTION outbox.clean_up(bigint, integer);
DROP FUNCTION outbox.slot_is_published(smallint);
DROP VIEW outbox.slots;
