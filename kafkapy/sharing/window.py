"""The window of a share partition: what a group is doing with the records between its start and its end (KIP-932).

Pure. Commands come with the time and the group's limits; what must be written down before it counts comes back as a
`StateWrite`, and is settled when the write has ended. How records are given to members stands in `acquiring.py`, which
records a read brought may be given at all in `reading.py`. Called by `partitions.py`.

Invariants
 1. All before `start_offset` is done with; of what lies beyond `end_offset` nobody has been given anything. The start
    moves forward only.
 2. Batches do not overlap. What lies between them within the window was not there to be read, but for the records from
    `gap_offset` on that a loaded state said nothing of: those may be acquired still.
 3. A record that a member has comes free at its deadline at the latest, or when the write that was under way has
    failed.
 4. There is one deadline a batch, however many of its records are held.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.sharing.batches import RecordState, StateBatch
from kafkapy.sharing.in_flight import NOBODY, Batch, InFlight, Limits, Part, StateWrite
from kafkapy.timers import Timers

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)
"""How a member acknowledges a record."""

_STATE_AFTER: Final = {
    GAP: RecordState.ARCHIVED,
    ACCEPT: RecordState.ACKNOWLEDGED,
    RELEASE: RecordState.AVAILABLE,
}
"""What becomes of a record then, but for one that is rejected: that is given up as the group's `Limits` say."""

_NOT_COMPLETED: Final = "The record state is invalid. The acknowledgement of delivery could not be completed."


class Acknowledgement(NamedTuple):
    """What a member did with records from one offset to another: one type for all of them, or one each."""

    first: int
    last: int
    types: Sequence[int]

    def type_of(self, offset: int) -> int:
        return self.types[0] if len(self.types) == 1 else self.types[offset - self.first]


