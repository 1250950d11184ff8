-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION idempotency.answer(text, text, integer, bytea);
DROP FUNCTION idempotency.enter(text, text, bytea, integer);
DROP TABLE idempotency.guard;
DROP FUNCTION idempotency.answer(text, uuid, text, text, text, text, jsonb);
DROP FUNCTION idempotency.enter(text, uuid, text, text, uuid);
DROP FUNCTION idempotency.check_name(text, text, text);
DROP FUNCTION idempotency.is_mine(xid);
