"""Gives a member records of a share partition: which of those that a read brought, and in which pieces (KIP-932).

Pure; works on a `Window`. Records that come free are given before new ones, as the read begins with them. By batches
(the default) a member gets whole batches, even beyond what it asked for; by record limit (KIP-1206) it never gets more.
Records that were given often go out in ever smaller lots, and before their last time one by one: so one that no member
can cope with does not take along its neighbours.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kafkapy.records.batch import BatchHeader
from kafkapy.sharing.batches import RecordState
from kafkapy.sharing.in_flight import Batch, InFlight, Limits
from kafkapy.sharing.window import Window

_LEAST_TO_THROTTLE: Final = 2
"""Deliveries from which on records go out in smaller lots, whatever the limit is."""


class Wish(NamedTuple):
    """Who wants how much. A piece that is given has about `batch_size` records at most, by batches."""

    member_id: str
    max_records: int
    batch_size: int
    by_record_limit: bool = False


class Acquired(NamedTuple):
    """Records that a member has now, and how often they were given to anybody."""

    first: int
    last: int
    delivery_count: int


def acquire(
    window: Window,
    wish: Wish,
    fetch_offset: int,
    read: Sequence[BatchHeader],
    aborted: Sequence[BatchHeader],
    limits: Limits,
    now: float,
) -> list[Acquired]:
    """What the member is given of the batches that were read from that offset on; `aborted` are those of no use."""
    if not read or wish.max_records <= 0:
        return []
    most, last = _allowance(window, wish.max_records, fetch_offset, read[-1].last_offset, limits)
    if most <= 0:
        return []
    base_offset = read[0].base_offset
    if fetch_offset < base_offset:
        if window.archive(fetch_offset, base_offset - 1, RecordState.AVAILABLE):  # compaction has taken them
            window.looks_for_available = True
        if window.gap_offset is not None and window.gap_offset < base_offset:
            window.use_gap(base_offset)
    acquired = _Acquiring(window, wish, read, limits, now).run(base_offset, last, most)
    for batch in aborted:
        window.archive(batch.base_offset, batch.last_offset, RecordState.ACQUIRED)
    window.advance()
    return without(acquired, aborted) if aborted else acquired


def without(acquired: Iterable[Acquired], unwanted: Sequence[BatchHeader]) -> list[Acquired]:
    """What is left of it without the records of these batches; both are in order."""
    out = []
    for first, last, count in acquired:
        for batch in unwanted:
            if batch.last_offset < first:
                continue
            if batch.base_offset > last:
                break
            if first < batch.base_offset:
                out.append(Acquired(first, batch.base_offset - 1, count))
            first = batch.last_offset + 1
        if first <= last:
            out.append(Acquired(first, last, count))
    return out


def _allowance(
    window: Window, max_records: int, fetch_offset: int, last_offset: int, limits: Limits
) -> tuple[int, int]:
    """How many records may be given, and up to which one. A window that is full is served within all the same."""
    room = limits.record_locks - window.record_count
    if room > 0:
        return min(max_records, room), last_offset
    if fetch_offset > window.end_offset:
        return 0, last_offset
    return min(max_records, window.end_offset - fetch_offset + 1), min(last_offset, window.end_offset)


class _Acquiring:
    """One member's turn at what one read brought."""

    def __init__(self, window: Window, wish: Wish, read: Sequence[BatchHeader], limits: Limits, now: float) -> None:
        self._window = window
        self._wish = wish
        self._read = read
        self._limit = limits.delivery_count
        self._throttled_from = max(_LEAST_TO_THROTTLE, -(-limits.delivery_count // 2))
        self._deadline = now + limits.lock_seconds
        self._given: list[Acquired] = []
        self._count = 0

    def run(self, first: int, last: int, most: int) -> list[Acquired]:
        """Give up to `most` of the records from the first to the last, or a few more where a batch ends later."""
        window, begin = self._window, first
        floor = window.floor(begin)
        if floor is None:
            begin = max(begin, window.start_offset)
        elif floor.last >= begin:
            begin = floor.first
        batches = window.between(begin, last)
        if not batches:
            self._give_new(max(first, window.start_offset), last, most)
            return self._given
        gap = begin if window.gap_offset is None else max(begin, window.gap_offset)
        for batch in batches:
            if self._count >= most:
                break
            if window.has_gaps:
                if gap < batch.first:
                    self._give_new(gap, batch.first - 1, most - self._count)
                gap = max(gap, batch.last + 1)
                if self._count >= most:
                    break
            if not self._give_again(batch, first, last, most):
                most = 0
        if self._count < most and batches[-1].last < last:
            self._give_new(batches[-1].last + 1, last, most - self._count)
        if self._given:
            window.use_gap(self._given[-1].last + 1)
        return self._given

    # Records that were given before

    def _give_again(self, batch: Batch, first: int, last: int, most: int) -> bool:
        """Give what is free of a batch that is known; whether others may follow."""
        room = most - self._count
        is_throttled = self._is_throttled(batch, first, last)
        if is_throttled and self._count:
            return False
        if batch.whole is not None:
            if not batch.whole.is_available:
                return True
            is_within = first <= batch.first and batch.last <= last
            is_too_much = self._wish.by_record_limit and batch.last - batch.first + 1 > room
            if is_within and not is_too_much and not is_throttled:
                batch.whole.acquire(self._wish.member_id, self._deadline)
                self._hand_out(batch, batch.first, batch.last, batch.whole)
                return True
            batch.split()
        given = self._give_some(batch, first, last, room)
        return not (is_throttled and given)

    def _is_throttled(self, batch: Batch, first: int, last: int) -> bool:
        if batch.whole is not None:
            return batch.whole.delivery_count >= self._throttled_from
        return any(
            part.one.state is RecordState.AVAILABLE and part.one.delivery_count >= self._throttled_from
            for part in batch.within(first, last)
        )

    def _give_some(self, batch: Batch, first: int, last: int, room: int) -> int:
        """Give records of a batch one by one, those that were given often in a smaller lot; how many."""
        given, most, limit = 0, 0, self._limit
        for offset, _, one in batch.within(first, last):
            if not one.is_available:
                continue
            count = one.delivery_count
            if limit > _LEAST_TO_THROTTLE and count == limit - 1 and given:
                break  # its last time: alone
            if count >= self._throttled_from and not most:
                most = max(1, len(batch.parts) >> (count - self._throttled_from + 1))
            one.acquire(self._wish.member_id, self._deadline)
            self._hand_out(batch, offset, offset, one)
            given += 1
            if limit > _LEAST_TO_THROTTLE and one.delivery_count == limit:
                break
            if given == most or (self._wish.by_record_limit and given == room):
                break
        return given

    def _hand_out(self, batch: Batch, first: int, last: int, one: InFlight) -> None:
        batch.touch()
        self._window.hold(batch, self._deadline)
        self._count += last - first + 1
        before = self._given[-1] if self._given else None
        if before is not None and batch.first <= before.first and before[1:] == (first - 1, one.delivery_count):
            self._given[-1] = before._replace(last=last)
        else:
            self._given.append(Acquired(first, last, one.delivery_count))

    # Records that were not

    def _give_new(self, first: int, last: int, most: int) -> None:
        window = self._window
        if most < last - first + 1:
            whole = self._end_of_batch(first + most - 1)
            last = min(whole, last) if window.has_gaps else whole
        given = self._new_batches(first, last, most)
        if window.firsts[0] == first:
            window.start_offset = first
        window.end_offset = max(window.end_offset, last)
        self._given += given
        end = given[-1].last
        self._count += end - first + 1
        window.use_gap(end + 1)

    def _new_batches(self, first: int, last: int, most: int) -> list[Acquired]:
        window, member_id, deadline = self._window, self._wish.member_id, self._deadline
        if self._wish.by_record_limit and last - first + 1 > most:
            batch = Batch(first, last, InFlight(RecordState.AVAILABLE, 0))
            batch.split()
            for part in batch.within(first, first + most - 1):
                part.one.acquire(member_id, deadline)
            window.add(batch)
            window.hold(batch, deadline)
            window.looks_for_available = True
            return [Acquired(first, first + most - 1, 1)]
        begins = [first]
        if not self._wish.by_record_limit and last - first + 1 > self._wish.batch_size:
            for header in self._read:
                if header.base_offset > last:
                    break
                if header.base_offset - begins[-1] >= self._wish.batch_size:
                    begins.append(header.base_offset)
        given = []
        for begin, following in zip(begins, [*begins[1:], last + 1], strict=True):
            batch = Batch(begin, following - 1, InFlight(RecordState.ACQUIRED, 1, member_id, deadline))
            window.add(batch)
            window.hold(batch, deadline)
            given.append(Acquired(begin, following - 1, 1))
        return given

    def _end_of_batch(self, offset: int) -> int:
        """Where the batch ends that has this offset; the offset itself where none has."""
        for header in self._read:
            if header.base_offset <= offset <= header.last_offset:
                return header.last_offset
        return offset
