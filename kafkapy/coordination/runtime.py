"""Runs one shard: a machine, its journal, and the log that is its memory.

Called by the rooms that coordinate (cluster, groups): each owns its shards and runs them in a nursery of its own. A
shard lasts for one tenure: from when its log is gained to when it is lost. How it is loaded stands in
coordination/replaying.py, what it keeps beside its log in coordination/checkpointing.py.

A command is decided at once, in its caller's task; its facts are applied and put into the next write, and its answers
wait for that write. What is decided while a write is under way shares the following one. So a command that needs no
fact, on a shard with nothing unwritten, is answered without a single hop, and a thousand commits cost few writes. An
answer that waits for what others do waits as an object (coordination/waiting.py), in nobody's task.

Invariants
 1. Commands take effect in the order in which they come, and an answer leaves only after every fact decided before it
    is in the log.
 2. The machine's memory may run ahead of the log by the unwritten facts, and by nothing else. `view` never does.
 3. What the log refuses is taken back, with all that was decided after it, and nothing else is.
 4. The log is written at its known end (compare-and-append): a shard that lost its log to another is refused, which
    ends its tenure.
 5. Whatever is written to the log in this tenure is written here: facts, transactions' facts, and their markers.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.checkpointing import BatchMark, Checkpointing
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.shard import (
    Answer,
    CancelTimer,
    Decision,
    Entry,
    InTransaction,
    Moment,
    ProducerEpoch,
    SetTimer,
    ShardType,
    Ticket,
    TransactionEnded,
)
from kafkapy.coordination.waiting import PENDING, Waiting, given
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.records.batch import Compression, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.control import ControlHeader, EndMarker, build_end_marker
from kafkapy.records.record import Record
from kafkapy.storage.base import Logs, Origin, Write
from kafkapy.storage.verification import Verification
from kafkapy.timers import Timers

_log = logging.getLogger(__name__)

_TIMER_TICKET: Final = 0

_LOG_IS_LOST: Final = {Error.NOT_LEADER_OR_FOLLOWER, Error.UNKNOWN_TOPIC_OR_PARTITION}

_TOLD: Final = {
    Error.NOT_LEADER_OR_FOLLOWER: Error.NOT_COORDINATOR,
    Error.KAFKA_STORAGE_ERROR: Error.NOT_COORDINATOR,
    Error.UNKNOWN_TOPIC_OR_PARTITION: Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_ENOUGH_REPLICAS: Error.COORDINATOR_NOT_AVAILABLE,
    Error.REQUEST_TIMED_OUT: Error.COORDINATOR_NOT_AVAILABLE,
}
"""What a caller hears of a write that the log refused, as in Kafka; of any other error it hears itself."""


class _Unwritten:
    """What becomes one batch: facts outside of transactions, or of one producer's, or a marker.

    With what takes it back, and the answers that wait for it.
    """

    __slots__ = ("answers", "marker", "producer", "records", "undos", "verification")

    def __init__(
        self, producer: ProducerEpoch | None, verification: Verification | None = None, marker: EndMarker | None = None
    ) -> None:
        self.producer = producer
        self.verification = verification
        self.marker = marker
        self.records: list[Record] = []
        self.undos: list[Any] = []
        self.answers: list[Answer] = []


def _no_image() -> None:
    return None


def _of(producer: ProducerEpoch | None, fact: Any) -> Any:
    """The fact as the machine is to apply it: pending, if it was written in a producer's transaction."""
    return fact if producer is None else InTransaction(producer.producer_id, fact)


class ShardLog(NamedTuple):
    """The log that is a shard's memory, and how it is written."""

    logs: Logs
    log: LogId
    leader_epoch: int = 0
    compression: Compression = Compression.NONE