class Window:
    """A group's share of one partition, as it is in memory."""

    def __init__(self, start_offset: int, batches: Iterable[StateBatch] = ()) -> None:
        """As its state was written down. Raises ValueError for one that makes no sense."""
        self.start_offset = start_offset
        self.end_offset = start_offset
        self.gap_offset: int | None = None
        """From here on what is between batches may be acquired; None once that is used up."""
        self.batches: dict[int, Batch] = {}
        self.firsts: list[int] = []  # the keys in order
        self.looks_for_available = False
        """Whether there may be something to be given again, before the end."""
        self._gap_end = -1
        self._deadlines: Timers[int, None] = Timers()  # by the first offset of a batch
        before = start_offset - 1
        for first, last, state, count in batches:
            if not before < first <= last:
                raise ValueError(f"records {first} to {last} are before {before + 1}")
            if self.gap_offset is None and first > before + 1:
                self.gap_offset = before + 1
            before = last
            self.add(Batch(first, last, InFlight(RecordState(state), count)))
        if self.firsts:
            self.end_offset = self._gap_end = before
            self.looks_for_available = True
            self.advance()

    # What there is

    @property
    def has_gaps(self) -> bool:
        """Whether there may be records between the batches that nobody was given."""
        return self.gap_offset is not None and self._gap_end == self.end_offset

    @property
    def next_fetch_offset(self) -> int:
        """Where the next records to be given begin: the first that came free, or what lies behind the window."""
        if not self.firsts:
            self.looks_for_available = False
            return self.end_offset
        if self.looks_for_available:
            gap = self.gap_offset if self.has_gaps else None
            for first, batch in self.batches_in_order():
                if gap is not None:
                    if first > gap:
                        return gap
                    gap = max(gap, batch.last + 1)
                if (available := batch.first_available) >= 0:
                    return available
            self.looks_for_available = False
        return self.end_offset + 1

    @property
    def record_count(self) -> int:
        """How many offsets the window spans."""
        return self.end_offset - self.start_offset + 1 if self.firsts else 0

    @property
    def complete_count(self) -> int:
        """How many records in the window are done with, those among them whose write is under way."""
        return sum(batch.complete_count(self.start_offset) for batch in self.batches.values())

    @property
    def next_deadline(self) -> float:
        """When to look for records that come free: never too late."""
        return self._deadlines.next if self._deadlines else inf

    def may_acquire(self, limits: Limits) -> bool:
        """Whether something may be given: from within the window, or because it is not too wide yet."""
        past_the_end = self.end_offset + 1 if self.firsts else self.end_offset
        return self.next_fetch_offset != past_the_end or self.record_count < limits.record_locks

    def batches_in_order(self) -> Iterator[tuple[int, Batch]]:
        return ((first, self.batches[first]) for first in self.firsts)

    def floor(self, offset: int) -> Batch | None:
        """The last batch that begins at the offset or before."""
        at = bisect_right(self.firsts, offset)
        return self.batches[self.firsts[at - 1]] if at else None

    def between(self, first: int, last: int) -> list[Batch]:
        """The batches that begin in that range."""
        begin = bisect_right(self.firsts, first - 1)
        return [self.batches[each] for each in self.firsts[begin : bisect_right(self.firsts, last)]]

    def overlapping(self, first: int, last: int) -> list[Batch]:
        """The batches that have to do with that range, and perhaps the one before."""
        floor = self.floor(first)
        return self.between(first if floor is None else floor.first, last)

    # Made by acquiring

    def add(self, batch: Batch) -> None:
        first = batch.first
        if not self.firsts or first > self.firsts[-1]:
            self.firsts.append(first)
        else:
            self.firsts.insert(bisect_right(self.firsts, first), first)
        self.batches[first] = batch

    def hold(self, batch: Batch, deadline: float) -> None:
        """Look at the batch at that moment, or before."""
        due = self._deadlines.deadline_of(batch.first)
        if due is None or deadline < due:
            self._deadlines.set(batch.first, deadline, None)

    def use_gap(self, offset: int) -> None:
        """What could be acquired before this offset is acquired, or is not there."""
        if self.gap_offset is not None:
            offset = max(self.gap_offset, offset)
            while (floor := self.floor(offset)) is not None and floor.last >= offset:
                offset = floor.last + 1
            self.gap_offset = offset if self.has_gaps and offset <= self._gap_end else None

    # What members, time, and the log do

    def acknowledge(
        self, member_id: str, acknowledgements: Iterable[Acknowledgement], limits: Limits, now: float
    ) -> StateWrite | None:
        """What the member did with records that it has. What is to be written now, if anything is.

        All of it, or nothing: INVALID_RECORD_STATE for what it has not, INVALID_REQUEST for what was never given.
        """
        write = StateWrite(settles=True)
        try:
            for each in acknowledgements:
                if each.last >= self.start_offset:
                    self._acknowledge(member_id, each, write, limits, now)
        except KafkaError:
            self.settle(write, limits, now, written=False)
            raise
        return write if write.changes else None

    def _acknowledge(
        self, member_id: str, told: Acknowledgement, write: StateWrite, limits: Limits, now: float
    ) -> None:
        for batch in self._acknowledged(told):
            if batch.last < self.start_offset:
                continue
            if batch.whole is not None:
                _check_whole(batch.whole, member_id)
                is_all = told.first <= batch.first and batch.last <= told.last and self.start_offset <= batch.first
                if not is_all or len(told.types) > 1:
                    _check_acquired(batch.whole, member_id)
                    batch.split()
            for part in batch.within(max(told.first, self.start_offset), told.last):
                _check_acquired(part.one, member_id)
                kind = told.type_of(max(part.first, told.first))
                if kind == RENEW:
                    if not limits.may_renew:
                        raise KafkaError(
                            Error.INVALID_RECORD_STATE, "Renewing acquisition locks is not enabled for the group."
                        )
                    part.one.deadline = now + limits.lock_seconds
                    self.hold(batch, part.one.deadline)
                else:
                    part.one.begin(limits.given_up if kind == REJECT else _STATE_AFTER[kind], limits)
                    write.add(batch, part, is_rejected=kind == REJECT)

    def _acknowledged(self, told: Acknowledgement) -> list[Batch]:
        floor = self.floor(told.first)
        if floor is None and told.first < self.start_offset <= told.last:
            floor = self.floor(self.start_offset)
        if floor is None:
            raise KafkaError(
                Error.INVALID_RECORD_STATE,
                "Batch record not found. The request batch offsets are not found in the cache.",
            )
        batches = self.between(floor.first, told.last)
        for which, offset in (("first", told.first), ("last", told.last)):
            if batches[-1].last < offset:
                raise KafkaError(
                    Error.INVALID_REQUEST,
                    f"Batch record not found. The {which} offset in request is past acquired records.",
                )
        return batches

    def release(self, member_id: str, limits: Limits) -> StateWrite | None:
        """The member's session is closed: others may have what it was given. What is to be written."""
        write = StateWrite(settles=True)
        for _, batch in self.batches_in_order():
            self._split_at_start(batch)
            for part in batch.within(batch.first, batch.last):
                if part.one.state is RecordState.ACQUIRED and part.one.member_id == member_id:
                    part.one.begin(self._state_when_free(part), limits)
                    write.add(batch, part)
        return write if write.changes else None

    def expire(self, limits: Limits, now: float) -> StateWrite | None:
        """Time has passed: what members did not acknowledge comes free at once. What is to be written."""
        write = StateWrite(settles=False)
        while (due := self._deadlines.pop_due(now)) is not None:
            batch = self.batches[due[0]]
            self._split_at_start(batch)
            following = inf
            for part in batch.within(batch.first, batch.last):
                one = part.one
                if one.state is not RecordState.ACQUIRED or one.deadline is None:
                    continue
                if one.deadline <= now:
                    one.free(self._state_when_free(part), limits)
                    write.add(batch, part)
                    self.looks_for_available = True
                else:
                    following = min(following, one.deadline)
            if following < inf:
                self.hold(batch, following)
        return write if write.changes else None

    def settle(self, write: StateWrite, limits: Limits, now: float, *, written: bool) -> bool:
        """The write has ended. Whether something may be given now that could not be before."""
        is_news = False
        for batch, one in write.changes:
            if write.settles:
                one.settle(limits.delivery_count, now, written=written)
                batch.touch()
            if one.state is RecordState.AVAILABLE:
                is_news = self.looks_for_available = True
            elif one.deadline is not None and self.batches.get(batch.first) is batch:
                self.hold(batch, one.deadline)
            self._archive_below_start(batch)
        return self.advance() or is_news

    def trim(self, log_start_offset: int) -> None:
        """The log begins there now: nobody is given what lay before, and who has some of it may keep it."""
        if log_start_offset <= self.start_offset:
            return
        self.start_offset = log_start_offset
        if self.gap_offset is not None:
            self.gap_offset = max(self.gap_offset, log_start_offset)
        self._drop_until(log_start_offset - 1)
        if self.firsts:
            self._archive_below_start(self.batches[self.firsts[0]])
            self.looks_for_available = True
        self.end_offset = max(self.end_offset, log_start_offset)

    def archive(self, first: int, last: int, state: RecordState) -> bool:
        """Records in that range that are in this state are no more. Whether there were any."""
        is_any = False
        for batch in self.overlapping(first, last):
            if batch.whole is not None and batch.whole.state is state and not batch.whole.is_changing:
                if not first <= batch.first <= batch.last <= last:
                    batch.split()
            elif batch.whole is not None:
                continue
            for part in batch.within(first, last):
                if part.one.state is state:
                    part.one.archive()
                    batch.touch()
                    is_any = True
        return is_any

    # The start

    def advance(self) -> bool:
        """Move the start beyond what is done with, or not there; whether it moved."""
        done, gap, was = None, self.gap_offset if self.has_gaps else None, self.start_offset
        if self.firsts and self.firsts[0] > was:  # what is between was not there to be read, up to the gap
            self.start_offset = self.firsts[0] if gap is None else max(was, min(gap, self.firsts[0]))
        for first, batch in self.batches_in_order():
            if first > self.start_offset and done is None:
                break
            if gap is not None and batch.last >= gap:
                break
            if (last := self._complete_until(batch)) is not None:
                done = last
            if last != batch.last:
                break
        if done is None:
            return self.start_offset > was
        if done == self.end_offset:
            self._drop_until(done)
            self.start_offset = self.end_offset = done + 1
            self.looks_for_available = False
            return True
        following = self.firsts[bisect_right(self.firsts, done) :]
        floor = self.floor(done)
        assert floor is not None
        start_offset = following[0] if floor.last == done else done + 1
        if gap is not None:
            start_offset = min(start_offset, gap)
        self.start_offset = max(self.start_offset, start_offset)
        self._drop_until(done)
        return True

    def _complete_until(self, batch: Batch) -> int | None:
        """The last record of the batch up to which all from the start on are done with."""
        done = None
        for _, last, one in batch.within(max(batch.first, self.start_offset), batch.last):
            if not one.is_complete:
                break
            done = last
        return done

    def _drop_until(self, offset: int) -> None:
        """Forget the batches that end at this offset or before."""
        count = 0
        for first, batch in self.batches_in_order():
            if batch.last > offset:
                break
            self._deadlines.forget(first)
            count += 1
        for first in self.firsts[:count]:
            del self.batches[first]
        del self.firsts[:count]

    def _state_when_free(self, part: Part) -> RecordState:
        return RecordState.ARCHIVED if part.last < self.start_offset else RecordState.AVAILABLE

    def _split_at_start(self, batch: Batch) -> None:
        if batch.first < self.start_offset <= batch.last and batch.whole is not None and not batch.whole.is_changing:
            batch.split()

    def _archive_below_start(self, batch: Batch) -> None:
        if batch.first < self.start_offset <= batch.last:
            self.archive(batch.first, self.start_offset - 1, RecordState.AVAILABLE)


def _check_whole(one: InFlight, member_id: str) -> None:
    if one.member_id == NOBODY:
        raise KafkaError(
            Error.INVALID_RECORD_STATE, "The batch cannot be acknowledged. The batch is not in the acquired state."
        )
    if one.member_id != member_id:
        raise KafkaError(Error.INVALID_RECORD_STATE, "Member is not the owner of batch record")


def _check_acquired(one: InFlight, member_id: str) -> None:
    if one.state is not RecordState.ACQUIRED:
        raise KafkaError(Error.INVALID_RECORD_STATE, "The offset cannot be acknowledged. The offset is not acquired.")
    if one.is_changing:
        raise KafkaError(Error.INVALID_RECORD_STATE, _NOT_COMPLETED)
    if one.member_id != member_id:
        raise KafkaError(Error.INVALID_RECORD_STATE, "Member is not the owner of offset")
