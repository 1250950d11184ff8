-- SPDX-License-Identifier: Apache-2.0

DROP TABLE idempotency.quarantine;
DROP TABLE idempotency.consumer_offset;
DROP TABLE idempotency.inbox;
