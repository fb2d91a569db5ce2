"""Bent batches, and what Apache Kafka 4.4.0 says of them: in a topic that keeps the codec, and in one that has another.

Verdicts were read from Kafka's own validation. Error -1 is Kafka's, too: where a payload cannot be inflated, or where
it sets out to build a batch anew and cannot.
"""

import struct
import sys
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG
from catalogues import create

from kafkapy.clock import ManualClock
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.log.appending import AppendResult, BatchToAppend, append
from kafkapy.model import IsolationLevel
from kafkapy.records.batch import HEADER_SIZE, BatchHeader, Compression, assemble, crc_matches, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import compress
from kafkapy.records.record import read_records
from kafkapy.storage.base import Read
from kafkapy.storage.memory import open_memory
from kafkapy.turns import Turns

NOW_MS = 1_700_000_000_000
KEEPING, CHANGING = "producer", {Compression.ZSTD: "gzip"}
GOOD, NOT_READABLE, UNKNOWN, TIME = 0, 87, -1, 32


def varint(value: int, length: int = 0) -> bytes:
    """A zigzag varint, of more bytes than it needs where `length` says so."""
    raw, out = (value << 1) ^ (value >> 63), bytearray()
    while raw > 0x7F or len(out) + 1 < length:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out)


def record(
    place: int = 0,
    *,
    attributes: int = 0,
    time: int = 0,
    offset: bytes | None = None,
    key: bytes = varint(1) + b"k",
    value: bytes = varint(5) + b"value",
    headers: bytes = varint(0),
    length: bytes | None = None,
    longer_by: int = 0,
) -> bytes:
    """One record; each part may be given as the bytes that stand for it."""
    body = bytes([attributes]) + varint(time) + (varint(place) if offset is None else offset) + key + value + headers
    return (varint(len(body) + longer_by) if length is None else length) + body


def batch_of(
    records: list[bytes], codec: Compression = Compression.NONE, payload: bytes | None = None, **fields
) -> bytes:
    count = len(records)
    header = BatchHeader(0, 0, -1, 2, 0, codec, count - 1, NOW_MS, NOW_MS, -1, -1, -1, count)
    body = compress(codec, b"".join(records)) if payload is None else payload
    return assemble(header._replace(**fields), body)


async def put(data: bytes, **settings: str) -> tuple[AppendResult, bytes]:
    """What is answered, and what is stored."""
    given = {name.replace("_", "."): value for name, value in settings.items()}
    own = {"kafkapy.record.validation": given.pop("validation", "full")}
    config = TopicConfig(given, BrokerConfig.load(flags=own))
    clock = ManualClock(NOW_MS)
    async with open_memory(clock) as logs:
        await create(logs, LOG)
        sent = BatchToAppend(LOG, config, 0, 1, 1, data)
        results = await append(logs, clock, Turns(), [sent], acks=-1, api_version=9, timeout_ms=1000)
        assert isinstance(results, list)
        [piece] = await logs.read([Read(LOG, 0, 1 << 24, IsolationLevel.READ_UNCOMMITTED)], 1 << 24)
        assert bool(piece.records) == (results[0].error == 0)
        return results[0], bytes(piece.records)


