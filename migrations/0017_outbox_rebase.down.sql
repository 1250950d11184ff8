-- SPDX-License-Identifier: Apache-2.0
--
-- Takes the way out of a restore away.

DROP FUNCTION outbox.rebase(boolean);
DROP FUNCTION outbox.rebase_rows(pg_snapshot, boolean);
DROP FUNCTION outbox.rebase_copied(pg_snapshot);
DROP FUNCTION outbox.rebase_why(pg_snapshot);
DROP FUNCTION outbox.rebase_top();
