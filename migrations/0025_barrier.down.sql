-- SPDX-License-Identifier: Apache-2.0

DROP TABLE idempotency.barrier;
DROP FUNCTION idempotency.start_of(uuid);
DROP SEQUENCE idempotency.barrier_mark;
