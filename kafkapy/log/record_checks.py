"""What a topic may ask of single records: a key, a time within bounds.

The records of a batch are skimmed, step by step; the columns of a step mostly say at once that all is well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_TIMESTAMP, LogId
from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch
from kafkapy.records.skimming import Skimmed, skim
from kafkapy.turns import Steps

_NO_BOUND = 1 << 64


class RecordError(NamedTuple):
    """One record that was refused (KIP-467): its position in the batch, and why."""

    position: int
    message: str


class BatchRefused(KafkaError):
    """A batch, or some of its records, are not acceptable to the log; the answer names the log's start."""

    def __init__(self, error: Error, message: str, record_errors: Sequence[RecordError] = ()) -> None:
        super().__init__(error, message)
        self.record_errors = record_errors


@dataclass(frozen=True, slots=True)
class RecordChecks:
    """What this log asks: keys if it is compacted, times within [low, high] (milliseconds)."""

    log: LogId
    compacted: bool
    low: int = -_NO_BOUND
    high: int = _NO_BOUND

    def walk(self, data: Buffer, header: BatchHeader) -> Steps[int]:
        """Look at every record; the latest timestamp. Raises BatchRefused."""
        latest, position = NO_TIMESTAMP, 0
        late_or_early = False
        errors: list[RecordError] = []
        try:
            for skimmed in skim(data, header):
                if skimmed.key_sizes:
                    first, last = _times(skimmed, header)
                    latest = max(latest, last)
                    if first < self.low or last > self.high or (self.compacted and -1 in skimmed.key_sizes):
                        late_or_early |= self._note_errors(skimmed, header, position, errors)
                    position += len(skimmed.key_sizes)
                yield
        except CorruptBatch as corrupt:
            raise BatchRefused(Error.INVALID_RECORD, f"{corrupt} in topic partition {self.log}") from corrupt
        message = "One or more records have been rejected"
        if late_or_early:
            raise BatchRefused(Error.INVALID_TIMESTAMP, f"{message} due to invalid timestamp", errors)
        if errors:
            message = f"{message} due to {len(errors)} record errors in total, and only showing the first three errors"
            raise BatchRefused(Error.INVALID_RECORD, message, errors)
        return latest

    def _note_errors(self, skimmed: Skimmed, header: BatchHeader, position: int, errors: list[RecordError]) -> bool:
        """Add what is wrong with these records, the first of which has this position; whether it is a time."""
        late_or_early = False
        for timestamp_delta, offset_delta, key_size in zip(*skimmed, strict=True):
            timestamp = header.max_timestamp if header.is_log_append_time else header.base_timestamp + timestamp_delta
            if self.compacted and key_size < 0:
                problem = f"Compacted topic cannot accept message without key in topic partition {self.log}"
                errors.append(RecordError(position, problem))
            elif timestamp != NO_TIMESTAMP and not self.low <= timestamp <= self.high:
                late_or_early = True
                problem = (
                    f"Timestamp {timestamp} of message with offset {header.base_offset + offset_delta} is out of "
                    f"range. The timestamp should be within [{self.low}, {self.high}]"
                )
                errors.append(RecordError(position, problem))
            position += 1
        return late_or_early


def _times(skimmed: Skimmed, header: BatchHeader) -> tuple[int, int]:
    """The earliest and the latest."""
    if header.is_log_append_time:
        return header.max_timestamp, header.max_timestamp
    deltas = skimmed.timestamp_deltas
    return header.base_timestamp + min(deltas), header.base_timestamp + max(deltas)
