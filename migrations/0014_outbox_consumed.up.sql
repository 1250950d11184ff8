-- SPDX-License-Identifier: Apache-2.0
--
-- What is known of consumers: where in Kafka messages lie, and how far the
-- groups that the relay is told to watch have committed. Both are empty while
-- no group is watched.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- A range may cover messages that are not in it (of other partitions, for
-- instance), never the other way round: a message has been consumed if every
-- range that covers it has been. Written no later than the cursor passes it.
CREATE TABLE outbox.published_range (
    stream       integer     NOT NULL,
    streams      integer     NOT NULL,
    topic        text        COLLATE "C" NOT NULL,
    partition    integer     NOT NULL,
    first_seq    bigint      NOT NULL,
    last_seq     bigint      NOT NULL,
    first_offset bigint      NOT NULL,
    last_offset  bigint      NOT NULL,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition, first_seq, stream, streams)
);

-- The ranges that cover a seq, and those below the oldest message.
CREATE INDEX published_range_seq ON outbox.published_range
    USING gist (int8range(first_seq, last_seq, '[]'));

COMMENT ON TABLE outbox.published_range IS
    'where in Kafka messages lie; written by outbox-relay while it watches consumer groups';
COMMENT ON COLUMN outbox.published_range.stream IS 'stream of the messages';
COMMENT ON COLUMN outbox.published_range.streams IS 'how many streams there were';
COMMENT ON COLUMN outbox.published_range.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.published_range.partition IS 'and its partition';
COMMENT ON COLUMN outbox.published_range.first_seq IS 'no message of the range has a lower seq';
COMMENT ON COLUMN outbox.published_range.last_seq IS 'and none a higher one';
COMMENT ON COLUMN outbox.published_range.first_offset IS 'offset of the first';
COMMENT ON COLUMN outbox.published_range.last_offset IS
    'offset of the last; 9223372036854775807: Kafka did not tell';
COMMENT ON COLUMN outbox.published_range.at IS
    'when it was begun; within the next second it may still grow';

CREATE TABLE outbox.watched (
    group_name text        NOT NULL,
    topic      text        COLLATE "C" NOT NULL,
    partition  integer     NOT NULL,
    committed  bigint      NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, group_name, partition)
);

COMMENT ON TABLE outbox.watched IS
    'how far consumer groups have committed; written by outbox-relay for the groups in its setting "watch"';
COMMENT ON COLUMN outbox.watched.group_name IS 'consumer group of Kafka';
COMMENT ON COLUMN outbox.watched.topic IS 'topic of Kafka';
COMMENT ON COLUMN outbox.watched.partition IS 'and its partition';
COMMENT ON COLUMN outbox.watched.committed IS 'records before this offset have been consumed';
COMMENT ON COLUMN outbox.watched.at IS 'when the relay saw it';

ALTER TABLE outbox.published_range OWNER TO saga_owner;
ALTER TABLE outbox.watched OWNER TO saga_owner;

GRANT SELECT, INSERT, UPDATE, DELETE ON outbox.published_range, outbox.watched TO saga_relay;
GRANT SELECT ON outbox.published_range, outbox.watched TO saga_monitor;
