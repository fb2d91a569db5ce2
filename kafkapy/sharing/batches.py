"""Records of a share group by their states, as ranges of offsets: what a partition's state is made of (KIP-932).

Pure. Shared by the partition (`window.py`) and by the coordinator that keeps its state (`state/machine.py`).
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

UNKNOWN_START: Final = -1
"""In place of a start offset: the group begins where its setting `share.auto.offset.reset` says."""

UNKNOWN_COUNT: Final = -1
"""In place of how many deliveries are complete: whoever wrote the state did not count them."""


class RecordState(IntEnum):
    """What became of a record so far; the value is the number in records and requests."""

    AVAILABLE = 0
    """May be given to a member -> ACQUIRED; or is no more -> ARCHIVED."""
    ACQUIRED = 1
    """A member has it, for a while -> AVAILABLE, ACKNOWLEDGED, ARCHIVING, ARCHIVED. Never written down."""
    ACKNOWLEDGED = 2
    """Done with, for good."""
    ARCHIVING = 3
    """Given up, and on its way into the group's dead-letter queue -> ARCHIVED (KIP-1191)."""
    ARCHIVED = 4
    """Given up, for good."""

    @property
    def is_complete(self) -> bool:
        """Whether nobody will be given the record again."""
        return self is RecordState.ACKNOWLEDGED or self is RecordState.ARCHIVED


class StateBatch(NamedTuple):
    """Records from one offset to another (both included) that have the same state and delivery count."""

    first_offset: int
    last_offset: int
    delivery_state: int
    delivery_count: int


def merged(so_far: Sequence[StateBatch], news: Iterable[StateBatch], start_offset: int) -> tuple[StateBatch, ...]:
    """What `so_far` (sorted, without overlaps) and the news add up to, from `start_offset` on (-1: everything).

    Where both tell of a record, the larger delivery count is right, and with the same count the larger state: neither
    ever goes back. Neighbours of the same state are one batch.
    """
    batches = [batch for batch in so_far if batch.last_offset >= start_offset]
    for batch in news:
        _lay_over(batches, batch)
    out: list[StateBatch] = []
    for batch in batches:
        if batch.last_offset < start_offset:
            continue
        if batch.first_offset < start_offset:
            batch = batch._replace(first_offset=start_offset)
        if out and out[-1].last_offset + 1 == batch.first_offset and out[-1][2:] == batch[2:]:
            out[-1] = out[-1]._replace(last_offset=batch.last_offset)
        else:
            out.append(batch)
    return tuple(out)


def _lay_over(batches: list[StateBatch], new: StateBatch) -> None:
    begin = bisect_left(batches, new.first_offset, key=lambda batch: batch.last_offset)
    end, at, pieces = begin, new.first_offset, []
    while end < len(batches) and batches[end].first_offset <= new.last_offset:
        old = batches[end]
        end += 1
        if at < old.first_offset:
            pieces.append(new._replace(first_offset=at, last_offset=old.first_offset - 1))
            at = old.first_offset
        if old.first_offset < at:
            pieces.append(old._replace(last_offset=at - 1))
        both_end_at = min(old.last_offset, new.last_offset)
        winner = new if _rank(new) >= _rank(old) else old
        pieces.append(winner._replace(first_offset=at, last_offset=both_end_at))
        at = both_end_at + 1
        if at <= old.last_offset:
            pieces.append(old._replace(first_offset=at))
    if at <= new.last_offset:
        pieces.append(new._replace(first_offset=at))
    batches[begin:end] = pieces


def _rank(batch: StateBatch) -> tuple[int, int]:
    return batch.delivery_count, batch.delivery_state
