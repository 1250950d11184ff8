-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the cleaning up out; messages stay where they are.

DROP FUNCTION outbox.clean_up(bigint, integer);
DROP VIEW outbox.slots;
