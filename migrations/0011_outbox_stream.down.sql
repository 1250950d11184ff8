-- SPDX-License-Identifier: Apache-2.0
--
-- Forgets what is published: a relay that comes later begins with the oldest message.

DROP TABLE outbox.stream;
