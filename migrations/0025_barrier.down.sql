-- SPDX-License-Identifier: Apache-2.0

DROP TABLE idempotency.barrier;
DROP SEQUENCE idempotency.barrier_mark;
