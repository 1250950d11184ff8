#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The shipping service of examples/services once more, in Python: books parcels to a place, if anybody goes there, at once.

    shipping.py --database CONNINFO --brokers HOST:PORT [--redis HOST:PORT] [--prefix TEXT] [--kafka NAME=VALUE]...
"""
import argparse

from participant import Participant, Refused

JOURNAL = "INSERT INTO journal (order_id, step, action, what, amount) VALUES (%s, 'ship', %s, %s, %s)"
BOOK = "UPDATE route SET booked = booked + %s WHERE destination = %s"


def ship(db, values):
    if db.execute(BOOK, (int(values["quantity"]), values["destination"])).rowcount == 0:
        raise Refused("nobody ships there")
    db.execute(JOURNAL, (values["order"], "run", values["destination"], values["quantity"]))


def cancel_shipment(db, values):
    db.execute(BOOK, (-int(values["quantity"]), values["destination"]))
    db.execute(JOURNAL, (values["order"], "compensate", values["destination"], values["quantity"]))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--database", required=True)
    arguments.add_argument("--brokers", required=True)
    arguments.add_argument("--redis")
    arguments.add_argument("--prefix", default="")
    arguments.add_argument("--kafka", action="append", default=[])
    given = arguments.parse_args()
    Participant(given.prefix + "shipping", given.prefix + "shipping.commands",
                {"ship": {"run": ship, "compensate": cancel_shipment}}, given.database, given.brokers, given.redis,
                (setting.split("=", 1) for setting in given.kafka)).run()
