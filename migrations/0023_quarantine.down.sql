-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION idempotency.reject(bigint, text);
DROP FUNCTION idempotency.release(bigint, text);
DROP FUNCTION idempotency.remember(idempotency.quarantine);
DROP FUNCTION idempotency.settle(bigint, text, text, text);
DROP TABLE idempotency.quarantine;
