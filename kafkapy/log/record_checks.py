"""What Kafka asks of the records of a batch: that they can be read, keys on a compacted topic, times within bounds.

The records are walked over, step by step; a stretch of them mostly says at once that all is well. What cannot be read
refuses the batch as a whole; what is wrong with single records is named for each of them (KIP-467).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kafkapy.config.layers import TopicConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_TIMESTAMP, LogId
from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch
from kafkapy.records.compression import DamagedPayload
from kafkapy.records.passing import KEYLESS, RECORDS_A_STEP, UNORDERED, UNUSUAL, Row, look
from kafkapy.records.varints import as_long
from kafkapy.records.walking import OverlongLength, Stretch, Walk
from kafkapy.turns import Steps

_COMPRESSED_OR_APPEND_TIME = 0x0F
_SHOWN = 3
_NO_TIME_YET = (1 << 63) - 1


class RecordError(NamedTuple):
    """One record that was refused: its position in the batch, and why."""

    position: int
    message: str


class BatchRefused(KafkaError):
    """A batch, or some of its records, are not acceptable to the log; the answer names the log's start."""

    def __init__(self, error: Error, message: str, record_errors: Sequence[RecordError] = ()) -> None:
        super().__init__(error, message)
        self.record_errors = record_errors


class Seen(NamedTuple):
    """What the records of an acceptable batch have in common: times in milliseconds, the latest at least -1."""

    first: int
    earliest: int
    latest: int
    flags: int


@dataclass(frozen=True, slots=True)
class RecordChecks:
    """What a topic asks. Times are bounded where they are the producer's; of compressed records the size is, too."""

    compacted: bool
    append_time: bool
    before_ms: int
    after_ms: int
    max_record_bytes: int

    @staticmethod
    def of(config: TopicConfig) -> "RecordChecks":
        return RecordChecks(
            "compact" in config["cleanup.policy"],
            config["message.timestamp.type"] == "LogAppendTime",
            config["message.timestamp.before.max.ms"],
            config["message.timestamp.after.max.ms"],
            config["max.decompressed.message.bytes"],
        )

    def look(self, data: Buffer, header: BatchHeader, now_ms: int) -> int | None:
        """The latest time in a small plain batch in which all is well; None where it must be walked over."""
        if header.attributes & _COMPRESSED_OR_APPEND_TIME or (seen := look(data, header)) is None:
            return None
        earliest, latest, flags = seen
        if flags & KEYLESS and self.compacted:
            return None
        if not self.append_time and (now_ms - earliest > self.before_ms or latest - now_ms > self.after_ms):
            return None
        return latest if latest > NO_TIMESTAMP else NO_TIMESTAMP

    def walk(self, log: LogId, data: Buffer, header: BatchHeader, now_ms: int, *, kept: bool) -> Steps[Seen]:
        """Look at every record; `kept` if the batch stays under its codec. Raises BatchRefused."""
        judge = _Judge(self, log, header, now_ms, whole=not (kept and header.codec))
        first = header.max_timestamp if header.is_log_append_time else header.base_timestamp
        earliest, latest, flags = _NO_TIME_YET, NO_TIMESTAMP, 0
        walk = Walk(data, header, whole=judge.whole, max_record_bytes=self.max_record_bytes)
        try:
            for stretch in walk:
                if stretch.record_count:
                    if judge.passed == 0 and stretch.flags & UNUSUAL:
                        first = judge.time_of(next(stretch.rows()))
                    yield from judge.look(stretch)
                    earliest, latest = min(earliest, stretch.earliest), max(latest, stretch.latest)
                    flags |= stretch.flags
                if not walk.done:
                    yield
        except (DamagedPayload, OverlongLength) as damage:  # for which Kafka has no error of its own
            raise BatchRefused(Error.UNKNOWN_SERVER_ERROR, f"{damage} in topic partition {log}") from damage
        except CorruptBatch as corrupt:
            raise BatchRefused(Error.INVALID_RECORD, f"{corrupt} in topic partition {log}") from corrupt
        judge.sum_up()
        if flags & UNORDERED and not judge.whole:
            # Kafka sets out to build it anew, of records whose keys and values it has passed over.
            raise BatchRefused(Error.UNKNOWN_SERVER_ERROR, f"offsets are not dense in topic partition {log}")
        if header.is_log_append_time:
            earliest, latest = header.max_timestamp, max(header.max_timestamp, NO_TIMESTAMP)
        return Seen(first, earliest, latest, flags)


