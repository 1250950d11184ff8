-- SPDX-License-Identifier: Apache-2.0
--
-- Takes out what is known of consumers.

DROP TABLE outbox.watched;
DROP TABLE outbox.published_range;
