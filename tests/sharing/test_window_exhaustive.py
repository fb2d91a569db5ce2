"""Every interleaving of what may happen to a few records, beside a model that knows nothing of batches.

The model keeps a state for each offset, and what was written down. After each step the window must agree with it, and
whoever loads what was written must find what members were told.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from kafkapy.errors import KafkaError
from kafkapy.records.batch import BatchHeader, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.sharing.acquiring import Wish, acquire
from kafkapy.sharing.archiving import archived, left_over
from kafkapy.sharing.batches import RecordState, StateBatch, merged
from kafkapy.sharing.in_flight import DeadLetter, Limits
from kafkapy.sharing.window import ACCEPT, REJECT, RELEASE, Acknowledgement, Window

LIMITS = Limits(2, 100, 10.0)
WITH_QUEUE = LIMITS._replace(given_up=RecordState.ARCHIVING)
AVAILABLE, ACQUIRED, ARCHIVING = RecordState.AVAILABLE, RecordState.ACQUIRED, RecordState.ARCHIVING
MEMBERS = ("a", "b")


def batch(first: int, count: int) -> BatchHeader:
    header = read_header(build_batch([Record(i, 0, None, b"", []) for i in range(count)]))
    return header._replace(base_offset=first)


LOG = [batch(0, 2), batch(2, 1)]
END = 3


class Step(NamedTuple):
    """What happens next."""

    name: str
    arguments: tuple[Any, ...] = ()


STEPS = (
    Step("acquire", ("a", 1, False)),
    Step("acquire", ("b", 1, True)),
    Step("acquire", ("b", 5, False)),
    Step("acknowledge", ("a", ACCEPT)),
    Step("acknowledge", ("a", RELEASE)),
    Step("acknowledge", ("b", REJECT)),
    Step("acknowledge_first", ("b", ACCEPT)),
    Step("release", ("a",)),
    Step("expire"),
    Step("end_write", (True,)),
    Step("end_write", (False,)),
    Step("reload"),
    Step("trim", (1,)),
)


class Run:
    """A window, what is being written of it, and what stands written."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.now = 0.0
        self.log_start = 0
        self.window = Window(0)
        self.written: tuple[StateBatch, ...] = ()
        self.written_start = 0
        self.writes: list[tuple[Any, list[tuple[int, bool]]]] = []
        self.done: set[int] = set()  # of which members were told so
        self.held: dict[int, str] = {}  # who was given what, and may say so still
        self.deliveries: dict[int, int] = {}
        self.promised: set[int] = set()  # to the queue, as it is written down
        self.letters: list[DeadLetter] = []  # which are to be put into the queue
        self.buried: set[int] = set()

    def do(self, step: Step) -> None:
        getattr(self, step.name)(*step.arguments)
        self.check()

    def acquire(self, member: str, most: int, by_limit: bool) -> None:
        window = self.window
        if not window.may_acquire(self.limits):
            return
        offset = window.next_fetch_offset
        if offset < self.log_start:
            window.trim(self.log_start)
            return
        read = [header for header in LOG if header.last_offset >= offset]
        for first, last, count in acquire(
            window, Wish(member, most, 10, by_limit), offset, read, (), self.limits, self.now
        ):
            for given in range(first, last + 1):
                assert given not in self.held, f"{given} was given to {self.held.get(given)} already"
                assert given not in self.done, f"{given} was acknowledged"
                self.held[given] = member
                self.deliveries[given] = self.deliveries.get(given, 0) + 1
                assert count <= self.limits.delivery_count

    def acknowledge(self, member: str, kind: int) -> None:
        for first, last in self._held_ranges(member):
            self._acknowledge(member, first, last, kind)

    def acknowledge_first(self, member: str, kind: int) -> None:
        for first, _ in list(self._held_ranges(member))[:1]:
            self._acknowledge(member, first, first, kind)

    def _acknowledge(self, member: str, first: int, last: int, kind: int) -> None:
        write = self.window.acknowledge(member, [Acknowledgement(first, last, [kind])], self.limits, self.now)
        offsets = [(each, kind != RELEASE) for each in range(first, last + 1) if each >= self.window.start_offset]
        for each in range(first, last + 1):
            del self.held[each]
        if write is not None:
            self.writes.append((write, offsets))

    def _held_ranges(self, member: str) -> Iterator[tuple[int, int]]:
        mine = sorted(offset for offset, holder in self.held.items() if holder == member)
        while mine:
            first = last = mine.pop(0)
            while mine and mine[0] == last + 1:
                last = mine.pop(0)
            yield first, last

    def release(self, member: str) -> None:
        write = self.window.release(member, self.limits)
        for offset in [offset for offset, holder in self.held.items() if holder == member]:
            del self.held[offset]
        if write is not None:
            self.writes.append((write, []))

    def expire(self) -> None:
        self.now += self.limits.lock_seconds
        write = self.window.expire(self.limits, self.now)
        self.held.clear()
        if write is not None:
            self.writes.append((write, []))

    def end_write(self, written: bool) -> None:
        if not self.writes:
            return
        write, offsets = self.writes.pop(0)
        if written:
            self.written_start = max(self.written_start, self.window.start_offset)
            self.written = merged(self.written, write.batches, self.written_start)
            for letter in write.letters:
                self.promised.update(range(letter.first, letter.last + 1))
            self.done |= {offset for offset, is_done in offsets if is_done}
        self.window.settle(write, self.limits, self.now, written=written)
        if written or not write.settles:
            self.letters += write.letters
        if not written:
            for _, one in write.changes:
                if one.state is ACQUIRED:
                    assert one.deadline is not None
                    assert one.deadline > self.now
            for found in self.window.batches.values():
                for part in found.within(found.first, found.last):
                    if part.one.state is ACQUIRED:
                        for offset in range(max(part.first, self.window.start_offset), part.last + 1):
                            self.held[offset] = part.one.member_id

    def reload(self) -> None:
        self.writes.clear()
        self.held.clear()
        self.window = Window(self.written_start, self.written)
        self.letters = left_over(self.window, self.limits.delivery_count)

    def bury(self) -> None:
        """The queue is done with what it was to have first."""
        if self.letters:
            letter = self.letters.pop(0)
            self.buried.update(range(letter.first, letter.last + 1))
            self.writes.append((archived(self.window, [letter]), []))

    def trim(self, offset: int) -> None:
        self.log_start = max(self.log_start, offset)
        self.window.trim(offset)

    def check(self) -> None:
        window = self.window
        assert window.start_offset <= END
        before = -1
        for first, found in window.batches_in_order():
            assert before < first <= found.last
            before = found.last
            for part in found.within(found.first, found.last):
                one = part.one
                assert one.delivery_count <= self.limits.delivery_count
                if one.state is ACQUIRED:
                    assert one.deadline is not None
                    assert window.next_deadline <= one.deadline
                for offset in range(max(part.first, window.start_offset), part.last + 1):
                    assert (offset in self.held) == (one.state is ACQUIRED), offset
                    if offset in self.done:
                        assert one.state.is_complete or one.state is ARCHIVING, (
                            f"{offset} was acknowledged, and is {one.state.name}"
                        )
        assert window.complete_count <= max(window.end_offset - window.start_offset + 1, 0)
        loaded = Window(self.written_start, self.written)
        for offset in self.done:
            floor = loaded.floor(offset)
            is_known = floor is not None and offset <= floor.last and floor.at(offset).state > ACQUIRED
            assert offset < loaded.start_offset or is_known, f"{offset} would be given again"

    def finish(self) -> None:
        """Everything that can be done is done: then nothing is left, and the start is at the end."""
        for _ in range(20):
            while self.writes:
                self.end_write(True)
            self.expire()
            while self.writes:
                self.end_write(True)
            self.acquire("a", 10, False)
            self.acknowledge("a", ACCEPT)
            self.bury()
        while self.writes:
            self.end_write(True)
        assert self.window.start_offset == END, "the start is stuck"
        missing = {offset for offset in self.promised - self.buried if offset >= self.log_start}
        assert not missing, f"{missing} were given up, and are in no queue"


