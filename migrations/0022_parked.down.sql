-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION idempotency.discard(text, uuid, text);
DROP FUNCTION idempotency.retry_all(text, text, text);
DROP FUNCTION idempotency.retry(text, text, bytea, text);
DROP FUNCTION idempotency.park_again(bigint, text);
DROP FUNCTION idempotency.take_retried(text, text[], integer);
DROP FUNCTION idempotency.park(text, text, bytea, uuid, bytea, integer, bigint, text[], bytea, text,
                               integer);
DROP FUNCTION idempotency.note(text, text, text, bytea, uuid, text);
DROP TABLE idempotency.audit;
DROP TABLE idempotency.parked_key;
DROP TABLE idempotency.parked;
