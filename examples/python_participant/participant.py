# SPDX-License-Identifier: Apache-2.0
"""
A participant of others' sagas: takes commands from Kafka, and gives each its one answer (docs/protocol.md).

Owns the transaction, the offsets and the marks. What is done and undone is given to it: see shipping.py.
"""
import json
import secrets
import signal
import sys
import time

import confluent_kafka
import psycopg
import redis

import protocol

BUSY_S, LEASE_MS, WINDOW_MS, REDIS_S, RETRY_FIRST_S, RETRY_LONGEST_S = 0.05, 30000, 300000, 0.02, 0.05, 1.0

# What commits must survive whatever comes after. "off" and "local" promise less; the others as much, or more.
DURABLE = """SELECT set_config('synchronous_commit', 'on', true)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')"""
# The transaction of a process that was stopped would hold the rows, and with them its successor.
SESSION = """SELECT set_config('idle_in_transaction_session_timeout', '60s', false),
    set_config('lock_timeout', '10s', false)"""
CLEAN_UP, CLEAN_UP_S = "SELECT idempotency.clean_up()", 3600
RECEIVE = """SELECT verdict FROM idempotency.receive(%s, ARRAY[%s::uuid], ARRAY[%s::bytea], ARRAY[%s],
    ARRAY[%s::int], ARRAY[%s::bigint])"""
ENTER = "SELECT verdict, outcome, reason, reply FROM idempotency.enter(%s, %s, %s, %s, %s)"
ANSWER = "SELECT idempotency.answer(%s, %s, %s, %s, %s, %s, %s)"
DISCARDED = "SELECT FROM idempotency.audit WHERE verb = 'discard' AND (consumer, message_id) = (%s, %s)"
WAIT = "SELECT idempotency.wait(%s, %s, %s, %s, %s, %s, %s)"
REPLY_LATER = "SELECT idempotency.reply(%s, %s, %s, %s)"
REPLY = "SELECT outbox.enqueue(%s, convert_to(%s, 'UTF8'), %s, %s)"
QUARANTINE = """INSERT INTO idempotency.quarantine (consumer, reason, message_id, topic, partition, "offset", hash, key,
    payload, headers) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
OFFSET = "SELECT next_offset FROM idempotency.consumer_offset WHERE (consumer, topic, partition) = (%s, %s, %s)"
MOVE_OFFSET = """UPDATE idempotency.consumer_offset SET next_offset = %s, updated_at = clock_timestamp()
    WHERE (consumer, topic, partition, next_offset) = (%s, %s, %s, %s)"""
FIRST_OFFSET = """INSERT INTO idempotency.consumer_offset (next_offset, consumer, topic, partition)
    VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"""
DATABASE = """SELECT concat_ws('.', (SELECT system_identifier FROM pg_control_system()),
    substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),
    (SELECT oid FROM pg_database WHERE datname = current_database()))"""
NEVER = {"other": "same id, other contents", "below": "its id is older than what the inbox still knows",
         "future": "its id is from the future"}


class Refused(Exception):
    """A business reason not to run a step. It is final, and undoes what the function has written."""


class Later(Exception):
    """No final answer: everything is rolled back, and the command comes again."""


class Waits(dict):
    """What a function returns that has taken the command in hand: it will be answered by reply_later()."""


class Values(dict):
    """The saga's values, and the token that a function writes down to answer later."""
    token = None


def reply_later(db, token, outcome="done", reason=None, values=None):
    """Answers a command that waits, inside the caller's transaction, in any process. False: it was answered so before.
    SQLSTATE SG003: the step was compensated before, and what this tells of may have to be undone."""
    return db.execute(REPLY_LATER, (token, outcome, reason, json.dumps(values or {}))).fetchone()[0]


