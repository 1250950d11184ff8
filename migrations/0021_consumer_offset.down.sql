-- SPDX-License-Identifier: Apache-2.0

DROP TABLE idempotency.consumer_offset;
DROP FUNCTION idempotency.refuse_open_offset();
