-- SPDX-License-Identifier: Apache-2.0

DROP VIEW idempotency.waiting;
DROP FUNCTION idempotency.reply(text, text, text, jsonb);
DROP FUNCTION idempotency.wait(text, uuid, text, text, text, text, jsonb);
