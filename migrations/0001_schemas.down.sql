-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the schemas out. Without CASCADE: what later migrations made must be
-- gone by now, and what others have put there is not ours to drop. The roles
-- stay; other databases of the cluster use them.

DROP VIEW outbox.migration;
DROP TABLE saga.migration;
DROP SCHEMA idempotency;
DROP SCHEMA outbox;
DROP SCHEMA saga;
