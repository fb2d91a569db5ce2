"""The corpus of batches: what may be wrong or odd in a header, in records, in how bytes lie; by name.

Framings of compressed payloads are in `framings.py`. Every function gives a new corpus of the same bytes each time.
"""

import itertools
import random
from collections.abc import Iterator, Sequence

from raw_batches import AT, batch_of, bent, message, record, varint

from kafkapy.records.batch import CRC_FROM, HEADER_SIZE, LOG_OVERHEAD, Compression
from kafkapy.records.compression import compress

Bends = dict[str, bytes]
INT32 = (-(2**31), 2**31 - 1)
INT64 = (-(2**63), 2**63 - 1)
THREE = [record(0), record(1, value=None), record(2, headers=[(b"name", b"content")])]
"""Records that are as they should be."""
LARGE = [record(0), record(1, value=random.Random(0).randbytes(3000) * 66), record(2)]
"""More than fits into one block of any codec."""

VALUES: dict[str, Sequence[int]] = {
    "base_offset": (1, -1, 1234, *INT64),
    "batch_length": (0, -1, 1, HEADER_SIZE - LOG_OVERHEAD - 1, HEADER_SIZE - LOG_OVERHEAD, *INT32),
    "leader_epoch": (0, 5, -2, *INT32),
    "magic": (0, 1, 3, 127, -1, -128),
    "crc": (0, 2**32 - 1),
    "last_offset_delta": (-1, 0, 1, 3, *INT32),
    "base_timestamp": (-1, 0, -2, AT + 10**6, AT - 10**6, *INT64),
    "max_timestamp": (-1, 0, -2, AT - 1, AT, AT + 3, *INT64),
    "producer_id": (-2, 0, 7_001, *INT64),
    "producer_epoch": (0, -2, -(2**15), 2**15 - 1),
    "base_sequence": (0, -2, *INT32),
    "record_count": (0, -1, 1, 2, 4, *INT32),
}


def headers(codec: Compression = Compression.NONE) -> Bends:
    """One field, or several that belong together, of a header that is otherwise right."""
    good = batch_of(THREE, codec)
    found = {"nothing bent": good}
    for name, values in VALUES.items():
        found |= {f"{name} {value}": bent(good, **{name: value}) for value in values}
    for by in (-1, 1):
        found[f"batch_length by {by}"] = bent(good, batch_length=len(good) - LOG_OVERHEAD + by)
    for bit in range(16):
        flag = (1 << bit) - (1 << 16 if bit == 15 else 0)
        found[f"attributes ^ {1 << bit:#x}"] = bent(good, attributes=int(codec) ^ flag)
    for kind in range(8):
        found[f"compression bits {kind}"] = bent(good, attributes=kind)
    for flags in (0x18, 0x28, 0x30, 0x48, 0x60, 0x68, 0x78, 0xC0, 0xC8, 0x7F00, 0x7FC8):
        found[f"attributes {flags:#x}"] = bent(good, attributes=int(codec) | flags)
    for length in (1, 2, 4, 5):
        fields = {"record_count": length, "last_offset_delta": length - 1}
        found[f"three records said to be {length}"] = bent(good, **fields)
    none = batch_of([], codec)
    found |= {
        "no records": none,
        "no records, said to end at 0": bent(none, last_offset_delta=0),
        "no records, said to be one": bent(none, last_offset_delta=0, record_count=1),
        "LogAppendTime, no largest time": bent(good, attributes=int(codec) | 8, max_timestamp=-1),
        "LogAppendTime, another largest time": bent(good, attributes=int(codec) | 8, max_timestamp=AT + 500),
        "no times at all": batch_of([record(0, timestamp_delta=0)], codec, base_timestamp=-1, max_timestamp=-1),
        "the delete horizon's bit, wrong largest time": bent(good, attributes=int(codec) | 0x40, max_timestamp=5),
        "all unused bits, wrong largest time": bent(good, attributes=int(codec) | 0x7F80, max_timestamp=5),
    }
    return found


