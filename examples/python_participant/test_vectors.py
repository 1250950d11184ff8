#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
The Python participant against test/vectors:  test_vectors.py --database CONNINFO (an administrator's, migrated)
"""
import argparse
import json
import pathlib

import psycopg

import participant
import protocol

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "test" / "vectors"


def each(file):
    document = json.loads((VECTORS / file).read_text())
    for vector in document["vectors"]:
        yield vector, document


def raw(value):
    return value if value is None else bytes.fromhex(value["hex"]) if isinstance(value, dict) else value.encode()


def expect(vector, seen, expected):
    assert seen == expected, f"{vector.get('name', vector)}: {seen!r} instead of {expected!r}"


def refused(function, *arguments):
    """Why the function refuses; None if it does not."""
    try:
        function(*arguments)
    except protocol.Malformed as malformed:
        return str(malformed)


def test_ids():
    for vector, _ in each("id.json"):
        header = {"saga-id": vector["text"]}
        if "refused" in vector:
            expect(vector, refused(protocol.read_id, header, "saga-id") is not None, True)
        else:
            expect(vector, protocol.read_id(header, "saga-id"), vector["id"])


def test_hashes():
    for vector, _ in each("hash.json"):
        expect(vector, protocol.payload_hash(raw(vector["key"]), raw(vector["value"])).hex(), vector["sha256"])


def test_marks():
    for vector, _ in each("mark.json"):
        if "mark" in vector:
            expect(vector, protocol.mark_name(**vector["mark"]), vector["key"])
        else:
            seen = protocol.mark_verdict(vector["found"], vector["token"], vector["sha256"])
            expect(vector, seen, vector["verdict"])


def test_commands():
    def read(record):
        headers = protocol.read_headers(record)
        return {"message_id": protocol.read_id(headers, "message-id"), **protocol.read_command(headers)._asdict()}

    for vector, _ in each("command.json"):
        record = [(name, raw(value)) for name, value in vector["headers"]]
        if "refused" in vector:
            expect(vector, vector["refused"] in (refused(read, record) or "nothing"), True)
        else:
            expect(vector, read(record), vector["command"])


def test_values():
    for vector, _ in each("value.json"):
        if "refused" in vector:
            expect(vector, refused(protocol.read_values, raw(vector["value"])) is not None, True)
        else:
            expect(vector, protocol.read_values(raw(vector["value"])), vector["values"])


class Record:
    """What is asked of one of Kafka's."""
    offsets = 0

    def __init__(self, headers, key, value):
        Record.offsets += 1
        self.topic, self.partition, self.offset = (lambda: "commands"), (lambda: 0), (lambda at=Record.offsets: at)
        self.headers = lambda: [(name, raw(text)) for name, text in headers.items()]
        self.key, self.value = (lambda: key.encode()), (lambda: raw(value))


class Scripted:
    """The function that a vector describes."""
    def __init__(self, does, action):
        self.does, self.action, self.calls = does, action, 0

    def __call__(self, db, _values):
        self.calls += 1
        db.execute("INSERT INTO effect VALUES (%s)", (self.action,))
        if "refused" in self.does:
            raise participant.Refused(self.does["refused"])
        if "later" in self.does:
            raise participant.Later(self.does["later"])
        if "waits" in self.does:
            return participant.Waits(self.does["waits"])
        return self.does["done"]


def deliver(shop, db, delivery, document):
    headers = {**document["common"], **delivery["headers"]}
    script = Scripted(delivery["does"] or {"done": {}}, headers["saga-action"])
    shop.steps = {"scripted": {"run": script, "compensate": script}}
    shop.quarantined = 0
    record = Record(headers, headers["saga-id"], delivery.get("value", document["value"]))
    if "discarded" in delivery:
        db.execute(participant.RECEIVE, (shop.consumer, headers["message-id"],
                                         protocol.payload_hash(record.key(), record.value()), "commands", 0, 0))
        db.execute("INSERT INTO idempotency.audit (verb, consumer, message_id, reason) VALUES ('discard', %s, %s, 'no')",
                   (shop.consumer, headers["message-id"]))
    try:
        shop.handle(record)
    except participant.Later:
        shop.connection.rollback()
    expect(delivery, shop.quarantined, int(delivery.get("quarantined", False)))
    expect(delivery, script.calls, int(delivery["does"] is not None))


def answer(shop, db, late):
    """An answer that comes later, in a transaction of its own."""
    error = None
    try:
        with db.transaction():
            participant.reply_later(db, late["token"] + shop.consumer, late["outcome"], late["reason"], late["values"])
    except psycopg.Error as failure:
        error = failure.sqlstate
    expect(late, error, late.get("error"))


def last_reply(db):
    topic, key, lines, payload = db.execute(
        "SELECT topic, key, headers, payload FROM outbox.message ORDER BY seq DESC LIMIT 1").fetchone()
    headers = dict(line.split(": ", 1) for line in lines.split("\n"))
    return {"topic": topic, "key": key, "headers": headers, "value": json.loads(payload)}, (headers["saga-action"], payload)


def count(db, of):
    return db.execute(f"SELECT count(*) FROM {of}").fetchone()[0]


def test_sequences(shop):
    db = shop.connection
    db.execute("CREATE TABLE effect (action text)")
    for vector, document in each("participant.json"):
        for table in ("effect", "outbox.message", "idempotency.barrier", "idempotency.inbox_foreign"):
            db.execute(f"DELETE FROM {table}")
        db.execute("SELECT setval('idempotency.barrier_mark', 0)")
        first_bytes = {}
        for delivery in vector["deliveries"]:
            if "forget_before" in delivery:
                db.execute("SELECT setval('idempotency.barrier_mark', %s)", (delivery["forget_before"],))
            before = count(db, "outbox.message")
            if "token" in delivery:
                answer(shop, db, delivery)
            else:
                deliver(shop, db, delivery, document)
            expect(vector, count(db, "outbox.message") - before, int(delivery["reply"] is not None))
            if delivery["reply"] is not None:
                reply, (action, payload) = last_reply(db)
                expect(vector, reply, delivery["reply"])
                expect(vector, first_bytes.setdefault(action, payload), payload)
        expect(vector, {action: count(db, f"effect WHERE action = '{action}'") for action in ("run", "compensate")},
               vector["effects"])


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--database", required=True)
    shop = participant.Participant("vectors", "commands", {}, arguments.parse_args().database, "127.0.0.1:1")
    shop.connect()
    shop.offsets["commands", 0] = None
    for test in (test_ids, test_hashes, test_marks, test_commands, test_values):
        test()
    test_sequences(shop)
    print("all vectors hold")
