"""Batches and writes for the tests of stores."""

from typing import Any

from kafkapy.model import LogId
from kafkapy.records.batch import BatchHeader, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.control import EndMarker, build_end_marker, header_view
from kafkapy.records.record import Record, read_records
from kafkapy.storage.base import Logs, LogSettings, Origin, Outcome, Write

LOG = LogId("t", 0, b"1" * 16)
OTHER = LogId("u", 3, b"2" * 16)
SMALL = LogSettings(segment_bytes=2000, index_interval_bytes=200)


def batch(*values: bytes, at: int = 1000, **options: Any) -> bytes:
    return build_batch([Record(i, at + i, b"k", value, []) for i, value in enumerate(values)], **options)


def write(log: LogId, data: bytes, **options: Any) -> Write:
    return Write(log, data, headers(data), **options)


def headers(data: bytes) -> list[BatchHeader]:
    """The batches' headers as sequencing takes them."""
    return [header_view(header, data[position : position + header.size_bytes]) for position, header in walk(data)]


def sent(sequence: int, *values: bytes, producer: int = 7, epoch: int = 0, **options: Any) -> bytes:
    return batch(*values, producer_id=producer, producer_epoch=epoch, base_sequence=sequence, **options)


def marker(producer: int, *, committed: bool, epoch: int = 0, coordinator: int = 0) -> bytes:
    return build_end_marker(EndMarker(committed, coordinator), producer_id=producer, producer_epoch=epoch, timestamp=5)


async def append(logs: Logs, log: LogId, data: bytes, **options: Any) -> Outcome:
    [outcome] = await logs.append([write(log, data, **options)]).wait()
    return outcome


async def end(logs: Logs, log: LogId, producer: int, *, committed: bool) -> Outcome:
    return await append(logs, log, marker(producer, committed=committed), origin=Origin.COORDINATOR)


def values(records: Any) -> list[tuple[int, bytes | None]]:
    """Offset and value of every record of the whole batches in these bytes."""
    found = []
    for position, header in walk(records):
        piece = memoryview(records)[position : position + header.size_bytes]
        found += [(record.offset, record.value) for record in read_records(piece)]
    return found