def producers() -> Bends:
    """Producer id, epoch and first sequence number in every combination of ordinary and odd values."""
    good = batch_of(THREE)
    ids, epochs, sequences = (-2, -1, 0, 5, INT64[1]), (-2, -1, 0, 1, 2**15 - 1), (-2, -1, 0, 1, INT32[1])
    found = {}
    for number, (id_, epoch, sequence) in enumerate(itertools.product(ids, epochs, sequences)):
        id_ = 9_000 + number if id_ == 5 else id_  # no other batch is of this producer
        fields = {"producer_id": id_, "producer_epoch": epoch, "base_sequence": sequence}
        found[f"producer {id_}, epoch {epoch}, sequence {sequence}"] = bent(good, **fields)
    return found


def turned_bits(codec: Compression = Compression.NONE, header: bool = True) -> Bends:
    """One bit of each byte turned, from the attributes on, and the CRC right again."""
    good = batch_of(THREE, codec)
    found = {}
    for at in range(CRC_FROM if header else HEADER_SIZE, len(good)):
        for bit in (0x01, 0x02, 0x20, 0x80):
            data = bytearray(good)
            data[at] ^= bit
            found[f"byte {at} ^ {bit:#x}"] = bent(bytes(data))
    return found


def cut() -> Bends:
    """A batch cut at each byte, with the length that it had and, where there is a header, with the new one, too."""
    good = batch_of(THREE)
    found = {}
    for size in range(len(good)):
        found[f"cut at {size}"] = good[:size]
        if size >= HEADER_SIZE:
            found[f"cut at {size}, and says so"] = bent(good[:size], batch_length=size - LOG_OVERHEAD)
    return found


def several() -> Bends:
    """More than one batch, and what lies behind a batch."""
    good, other = batch_of(THREE), batch_of([record(0, value=b"other")], Compression.GZIP)
    old = message(1)
    found = {"a batch, and another": good + other, "a compressed batch, and another": other + good}
    found |= {"a batch, and a message of old": good + old, "a message of old, and a batch": old + good}
    for size in (1, 8, 11, 12, 16, 17, 20, HEADER_SIZE - 1, HEADER_SIZE, len(other) - 1):
        found[f"a batch, and {size} bytes of another"] = good + other[:size]
    for size in (1, 12, 17, 61, 100):
        found[f"a batch, and {size} zeros"] = good + bytes(size)
    for name, value in {"magic": 3, "crc": 0, "batch_length": 5}.items():
        found[f"a batch, and another with {name} {value}"] = good + bent(other, **{name: value})
    for size in (0, 1, 12, 16, 17, 61, 100):
        found[f"{size} zeros"] = bytes(size)
        found[f"{size} times ff"] = b"\xff" * size
    return found


def message_sets() -> Bends:
    """Messages as Kafka wrote them before 0.11, of magic 0 and 1, plain and in a compressed wrapper."""
    found = {}
    for magic in (0, 1):
        two = message(magic) + message(magic, offset=1, value=b"second")
        found |= {
            f"magic {magic}": message(magic),
            f"magic {magic}, two": two,
            f"magic {magic}, a wrong CRC": message(magic, crc=1),
            f"magic {magic}, no key": message(magic, key=None),
            f"magic {magic}, cut": message(magic)[:-2],
            f"magic {magic}, a byte left over": message(magic) + b"\x00",
            f"magic {magic}, an unused attribute": message(magic, attributes=0x80),
            f"magic {magic}, LogAppendTime": message(magic, attributes=0x08),
        }
        for codec in list(Compression)[1:]:
            wrapper = message(magic, attributes=codec, key=None, value=compress(codec, two), offset=1)
            found[f"magic {magic}, {codec.name.lower()}"] = wrapper
    found["magic 0, and one of magic 1"] = message(0) + message(1, offset=1)
    return found


