"""What the owner of a lane knows of one of its logs: where it begins and ends, who writes to it, where its bytes lie.

Changed only by entries, in their order, so that whoever has read the same entries has the same state. What is in an
entry that is yet to be committed is in the state, too; readers go by `seen`, which tells of committed ones only. Pure.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from kafkapy.model import NO_TIMESTAMP, IsolationLevel
from kafkapy.records.batch import BatchHeader
from kafkapy.storage.aborted import AbortedRow, first_from
from kafkapy.storage.base import Bounds, LogSettings, Reach
from kafkapy.storage.compaction import Cleanable
from kafkapy.storage.segments import Extent, Segment, count_expired, ends_at_checkpoint, is_full
from kafkapy.storage.sequencing import Accepted, Head

IN_PIECE = -1
"""Of a place that is a piece, in place of an entry's number."""

ONLY_SEGMENT = 0
"""For readers: what lies in rows has no files."""

_NO_JITTER = 0


class Place(NamedTuple):
    """Where batches lie: `at` this byte of what the entry `seq` brought, or all of a piece, named by its first offset.

    `position`: among all bytes that the log ever had.
    """

    base_offset: int
    end_offset: int
    position: int
    size: int
    max_timestamp: int
    seq: int = IN_PIECE
    at: int = 0


class Seen(NamedTuple):
    """How far readers get: the end, the last stable offset, and where these lie among all bytes."""

    end_offset: int = 0
    stable_offset: int = 0
    end_position: int = 0
    stable_position: int = 0


class LogState:
    """One log."""

    def __init__(self) -> None:
        self.head = Head()
        self.start = 0
        self.end_position = 0
        self.cleaned_to = 0
        self.segments: list[Segment] = []
        self._is_ended = False  # the last segment: the next write begins another
        self.epochs: list[tuple[int, int]] = []
        """Each leader epoch in which something was written, and its first offset."""
        self.aborted: list[AbortedRow] = []
        self.open_positions: dict[int, int] = {}
        """Where the open transactions' first batches lie, by producer id."""
        self.places: list[Place] = []
        self.seen = Seen()

    def see(self) -> None:
        """All of it is committed."""
        head = self.head
        oldest = next(iter(head.open_transactions), None)
        self.seen = Seen(
            head.end_offset,
            head.last_stable_offset,
            self.end_position,
            self.end_position if oldest is None else self.open_positions[oldest],
        )

    def bounds(self) -> Bounds:
        """The offsets as readers see them."""
        seen = self.seen
        return Bounds(self.start, seen.end_offset, max(seen.stable_offset, self.start), seen.end_offset)

    def reach(self, isolation: IsolationLevel) -> Reach:
        """How far such a reader gets."""
        end, stable, end_position, stable_position = self.seen
        if isolation is IsolationLevel.READ_COMMITTED and stable >= self.start:
            return Reach(self.start, stable, ONLY_SEGMENT, stable_position)
        limit = self.start if isolation is IsolationLevel.READ_COMMITTED else end
        return Reach(self.start, limit, ONLY_SEGMENT, end_position)

    def needs_segment(self, headers: Sequence[BatchHeader], size: int, end_offset: int, settings: LogSettings) -> bool:
        """Whether these batches must not join the last segment."""
        if not self.segments or self._is_ended:
            return True
        latest = max(header.max_timestamp for header in headers)
        return is_full(self.segments[-1], size, end_offset - 1, latest, settings, _NO_JITTER)

    def checkpointed(self) -> None:
        """A checkpoint holds what the log says."""
        self._is_ended = ends_at_checkpoint(self.segments)

    def take(self, headers: Sequence[BatchHeader], accepted: Accepted) -> None:
        """The head's verdict becomes the state; `headers` have their offsets. `add` follows."""
        self.head.take(accepted)
        self.aborted += accepted.aborted

    def replay(self, headers: Sequence[BatchHeader]) -> None:
        """The same for batches that are in the log already."""
        for header in headers:
            row = self.head.replay(header)
            if row is not None:
                self.aborted.append(row)

    def add(
        self, headers: Sequence[BatchHeader], *, begins_segment: bool, seq: int, at: int, size: int, now_ms: int
    ) -> None:
        """These batches, which the head knows, lie there in the entry `seq`."""
        base_offset = headers[0].base_offset
        if begins_segment:
            self.segments.append(Segment(base_offset))
            self._is_ended = False
        if not self.epochs or self.epochs[-1][0] != headers[0].leader_epoch:
            self.epochs.append((headers[0].leader_epoch, base_offset))
        segment, position, open_transactions = self.segments[-1], self.end_position, self.head.open_transactions
        max_timestamp = NO_TIMESTAMP
        for header in headers:
            segment.note(header, now_ms)
            max_timestamp = max(max_timestamp, header.max_timestamp)
            if header.is_transactional:
                if header.is_control:
                    self.open_positions.pop(header.producer_id, None)
                if open_transactions.get(header.producer_id) == header.base_offset:
                    self.open_positions[header.producer_id] = position
            position += header.size_bytes
        end_offset = headers[-1].next_offset
        self.places.append(Place(base_offset, end_offset, self.end_position, size, max_timestamp, seq, at))
        self.end_position = position

    def begin_at(self, offset: int) -> list[Place]:
        """The log begins there now; what lies before it altogether."""
        self.start = max(self.start, min(offset, self.head.end_offset))
        while len(self.segments) > 1 and self.segments[1].base_offset <= self.start:
            del self.segments[0]
        if self.start == self.head.end_offset:
            self.segments.clear()  # what comes does not age, nor is it large, with what went
        while len(self.epochs) > 1 and self.epochs[1][1] <= self.start:
            del self.epochs[0]
        del self.aborted[: first_from(self.aborted, self.start)]
        count = 0
        while count < len(self.places) and self.places[count].end_offset <= self.start:
            count += 1
        gone = self.places[:count]
        del self.places[:count]
        return gone

    def index_of(self, offset: int) -> int:
        """The index of the place that holds the offset, or of the first one after it."""
        index = max(bisect_right(self.places, offset, key=_base_offset) - 1, 0)
        if index < len(self.places) and self.places[index].end_offset <= offset:
            index += 1
        return index

    def expired_to(self, settings: LogSettings, now_ms: int) -> int | None:
        """Where the log is to begin by its settings; None: where it does."""
        segments, end = self.segments, self.seen.end_offset
        if not segments or end != self.head.end_offset:
            return None
        ends = [*(segment.base_offset for segment in segments[1:]), end]
        extents = [Extent(end, segment.size, segment.latest_ms) for segment, end in zip(segments, ends, strict=True)]
        size = sum(segment.size for segment in segments)
        count = count_expired(extents, size, settings, end, now_ms)
        if not count:
            return None
        return end if count == len(segments) else segments[count].base_offset

    def cleanable(self) -> list[Cleanable]:
        """The segments as the cleaner sees them."""
        return [Cleanable(one.base_offset, one.size, one.first_timestamp, one.latest_ms) for one in self.segments]

    def epoch_end(self, leader_epoch: int) -> tuple[int, int] | None:
        """The largest epoch at or below the asked one, and where it ended."""
        found = None
        for index, (epoch, _) in enumerate(self.epochs):
            if epoch > leader_epoch:
                break
            following = self.epochs[index + 1][1] if index + 1 < len(self.epochs) else self.seen.end_offset
            found = (epoch, following)
        return found

    @property
    def size_bytes(self) -> int:
        return sum(place.size for place in self.places)


def _base_offset(place: Place) -> int:
    return place.base_offset
