"""What a share group is doing with a record, or with a batch of records alike: the states, and the way back.

Pure. Used by the window of a share partition (`window.py`), which decides what happens to which records.

Invariants
 1. A change that is to be written first (`begin`) can be taken back, until it is settled; meanwhile nothing else
    happens to the record.
 2. A record that was given up because it is no more stays so, whatever was under way.
 3. The delivery count rises when a record is given to a member, and never falls.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from kafkapy.sharing.batches import RecordState, StateBatch

NOBODY: Final = ""
"""In place of a member's id: nobody has the record."""

_FOLLOWS: Final = {
    RecordState.AVAILABLE: (RecordState.ACQUIRED, RecordState.ARCHIVED),
    RecordState.ACQUIRED: (
        RecordState.AVAILABLE,
        RecordState.ACKNOWLEDGED,
        RecordState.ARCHIVING,
        RecordState.ARCHIVED,
    ),
    RecordState.ACKNOWLEDGED: (),
    RecordState.ARCHIVING: (RecordState.ARCHIVED,),
    RecordState.ARCHIVED: (),
}


class Limits(NamedTuple):
    """What a group may do with a partition: deliveries of a record, records in the window, seconds that one is held,
    whether a member may have more of them; and what becomes of a record that the group gives up: ARCHIVED, or
    ARCHIVING where it has a dead-letter queue.
    """

    delivery_count: int
    record_locks: int
    lock_seconds: float
    may_renew: bool = True
    given_up: RecordState = RecordState.ARCHIVED


class InFlight:
    """The state of a record, or of all records of a batch."""

    __slots__ = ("_before", "_is_gone", "deadline", "delivery_count", "member_id", "state")

    def __init__(
        self, state: RecordState, delivery_count: int, member_id: str = NOBODY, deadline: float | None = None
    ) -> None:
        self.state = state
        self.delivery_count = delivery_count
        self.member_id = member_id
        self.deadline = deadline
        """Until when the member has it, in seconds of the clock; None while nobody has."""
        self._before: tuple[RecordState, str] | None = None
        self._is_gone = False

    def copy(self) -> "InFlight":
        """The same for another record; not for what has a change under way."""
        return InFlight(self.state, self.delivery_count, self.member_id, self.deadline)

    @property
    def is_changing(self) -> bool:
        """Whether a change is being written."""
        return self._before is not None

    @property
    def is_available(self) -> bool:
        return self.state is RecordState.AVAILABLE and self._before is None

    @property
    def is_complete(self) -> bool:
        """Whether it is done with, and that cannot be taken back."""
        return self.state.is_complete and self._before is None

    def acquire(self, member_id: str, deadline: float) -> None:
        """A member is given it."""
        self._change(RecordState.ACQUIRED)
        self.delivery_count += 1
        self.member_id = member_id
        self.deadline = deadline

    def free(self, state: RecordState, limits: Limits) -> None:
        """The member's time is over: others may have it, unless it was given away too often, or is no more."""
        self._change(self._short_of_the_limit(state, limits))
        self.member_id = NOBODY
        self.deadline = None

    def begin(self, state: RecordState, limits: Limits) -> None:
        """The member acknowledged, rejected or released it, which is to be written first."""
        before = (self.state, self.member_id)
        self._change(self._short_of_the_limit(state, limits))
        self._before = before
        self.member_id = NOBODY

    def settle(self, limit: int, now: float, *, written: bool) -> None:
        """The change is written, or it has failed: then the member has the record again, if its time is not over."""
        before, self._before = self._before, None
        assert before is not None, "nothing is under way"
        if written or self._is_gone:
            self.deadline = None
            return
        self.state, self.member_id = before
        if self.deadline is not None and self.deadline <= now:
            self.state = RecordState.ARCHIVED if self.delivery_count >= limit else RecordState.AVAILABLE
            self.member_id = NOBODY
            self.deadline = None

    def archive(self) -> None:
        """The record is no more."""
        self._is_gone = True
        self.state = RecordState.ARCHIVED
        self.member_id = NOBODY
        self.deadline = None

    def _short_of_the_limit(self, state: RecordState, limits: Limits) -> RecordState:
        """The state, unless nobody may be given the record again."""
        is_spent = state is RecordState.AVAILABLE and self.delivery_count >= limits.delivery_count
        return limits.given_up if is_spent else state

    def _change(self, state: RecordState) -> None:
        assert self._before is None, "a change is under way"
        assert state in _FOLLOWS[self.state], f"{self.state.name} -> {state.name}"
        self.state = state


