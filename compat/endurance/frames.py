"""Requests to be hostile with: valid ones of every API and version, filled at random, and the ways to spoil them.

Called by `hostile.py`. Everything random comes from the `random.Random` that the caller hands in.
"""

import random
import struct
import sys
import types
import typing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages import APIS, request_class
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

# a request larger than this is fit for nothing but size limits, which have attackers of their own
MAX_FRAME_BYTES = 200_000
# administration that, asked for rightly, is meant to take the broker from its clients: no hostile bytes
# (AlterConfigs, IncrementalAlterConfigs, AlterClientQuotas, UpdateFeatures, UnregisterBroker, the raft voters)
HARMFUL = (33, 44, 49, 57, 64, 80, 81)
INTERESTING = (-(2**31), -2, -1, 0, 1, 127, 128, 255, 32767, 65535, 2**20, 2**24, 2**31 - 1)
GREETINGS = (
    b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),  # a TLS ClientHello
    b"SSH-2.0-OpenSSH_9.6\r\n",
    bytes(4096),
    b"\xff" * 4096,
)


def framed(body: bytes) -> bytes:
    return struct.pack(">i", len(body)) + body


def valid_request(rng: random.Random, names: list[str]) -> bytes:
    """A request that the protocol allows, framed: any API, any version, its strings from `names`."""
    while True:
        api = rng.choice([api for api in APIS.values() if api.key not in HARMFUL])
        version = rng.randint(api.min_version, api.max_version)
        request = _fill(request_class(api.key), rng, names, depth=0)
        out = bytearray()
        encode_request_header(api.key, version, rng.randrange(2**31), rng.choice((None, "hostile")), out)
        try:
            buffers = request.encode(version, out)
        except (ProtocolError, struct.error):
            continue  # a field that this version has not, or a number too large for its field: draw again
        body = b"".join(bytes(buffer) for buffer in buffers)
        if len(body) <= MAX_FRAME_BYTES:
            return framed(body)


def spoil(rng: random.Random, frame: bytes) -> bytes:
    """The same frame, one to four times damaged. Its length may be right or wrong afterwards."""
    body = bytearray(frame[4:])
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(body) + 1)
        match rng.randrange(8):
            case 0 if body:
                body[at % len(body)] ^= 1 << rng.randrange(8)
            case 1 if body:
                body[at % len(body)] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF))
            case 2:
                body[at : at + 4] = struct.pack(">i", rng.choice(INTERESTING) % 2**32 - 2**31)
            case 3:
                body[at : at + 2] = struct.pack(">H", rng.choice(INTERESTING) % 2**16)
            case 4:
                del body[at:]
            case 5:
                body[at:at] = rng.randbytes(rng.choice((1, 5, 100)))
            case 6:
                body[at : at + 5] = b"\xff\xff\xff\xff\x0f"  # a varint of 4 Gi
            case 7:
                body[at:at] = body[at : at + rng.randrange(1, 200)]
    length = len(body)
    if rng.random() < 0.1:
        length = rng.choice((length + 1, length + 1000, max(0, length - 1), rng.choice(INTERESTING)))
    return struct.pack(">i", (length + 2**31) % 2**32 - 2**31) + bytes(body)


def records(rng: random.Random) -> bytes:
    batch = build_batch(
        [
            Record(number, 1_700_000_000_000 + number, None, rng.randbytes(rng.randrange(50)), [])
            for number in range(rng.randrange(1, 5))
        ],
        producer_id=rng.choice((-1, -1, 1, 999)),
        producer_epoch=rng.choice((-1, 0, 1)),
        base_sequence=rng.choice((-1, 0, 5)),
    )
    return batch * rng.choice((1, 1, 1, 2))


def _fill(cls: type, rng: random.Random, names: list[str], depth: int) -> Any:
    """An instance with about two thirds of its fields drawn, the others left at their defaults."""
    module = sys.modules[cls.__module__]
    hints = typing.get_type_hints(cls.__init__, vars(module))
    hints.pop("return", None)
    fields = {name: _value(hint, name, rng, names, depth) for name, hint in hints.items() if rng.random() < 0.66}
    return cls(**fields)


def _value(hint: Any, name: str, rng: random.Random, names: list[str], depth: int) -> Any:
    choices = [choice for choice in _alternatives(hint) if choice is not type(None)]
    if len(choices) < len(_alternatives(hint)) and rng.random() < 0.1:
        return None
    kind = choices[0]
    if name == "records":
        return records(rng)
    if typing.get_origin(kind) is list:
        (element,) = typing.get_args(kind)
        return [_value(element, "", rng, names, depth + 1) for _ in range(rng.randrange(0, 4 if depth < 3 else 2))]
    if kind is bool:
        return rng.random() < 0.5
    if kind is int:
        return rng.choice((0, 0, 0, 1, 1, 2, 3, 5, 100, -1)) if rng.random() < 0.9 else rng.choice(INTERESTING)
    if kind is float:
        return rng.random()
    if kind is str:
        return rng.choice(names)
    if kind is bytes:
        return rng.randbytes(16) if rng.random() < 0.5 or name.endswith("_id") else bytes(16)
    return _fill(kind, rng, names, depth + 1)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