def records(codec: Compression = Compression.NONE) -> Bends:
    """A record that is not as it should be between two that are, and rows of records that do not belong together."""
    found = {}
    for name, bent_record in _one_record():
        found[name] = batch_of([record(0), bent_record, record(2)], codec)
        if "length" in name or "size" in name or "count" in name:
            found[f"{name}, at the end"] = batch_of([record(0), record(1), bent_record], codec)
    for name, deltas in _OFFSETS.items():
        rows = [record(delta, timestamp_delta=at) for at, delta in enumerate(deltas)]
        found[f"offsets {name}"] = batch_of(rows, codec)
    for name, times in _TIMES.items():
        rows = [record(at, timestamp_delta=time) for at, time in enumerate(times)]
        found[f"times {name}"] = batch_of(rows, codec)
    plain = b"".join(THREE)
    for size in (1, 2, 7, 100):
        found[f"{size} zeros left over"] = _stream(plain + bytes(size), codec)
    found["text left over"] = _stream(plain + b"left over", codec)
    found["another record left over"] = _stream(plain + record(3), codec)
    for size in range(len(plain)):
        found[f"the records cut at {size}"] = _stream(plain[:size], codec)
    found["no bytes, said to be three"] = _stream(b"", codec)
    found["zeros, said to be three"] = _stream(bytes(30), codec)
    found["ff, said to be three"] = _stream(b"\xff" * 30, codec)
    found["80, said to be three"] = _stream(b"\x80" * 30, codec)
    return found


def _stream(plain: bytes, codec: Compression) -> bytes:
    """A batch that says that these bytes are three records."""
    three = {"record_count": 3, "last_offset_delta": 2, "max_timestamp": AT + 2}
    return batch_of([plain], codec, **three)


def _one_record() -> Iterator[tuple[str, bytes]]:
    """What stands where the second of three records should."""
    for attributes in (1, 2, 3, 4, 5, 7, 8, 0x10, 0x20, 0x80, 0xFF):
        yield f"attributes {attributes:#x}", record(1, attributes=attributes)
    for by in (-20, -1, 1, 5, 100):
        yield f"length by {by}", record(1, longer_by=by)
    for length in (0, -1, -2, 1, *INT32):
        yield f"length {length}", record(1, length=length)
    yield "length of 5 bytes", record(1, length=varint(15, 5))
    yield "length of 6 bytes", record(1, length=varint(15, 6))
    yield "length beyond 32 bits", record(1, length=b"\xff\xff\xff\xff\x7f")
    for value in (0, 2, -1, -2, 5, *INT32):
        yield f"offset delta {value}", record(value, timestamp_delta=1)
    for least in (2, 5, 6, 10):
        yield f"offset delta of {least} bytes", record(varint(1, least), timestamp_delta=1)
    yield "offset delta beyond 32 bits", record(b"\x82\x80\x80\x80\x70", timestamp_delta=1)
    for value in (0, -1, -1 - AT, -2 - AT, -AT, 10**6, *INT32, *INT64):
        yield f"timestamp delta {value}", record(1, timestamp_delta=value)
    for least in (2, 6, 10, 11):
        yield f"timestamp delta of {least} bytes", record(1, timestamp_delta=varint(1, least))
    yield "timestamp delta beyond 64 bits", record(1, timestamp_delta=b"\xff" * 9 + b"\x7f")
    for size in (-1, -2, -100, 0, 1, 2, 4, 8, 9, 10, 100, *INT32):
        yield f"key size {size}", record(1, key_size=size)
        yield f"value size {size}", record(1, value_size=size)
    for least in (2, 5, 6):
        yield f"key size of {least} bytes", record(1, key_size=varint(3, least))
        yield f"value size of {least} bytes", record(1, value_size=varint(5, least))
    yield "neither key nor value", record(1, key=None, value=None)
    yield "an empty key", record(1, key=b"")
    for count in (-1, -2, 1, 2, 100, *INT32):
        yield f"header count {count}", record(1, header_count=count)
    for count in (0, 1, 3):
        yield f"header count {count} of 2", record(1, headers=[(b"a", b"b"), (b"c", None)], header_count=count)
    yield "header count of 3 bytes", record(1, headers=[(b"a", b"b")], header_count=varint(1, 3))
    yield "header count of 6 bytes", record(1, headers=[(b"a", b"b")], header_count=varint(1, 6))
    yield "a header without a name, count 1", record(1, headers=[(None, b"content")])
    yield "a header with an empty name", record(1, headers=[(b"", b"content")])
    yield "a header without content", record(1, headers=[(b"name", None)])
    for name in (b"\xff\xfe", b"\xed\xa6\x80", b"9\xed\xb0", b"\xed\xa6+", b"\xc3", b"\xf0\x9f\x98"):
        yield f"a header whose name is no text: {name.hex()}", record(1, headers=[(name, b"content")])
    for size in (-2, 0, 5, 50, *INT32):
        row = varint(1) + b"a" + varint(size) + b"cont"
        yield f"a header's content size {size}", record(1, header_count=1, after=row)
        row = varint(size) + b"name" + varint(1) + b"c"
        yield f"a header's name size {size}", record(1, header_count=1, after=row)
    yield "300 headers, count right", record(1, headers=[(b"h", b"c")] * 300)
    for size in (1, 3, 40):
        yield f"length that leaves {size} bytes after the fields", record(1, after=bytes(size))
    yield "no offset delta, length right", varint(2) + b"\x00\x02"
    yield "attributes alone, length right", varint(1) + b"\x00"
    yield "a large value", record(1, value=bytes(range(256)) * 80)


