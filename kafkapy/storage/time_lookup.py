"""Finds a record by its time within one batch (KIP-33, KIP-734), step by step: a batch may hold a million records."""

from kafkapy.records.batch import BatchHeader, Buffer
from kafkapy.records.passing import RECORDS_A_STEP, Row
from kafkapy.records.walking import Walk
from kafkapy.storage.base import FoundTime
from kafkapy.turns import Steps


def first_at_or_after(batch: Buffer, header: BatchHeader, timestamp: int, start_offset: int) -> Steps[FoundTime | None]:
    """The first record at `start_offset` or later whose timestamp is at least `timestamp`. Raises CorruptBatch."""
    if header.max_timestamp < timestamp or header.last_offset < start_offset:
        return None
    for stretch in Walk(batch, header, at_once=RECORDS_A_STEP):
        if header.is_log_append_time or stretch.latest >= timestamp:
            for row in stretch.rows():
                found = _found(header, row)
                if found.timestamp >= timestamp and found.offset >= start_offset:
                    return found
        yield
    return None


def first_with_max_timestamp(batch: Buffer, header: BatchHeader) -> Steps[FoundTime | None]:
    """The first record that has the batch's largest timestamp. Raises CorruptBatch."""
    for stretch in Walk(batch, header, at_once=RECORDS_A_STEP):
        if header.is_log_append_time or stretch.earliest <= header.max_timestamp <= stretch.latest:
            for row in stretch.rows():
                found = _found(header, row)
                if found.timestamp == header.max_timestamp:
                    return found
        yield
    return None


def _found(header: BatchHeader, row: Row) -> FoundTime:
    timestamp = header.max_timestamp if header.is_log_append_time else row.timestamp
    return FoundTime(header.base_offset + row.offset_delta, timestamp, header.leader_epoch)