class Participant:
    """`steps`: name -> {"run": function, "compensate": function}. A function gets a cursor inside the transaction and the
    saga's values; what it returns, a dict of texts or None, is merged into them. Waits(...): see there."""

    def __init__(self, consumer, topic, steps, database, brokers, redis_address=None, properties=()):
        self.consumer, self.topic, self.steps, self.conninfo = consumer, topic, steps, database
        self.settings = {"bootstrap.servers": brokers, "group.id": consumer, "enable.auto.commit": False,
                         "auto.offset.reset": "earliest", **dict(properties)}
        self.kafka = self.connection = self.redis = None
        self.offsets = {}  # (topic, partition) -> what PostgreSQL has; None: no row
        self.applied = self.suppressed = self.quarantined = self.failures = 0
        self.cleaned_up_at, self.stopped, self.token = -CLEAN_UP_S, False, secrets.token_hex(8)
        if redis_address:
            host, _, port = redis_address.rpartition(":")
            self.redis = redis.Redis(host, int(port), decode_responses=True, retry=None,
                                     socket_timeout=REDIS_S, socket_connect_timeout=REDIS_S)

    def log(self, *words):
        print(time.strftime("%H:%M:%S", time.gmtime()), f"{self.consumer}:", *words, file=sys.stderr, flush=True)

    # --- one record ------------------------------------------------------------------------------------------------

    def answer(self, db, record, message_id, sha256):
        """Inbox, barrier, function, stored answer, reply. Returns whether the record came for the first time."""
        db.execute(RECEIVE, (self.consumer, message_id, sha256, record.topic(), record.partition(), record.offset()))
        verdict = db.fetchone()[0]
        if verdict in NEVER:
            raise protocol.Malformed(NEVER[verdict])
        command = protocol.read_command(protocol.read_headers(record.headers()))
        function = self.steps.get(command.step, {}).get(command.action)
        if function is None:
            raise protocol.Malformed(f"no step '{command.step}' that could be asked to {command.action}")
        values = Values(protocol.read_values(record.value()))
        values.token = protocol.token(command.saga_id, message_id, command.action, command.step, self.consumer)
        key = (self.consumer, command.saga_id, command.step, command.action)
        entered, outcome, reason, reply = db.execute(ENTER, (*key, message_id)).fetchone()
        if entered == "enter":
            if verdict == "duplicate":
                if db.execute(DISCARDED, (self.consumer, message_id)).fetchone() is not None:
                    raise protocol.Discarded
                raise protocol.Malformed("this command was answered before, and the barrier has lost the answer")
            outcome, reason, values = self.call(db, function, values, command.action)
            if isinstance(values, Waits):
                db.execute(WAIT, (*key, command.reply_to, command.traceparent, json.dumps(values)))
                return verdict == "fresh"
            reply = db.execute(ANSWER, (*key, outcome, reason, json.dumps(values))).fetchone()[0]
        elif entered == "waiting":
            return verdict == "fresh"  # it is in hand, and reply_later() will answer
        elif entered != "answered":
            raise Later(f"the barrier says '{entered}', which is new to this version")
        headers = {"saga-id": command.saga_id, "saga-step": command.step, "saga-action": command.action,
                   "saga-outcome": outcome, "saga-reason": reason, "traceparent": command.traceparent}
        headers = json.dumps({name: text for name, text in headers.items() if text is not None})
        db.execute(REPLY, (command.reply_to, reply, command.saga_id, headers))
        return verdict == "fresh"

    def call(self, db, function, values, action):
        try:
            with db.connection.transaction():  # a savepoint: a refusal undoes the function's rows, not the barrier's
                answer = function(db, values)
                return "done", None, {} if answer is None else answer
        except Refused as refusal:
            if action == "compensate":
                raise Later(f"refuses to be undone: {refusal}") from None
            return "refused", str(refusal).encode()[:255].decode(errors="ignore") or "refused without a reason", {}

    def transact(self, record, message_id, sha256, flaw=None, skip=False):
        """One attempt. When it returns, it has committed."""
        place, after = (record.topic(), record.partition()), record.offset() + 1
        with self.connection.cursor() as db:
            db.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
            db.execute(DURABLE)
            if flaw:
                db.execute(QUARANTINE, (self.consumer, flaw, message_id, *place, record.offset(), sha256, record.key(),
                                        record.value(), protocol.quarantined_headers(record.headers())))
            is_new = not flaw and not skip and self.answer(db, record, message_id, sha256)
            if self.offsets[place] is None:
                db.execute(FIRST_OFFSET, (after, self.consumer, *place))
            else:
                db.execute(MOVE_OFFSET, (after, self.consumer, *place, self.offsets[place]))
            if db.rowcount != 1:
                raise Later("the offset is not where we left it: somebody else has the partition")
            if db.execute("COMMIT").statusmessage != "COMMIT":  # a refused one is answered ROLLBACK, and no error
                raise Later("the transaction was rolled back")
        self.offsets[place] = after
        return is_new

    def handle(self, record):
        message_id, sha256 = None, protocol.payload_hash(record.key(), record.value())
        try:
            message_id = protocol.read_id(protocol.read_headers(record.headers()), "message-id")
            self.wait_while_busy(message_id, sha256)
            is_new = self.transact(record, message_id, sha256)
        except protocol.Discarded:
            self.connection.rollback()
            is_new = self.transact(record, message_id, sha256, skip=True)
        except protocol.Malformed as malformed:
            self.connection.rollback()
            self.transact(record, message_id, sha256, str(malformed))
            self.quarantined += 1
            self.log("a message went to the quarantine:", malformed)
            return
        self.applied, self.suppressed = self.applied + is_new, self.suppressed + (not is_new)
        self.mark(message_id, "done:" + sha256.hex(), px=WINDOW_MS)

    # --- marks: a hint that somebody is at it; none of them lets a command be skipped ----------------------------------

    def mark(self, message_id, text, **options):
        try:
            name = protocol.mark_name(self.database, self.consumer, message_id)
            return self.redis.set(name, text, **options) if self.redis else None
        except redis.RedisError:
            return None  # the database knows

    def wait_while_busy(self, message_id, sha256):
        found = self.mark(message_id, "busy:" + self.token, nx=True, get=True, px=LEASE_MS)
        if protocol.mark_verdict(found, self.token, sha256.hex()) == "busy":
            time.sleep(BUSY_S)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def connect(self):
        if self.connection is None or self.connection.closed:
            self.connection = psycopg.connect(self.conninfo, autocommit=True)  # BEGIN and COMMIT are ours
            self.connection.execute(SESSION)
            self.database = self.connection.execute(DATABASE).fetchone()[0]

    def starts(self, places):
        """Where to read from: Kafka's offset; PostgreSQL's where that is behind, because then commits were lost."""
        self.connect()
        for place in self.kafka.committed(places, timeout=10):
            row = self.connection.execute(OFFSET, (self.consumer, place.topic, place.partition)).fetchone()
            self.offsets[place.topic, place.partition] = row and row[0]
            if place.offset > 0 and (row is None or row[0] < place.offset):
                place.offset = row[0] if row else -1
            if place.offset < 0:
                place.offset = confluent_kafka.OFFSET_BEGINNING
            yield place

    def assigned(self, kafka, places):
        self.log("partitions assigned:", *(place.partition for place in places))
        kafka.assign(list(self.starts(places)))

    def begin_again(self):
        """All partitions from what is committed; not faster than the database can bear."""
        self.failures += 1
        time.sleep(min(RETRY_FIRST_S * 2**min(self.failures, 9), RETRY_LONGEST_S))
        self.connection.close()
        while not self.stopped:
            try:
                return self.kafka.assign(list(self.starts(self.kafka.assignment())))
            except psycopg.OperationalError:
                time.sleep(RETRY_LONGEST_S)

    def step(self):
        record = self.kafka.poll(0.5)
        if record is not None and record.error():
            return
        try:
            if time.monotonic() - self.cleaned_up_at > CLEAN_UP_S:
                self.connection.execute(CLEAN_UP)
                self.cleaned_up_at = time.monotonic()
            if record is None:
                return
            self.handle(record)
            self.kafka.commit(record, asynchronous=True)
            self.failures = 0
        except Exception as error:  # whatever it is, it is no final answer
            self.log("a message was rolled back; it comes again:", type(error).__name__, str(error).strip())
            self.begin_again()

    def run(self):
        def stop(*_):
            self.stopped = True
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        self.connect()
        self.kafka = confluent_kafka.Consumer(self.settings)
        self.kafka.subscribe([self.topic], on_assign=self.assigned)
        while not self.stopped:
            self.step()
        self.kafka.close()
        print("applied", self.applied, "suppressed", self.suppressed, "quarantined", self.quarantined)
