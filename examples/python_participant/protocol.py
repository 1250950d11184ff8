# SPDX-License-Identifier: Apache-2.0
"""What docs/protocol.md says of records and marks, in functions that ask nobody."""
import hashlib
import json
import re
from typing import NamedTuple, Optional

UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
NIL = "00000000-0000-0000-0000-000000000000"
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")


class Malformed(Exception):
    """Nobody can handle this record, now or later: it goes to the quarantine."""


class Discarded(Exception):
    """An operator has given this record up: it is passed over."""


class Command(NamedTuple):
    saga_id: str
    definition: str
    step: str
    action: str
    attempt: int
    reply_to: str
    traceparent: Optional[str]


def text_of(value):
    """UTF-8 without NUL; None: it is something else."""
    try:
        return None if value is None or b"\0" in value else value.decode()
    except UnicodeDecodeError:
        return None


def read_headers(headers):
    """Those that are texts. Where one is repeated, the last counts; an empty one is none."""
    texts = {name: text_of(value) for name, value in headers or [] if text_of(value) is not None}
    return {name: text for name, text in texts.items() if text}


def read_id(headers, name):
    if not UUID.fullmatch(headers.get(name, "")) or (name == "message-id" and headers[name] == NIL):
        raise Malformed(f"header {name} is missing or no usable id")
    return headers[name].lower()


def read_command(headers):
    for name in ("saga-definition", "saga-step", "saga-action", "saga-reply-to"):
        if name not in headers:
            raise Malformed(f"header {name} is missing")
    if headers["saga-action"] not in ("run", "compensate"):
        raise Malformed("header saga-action is neither run nor compensate")
    if not TOPIC.fullmatch(headers["saga-reply-to"]) or headers["saga-reply-to"] in (".", ".."):
        raise Malformed("header saga-reply-to is no topic")
    attempt = re.match(r"\s*[+-]?[0-9]{1,4000}", headers.get("saga-attempt", ""), re.ASCII)
    trace = headers.get("traceparent")
    return Command(read_id(headers, "saga-id"), headers["saga-definition"], headers["saga-step"], headers["saga-action"],
                   min(max(int(attempt[0]), 1), 2**31 - 1) if attempt else 1, headers["saga-reply-to"],
                   trace if trace and len(trace.encode()) <= 255 else None)


def read_values(value):
    """A command's value: a JSON object of texts that PostgreSQL can hold, so without NUL and halves of characters."""
    try:
        values = json.loads(value.decode()) if value is not None else None
        if isinstance(values, dict) and all(isinstance(text, str) and "\0" not in text.encode().decode()
                                            for member in values.items() for text in member):
            return values
    except (ValueError, RecursionError):
        pass
    raise Malformed("the payload is not a JSON object of texts")


def payload_hash(key, value):
    """SHA-256 over key and value, each behind its length; that of one that is not there is 2^64 - 1."""
    digest = hashlib.sha256()
    for part in (key, value):
        digest.update((2**64 - 1 if part is None else len(part)).to_bytes(8, "big") + (part or b""))
    return digest.digest()


def quarantined_headers(headers):
    """Name, value, name, value ...; what is no text, or looks as if it were none, as \\x and hexadecimal digits."""
    parts = [part.encode() if isinstance(part, str) else part for header in headers or [] for part in header]
    return [part if part is None else "\\x" + part.hex() if text_of(part) is None or part.startswith(b"\\x")
            else part.decode() for part in parts]


def token(saga_id, message_id, action, step, consumer):
    """What answers this command later, if it is taken in hand."""
    return "/".join((saga_id, message_id, action, step, consumer))


def mark_name(database, consumer, message_id):
    return f"saga:mark:{database}:{consumer}:{message_id}"


def mark_verdict(found, token, sha256):
    """What a mark says of the message: go, busy (somebody else is at it), or done."""
    if found == f"done:{sha256}":
        return "done"
    return "busy" if found and re.fullmatch("busy:.{16}", found, re.DOTALL) and found != f"busy:{token}" else "go"
