"""Control batches: the markers that end a transaction on a partition (KIP-98).

A marker is one record. Its key is version 0 and a type; its value is version 0 and the coordinator's epoch.
"""

import struct
from typing import NamedTuple

from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records

_ABORT = 0
_COMMIT = 1


class EndMarker(NamedTuple):
    """How a transaction ended, said by which epoch of its coordinator.

    `transaction_version` is by which rules, and does not stand in the record: one that is read has 0.
    """

    committed: bool
    coordinator_epoch: int
    transaction_version: int = 0


class ControlHeader(BatchHeader):
    """The header of a control batch, and what its marker says: who judges or replays it needs none of its bytes."""

    marker: EndMarker | None
    """None for control records of another kind."""

    @classmethod
    def of(cls, header: BatchHeader, marker: EndMarker | None) -> "ControlHeader":
        control = cls(*header)
        control.marker = marker
        return control


def header_view(header: BatchHeader, batch: Buffer) -> BatchHeader:
    """The header as sequencing takes it: a `ControlHeader` for the control batch of a producer, which `batch` holds.

    Raises CorruptBatch when the marker cannot be read.
    """
    if not (header.is_control and header.has_producer):
        return header
    return ControlHeader.of(header, read_end_marker(batch))


def build_end_marker(
    marker: EndMarker, *, producer_id: int, producer_epoch: int, timestamp: int, leader_epoch: int = 0
) -> bytes:
    """The control batch that carries the marker."""
    key = struct.pack(">hh", 0, _COMMIT if marker.committed else _ABORT)
    value = struct.pack(">hi", 0, marker.coordinator_epoch)
    return build_batch(
        [Record(0, timestamp, key, value, [])],
        leader_epoch=leader_epoch,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        transactional=True,
        control=True,
    )


def read_end_marker(batch: Buffer) -> EndMarker | None:
    """The marker in a control batch; None for control records of another kind, and for what compaction left of one."""
    records = read_records(batch)
    if not records:
        return None
    key, value = records[0].key, records[0].value
    if key is None or len(key) < 4:
        raise CorruptBatch("a control record without a type")
    _, kind = struct.unpack_from(">hh", key)
    if kind not in (_ABORT, _COMMIT):
        return None
    if len(records) != 1:
        raise CorruptBatch(f"a control batch with {len(records)} records")
    if value is None or len(value) < 6:
        raise CorruptBatch("an end marker without a coordinator epoch")
    _, epoch = struct.unpack_from(">hi", value)
    return EndMarker(kind == _COMMIT, epoch)
