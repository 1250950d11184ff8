-- SPDX-License-Identifier: Apache-2.0
--
-- The inventory service: what is in stock. There are never enough unicorns.

CREATE TABLE stock (
    sku     text NOT NULL,
    opening bigint NOT NULL,
    free    bigint NOT NULL CHECK (free >= 0)
);
INSERT INTO stock
VALUES ('lamp', 1000000, 1000000), ('chair', 1000000, 1000000), ('desk', 1000000, 1000000), ('unicorn', 5, 5);

GRANT SELECT, UPDATE ON stock TO saga_app;
