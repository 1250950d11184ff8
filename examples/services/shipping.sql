-- SPDX-License-Identifier: Apache-2.0
--
-- The shipping service: how many parcels are booked to each place, and those that were taken in. Nobody sails to Atlantis.

CREATE TABLE route (
    destination text NOT NULL,
    booked      bigint NOT NULL DEFAULT 0 CHECK (booked >= 0)
);
INSERT INTO route
VALUES ('Lima'), ('Oslo'), ('Rome'), ('Tunis');

-- Whoever has the token can answer; without an answer, the parcel waits.
CREATE TABLE parcel (
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    order_id    text NOT NULL,
    destination text NOT NULL,
    quantity    bigint NOT NULL,
    token       text NOT NULL,
    answer      text CHECK (answer IN ('done', 'refused', 'called back'))
);
CREATE INDEX ON parcel (order_id);
CREATE INDEX ON parcel (seq) WHERE answer IS NULL;

GRANT SELECT, UPDATE ON route TO saga_app;
GRANT SELECT, INSERT, UPDATE ON parcel TO saga_app;