class _Judge:
    """What is wrong with single records of a batch."""

    def __init__(self, checks: RecordChecks, log: LogId, header: BatchHeader, now_ms: int, *, whole: bool) -> None:
        self._checks = checks
        self._log = log
        self._header = header
        self._now_ms = now_ms
        self._refused: list[tuple[Error, RecordError]] = []
        self.whole = whole
        self.passed = 0

    def look(self, stretch: Stretch) -> Steps[None]:
        if self._is_fine(stretch):
            self.passed += stretch.record_count
            return
        for row in stretch.rows():
            if problem := self._problem(row):
                error, message = problem
                self._refused.append((error, RecordError(self.passed, message)))
            self.passed += 1
            if self.passed % RECORDS_A_STEP == 0:
                yield

    def sum_up(self) -> None:
        """Raises BatchRefused if anything is wrong."""
        if not self._refused:
            return
        errors = [record_error for _, record_error in self._refused]
        due_to = "One or more records have been rejected due to "
        if any(error is Error.INVALID_TIMESTAMP for error, _ in self._refused):
            raise BatchRefused(Error.INVALID_TIMESTAMP, f"{due_to}invalid timestamp", errors)
        shown = ", ".join(f"RecordError(batchIndex={e.position}, message='{e.message}')" for e in errors[:_SHOWN])
        raise BatchRefused(
            Error.INVALID_RECORD,
            f"{due_to}{len(errors)} record errors in total, and only showing the first three errors at most: [{shown}]",
            errors,
        )

    def time_of(self, row: Row) -> int:
        return self._header.max_timestamp if self._header.is_log_append_time else row.timestamp

    def _is_fine(self, stretch: Stretch) -> bool:
        checks = self._checks
        if stretch.flags & KEYLESS and checks.compacted:
            return False
        if self._header.is_log_append_time:
            return False
        return checks.append_time or (
            self._now_ms - stretch.earliest <= checks.before_ms and stretch.latest - self._now_ms <= checks.after_ms
        )

    def _problem(self, row: Row) -> tuple[Error, str] | None:
        if self._checks.compacted and row.key_size < 0:
            text = f"Compacted topic cannot accept message without key in topic partition {self._log}"
            return Error.INVALID_RECORD, text
        timestamp = self.time_of(row)
        if not self._checks.append_time and timestamp != NO_TIMESTAMP:
            before_ms = as_long(self._now_ms - timestamp)
            if before_ms > self._checks.before_ms or as_long(-before_ms) > self._checks.after_ms:
                low, high = self._now_ms - self._checks.before_ms, self._now_ms + self._checks.after_ms
                return Error.INVALID_TIMESTAMP, (
                    f"Timestamp {timestamp} of message with offset {row.offset_delta} is out of range. "
                    f"The timestamp should be within [{as_long(low)}, {as_long(high)}]"
                )
        elif self._header.is_log_append_time:
            return Error.INVALID_TIMESTAMP, (
                f"Invalid timestamp type in message {self._told(row, timestamp)}. "
                "Producer should not set timestamp type to LogAppendTime."
            )
        return None

    def _told(self, row: Row, timestamp: int) -> str:
        """A record as Kafka prints it; where it was read whole, null is printed as empty."""
        name = "DefaultRecord" if self.whole else "PartialDefaultRecord"
        sizes = (row.key_size, row.value_size)
        key_size, value_size = (max(size, 0) for size in sizes) if self.whole else sizes
        return (
            f"{name}(offset={row.offset_delta}, timestamp={timestamp}, key={key_size} bytes, value={value_size} bytes)"
        )
