-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION idempotency.known(text, uuid[], boolean);
DROP FUNCTION idempotency.receive(text, uuid[], bytea[], text[], integer[], bigint[]);
DROP FUNCTION idempotency.received(text, uuid[], bytea[], uuid[], integer, integer);
DROP TABLE idempotency.inbox_foreign;
DROP TABLE idempotency.inbox;
DROP SEQUENCE idempotency.inbox_mark;
DROP FUNCTION idempotency.day_of(bytea);
DROP DOMAIN idempotency.consumer;
