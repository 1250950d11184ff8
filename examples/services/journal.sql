-- SPDX-License-Identifier: Apache-2.0
--
-- In every service's database: one row for each time a step was done or undone. There is no unique key on purpose: the
-- library promises that an effect happens once, and a key would hide it if it did not.

CREATE TABLE journal (
    seq      bigint GENERATED ALWAYS AS IDENTITY,
    order_id text NOT NULL,
    step     text NOT NULL,
    action   text NOT NULL CHECK (action IN ('run', 'compensate')),
    what     text NOT NULL,
    amount   bigint NOT NULL,
    done_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX ON journal (order_id);

GRANT SELECT, INSERT ON journal TO saga_app;