def run(steps: tuple[Step, ...], limits: Limits = LIMITS) -> None:
    one = Run(limits)
    try:
        for step in steps:
            one.do(step)
        one.finish()
    except (AssertionError, KafkaError) as problem:
        pytest.fail(f"{[f'{name}{arguments}' for name, arguments in steps]}: {problem!r}")


@pytest.mark.parametrize(
    "steps",
    [
        # A read used up what a loaded state said nothing of, up to a batch that is done with: the start goes on.
        [("acquire", "a", 1, False), ("acquire", "b", 1, True), ("acknowledge", "b", REJECT), ("end_write", True)],
        # What came free is given again before that is written: never as acquired.
        [("acquire", "a", 1, False), ("expire",), ("acquire", "a", 1, False), ("end_write", True)],
    ],
)
def test_what_is_loaded_goes_on(steps: list[tuple[Any, ...]]) -> None:
    run((*(Step(name, arguments) for name, *arguments in steps), Step("reload")))  # type: ignore[arg-type]


def sequences(depth: int, possible: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
    if depth == 0:
        yield ()
        return
    for head in sequences(depth - 1, possible):
        for step in possible:
            if step.name == "end_write" and not any(each.name not in ("acquire", "reload", "trim") for each in head):
                continue
            yield (*head, step)


@pytest.mark.parametrize("first", STEPS[:3], ids=lambda step: f"{step.name}{step.arguments}")
def test_every_interleaving_keeps_the_promises(first: Step) -> None:
    for steps in sequences(3, STEPS):
        run((first, *steps))


@pytest.mark.parametrize("second", (STEPS[3], STEPS[5], STEPS[7], STEPS[8]), ids=lambda step: f"{step.name}")
def test_every_interleaving_keeps_the_promises_of_a_dead_letter_queue(second: Step) -> None:
    for steps in sequences(3, (*STEPS, Step("bury"))):
        run((STEPS[2], second, *steps), WITH_QUEUE)
