-- SPDX-License-Identifier: Apache-2.0
--
-- The payment service: everybody's money, the shop's included. Zoe has almost none.

CREATE TABLE account (
    owner   text NOT NULL,
    opening bigint NOT NULL,
    cents   bigint NOT NULL CHECK (cents >= 0)
);
INSERT INTO account
VALUES ('shop', 0, 0), ('ann', 5000000000, 5000000000), ('bob', 5000000000, 5000000000),
    ('carol', 5000000000, 5000000000), ('dave', 5000000000, 5000000000), ('zoe', 20000, 20000);

GRANT SELECT, UPDATE ON account TO saga_app;
