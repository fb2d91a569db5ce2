"""Shards for tests: machines small enough to see through, a store whose appends can be held up, a clock that jumps."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import SystemClock
from kafkapy.coordination.runtime import Shard
from kafkapy.coordination.shard import (
    Answer,
    CancelTimer,
    Decision,
    Entry,
    InTransaction,
    Moment,
    ProducerEpoch,
    SetTimer,
    TransactionEnded,
)
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.records.control import EndMarker
from kafkapy.storage.base import Outcome, Pending, Write

LOG = LogId("__numbers", 0, bytes(16))


class TrioClock(SystemClock):
    """Wall time that follows trio's clock, which the tests let jump."""

    def now_ms(self) -> int:
        return 1_700_000_000_000 + round(trio.current_time() * 1000)


class Sum:
    """Adds up numbers. A command is (verb, number)."""

    def __init__(self) -> None:
        self.total = 0
        self.waiting: list[int] = []

    def decide(self, command: tuple[str, Any], ticket: int, moment: Moment) -> Decision:
        verb, number = command
        match verb:
            case "add":
                return Decision([number], [Answer(ticket, self.total + number)])
            case "total":
                return Decision(answers=[Answer(ticket, self.total)])
            case "refuse":
                raise KafkaError(Error.INVALID_REQUEST, f"no {number}")
            case "wait":
                self.waiting.append(ticket)
                return Decision()
            case "release":
                waiting, self.waiting = self.waiting, []
                return Decision([number], [Answer(t, self.total + number) for t in (*waiting, ticket)])
            case "later":
                self.waiting.append(ticket)
                return Decision(timers=[SetTimer("later", moment.now_ms + number, ("release", 0))])
            case "never":
                return Decision(answers=[Answer(ticket, None)], timers=[CancelTimer("later")])
            case "break":
                raise AssertionError("an invariant is broken")
        raise AssertionError(verb)

    def apply(self, fact: int) -> None:
        self.total += fact

    def loaded(self, moment: Moment) -> Decision:
        return Decision()

    def snapshot(self) -> list[int]:
        return [self.total]

    def undo_of(self, fact: int) -> int:
        return -fact

    def revert(self, undos: list[int], error: KafkaError, moment: Moment) -> Decision:
        self.total += sum(undos)
        waiting, self.waiting = self.waiting, []
        return Decision(answers=[Answer(ticket, error) for ticket in waiting])


class SumJournal:
    def encode(self, fact: int) -> list[Entry]:
        return [Entry(None, str(fact).encode())]

    def decode(self, entry: Entry) -> int | None:
        return int(entry.value) if entry.key is None and entry.value is not None else None


TableFact = tuple[str, str | None]


class Table:
    """Remembers a value by key. A command is (verb, ...)."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.open: dict[int, list[TableFact]] = {}
        self.applied = 0

    def decide(self, command: tuple[Any, ...], ticket: int, moment: Moment) -> Decision:
        match command:
            case ("put", key, value):
                return Decision([(key, value)], [Answer(ticket, value)])
            case ("fill", facts):
                return Decision(list(facts), [Answer(ticket, None)])
            case ("get", key):
                return Decision(answers=[Answer(ticket, self.values.get(key))])
            case ("put in transaction", producer_id, epoch, key, value):
                return Decision([(key, value)], [Answer(ticket, None)], producer=ProducerEpoch(producer_id, epoch))
            case ("end", producer_id, epoch, committed):
                marker = EndMarker(committed, 0)
                return Decision(
                    answers=[Answer(ticket, None)], producer=ProducerEpoch(producer_id, epoch), marker=marker
                )
        raise AssertionError(command)

    def apply(self, fact: TableFact | InTransaction | TransactionEnded) -> None:
        match fact:
            case InTransaction(producer_id, written):
                self.open.setdefault(producer_id, []).append(written)
            case TransactionEnded(producer_id, committed):
                for written in self.open.pop(producer_id, []) if committed else ():
                    self.apply(written)
                self.open.pop(producer_id, None)
            case key, value:
                self.applied += 1
                if value is None:
                    self.values.pop(key, None)
                else:
                    self.values[key] = value

    def undo_of(self, fact: object) -> Any:
        return self.values.copy(), {producer_id: [*facts] for producer_id, facts in self.open.items()}

    def revert(self, undos: Iterable[Any], error: KafkaError, moment: Moment) -> Decision:
        for self.values, self.open in undos:
            pass
        return Decision()

    def loaded(self, moment: Moment) -> Decision:
        return Decision()

    def snapshot(self) -> Iterator[TableFact | InTransaction]:
        written = [InTransaction(producer_id, fact) for producer_id, facts in self.open.items() for fact in facts]
        return chain(self.values.copy().items(), written)


class TableJournal:
    def encode(self, fact: tuple[str, str | None]) -> list[Entry]:
        key, value = fact
        return [Entry(key.encode(), None if value is None else value.encode())]

    def decode(self, entry: Entry) -> tuple[str, str | None]:
        assert entry.key is not None
        return entry.key.decode(), None if entry.value is None else entry.value.decode()


class Door:
    """A store whose appends can be held up, counted, and refused (once)."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.open = trio.Event()
        self.open.set()
        self.refuse_with: Error | None = None
        self.writes: list[Write] = []
        self.appends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    def append(self, writes: list[Write]) -> Pending:
        self.writes += writes
        self.appends += 1
        return Held(self, writes)

    async def let_through(self, writes: list[Write]) -> list[Outcome]:
        await self.open.wait()
        if self.refuse_with is not None:
            error, self.refuse_with = self.refuse_with, None
            return [Outcome(error=error) for _ in writes]
        outcomes: list[Outcome] = await self._logs.append(writes).wait()
        return outcomes


class Held(Pending):
    """An append that goes through once its door is open."""

    def __init__(self, door: Door, writes: list[Write]) -> None:
        super().__init__()
        self.door, self.writes = door, writes

    async def wait(self) -> list[Outcome]:
        return await self.door.let_through(self.writes)


async def gather(nursery: trio.Nursery, shard: Shard, *commands: Any) -> list[Any]:
    """Send commands from a task each, in order; their answers fill in as they come."""
    answers: list[Any] = [None] * len(commands)

    async def ask(position: int, command: Any) -> None:
        try:
            answers[position] = await shard.execute(command)
        except KafkaError as refusal:
            answers[position] = refusal.error

    for position, command in enumerate(commands):
        nursery.start_soon(ask, position, command)
        await wait_all_tasks_blocked()
    return answers
