-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the delayed messages out, with those that are not due yet.

DROP FUNCTION outbox.deliver_due(integer, timestamptz, bigint);
DROP TABLE outbox.delayed;
