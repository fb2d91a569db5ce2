"""What a share group's dead-letter queue holds (KIP-1191): a record for each that the group has given up, with headers
that say which it was and why; its key and value as well, if the group wants them copied.

Pure. Called by `dead_letters.py`.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from kafkapy.records.batch import HEADER_SIZE, Buffer, CorruptBatch, walk
from kafkapy.records.builder import build_batch, record_size_bytes
from kafkapy.records.record import Record, iterate_records
from kafkapy.turns import Steps

KeyAndValue = tuple[bytes | None, bytes | None]

_NONE: Final = (None, None)
_RECORDS_A_STEP: Final = 256
_REJECTED: Final = b"Offset rejected by client."
_TOO_OFTEN: Final = b"Offset delivery count exceeded the threshold."


class GivenUp(NamedTuple):
    """One record that a group has given up."""

    offset: int
    delivery_count: int
    is_rejected: bool


class Origin(NamedTuple):
    """Who gave records up, and of what."""

    group_id: str
    topic: str
    partition: int


class Originals(NamedTuple):
    """Keys and values by their offsets, as far as they could be read; of what lies before `next_offset` no more will
    be known than that.
    """

    found: Mapping[int, KeyAndValue]
    next_offset: int


def packed(
    origin: Origin, records: Sequence[GivenUp], originals: Originals | None, now_ms: int, max_bytes: int
) -> tuple[bytes, int]:
    """A batch of as many of these records as it holds within so many bytes, one at least; and how many they are.

    Of one that is not among the originals it has headers only; those that were not looked for yet are left for another.
    """
    found = {} if originals is None else originals.found
    letters: list[Record] = []
    size_bytes = HEADER_SIZE
    for place, record in enumerate(records):
        if place and originals is not None and not records[0].offset <= record.offset < originals.next_offset:
            break
        key, value = found.get(record.offset, _NONE)
        letter = Record(place, now_ms, key, value, _headers(origin, record))
        size_bytes += record_size_bytes(letter, 0, now_ms)
        if letters and size_bytes > max_bytes:
            break
        letters.append(letter)
    return build_batch(letters), len(letters)


def _headers(origin: Origin, record: GivenUp) -> list[tuple[str, bytes | None]]:
    return [
        ("__dlq.errors.topic", origin.topic.encode()),
        ("__dlq.errors.partition", b"%d" % origin.partition),
        ("__dlq.errors.offset", b"%d" % record.offset),
        ("__dlq.errors.group", origin.group_id.encode()),
        ("__dlq.errors.delivery.count", b"%d" % record.delivery_count),
        ("__dlq.errors.message", _REJECTED if record.is_rejected else _TOO_OFTEN),
    ]


def originals_in(records: Buffer, wanted: frozenset[int], max_bytes: int) -> Steps[Originals]:
    """The wanted ones among the records of these batches.

    A batch that inflates beyond `max_bytes` can be in no queue and is passed over, as is one that cannot be read; and
    once there is more than that in all, the rest is left for another time.
    """
    found: dict[int, KeyAndValue] = {}
    size_bytes, next_offset, in_order = 0, 0, sorted(wanted)
    view = memoryview(records)
    for position, header in walk(records):
        following = bisect_left(in_order, header.base_offset)
        if following == len(in_order) or size_bytes > max_bytes:
            break
        next_offset = header.next_offset
        if in_order[following] >= next_offset:
            continue
        batch = view[position : position + header.size_bytes]
        try:
            for count, record in enumerate(iterate_records(batch, max_bytes if header.codec else len(batch))):
                if record.offset in wanted:
                    found[record.offset] = record.key, record.value
                    size_bytes += len(record.key or b"") + len(record.value or b"")
                if not count % _RECORDS_A_STEP:
                    yield
        except CorruptBatch:
            continue
    return Originals(found, next_offset)