_OFFSETS = {
    "from 1": (1, 2, 3),
    "from 5": (5, 6, 7),
    "from -1": (-1, 0, 1),
    "backwards": (2, 1, 0),
    "out of order": (0, 2, 1),
    "with a gap": (0, 1, 3),
    "twice the same": (0, 1, 1),
    "all 0": (0, 0, 0),
    "all the largest": (INT32[1],) * 3,
    "all the smallest": (INT32[0],) * 3,
}
_TIMES = {
    "backwards": (2, 1, 0),
    "the largest in the middle": (0, 9, 3),
    "before the base": (-5, -6, -7),
    "all none": (-1 - AT,) * 3,
    "one none": (0, -1 - AT, 2),
    "the first none": (-1 - AT, 1, 2),
    "below none": (-5 - AT,) * 3,
    "beyond 64 bits": (0, INT64[1], 2),
    "the smallest": (INT64[0],) * 3,
}
_FOUND = {
    "a header count without end, and a frame of noise behind": (
        "000000000000000000000096ffffffff0248d989aa0004000000020000018bcfe568000000018bcfe56802ffffffffffffffffffffffffff"
        "ff0000000328b52ffd2057b9020014000000066b657901feffffff0ffe011c000202066b65790a76616c756500780004046cc090fd29bbd6"
        "51d41a26095c103cfe6feef858b3d24a542b6ef67a90de5054e0bc76bf091a09fdc6ff6da2801976405bbb3c47fc4a3e0100"
    ),
    "a record of no bytes, and a block that is cut": (
        "00000000000000000000003cffffffff023ea0a6740004000000000000018bcfe568000000018bcfe56800ffffffffffffffffffffffffff"
        "ff0000000128b52ffd20052900000006"
    ),
    "a base time before all times, and a record behind it": (
        "000000000000000000000056ffffffff02421150bf000200000000fffffffffffffffe0000018bcfe56800ffffffffffffffffffffffffff"
        "ff0000000182534e41505059000000000100000001000000110f381c000404066b65790a76616c756500"
    ),
}


def found_by_fuzzing() -> Bends:
    """What `fuzz_batches` found, and fits nowhere else."""
    return {name: bytes.fromhex(batch) for name, batch in _FOUND.items()}
