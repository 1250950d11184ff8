-- SPDX-License-Identifier: Apache-2.0
--
-- The shipping service: how many parcels are booked to each place. Nobody sails to Atlantis.

CREATE TABLE route (
    destination text NOT NULL,
    booked      bigint NOT NULL DEFAULT 0 CHECK (booked >= 0)
);
INSERT INTO route
VALUES ('Lima'), ('Oslo'), ('Rome'), ('Tunis');

GRANT SELECT, UPDATE ON route TO saga_app;
