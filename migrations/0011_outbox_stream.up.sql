-- SPDX-License-Identifier: Apache-2.0
--
-- How far the outbox is published, and which relay does it: the relay's cursor
-- and lease.

DO $$ BEGIN PERFORM pg_catalog.set_config('role', 'saga_owner', true); END $$;

-- One row for each stream of the outbox; in this version there is one.
-- Updated all the time: room for the new versions on the same page.
CREATE TABLE outbox.stream (
    stream            integer     PRIMARY KEY CHECK (stream = 0),

    prev              pg_snapshot NOT NULL,
    floor_seq         bigint      NOT NULL,
    floor_xid         xid8        NOT NULL,
    cur               pg_snapshot,
    cur_floor_seq     bigint,
    cur_floor_xid     xid8,
    last_seq          bigint      NOT NULL DEFAULT 0,

    owner             uuid,
    epoch             bigint      NOT NULL DEFAULT 0,
    lease_until       timestamptz NOT NULL DEFAULT '-infinity',

    system_identifier bigint,
    timeline          integer,

    CONSTRAINT stream_pair CHECK ((cur IS NULL) = (cur_floor_seq IS NULL)
                                  AND (cur IS NULL) = (cur_floor_xid IS NULL)
                                  AND (cur IS NOT NULL OR last_seq = 0))
) WITH (fillfactor = 20);

COMMENT ON TABLE outbox.stream IS
    'how far the outbox is published, and which relay does it; written by outbox-relay only';
COMMENT ON COLUMN outbox.stream.stream IS 'number of the stream';
COMMENT ON COLUMN outbox.stream.prev IS 'everything that this snapshot shows is published';
COMMENT ON COLUMN outbox.stream.floor_seq IS
    'rows up to this seq that prev does not show are found by their xid';
COMMENT ON COLUMN outbox.stream.floor_xid IS
    'transactions with a later xid write only seqs above floor_seq';
COMMENT ON COLUMN outbox.stream.cur IS
    'set while the rows that it shows and prev does not are being published';
COMMENT ON COLUMN outbox.stream.cur_floor_seq IS 'floor_seq, once cur becomes prev';
COMMENT ON COLUMN outbox.stream.cur_floor_xid IS 'floor_xid, once cur becomes prev';
COMMENT ON COLUMN outbox.stream.last_seq IS
    'of the rows being published, those up to this seq are acknowledged';
COMMENT ON COLUMN outbox.stream.owner IS 'the relay that publishes; random for each start';
COMMENT ON COLUMN outbox.stream.epoch IS 'raised with each new owner';
COMMENT ON COLUMN outbox.stream.lease_until IS
    'when the owner counts as gone unless it renews, by this database''s clock';
COMMENT ON COLUMN outbox.stream.system_identifier IS 'of the cluster that all the xids belong to';
COMMENT ON COLUMN outbox.stream.timeline IS 'of that cluster, when the owner took over';

-- Nothing is published yet, whatever transactions are running by now.
INSERT INTO outbox.stream (stream, prev, floor_seq, floor_xid) VALUES (0, '3:3:', 0, '3');

ALTER TABLE outbox.stream OWNER TO saga_owner;

-- The relay moves the cursor.
GRANT SELECT, UPDATE ON outbox.stream TO saga_relay;
GRANT SELECT ON outbox.stream TO saga_monitor;
