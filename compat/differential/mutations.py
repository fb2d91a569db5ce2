"""Draws batches that something is wrong with: a few mutations of a good one, in its records, payload, header or bytes.

A `Draft` is data: it is built again from what its text shows, and shrinks by losing a part of itself.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bends import VALUES
from raw_batches import AT, FIELDS, batch_of, bent, record, varint

from kafkapy.records.batch import HEADER_SIZE, LOG_OVERHEAD, Compression
from kafkapy.records.compression import compress

VERSIONS = (13, 13, 13, 9, 7, 3)
_NUMBERS = (0, 1, -1, 2, -2, 3, 5, 63, 64, -64, -65, 127, 128, 1000, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), -1 - AT)
_HOSTILE = (
    b"\x00",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\x80\x00",
    b"\xff\xff\xff\xff\x0f",
    b"\xfe\xff\xff\xff\x0f",
    b"\x80\x80\x80\x80\x80\x00",
    b"\xff" * 10,
)
_BITS = 0x7FFF


class Edit(NamedTuple):
    """Bytes that are put in the place of `count` bytes at `at`, which is taken modulo the length."""

    at: int
    count: int
    content: bytes

    def __call__(self, data: bytes) -> bytes:
        at = self.at % (len(data) + 1)
        return data[:at] + self.content + data[at + self.count :]


class Flip(NamedTuple):
    """Bits of one byte turned."""

    at: int
    bits: int

    def __call__(self, data: bytes) -> bytes:
        if not data:
            return data
        at = self.at % len(data)
        return data[:at] + bytes([data[at] ^ self.bits]) + data[at + 1 :]


class Cut(NamedTuple):
    """What lies behind `at`, modulo the length, left out."""

    at: int

    def __call__(self, data: bytes) -> bytes:
        return data[: self.at % (len(data) + 1)]


class Repeat(NamedTuple):
    """A part of the bytes once more behind it."""

    at: int
    count: int

    def __call__(self, data: bytes) -> bytes:
        at = self.at % (len(data) + 1)
        return data[:at] + data[at : at + self.count] + data[at:]


class Append(NamedTuple):
    """The same framing of other bytes behind the payload."""

    codec: int
    plain: bytes

    def __call__(self, data: bytes) -> bytes:
        return data + compress(Compression(self.codec), self.plain)


Mutation = Edit | Flip | Cut | Repeat | Append


@dataclass(frozen=True)
class Draft:
    """How a batch comes to be: what `record` is given; what happens to their bytes, to payload, header, the whole."""

    topic: str
    version: int
    codec: Compression
    records: tuple[dict[str, Any], ...]
    plain: tuple[Mutation, ...] = ()
    payload: tuple[Mutation, ...] = ()
    header: tuple[tuple[str, int], ...] = ()
    whole: tuple[Mutation, ...] = ()
    crc_is_right: bool = True
    producer_id: int = -1

    def build(self) -> bytes:
        plain = b"".join(record(**fields) for fields in self.records)
        for mutation in self.plain:
            plain = mutation(plain)
        payload = compress(self.codec, plain)
        for mutation in self.payload:
            payload = mutation(payload)
        count = len(self.records)
        fields = {"record_count": count, "last_offset_delta": count - 1, "max_timestamp": AT + count - 1}
        batch = batch_of([], self.codec, payload=payload, **fields | dict(self.header))
        for mutation in self.whole:
            batch = mutation(batch)
        if self.whole and self.crc_is_right and len(batch) >= HEADER_SIZE:
            batch = bent(batch, batch_length=len(batch) - LOG_OVERHEAD)
        return batch

    @property
    def kind(self) -> str:
        """Which parts of it are mutated."""
        parts = [name for name in ("plain", "payload", "whole") if getattr(self, name)]
        parts += sorted({name for name, _ in self.header})
        parts += sorted({f"record's {name}" for fields in self.records for name in fields} - _ORDINARY)
        return " + ".join(parts) or "nothing"

    def of_producer(self, producer_id: int) -> "Draft":
        """The same of another producer, if it is of one: to ask again what says nothing of the first time."""
        named = ("producer_id", self.producer_id)
        return replace(
            self,
            producer_id=producer_id,
            header=tuple(("producer_id", producer_id) if field == named else field for field in self.header),
        )

    def smaller(self) -> Iterator["Draft"]:
        """Drafts with a part less, or a simpler one."""
        for name in ("whole", "payload", "plain", "header", "records"):
            parts = getattr(self, name)
            for index in range(len(parts)):
                yield replace(self, **{name: parts[:index] + parts[index + 1 :]})
        for index, fields in enumerate(self.records):
            for name in fields:
                if name != "offset_delta":
                    less = {other: value for other, value in fields.items() if other != name}
                    yield replace(self, records=(*self.records[:index], less, *self.records[index + 1 :]))
        if self.codec:
            yield replace(self, codec=Compression.NONE)
        if self.topic != "plain":
            yield replace(self, topic="plain")
        if self.version != VERSIONS[0]:
            yield replace(self, version=VERSIONS[0])


_ORDINARY = {"record's offset_delta", "record's key", "record's value", "record's headers"}


def draw(rng: random.Random, topics: tuple[str, ...], producer_id: int) -> Draft:
    """A draft with one to three mutations; `producer_id` is one that no other draft of the run has."""
    codec = rng.choice([Compression.NONE, *Compression])
    count = rng.choice((1, 1, 2, 3, 3, 5, 20))
    draft = Draft(
        topic=rng.choice(topics),
        version=rng.choice(VERSIONS),
        codec=codec,
        records=tuple(_ordinary(rng, at) for at in range(count)),
    )
    if rng.random() < 0.3:
        producer = (("producer_id", producer_id), ("producer_epoch", 0), ("base_sequence", 0))
        draft = replace(draft, header=producer, producer_id=producer_id)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        draft = rng.choices(_WAYS, _WEIGHTS)[0](rng, draft)
    return draft


def _ordinary(rng: random.Random, at: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"offset_delta": at}
    if rng.random() < 0.3:
        fields["key"] = rng.choice((None, b"", rng.randbytes(rng.randrange(1, 70))))
    if rng.random() < 0.5:
        size = rng.choice((0, 1, 20, 63, 64, 127, 128, 1000))
        fields["value"] = rng.choice((None, rng.randbytes(size), b"a" * size))
    if rng.random() < 0.2:
        names = [b"name", b"", b"\xc3\xa9", b"\xff", rng.randbytes(3)]
        headers = [(rng.choice(names), rng.choice((None, b"", b"content"))) for _ in range(rng.choice((1, 2, 5)))]
        fields["headers"] = headers
    return fields


_RECORD_FIELDS = ("attributes", "timestamp_delta", "offset_delta", "key_size", "value_size", "header_count", "length")
_RECORD_FIELDS += ("longer_by", "after")


def _bend_record(rng: random.Random, draft: Draft) -> Draft:
    if not draft.records:
        return draft
    at = rng.randrange(len(draft.records))
    name = rng.choice(
        (
            "attributes",
            "timestamp_delta",
            "offset_delta",
            "key_size",
            "value_size",
            "header_count",
            "after",
            "length",
            "longer_by",
        )
    )
    value: Any
    match name:
        case "attributes":
            value = rng.choice((1, 2, 4, 7, 8, 0x20, 0x80, rng.randrange(256)))
        case "after":
            value = rng.randbytes(rng.randrange(1, 5))
        case "longer_by":
            value = rng.choice((-5, -2, -1, 1, 2, 5, 30))
        case _:
            number = rng.choice((*_NUMBERS, rng.randrange(-300, 300)))
            value = varint(number, rng.randrange(2, 12)) if rng.random() < 0.2 else number
    fields = draft.records[at] | {name: value}
    return replace(draft, records=(*draft.records[:at], fields, *draft.records[at + 1 :]))


def _shuffle_records(rng: random.Random, draft: Draft) -> Draft:
    records = list(draft.records)
    rng.shuffle(records)
    return replace(draft, records=tuple(records))


def _bend_header(rng: random.Random, draft: Draft) -> Draft:
    name = rng.choice(tuple(FIELDS))
    if name == "attributes":
        value = int(draft.codec) ^ (1 << rng.randrange(15))
        if rng.random() < 0.3:
            value = rng.randrange(_BITS)
    elif name in ("record_count", "last_offset_delta", "max_timestamp") and rng.random() < 0.5:
        usual = {"record_count": 0, "last_offset_delta": -1, "max_timestamp": AT - 1}[name]
        value = usual + len(draft.records) + rng.choice((-2, -1, 1, 2, 5))
    else:
        value = rng.choice(VALUES[name])
        if name == "producer_id":
            value = min(value, -2)  # what one batch is told must not hang on another's producer
    return replace(draft, header=(*draft.header, (name, value)))


def _recount(rng: random.Random, draft: Draft) -> Draft:
    """Another count, and the last offset that goes with it: only who reads the records sees it."""
    count = max(1, len(draft.records) + rng.choice((-2, -1, 1, 2, 5)))
    return replace(draft, header=(*draft.header, ("record_count", count), ("last_offset_delta", count - 1)))


def _mutation(rng: random.Random) -> Mutation:
    at = rng.randrange(1 << 16)
    match rng.randrange(6):
        case 0:
            return Flip(at, 1 << rng.randrange(8))
        case 1:
            return Edit(at, rng.choice((0, 1, 1, 2)), rng.choice(_HOSTILE))
        case 2:
            return Edit(at, rng.randrange(4), rng.randbytes(rng.randrange(4)))
        case 3:
            return Cut(at)
        case 4:
            return Repeat(at, rng.randrange(1, 30))
        case _:
            return Flip(at, rng.randrange(1, 256))


def _bend_plain(rng: random.Random, draft: Draft) -> Draft:
    return replace(draft, plain=(*draft.plain, _mutation(rng)))


def _bend_payload(rng: random.Random, draft: Draft) -> Draft:
    mutation = _mutation(rng)
    if rng.random() < 0.15:
        mutation = Append(rng.choice((int(draft.codec), rng.randrange(5))), rng.choice((b"", b"\x00", b"more" * 9)))
    return replace(draft, payload=(*draft.payload, mutation))


def _bend_whole(rng: random.Random, draft: Draft) -> Draft:
    return replace(draft, whole=(*draft.whole, _mutation(rng)), crc_is_right=rng.random() < 0.9)


_WAYS: tuple[Callable[[random.Random, Draft], Draft], ...] = (
    _bend_record,
    _shuffle_records,
    _bend_header,
    _recount,
    _bend_plain,
    _bend_payload,
    _bend_whole,
)
_WEIGHTS = (6, 1, 4, 1, 4, 4, 4)
