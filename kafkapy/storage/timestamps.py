"""Finding a record by its timestamp inside one batch (KIP-33, KIP-734)."""

from kafkapy.records.batch import BatchHeader, Buffer
from kafkapy.records.record import iterate_records
from kafkapy.storage.base import FoundTime


def first_at_or_after(batch: Buffer, header: BatchHeader, timestamp: int, start_offset: int) -> FoundTime | None:
    """The first record at `start_offset` or later whose timestamp is at least `timestamp`."""
    for record in iterate_records(batch):
        if record.timestamp >= timestamp and record.offset >= start_offset:
            return FoundTime(record.offset, record.timestamp, header.leader_epoch)
    return None


def first_with_max_timestamp(batch: Buffer, header: BatchHeader) -> FoundTime | None:
    """The first record that has the batch's largest timestamp."""
    for record in iterate_records(batch):
        if record.timestamp == header.max_timestamp:
            return FoundTime(record.offset, record.timestamp, header.leader_epoch)
    return None