class Part(NamedTuple):
    """Records of a batch with one state between them: the batch's, or one record's."""

    first: int
    last: int
    one: InFlight


class Batch:
    """Neighbouring records: all alike, or each with a state of its own once it was `split`.

    Whoever changes a record's state calls `touch`.
    """

    __slots__ = ("_complete_count", "_first_available", "_is_fresh", "first", "last", "parts", "whole")

    def __init__(self, first: int, last: int, whole: InFlight) -> None:
        self.first = first
        self.last = last
        self.whole: InFlight | None = whole
        self.parts: dict[int, InFlight] = {}
        self._is_fresh = False
        self._complete_count = 0
        self._first_available = -1

    def split(self) -> None:
        """Give each record a state of its own, which begins as the batch's."""
        if self.whole is not None:
            whole, self.whole = self.whole, None
            self.parts = {offset: whole.copy() for offset in range(self.first, self.last + 1)}

    def within(self, first: int, last: int) -> Iterator[Part]:
        """The parts that begin in that range; the batch as a whole if that has one state, wherever it begins."""
        if self.whole is not None:
            yield Part(self.first, self.last, self.whole)
            return
        for offset in range(max(first, self.first), min(last, self.last) + 1):
            yield Part(offset, offset, self.parts[offset])

    def at(self, offset: int) -> InFlight:
        """The state of one record."""
        return self.parts[offset] if self.whole is None else self.whole

    def touch(self) -> None:
        """A state is another one."""
        self._is_fresh = False

    @property
    def first_available(self) -> int:
        """The first record that may be given to a member; -1 when there is none."""
        self._look()
        return self._first_available

    def complete_count(self, start_offset: int) -> int:
        """How many records from that offset on are done with, as far as can be seen now."""
        if start_offset <= self.first:
            self._look()
            return self._complete_count
        if self.whole is not None:
            return max(self.last - start_offset + 1, 0) if self.whole.state.is_complete else 0
        return sum(part.one.state.is_complete for part in self.within(start_offset, self.last))

    def _look(self) -> None:
        if self._is_fresh:
            return
        self._is_fresh = True
        self._complete_count, self._first_available = 0, -1
        for first, last, one in self.within(self.first, self.last):
            if one.state.is_complete:
                self._complete_count += last - first + 1
            elif self._first_available < 0 and one.is_available:
                self._first_available = first


class DeadLetter(NamedTuple):
    """Records on their way into the dead-letter queue: how often they were given, and whether a member rejected them,
    rather than that this was too often.
    """

    first: int
    last: int
    delivery_count: int
    is_rejected: bool


class StateWrite:
    """Changes that are to be written down together; with `settles`, they count only once they are."""

    __slots__ = ("batches", "changes", "letters", "settles")

    def __init__(self, *, settles: bool) -> None:
        self.changes: list[tuple[Batch, InFlight]] = []
        self.batches: list[StateBatch] = []
        """What is to be written, neighbours alike together: as it was decided, whatever comes after that."""
        self.letters: list[DeadLetter] = []
        """What is to go into the dead-letter queue then, neighbours alike together."""
        self.settles = settles

    def add(self, batch: Batch, part: Part, *, is_rejected: bool = False) -> None:
        """This part of the batch has just changed, because a member rejected it or for another reason."""
        first, last, one = part
        self.changes.append((batch, one))
        batch.touch()
        before, news = self.batches, StateBatch(first, last, one.state, one.delivery_count)
        if before and before[-1].last_offset + 1 == first and before[-1][2:] == news[2:]:
            before[-1] = before[-1]._replace(last_offset=last)
        else:
            before.append(news)
        if one.state is RecordState.ARCHIVING:
            letters, letter = self.letters, DeadLetter(first, last, one.delivery_count, is_rejected)
            if letters and letters[-1].last + 1 == first and letters[-1][2:] == letter[2:]:
                letters[-1] = letters[-1]._replace(last=last)
            else:
                letters.append(letter)
