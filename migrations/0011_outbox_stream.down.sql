-- SPDX-License-Identifier: Apache-2.0
--
-- Forgets what is published: a relay that comes later begins with the oldest message.

DROP FUNCTION outbox.set_streams(integer, boolean);
DROP FUNCTION outbox.stream_of(text, uuid, integer);
DROP TABLE outbox.stream;
