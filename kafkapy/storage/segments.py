"""When a log begins another segment, and which of its oldest ones are kept no longer: for every store.

Pure decisions on what is known of segments. Source: the rules of Kafka's log (segment.bytes, segment.ms, retention.ms,
retention.bytes).
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple, Protocol

from kafkapy.model import NO_TIMESTAMP
from kafkapy.records.batch import BatchHeader
from kafkapy.storage.base import LogSettings

MAX_RELATIVE_OFFSET: Final = 2**31 - 1
"""From a segment's first offset to its last, as its indexes have room for it."""

CHECKPOINTED_BYTES: Final = 4 << 20


class Growing(Protocol):
    """A segment that is written to. `first_timestamp`: of its first batch, by which it ages."""

    base_offset: int
    size: int
    first_timestamp: int | None


class Segment:
    """What is known of a segment without its batches: what retention drops, and compaction takes, as a whole."""

    __slots__ = ("base_offset", "first_timestamp", "max_timestamp", "size", "written_ms")

    def __init__(self, base_offset: int) -> None:
        self.base_offset = base_offset
        self.size = 0
        self.first_timestamp: int | None = None
        self.max_timestamp = NO_TIMESTAMP
        self.written_ms = 0

    @property
    def latest_ms(self) -> int:
        """The largest timestamp; where no record has one, that of the last write."""
        return self.max_timestamp if self.max_timestamp >= 0 else self.written_ms

    def note(self, header: BatchHeader, now_ms: int) -> None:
        """The segment has this batch, too."""
        if self.first_timestamp is None:
            self.first_timestamp = header.max_timestamp
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)
        self.written_ms = now_ms
        self.size += header.size_bytes


class Extent(NamedTuple):
    """A segment as retention sees it: the offset after its last one, its size in bytes, its largest timestamp.

    Where no record has a time the timestamp is that of the last write.
    """

    end_offset: int
    size: int
    latest_ms: int


def is_full(
    segment: Growing, added_bytes: int, last_offset: int, timestamp: int, settings: LogSettings, jitter_ms: int
) -> bool:
    """Whether batches of so many bytes, up to this offset and this late, must not join the segment."""
    size = segment.size
    if not size:
        return False
    if size + added_bytes > settings.segment_bytes or last_offset - segment.base_offset > MAX_RELATIVE_OFFSET:
        return True
    # It ages by its records' times; one that begins with a record without a time does not age.
    first = segment.first_timestamp
    return first is not None and first >= 0 and timestamp - first > settings.segment_ms - jitter_ms


def ends_at_checkpoint(segments: Sequence[Growing]) -> bool:
    """Whether a checkpoint of a log's state ends its last segment, long before segment.bytes (100 MiB for
    `__consumer_offsets`): only what lies in segments that are ended can be compacted, or trimmed.
    """
    return bool(segments) and segments[-1].size >= CHECKPOINTED_BYTES


def count_expired(
    segments: Iterable[Extent], size: int, settings: LogSettings, high_watermark: int, now_ms: int
) -> int:
    """How many of these, the oldest first, of a log of `size` bytes, are kept no longer.

    What is beyond the high watermark is kept in any case, and so is a last segment that is empty.
    """
    segments = [segment for segment in segments if segment.end_offset <= high_watermark]
    count = 0
    if settings.retention_bytes >= 0:
        surplus = size - settings.retention_bytes
        for segment in segments:
            surplus -= segment.size
            if surplus < 0 or not segment.size:
                break
            count += 1
    if settings.retention_ms >= 0:
        for segment in islice(segments, count, None):
            if now_ms - segment.latest_ms <= settings.retention_ms or not segment.size:
                break
            count += 1
    return count