NAME = varint(1) + b"h"
RECORDS = {
    # what is bent: the records; Kafka's verdict where they are plain, where they stay compressed, under another codec
    "nothing": ([record(0), record(1)], GOOD, GOOD, GOOD),
    "no key, no value": ([record(key=varint(-1), value=varint(-1))], GOOD, GOOD, GOOD),
    "sizes far below null": ([record(key=varint(-5), value=varint(-(2**31)))], GOOD, GOOD, GOOD),
    "headers": ([record(headers=varint(2) + NAME + varint(-1) + NAME + varint(0))], GOOD, GOOD, GOOD),
    "a header's value far below null": ([record(headers=varint(1) + NAME + varint(-7))], GOOD, GOOD, GOOD),
    "a name that is no text": ([record(headers=varint(1) + varint(1) + b"\xff" + varint(0))], GOOD, GOOD, GOOD),
    "attributes": ([record(attributes=0xFF)], GOOD, GOOD, GOOD),
    "numbers longer than they need be": ([record(offset=varint(0, 5), length=varint(16, 4))], GOOD, GOOD, GOOD),
    "a number beyond 32 bits": ([record(offset=b"\x80\x80\x80\x80\x70")], GOOD, GOOD, GOOD),
    "a number of too many bytes": ([record(offset=b"\x80\x80\x80\x80\x80\x00")], 87, 87, 87),
    "the length says more": ([record(0, longer_by=1), record(1)], 87, GOOD, 87),
    "the length says less": ([record(0, longer_by=-1), record(1)], 87, GOOD, 87),
    "the last length says more": ([record(0), record(1, longer_by=1)], 87, GOOD, 87),
    "a length of nothing": ([record(length=varint(0))], 87, GOOD, 87),
    "a length below nothing": ([record(length=varint(-1))], 87, 87, 87),
    "a length of 2 GiB": ([record(length=varint(2**31 - 1))], 87, 87, 87),
    "a key beyond the end": ([record(key=varint(99) + b"k")], 87, 87, 87),
    "a value beyond the end": ([record(value=varint(99) + b"value")], 87, 87, 87),
    "a value that is longer": ([record(value=varint(4) + b"value")], 87, 87, 87),
    "a count of headers below nothing": ([record(headers=varint(-1))], 87, 87, 87),
    "more headers than there are": ([record(headers=varint(1))], 87, 87, 87),
    "far more headers than there are": ([record(headers=varint(2**31 - 1))], 87, 87, 87),
    "a header without a name": ([record(headers=varint(1) + varint(-1) + varint(0))], 87, 87, 87),
    "an offset is left out": ([record(0), record(2)], GOOD, UNKNOWN, GOOD),
    "an offset comes twice": ([record(0), record(0)], GOOD, UNKNOWN, GOOD),
    "the offsets fall": ([record(1), record(0)], GOOD, UNKNOWN, GOOD),
    "a time that is too late": ([record(0), record(1, time=3_600_001)], TIME, TIME, TIME),
    "a time far before 1970": ([record(0), record(1, time=-(2**41))], GOOD, GOOD, UNKNOWN),
    "no time": ([record(0, time=-NOW_MS - 1)], GOOD, GOOD, GOOD),
    "a time beyond 64 bits": ([record(0, time=2**63 - 1)], TIME, TIME, TIME),
}


@pytest.mark.parametrize("codec", Compression)
@pytest.mark.parametrize("bent", RECORDS)
async def test_a_bent_record(bent: str, codec: Compression) -> None:
    records, plain, kept, changed = RECORDS[bent]
    data = batch_of(records, codec)
    other = "zstd" if codec is not Compression.ZSTD else "gzip"
    assert (await put(data))[0].error == (kept if codec else plain)
    assert (await put(data, compression_type=other))[0].error == changed


TWO = [record(0), record(1)]
PLAIN = b"".join(TWO)
GZIP, SNAPPY, LZ4, ZSTD = (compress(codec, PLAIN) for codec in Compression if codec)
BLOCK = GZIP[10:-8]
XERIAL = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
ZSTDS = b"".join(compress(Compression.ZSTD, part) for part in TWO)
SKIPPABLE = struct.pack("<II", 0x184D2A50, 3) + b"abc"


def member(plain: bytes, flags: int = 0, extra: bytes = b"") -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    body = deflater.compress(plain) + deflater.flush()
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    return header + extra + body + struct.pack("<II", zlib.crc32(plain), len(plain))


def bare_snappy(plain: bytes) -> bytes:
    """A length, and one literal."""
    return bytes([len(plain), 60 << 2, len(plain) - 1]) + plain


def blocks(*plain: bytes) -> bytes:
    return b"".join(struct.pack(">i", len(bare_snappy(part))) + bare_snappy(part) for part in plain)


def frame(flags: int, check: int, *blocks: bytes, size: int = 0x40, rest: bytes = b"") -> bytes:
    """An LZ4 frame of blocks that are not compressed; `rest` follows the end mark."""
    packed = b"".join(struct.pack("<I", len(block) | 1 << 31) + block for block in blocks)
    return b"\x04\x22\x4d\x18" + bytes([flags, size, check]) + packed + bytes(4) + rest


