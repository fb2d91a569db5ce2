"""Finds a record by its time within one batch (KIP-33, KIP-734), step by step: a batch may hold a million records."""

from kafkapy.records.batch import BatchHeader, Buffer
from kafkapy.records.skimming import skim
from kafkapy.storage.base import FoundTime
from kafkapy.turns import Steps


def first_at_or_after(batch: Buffer, header: BatchHeader, timestamp: int, start_offset: int) -> Steps[FoundTime | None]:
    """The first record at `start_offset` or later whose timestamp is at least `timestamp`. Raises CorruptBatch."""
    if header.max_timestamp < timestamp or header.last_offset < start_offset:
        return None
    for timestamp_deltas, offset_deltas, _ in skim(batch, header):
        for timestamp_delta, offset_delta in zip(timestamp_deltas, offset_deltas, strict=True):
            found = _found(header, timestamp_delta, offset_delta)
            if found.timestamp >= timestamp and found.offset >= start_offset:
                return found
        yield
    return None


def first_with_max_timestamp(batch: Buffer, header: BatchHeader) -> Steps[FoundTime | None]:
    """The first record that has the batch's largest timestamp. Raises CorruptBatch."""
    wanted = header.max_timestamp - header.base_timestamp
    for timestamp_deltas, offset_deltas, _ in skim(batch, header):
        if timestamp_deltas:
            if header.is_log_append_time:
                return _found(header, timestamp_deltas[0], offset_deltas[0])
            if wanted in timestamp_deltas:
                return _found(header, wanted, offset_deltas[timestamp_deltas.index(wanted)])
        yield
    return None


def _found(header: BatchHeader, timestamp_delta: int, offset_delta: int) -> FoundTime:
    timestamp = header.max_timestamp if header.is_log_append_time else header.base_timestamp + timestamp_delta
    return FoundTime(header.base_offset + offset_delta, timestamp, header.leader_epoch)
