"""A machine driven by hand, as a shard does it, but without trio: commands in, decisions out, a clock told to move."""

import itertools
from typing import Any, ClassVar, NamedTuple, Self

from kafkapy.coordination.shard import (
    CancelTimer,
    Decision,
    InTransaction,
    Journal,
    Machine,
    Moment,
    SetTimer,
    TransactionEnded,
)
from kafkapy.errors import Error, KafkaError

START_MS = 1_700_000_000_000


class _UnderWay(NamedTuple):
    """A write that is not in the log yet: what the log had before, what takes it back, whose answers wait for it."""

    entries: list[Any]
    undos: list[Any]
    tickets: list[int]


class Driver:
    """Decides, writes, applies, answers, fires timers. A subclass says how its machine is made, and its journal."""

    journal: ClassVar[Journal[Any]]

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.image = self.make_image()
        self.machine: Any = self.make_machine()
        self.answers: dict[int, Any] = {}
        self.entries: list[
            Any
        ] = []  # `InTransaction` and `TransactionEnded` among them, as the log has batches of such
        self._tickets = itertools.count(1)
        self._timers: dict[object, tuple[int, int, Any]] = {}
        self._sequence = itertools.count()
        self._under_way: _UnderWay | None = None
        self._carry_out(self.machine.loaded(self.moment))

    def make_image(self) -> Any:
        """The cluster as the machine sees it, for those that look at it."""
        return None

    @property
    def moment(self) -> Moment:
        return Moment(self.now_ms, self.image)

    def make_machine(self) -> Machine:
        raise AssertionError("a subclass says how")

    def send(self, command: Any) -> int:
        """Decide a command; its ticket, whose answer may come now or later."""
        ticket = next(self._tickets)
        try:
            decision = self.machine.decide(command, ticket, self.moment)
        except KafkaError as refusal:
            assert ticket not in self.answers
            self.answers[ticket] = refusal
            return ticket
        self._carry_out(decision)
        return ticket

    def ask(self, command: Any) -> Any:
        """The answer to a command that must be answered at once; errors are raised."""
        answer = self.answers[self.send(command)]
        if isinstance(answer, KafkaError):
            raise answer
        return answer

    def error(self, command: Any) -> Error:
        """The error that a command is refused with at once."""
        answer = self.answers[self.send(command)]
        assert isinstance(answer, KafkaError), answer
        return answer.error

    def waits(self, ticket: int) -> bool:
        return ticket not in self.answers

    def advance(self, duration_ms: int) -> None:
        """Move the clock, firing what comes due on the way in the order of its deadline."""
        end_ms = self.now_ms + duration_ms
        while self._timers:
            key, (deadline_ms, _, command) = min(self._timers.items(), key=lambda item: item[1][:2])
            if deadline_ms > end_ms:
                break
            del self._timers[key]
            self.now_ms = max(self.now_ms, deadline_ms)
            self._carry_out(self.machine.decide(command, 0, self.moment))
        self.now_ms = end_ms

    def begin_write(self) -> None:
        """What is decided from now on is not in the log before `end_write` says that it is."""
        assert self._under_way is None
        self._under_way = _UnderWay(self.entries.copy(), [], [])

    def end_write(self, refusal: Error | None = None) -> None:
        """All that was decided since `begin_write` is in the log, or has been refused."""
        assert self._under_way is not None
        (entries, undos, tickets), self._under_way = self._under_way, None
        if refusal is not None:
            error = KafkaError(refusal)
            self.entries = entries
            self.answers.update(dict.fromkeys(tickets, error))
            self._carry_out(self.machine.revert(reversed(undos), error, self.moment))

    @property
    def timer_keys(self) -> set[object]:
        return set(self._timers)

    @property
    def is_writing(self) -> bool:
        return self._under_way is not None

    def awaited(self) -> set[type]:
        """What is still to happen by itself: the kinds of commands whose timers are set."""
        return {type(command) for _, _, command in self._timers.values()}

    def restarted(self) -> Self:
        """Another one that knows only what this one wrote down."""
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.machine = other.make_machine()
        other.answers = {}
        other.entries = list(self.entries)
        other._timers = {}
        for written in self.entries:
            match written:
                case TransactionEnded():
                    other.machine.apply(written)
                case InTransaction(producer_id, entry):
                    other.machine.apply(InTransaction(producer_id, self.journal.decode(entry)))
                case entry:
                    fact = self.journal.decode(entry)
                    assert fact is not None
                    other.machine.apply(fact)
        other._carry_out(other.machine.loaded(other.moment))
        return other

    def restarted_from_snapshot(self) -> Self:
        """Another one that knows only what a checkpoint of now would hold."""
        other = self.restarted()
        other.entries = [
            InTransaction(fact.producer_id, entry) if isinstance(fact, InTransaction) else entry
            for fact in self.machine.snapshot()
            for entry in self.journal.encode(fact.fact if isinstance(fact, InTransaction) else fact)
        ]
        return other.restarted()

    def _carry_out(self, decision: Decision) -> None:
        producer, marker = decision.producer, decision.marker
        for fact in decision.facts:
            if producer is None:
                self.entries += self.journal.encode(fact)
                self._apply(fact)
            else:
                producer_id = producer.producer_id
                self.entries += [InTransaction(producer_id, entry) for entry in self.journal.encode(fact)]
                self._apply(InTransaction(producer_id, fact))
        if marker is not None:
            assert producer is not None
            ended = TransactionEnded(producer.producer_id, marker.committed)
            self.entries.append(ended)
            self._apply(ended)
        for ticket, value in decision.answers:
            assert ticket not in self.answers, f"ticket {ticket} is answered twice"
            self.answers[ticket] = value
            if self._under_way is not None:
                self._under_way.tickets.append(ticket)
        for timer in decision.timers:
            match timer:
                case SetTimer(key, deadline_ms, command):
                    self._timers[key] = (deadline_ms, next(self._sequence), command)
                case CancelTimer(key):
                    self._timers.pop(key, None)

    def _apply(self, fact: Any) -> None:
        if self._under_way is not None:
            self._under_way.undos.append(self.machine.undo_of(fact))
        self.machine.apply(fact)
