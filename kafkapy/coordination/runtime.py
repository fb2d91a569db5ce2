"""Runs one shard: a machine, its journal, and the log that is its memory.

Called by the rooms that coordinate (cluster, groups): each owns its shards and runs them in a nursery of its own.

A command is decided at once, in its caller's task; its facts are applied and put into the next write, and its answers
wait for that write. What is decided while a write is under way shares the following one. So a command that needs no
fact, on a shard with nothing unwritten, is answered without a single hop, and a thousand commits cost few writes.

Invariants
 1. Commands take effect in the order of their `execute` calls, and an answer leaves only after every fact decided
    before it is in the log.
 2. The machine's memory may run ahead of the log by the unwritten facts, and by nothing else. `view` never does.
 3. A refused write makes the shard forget everything, tell all who wait, and replay its log.
 4. The log is written at its known end (compare-and-append): a shard that lost its log to another is refused.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.shard import Answer, CancelTimer, Decision, Entry, Journal, Machine, Moment, SetTimer, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.records.batch import BatchHeader, Compression, read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.control import read_end_marker
from kafkapy.records.record import Record, read_records
from kafkapy.storage.base import Logs, Origin, Read, Write
from kafkapy.timers import Timers

# Replay is work on the event loop: small bites keep the other tasks alive.
LOAD_SIZE_BYTES: Final = 128 * 1024

_LOST = {Error.NOT_LEADER_OR_FOLLOWER, Error.KAFKA_STORAGE_ERROR}
_TIMER_TICKET: Final = 0
_PENDING: Final = object()


class _Waiter:
    """One caller of `execute`; `woken` exists only once there is something to wait for."""

    __slots__ = ("value", "woken")

    def __init__(self) -> None:
        self.value: Any = _PENDING
        self.woken: trio.Event | None = None


def _no_view(machine: Any) -> None:
    return None


def _no_image() -> None:
    return None


class ShardType(NamedTuple):
    """What a room's shards have in common: how a machine is made, how facts are written, what others may see of it."""

    machine_factory: Callable[[], Machine]
    journal: Journal[Any]
    view: Callable[[Any], Any] = _no_view


class ShardLog(NamedTuple):
    """The log that is a shard's memory, and how it is written."""

    logs: Logs
    log: LogId
    leader_epoch: int = 0
    compression: Compression = Compression.NONE


