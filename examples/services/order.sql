-- SPDX-License-Identifier: Apache-2.0
--
-- The order service: what customers want, and what became of it.

CREATE TABLE orders (
    id          text NOT NULL,
    customer    text NOT NULL,
    sku         text NOT NULL,
    quantity    integer NOT NULL CHECK (quantity > 0),
    cents       bigint NOT NULL CHECK (cents > 0),
    destination text NOT NULL,
    status      text NOT NULL DEFAULT 'placed' CHECK (status IN ('placed', 'accepted', 'completed', 'cancelled')),
    withdrawn   boolean NOT NULL DEFAULT false,
    placed_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at    timestamptz
);
CREATE INDEX ON orders (id);

GRANT SELECT, INSERT, UPDATE ON orders TO saga_app;
