-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION idempotency.clean_up(integer, integer);
DROP FUNCTION idempotency.raise_marks();
DROP FUNCTION idempotency.delete_old(integer);
DROP FUNCTION idempotency.empty_slot(integer, integer, integer);
DROP FUNCTION idempotency.slot_is_old(integer, integer);
DROP FUNCTION idempotency.keep(text, interval, text);
DROP VIEW idempotency.horizon;
DROP TABLE idempotency.retention;