class Shard:
    """One machine over one log.

    `machine` is for synchronous looks that only this shard's own room makes: it may run ahead of the log. What the
    world may see goes into `view`: the value of the type's view as of the last write that is in the log. Where somebody
    follows the log who is `ahead` of a load, the shard begins with what that one gives away.
    """

    def __init__(
        self,
        name: str,
        shard_type: ShardType,
        shard_log: ShardLog,
        clock: Clock,
        image: Callable[[], Any] = _no_image,
        ahead: Callable[[], Awaitable[Replay]] | None = None,
    ) -> None:
        self.name = name
        self.log = shard_log.log
        self.machine: Any = shard_type.machine_factory()
        self.view: Any = shard_type.view(self.machine)
        self._type = shard_type
        self._log = shard_log
        self._clock = clock
        self._image = image
        self._ahead = ahead
        self._checkpointing = Checkpointing(shard_log.logs, shard_log.log, shard_type)
        self._settled = trio.Event()
        self._refusal: KafkaError | None = KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, f"{name} is loading")
        self._end_offset = 0
        self._waiting: dict[Ticket, Waiting] = {}
        self._last_ticket = _TIMER_TICKET
        self._asking: Ticket | None = None  # whose command is being decided
        self._answer: Any = PENDING  # to that one, if it comes at once
        self._timers: Timers[Any, Any] = Timers()
        self._unwritten: list[_Unwritten] = []
        self._under_way: list[_Unwritten] = []
        self._is_over = False
        self._failure: Exception | None = None
        self._wake = trio.Event()
        self._sleeping_until = float("-inf")

    @property
    def end_offset(self) -> int:
        """Where the log ends, as far as `view` has it."""
        return self._end_offset

    @property
    def loaded(self) -> bool:
        """Whether the log is replayed and commands are taken."""
        return self._refusal is None

    async def wait_loaded(self) -> None:
        """Return once commands are taken, or never will be. A long log keeps its callers: bring a deadline."""
        await self._settled.wait()

    async def execute(self, command: Any) -> Any:
        """Have the machine decide `command`, and return its answer once that is safe to give away.

        Raises the `KafkaError` that the machine answers with; COORDINATOR_LOAD_IN_PROGRESS while the log is being
        replayed; NOT_COORDINATOR or COORDINATOR_NOT_AVAILABLE when the log refused the facts, or the tenure is over. A
        caller that is cancelled only stops waiting: what was decided stays decided.
        """
        answer = self.submit(command)
        return await answer.wait() if isinstance(answer, Waiting) else answer

    def submit(self, command: Any) -> Any:
        """As `execute`, for a caller who keeps no task for it: the answer, or a `Delayed` where that has to wait.

        Closing the `Delayed` does not undo the command. The answer must not be None, which a `Delayed` cannot give.
        """
        if self._refusal is not None:
            raise self._refusal
        self._last_ticket += 1
        ticket = self._asking = self._last_ticket
        self._take(command, ticket)
        self._asking = None
        answer, self._answer = self._answer, PENDING
        return Waiting(self._waiting, ticket) if answer is PENDING else given(answer)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load, say so (`started`), and serve until cancelled. Returns when the log turns out to be another's.

        Raises `KafkaError` or DamagedLog when the log cannot be loaded; what a machine or a journal raised when an
        invariant broke, in whichever task it happened.
        """
        try:
            await self._load()
            task_status.started()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._checkpointing.run)
                await self._serve()
                nursery.cancel_scope.cancel()
        finally:
            if not self._is_over:
                self._end(KafkaError(Error.NOT_COORDINATOR, f"{self.name} has stopped"))

    async def _serve(self) -> None:
        """Carry on until the log is lost."""
        while not self._is_over:
            self.fire_due_timers()
            if self._failure is not None:
                raise self._failure
            if self._unwritten:
                await self._write()
            else:
                await self._sleep()

    def _end(self, error: KafkaError) -> None:
        """The tenure is over: nothing more is decided, and whoever waits is told."""
        self._is_over = True
        self._refusal = error
        self._settled.set()
        self._release([Answer(ticket, error) for ticket in self._waiting])

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
        if decision.facts:
            try:
                entries = [self._type.journal.encode(fact) for fact in decision.facts]
            except ProtocolError as unfit:
                self._give_up(decision, unfit, moment)
                return
            self._persist(decision, entries, now_ms)
        if decision.marker is not None:
            self._end_transaction(decision)
        if decision.timers:
            monotonic = self._clock.monotonic()
            for timer in decision.timers:
                match timer:
                    case SetTimer(key, deadline_ms, command):
                        self._timers.set(key, monotonic + (deadline_ms - now_ms) / 1000, command)
                    case CancelTimer(key):
                        self._timers.cancel(key)
        if held := self._unwritten or self._under_way:
            held[-1].answers += decision.answers
            self._wake.set()
        else:
            self._release(decision.answers)
            if self._timers.next < self._sleeping_until:
                self._wake.set()

    def _persist(self, decision: Decision, entries: Sequence[Sequence[Entry]], now_ms: int) -> None:
        """Apply the facts, and put the entries that carry them into the next write."""
        producer, verification = decision.producer, decision.verification
        batch = self._unwritten[-1] if self._unwritten else None
        if (
            batch is None
            or batch.producer != producer
            or batch.verification is not verification
            or batch.marker is not None
        ):
            batch = _Unwritten(producer, verification)
            self._unwritten.append(batch)
        records = batch.records
        for fact, carried_by in zip(decision.facts, entries, strict=True):
            for entry in carried_by:
                records.append(Record(len(records), now_ms, entry.key, entry.value, []))
            self._apply(_of(producer, fact), batch)

    def _give_up(self, decision: Decision, unfit: ProtocolError, moment: Moment) -> None:
        """A fact fits into no record, for a name that is too long: what was decided is as if its write had failed."""
        error = KafkaError(Error.UNKNOWN_SERVER_ERROR, f"{self.name} cannot write this down: {unfit}")
        _log.warning("%s", error)
        undos: list[Any] = []
        for fact in decision.facts:
            applied = _of(decision.producer, fact)
            undos.append(self.machine.undo_of(applied))
            self.machine.apply(applied)
        taken_back = self.machine.revert(reversed(undos), error, moment)
        self._release([Answer(ticket, error) for ticket, _ in decision.answers])
        self._carry_out(taken_back, moment)

    def _end_transaction(self, decision: Decision) -> None:
        producer, marker = decision.producer, decision.marker
        assert producer is not None, "a marker belongs to a producer"
        assert marker is not None
        batch = _Unwritten(producer, marker=marker)
        self._unwritten.append(batch)
        self._apply(TransactionEnded(producer.producer_id, marker.committed), batch)

    def _apply(self, fact: Any, batch: _Unwritten) -> None:
        batch.undos.append(self.machine.undo_of(fact))
        self.machine.apply(fact)

    async def _sleep(self) -> None:
        self._wake = trio.Event()
        self._sleeping_until = self._timers.next
        with self._clock.until(self._sleeping_until):
            await self._wake.wait()
        self._sleeping_until = float("-inf")

    # Writing

    async def _write(self) -> None:
        """Append all that is unwritten, a batch a producer, in the decided order."""
        batches, self._unwritten = self._unwritten, []
        self._under_way = batches
        view = self._type.view(self.machine)
        checkpointing = self._checkpointing
        now_ms = self._clock.now_ms()
        snapshot = None
        if checkpointing.is_due(sum(len(batch.records) for batch in batches)):
            snapshot = checkpointing.snapshot(self.machine, now_ms)
        writes, end_offset = [], self._end_offset
        for batch in batches:
            data = self._encode(batch, now_ms)
            header = read_header(data)
            if batch.marker is not None:
                header = ControlHeader.of(header, batch.marker)
            writes.append(
                Write(
                    self.log,
                    data,
                    [header],
                    self._log.leader_epoch,
                    Origin.COORDINATOR,
                    expect_end=end_offset,
                    verification=batch.verification,
                )
            )
            end_offset += header.last_offset_delta + 1
        try:
            outcomes = await self._log.logs.append(writes).wait()
        finally:
            self._under_way = []
        for position, (batch, write, outcome) in enumerate(zip(batches, writes, outcomes, strict=True)):
            if outcome.error in _LOG_IS_LOST:
                self._end(self._told(outcome.error))
                return
            if outcome.error is not Error.NONE:
                # Those behind it were refused because it was.
                self._take_back(batches[position:], outcome.error)
                return
            self._end_offset = outcome.end_offset
            checkpointing.wrote(write.headers[0].record_count)
            self._release(batch.answers)
        self.view = view
        if snapshot is not None:
            checkpointing.write(snapshot, BatchMark(outcome.base_offset, header.crc), self._end_offset)

    def _encode(self, batch: _Unwritten, now_ms: int) -> bytes:
        epoch, producer = self._log.leader_epoch, batch.producer
        if producer is None:
            return build_batch(batch.records, leader_epoch=epoch, compression=self._log.compression)
        if batch.marker is not None:
            return build_end_marker(
                batch.marker,
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                timestamp=now_ms,
                leader_epoch=epoch,
            )
        return build_batch(
            batch.records,
            leader_epoch=epoch,
            compression=self._log.compression,
            producer_id=producer.producer_id,
            producer_epoch=producer.epoch,
            transactional=True,
        )

    def _take_back(self, refused: list[_Unwritten], cause: Error) -> None:
        """The log refused the first of these, so nothing of them is true, nor of what was decided meanwhile."""
        error = self._told(cause)
        # What is wrong with one producer is nothing to those who came after it; they may try again.
        others = error if cause in _TOLD else KafkaError(Error.COORDINATOR_NOT_AVAILABLE, error.message)
        unwritten, self._unwritten = [*refused, *self._unwritten], []
        undos: list[Any] = []
        for batch in reversed(unwritten):
            undos += reversed(batch.undos)
        moment = self._moment()
        decision = self.machine.revert(undos, others, moment)
        self.view = self._type.view(self.machine)
        for batch in unwritten:
            told = error if batch is refused[0] else others
            self._release([Answer(ticket, told) for ticket, _ in batch.answers])
        self._carry_out(decision, moment)

    def _told(self, cause: Error) -> KafkaError:
        return KafkaError(_TOLD.get(cause, cause), f"{self.name} could not write its log: {cause.name}")

    async def _load(self) -> None:
        if self._ahead is None:
            replay = Replay(self._log.logs, self.log, self._type)
            await replay.load()
        else:
            replay = await self._ahead()
            await replay.catch_up()
        self.machine = replay.machine
        self._end_offset = replay.offset
        self.view = self._type.view(self.machine)
        moment = self._moment()
        checkpointing = self._checkpointing
        checkpointing.loaded(replay.checkpoint_size, replay.checkpoint_mark, replay.record_count)
        if checkpointing.is_due() and replay.last_batch is not None:
            snapshot = checkpointing.snapshot(self.machine, moment.now_ms)
            checkpointing.write(snapshot, replay.last_batch, self._end_offset)
        self._refusal = None
        self._settled.set()
        self._carry_out(self.machine.loaded(moment), moment)

    def _release(self, answers: list[Answer]) -> None:
        for ticket, value in answers:
            waiting = self._waiting.pop(ticket, None)
            if waiting is not None:
                waiting.release(value)
            elif ticket == self._asking:
                self._answer = value
