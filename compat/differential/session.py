"""Recorded sessions of stock clients, kept as files, and played again.

What a broker gives out (topic ids, member ids, fetch sessions) is another thing each time it is asked: while a session
is played, the ids of the recorded answers are matched with those of the new ones, and replaced in the requests that
follow.
"""

import base64
import gzip
import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from normalise import MEMBER, UUID
from probe import Probe, decode_response
from relay import Exchange

from kafkapy.protocol.header import decode_request_header, encode_request_header
from kafkapy.protocol.messages import request_class

FOLDER = Path(__file__).resolve().parent / "sessions"
FETCH, METADATA, LIST_GROUPS, CREATE_TOPICS = 1, 3, 16, 19
# Every name that a recorded client uses holds this mark, which gives way to another of its length.
MARK = b"recorded-session"


def save(name: str, exchanges: list[Exchange]) -> None:
    """Keep a session; the same exchanges give the same bytes."""
    FOLDER.mkdir(exist_ok=True)
    rows = [[e.connection, text(e.request), text(e.answer)] for e in exchanges]
    (FOLDER / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode(), mtime=0))


def load(path: Path) -> list[Exchange]:
    rows = json.loads(gzip.decompress(path.read_bytes()))
    return [Exchange(number, base64.b64decode(request), base64.b64decode(answer)) for number, request, answer in rows]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def play(exchanges: list[Exchange], probe: Probe, mark: str, created: Callable[[], None]) -> None:
    """Every request of the session, one after the other; the answers go into the probe's trace.

    `created` is called when topics were created: it waits until the broker serves them.
    """
    ids: dict[bytes, bytes] = {MARK: mark.encode()}
    fetch_sessions: dict[int, int] = {}
    probes: dict[int, Probe] = {}
    try:
        for exchange in exchanges:
            speaker = probes.setdefault(exchange.connection, Probe(probe.host, probe.port))
            key, version = exchange.api
            request = exchange.request
            for old, new in ids.items():
                request = request.replace(old, new)
            if key == FETCH:
                request = with_session(request, version, fetch_sessions)
            answer = speaker.call_raw(key, version, request, note=False)
            if key == CREATE_TOPICS:
                created()
            match(decode_response(key, version, exchange.answer), answer, ids, fetch_sessions)
            said = {"request": f"{key} v{version}", **answer}
            for shown, name in (("topics", "name"), ("groups", "group_id")):
                if key in (METADATA, LIST_GROUPS) and shown in said:  # whatever else this broker holds
                    said[shown] = [entry for entry in said[shown] if mark in (entry[name] or "")]
            probe.trace.append(said_as_recorded(said, mark))
    finally:
        for speaker in probes.values():
            speaker.close()


def said_as_recorded(value: Any, mark: str) -> Any:
    """An answer with the recorded names in it again."""
    if isinstance(value, dict):
        return {key: said_as_recorded(inner, mark) for key, inner in value.items()}
    if isinstance(value, list):
        return [said_as_recorded(inner, mark) for inner in value]
    if isinstance(value, str):
        return value.replace(mark, MARK.decode())
    return value.replace(mark.encode(), MARK) if isinstance(value, bytes) else value


def with_session(request: bytes, version: int, fetch_sessions: dict[int, int]) -> bytes:
    """A Fetch request with the session id that this broker gave."""
    header = decode_request_header(request)
    fetch, _ = request_class(FETCH).decode(version, request, header.body_offset)
    fetch.session_id = fetch_sessions.get(fetch.session_id, fetch.session_id)
    out = bytearray()
    encode_request_header(FETCH, version, header.correlation_id, header.client_id, out)
    return b"".join(fetch.encode(version, out))


def match(old: Any, new: Any, ids: dict[bytes, bytes], fetch_sessions: dict[int, int], name: str = "") -> None:
    """Learn from two answers to the same question which of the new ids stands for which of the recorded ones."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() & new.keys():
            match(old[key], new[key], ids, fetch_sessions, key)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        for pair in zip(old, new, strict=False):
            match(*pair, ids, fetch_sessions, name)
    elif name == "session_id" and old:
        fetch_sessions[old] = new
    elif isinstance(old, str) and isinstance(new, str) and old != new:
        if UUID.match(old) and UUID.match(new):
            ids[uuid.UUID(old).bytes] = uuid.UUID(new).bytes
        elif MEMBER.match(old) and MEMBER.match(new):
            ids[old.encode()] = new.encode()
    elif isinstance(old, uuid.UUID) and isinstance(new, uuid.UUID) and old != new:
        ids[old.bytes] = new.bytes
