"""When a log begins another segment, and which of its oldest ones are kept no longer: for every store.

Pure decisions on what is known of segments. Source: the rules of Kafka's log (segment.bytes, segment.ms, retention.ms,
retention.bytes).
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple, Protocol

from kafkapy.storage.base import LogSettings

_MAX_RELATIVE_OFFSET: Final = 2**31 - 1


class Growing(Protocol):
    """A segment that is written to. `first_timestamp`: of its first batch, by which it ages."""

    base_offset: int
    size: int
    first_timestamp: int | None


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
    if size + added_bytes > settings.segment_bytes or last_offset - segment.base_offset > _MAX_RELATIVE_OFFSET:
        return True
    # It ages by its records' times; one that begins with a record without a time does not age.
    first = segment.first_timestamp
    return first is not None and first >= 0 and timestamp - first > settings.segment_ms - jitter_ms


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