class Shard:
    """One machine over one log.

    `machine` is for synchronous looks that only this shard's own room makes: it may run ahead of the log. What the
    world may see goes into `view`: the value of the type's view as of the last write that is in the log.
    """

    def __init__(
        self,
        name: str,
        shard_type: ShardType,
        shard_log: ShardLog,
        clock: Clock,
        image: Callable[[], Any] = _no_image,
    ) -> None:
        self.name = name
        self.log = shard_log.log
        self.machine: Any = shard_type.machine_factory()
        self.view: Any = shard_type.view(self.machine)
        self._type = shard_type
        self._log = shard_log
        self._clock = clock
        self._image = image
        self._loaded = trio.Event()
        self._end_offset = 0
        self._waiting: dict[Ticket, _Waiter] = {}
        self._last_ticket = _TIMER_TICKET
        self._timers: Timers[Any, Any] = Timers()
        self._unwritten: list[Record] = []
        self._held: list[Answer] = []
        self._writing = False
        self._failure: Exception | None = None
        self._wake = trio.Event()
        self._sleeping_until = float("-inf")

    @property
    def loaded(self) -> bool:
        """Whether the log is replayed and commands are taken."""
        return self._loaded.is_set()

    async def wait_loaded(self) -> None:
        """Return once commands are taken. A shard that never gets there keeps its callers: bring a deadline."""
        await self._loaded.wait()

    async def execute(self, command: Any) -> Any:
        """Have the machine decide `command`, and return its answer once that is safe to give away.

        Raises the `KafkaError` that the machine answers with; COORDINATOR_LOAD_IN_PROGRESS while the log is being
        replayed; NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE when the log refused the facts. A caller that is
        cancelled only stops waiting: what was decided stays decided.
        """
        if not self._loaded.is_set():
            raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, f"{self.name} is loading")
        self._last_ticket += 1
        ticket = self._last_ticket
        waiter = self._waiting[ticket] = _Waiter()
        try:
            self._take(command, ticket)
            if waiter.value is _PENDING:
                waiter.woken = trio.Event()
                await waiter.woken.wait()
        finally:
            self._waiting.pop(ticket, None)
        if isinstance(waiter.value, KafkaError):
            raise waiter.value
        return waiter.value

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load, say so (`started`), and serve until cancelled.

        Raises what a machine or a journal raised when an invariant broke, in whichever task it happened.
        """
        try:
            await self._load()
            task_status.started()
            while True:
                self.fire_due_timers()
                if self._failure is not None:
                    raise self._failure
                if self._unwritten:
                    await self._write()
                elif self._held:
                    self._release(self._take_held())
                else:
                    await self._sleep()
        finally:
            self._loaded = trio.Event()
            self._fail_all(KafkaError(Error.COORDINATOR_NOT_AVAILABLE, f"{self.name} has stopped"))

    def fire_due_timers(self) -> None:
        """Hand the machine every timer that is due now; a clock that was moved by hand calls for it."""
        now = self._clock.monotonic()
        while (due := self._timers.pop_due(now)) is not None:
            self._take(due[1], _TIMER_TICKET)

    def _take(self, command: Any, ticket: Ticket) -> None:
        try:
            moment = self._moment()
            try:
                decision = self.machine.decide(command, ticket, moment)
            except KafkaError as refusal:
                decision = Decision(answers=[Answer(ticket, refusal)])
            self._carry_out(decision, moment)
        except Exception as failure:
            # Whoever's request it was, it is this shard that cannot go on: `run` must end, and with it the process.
            self._failure = failure
            self._wake.set()
            raise

    def _moment(self) -> Moment:
        return Moment(self._clock.now_ms(), self._image())

    def _carry_out(self, decision: Decision, moment: Moment) -> None:
        now_ms = moment.now_ms
        for fact in decision.facts:
            for entry in self._type.journal.encode(fact):
                self._unwritten.append(Record(len(self._unwritten), now_ms, entry.key, entry.value, []))
            self.machine.apply(fact)
        if decision.timers:
            monotonic = self._clock.monotonic()
            for timer in decision.timers:
                match timer:
                    case SetTimer(key, deadline_ms, command):
                        self._timers.set(key, monotonic + (deadline_ms - now_ms) / 1000, command)
                    case CancelTimer(key):
                        self._timers.cancel(key)
        if self._unwritten or self._writing:
            self._held += decision.answers
            self._wake.set()
        else:
            self._release(decision.answers)
            if self._timers.next < self._sleeping_until:
                self._wake.set()

    async def _sleep(self) -> None:
        self._wake = trio.Event()
        self._sleeping_until = self._timers.next
        with self._clock.until(self._sleeping_until):
            await self._wake.wait()
        self._sleeping_until = float("-inf")

    async def _write(self) -> None:
        records, self._unwritten = self._unwritten, []
        answers = self._take_held()
        view, log = self._type.view(self.machine), self._log
        batch = build_batch(records, leader_epoch=log.leader_epoch, compression=log.compression)
        self._writing = True
        try:
            write = Write(self.log, batch, [read_header(batch)], log.leader_epoch, Origin.COORDINATOR, self._end_offset)
            [outcome] = await log.logs.append([write]).wait()
        finally:
            self._writing = False
        if outcome.error is not Error.NONE:
            error = Error.NOT_COORDINATOR if outcome.error in _LOST else Error.COORDINATOR_NOT_AVAILABLE
            await self._reload(KafkaError(error, f"{self.name} could not write its log: {outcome.error.name}"))
            return
        self._end_offset = outcome.end_offset
        self.view = view
        self._release(answers)

    async def _reload(self, error: KafkaError) -> None:
        self._loaded = trio.Event()
        self._timers.clear()
        self._unwritten = []
        self._fail_all(error)
        self.machine = self._type.machine_factory()
        await self._load()

    async def _load(self) -> None:
        logs = self._log.logs
        bounds = logs.bounds(self.log)
        if isinstance(bounds, Error):
            raise KafkaError(bounds, f"{self.name} has no log {self.log}")
        offset = bounds.log_start_offset
        replay = _Replay(self._type.journal, self.machine)
        while True:
            [piece] = await logs.read([Read(self.log, offset, LOAD_SIZE_BYTES)], LOAD_SIZE_BYTES)
            if piece.error is not Error.NONE:
                raise KafkaError(piece.error, f"{self.name} could not read its log")
            if not piece.records:
                break
            for position, header in walk(piece.records):
                try:
                    replay.take(memoryview(piece.records)[position : position + header.size_bytes], header)
                except Exception as unreadable:
                    unreadable.add_note(f"while replaying {self.log}, in the batch at offset {header.base_offset}")
                    raise
                offset = header.next_offset
            await trio.lowlevel.checkpoint()
        self._end_offset = offset
        self.view = self._type.view(self.machine)
        self._loaded.set()
        moment = self._moment()
        self._carry_out(self.machine.loaded(moment), moment)

    def _take_held(self) -> list[Answer]:
        held, self._held = self._held, []
        return held

    def _release(self, answers: list[Answer]) -> None:
        for ticket, value in answers:
            waiter = self._waiting.pop(ticket, None)
            if waiter is not None:
                waiter.value = value
                if waiter.woken is not None:
                    waiter.woken.set()

    def _fail_all(self, error: KafkaError) -> None:
        self._held = []
        self._release([Answer(ticket, error) for ticket in self._waiting])


class _Replay:
    """Brings a log's records into a machine. What a transaction wrote counts from its marker on, or never."""

    def __init__(self, journal: Journal[Any], machine: Machine) -> None:
        self._journal = journal
        self._machine = machine
        self._open: dict[int, list[Record]] = {}

    def take(self, batch: memoryview, header: BatchHeader) -> None:
        if header.record_count == 0:
            return  # what compaction left of a batch
        if header.is_control:
            marker = read_end_marker(batch)
            if marker is not None:
                decided = self._open.pop(header.producer_id, [])
                if marker.committed:
                    self._apply(decided)
        elif header.is_transactional:
            self._open.setdefault(header.producer_id, []).extend(read_records(batch))
        else:
            self._apply(read_records(batch))

    def _apply(self, records: list[Record]) -> None:
        for record in records:
            fact = self._journal.decode(Entry(record.key, record.value))
            if fact is not None:
                self._machine.apply(fact)