PAYLOADS = {
    "gzip": (Compression.GZIP, GZIP, GOOD),
    "gzip, nothing": (Compression.GZIP, b"", UNKNOWN),
    "gzip, cut": (Compression.GZIP, GZIP[:-1], UNKNOWN),
    "gzip, its checksum wrong": (Compression.GZIP, GZIP[:-8] + bytes(4) + GZIP[-4:], UNKNOWN),
    "gzip, two members": (Compression.GZIP, member(TWO[0]) + member(TWO[1]), GOOD),
    "gzip, an empty member first": (Compression.GZIP, member(b"") + GZIP, GOOD),
    "gzip, a second member that is cut": (Compression.GZIP, GZIP + member(b"", 8, b"a long name\0")[:-1], UNKNOWN),
    "gzip, zeros behind": (Compression.GZIP, GZIP + bytes(100), GOOD),
    "gzip, a member too many": (Compression.GZIP, GZIP + member(b"more"), NOT_READABLE),
    "gzip, with a name and a comment": (Compression.GZIP, member(PLAIN, 24, b"name\0comment\0"), GOOD),
    "gzip, an extra field": (Compression.GZIP, member(PLAIN, 4, b"\x02\x00ab"), GOOD),
    "gzip, a wrong checksum of the header": (Compression.GZIP, member(PLAIN, 2, b"\0\0"), UNKNOWN),
    "zlib": (Compression.GZIP, zlib.compress(PLAIN), UNKNOWN),
    "snappy": (Compression.SNAPPY, SNAPPY, GOOD),
    "snappy, bare": (Compression.SNAPPY, bare_snappy(PLAIN), GOOD),
    "snappy, bare and cut": (Compression.SNAPPY, bare_snappy(PLAIN)[:-1], UNKNOWN),
    "snappy, bare and said to be huge": (Compression.SNAPPY, b"\xff\xff\xff\x7f" + bare_snappy(PLAIN)[1:], UNKNOWN),
    "snappy, two blocks": (Compression.SNAPPY, XERIAL + blocks(*TWO), GOOD),
    "snappy, other versions": (Compression.SNAPPY, XERIAL[:8] + bytes(8) + blocks(PLAIN), GOOD),
    "snappy, a header between blocks": (Compression.SNAPPY, XERIAL + blocks(TWO[0]) + XERIAL + blocks(TWO[1]), GOOD),
    "snappy, a block beyond the end": (Compression.SNAPPY, XERIAL + blocks(PLAIN)[:-1], UNKNOWN),
    "snappy, a block below nothing": (Compression.SNAPPY, XERIAL + blocks(PLAIN) + b"\xff" * 4, UNKNOWN),
    "snappy, a length cut off": (Compression.SNAPPY, XERIAL + blocks(PLAIN) + b"\0\0", GOOD),
    "snappy, nothing": (Compression.SNAPPY, b"", UNKNOWN),
    "snappy, a header and nothing": (Compression.SNAPPY, XERIAL, NOT_READABLE),
    "lz4": (Compression.LZ4, LZ4, GOOD),
    "lz4, two blocks": (Compression.LZ4, frame(0x60, 0x82, *TWO), GOOD),
    "lz4, linked blocks": (Compression.LZ4, frame(0x40, 0xC0, PLAIN), UNKNOWN),
    "lz4, a wrong checksum of the header": (Compression.LZ4, frame(0x60, 0x83, PLAIN), UNKNOWN),
    "lz4, a checksum of the content that is wrong": (Compression.LZ4, frame(0x64, 0xA7, PLAIN, rest=bytes(4)), GOOD),
    "lz4, no checksum of the content": (Compression.LZ4, frame(0x64, 0xA7, PLAIN), UNKNOWN),
    "lz4, a frame behind": (Compression.LZ4, LZ4 + LZ4, GOOD),
    "lz4, half in a frame of its own": (Compression.LZ4, frame(0x60, 0x82, TWO[0]) + LZ4, NOT_READABLE),
    "lz4, no end": (Compression.LZ4, LZ4[:-4], UNKNOWN),
    "lz4, a frame that may be skipped first": (Compression.LZ4, SKIPPABLE + LZ4, UNKNOWN),
    "lz4, nothing": (Compression.LZ4, b"", UNKNOWN),
    "zstd": (Compression.ZSTD, ZSTD, GOOD),
    "zstd, two frames": (Compression.ZSTD, ZSTDS, GOOD),
    "zstd, frames that may be skipped": (Compression.ZSTD, SKIPPABLE + ZSTD + SKIPPABLE, GOOD),
    "zstd, cut": (Compression.ZSTD, ZSTD[:-1], UNKNOWN),
    "zstd, a second frame that is cut": (Compression.ZSTD, ZSTD + ZSTD[:8], GOOD),
    "zstd, something else behind": (Compression.ZSTD, ZSTD + b"something else", UNKNOWN),
    "zstd, nothing": (Compression.ZSTD, b"", NOT_READABLE),
    "not compressed": (Compression.ZSTD, PLAIN, UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("bent", PAYLOADS)
async def test_a_bent_payload(bent: str) -> None:
    codec, payload, verdict = PAYLOADS[bent]
    result, _ = await put(batch_of(TWO, codec, payload))
    assert (result.error, result.record_errors, result.message) == (verdict, (), None)
    assert (await put(batch_of(TWO, codec, payload), compression_type="uncompressed"))[0].error == verdict


@pytest.mark.parametrize("codec", Compression)
@pytest.mark.parametrize("count", [1, 3])
async def test_a_count_of_records_that_is_wrong(codec: Compression, count: int) -> None:
    data = batch_of(TWO, codec, record_count=count, last_offset_delta=count - 1)
    assert (await put(data))[0].error == NOT_READABLE


@pytest.mark.parametrize("codec", Compression)
@pytest.mark.parametrize("claimed", [-1, 0, NOW_MS - 1, NOW_MS + 900, 2**63 - 1])
async def test_the_largest_time_is_computed(codec: Compression, claimed: int) -> None:
    data = batch_of([record(0), record(1, time=7), record(2, time=5)], codec, max_timestamp=claimed)
    result, stored = await put(data)
    header = read_header(stored)
    assert (result.error, header.max_timestamp, header.base_timestamp) == (GOOD, NOW_MS + 7, NOW_MS)
    assert crc_matches(stored, 0, header)
    assert stored[HEADER_SIZE:] == data[HEADER_SIZE:]
    assert result.log_append_time_ms == -1
    _, without_times = await put(batch_of([record(0, time=-NOW_MS - 1)], codec, max_timestamp=claimed))
    assert read_header(without_times).max_timestamp == -1


@pytest.mark.parametrize("codec", Compression)
async def test_attributes_that_mean_nothing_fall_away_where_the_header_is_rewritten(codec: Compression) -> None:
    odd = -0x8000 | 0x5580 | 0x40 | codec
    _, kept = await put(batch_of(TWO, codec, attributes=odd))
    assert read_header(kept).attributes == odd
    _, rewritten = await put(batch_of(TWO, codec, attributes=odd, max_timestamp=5))
    assert read_header(rewritten).attributes == 0x40 | codec
    result, stamped = await put(batch_of(TWO, codec, attributes=odd), message_timestamp_type="LogAppendTime")
    assert (read_header(stamped).attributes, read_header(stamped).max_timestamp) == (0x48 | codec, NOW_MS)
    assert result.log_append_time_ms == NOW_MS


@pytest.mark.parametrize("codec", Compression)
async def test_a_producer_that_claims_the_time_of_the_append(codec: Compression) -> None:
    """Its records keep their times where there are any; where the time is the broker's, it is told of each."""
    data = batch_of(TWO, codec, attributes=8 | codec, max_timestamp=NOW_MS + 500)
    result, stored = await put(data)
    header = read_header(stored)
    assert (result.error, header.is_log_append_time, header.max_timestamp) == (GOOD, False, NOW_MS + 500)
    assert [r.timestamp for r in read_records(stored)] == [NOW_MS, NOW_MS]

    result, _ = await put(data, message_timestamp_type="LogAppendTime")
    name = "PartialDefaultRecord" if codec else "DefaultRecord"
    assert (result.error, result.message) == (TIME, "One or more records have been rejected due to invalid timestamp")
    assert [tuple(error) for error in result.record_errors] == [
        (
            place,
            f"Invalid timestamp type in message {name}(offset={place}, timestamp={NOW_MS + 500}, key=1 bytes, "
            "value=5 bytes). Producer should not set timestamp type to LogAppendTime.",
        )
        for place in (0, 1)
    ]
    timeless = batch_of([record(key=varint(-1))], codec, attributes=8 | codec, max_timestamp=-1)
    result, _ = await put(timeless)
    told = (
        "PartialDefaultRecord(offset=0, timestamp=-1, key=-1"
        if codec
        else "DefaultRecord(offset=0, timestamp=-1, key=0"
    )
    assert (result.error, told in result.record_errors[0].message) == (TIME, True)
    assert (
        await put(batch_of(TWO, codec, attributes=8 | codec, max_timestamp=5), message_timestamp_before_max_ms="9")
    )[0].error == TIME


ODD = {
    "offsets": ([record(5), record(7, time=3)], (NOW_MS, NOW_MS + 3)),
    "the first time": ([record(0, time=9), record(1, time=3)], (NOW_MS + 9, NOW_MS + 3)),
    "attributes": ([record(0, attributes=1), record(1)], (NOW_MS, NOW_MS)),
    "padding": ([record(0), record(1, offset=varint(1, 4))], (NOW_MS, NOW_MS)),
    "below null": ([record(0, key=varint(-3)), record(1)], (NOW_MS, NOW_MS)),
    "names": ([record(0, headers=varint(1) + varint(1) + b"\xff" + varint(0)), record(1)], (NOW_MS, NOW_MS)),
    "large": ([record(0), record(1, value=varint(200_000) + bytes(200_000))], (NOW_MS, NOW_MS)),
}


@pytest.mark.parametrize("given", Compression)
@pytest.mark.parametrize("odd", ODD)
async def test_under_another_codec_records_are_as_a_builder_writes_them(odd: str, given: Compression) -> None:
    records, times = ODD[odd]
    target = "uncompressed" if given else "zstd"
    result, stored = await put(batch_of(records, given, max_timestamp=-1), compression_type=target)
    assert result.error == GOOD
    header, found = read_header(stored), read_records(stored)
    assert (header.attributes, header.base_timestamp, header.max_timestamp) == (0 if given else 4, times[0], max(times))
    assert [(r.offset, r.timestamp) for r in found] == list(enumerate(times))
    assert [(r.key, r.value) for r in found][1] == (b"k", found[1].value)
    if given:
        assert stored[HEADER_SIZE:] == build_batch(found)[HEADER_SIZE:]


@pytest.mark.parametrize(
    "producer", [{"producer_epoch": -1, "base_sequence": 0}, {"producer_epoch": 0, "base_sequence": -1}]
)
async def test_what_kafkas_builder_would_not_take_is_refused_where_it_is_built(producer: dict[str, int]) -> None:
    data = batch_of(TWO, producer_id=5, **producer)
    expected = NOT_READABLE if producer["base_sequence"] < 0 else UNKNOWN
    assert (await put(data, compression_type="gzip"))[0].error == expected


async def test_a_topics_largest_batch_holds_again_under_another_codec() -> None:
    settings = {"compression_type": "uncompressed", "max_message_bytes": "20000"}
    large = batch_of([record(value=varint(100_000) + b"a" * 100_000)], Compression.GZIP)
    assert len(large) < 1000
    result, _ = await put(large, **settings)
    assert (result.error, result.log_start_offset, result.record_errors) == (10, -1, ())
    odd = batch_of([record(3, value=varint(100_000) + b"a" * 100_000)], Compression.GZIP)
    assert (await put(odd, **settings))[0].error == 10
    assert (await put(batch_of([record(value=varint(10_000) + b"a" * 10_000)], Compression.GZIP), **settings))[
        0
    ].error == 0


@pytest.mark.parametrize("codec", Compression)
async def test_records_are_left_alone_where_headers_are_enough(codec: Compression) -> None:
    unreadable = batch_of([record(value=varint(99))], codec, max_timestamp=NOW_MS - 9)
    result, stored = await put(unreadable, validation="headers")
    assert (result.error, read_header(stored).max_timestamp) == (GOOD, NOW_MS - 9)
    for needed in ({"cleanup_policy": "compact"}, {"message_timestamp_before_max_ms": "1000"}):
        assert (await put(unreadable, validation="headers", **needed))[0].error == NOT_READABLE


@pytest.mark.parametrize("codec", Compression)
async def test_a_record_may_be_inflated_up_to_the_topics_bound(codec: Compression) -> None:
    size = len(record(value=varint(300) + bytes(300))) - 2
    data = batch_of([record(value=varint(300) + bytes(300))], codec)
    for most, verdict in ((size, GOOD), (size - 1, NOT_READABLE if codec else GOOD)):
        for target in ("producer", "gzip", "zstd"):
            result, _ = await put(data, compression_type=target, max_decompressed_message_bytes=str(most))
            assert result.error == verdict, target
