"""A group machine driven by hand: commands in, decisions out, a clock that moves when told to."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from kafkapy.coordination.shard import (
    CancelTimer,
    Decision,
    InTransaction,
    Moment,
    ProducerEpoch,
    SetTimer,
    TransactionEnded,
)
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    EndTransaction,
    FetchOffsets,
    Heartbeat,
    Join,
    Joined,
    Leave,
    Leaver,
    PartitionCommit,
    Protocol,
    Sync,
    Synced,
    TopicCommit,
    Transaction,
)
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.machine import GroupMachine
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import ZERO_UUID
from kafkapy.records.control import EndMarker

START_MS = 1_700_000_000_000


class _UnderWay(NamedTuple):
    """A write that is not in the log yet: what the log had before, what takes it back, whose answers wait for it."""

    entries: list[Any]
    undos: list[Any]
    tickets: list[int]


class Coordinator:
    """What the runtime does, without trio: decide, write, apply, answer, fire timers."""

    def __init__(self, **settings: int) -> None:
        settings.setdefault("initial_rebalance_delay_ms", 0)
        self.settings = GroupSettings(**settings)
        self.machine = GroupMachine(self.settings)
        self.now_ms = START_MS
        self.answers: dict[int, Any] = {}
        self.entries: list[Any] = []
        self._journal = GroupJournal()
        self._tickets = itertools.count(1)
        self._names = itertools.count(1)
        self._timers: dict[object, tuple[int, int, Any]] = {}
        self._sequence = itertools.count()
        self._under_way: _UnderWay | None = None
        self._carry_out(self.machine.loaded(Moment(self.now_ms)))

    def send(self, command: Any) -> int:
        """Decide a command; its ticket, whose answer may come now or later."""
        ticket = next(self._tickets)
        try:
            decision = self.machine.decide(command, ticket, Moment(self.now_ms))
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
            self._carry_out(self.machine.decide(command, 0, Moment(self.now_ms)))
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
            self._carry_out(self.machine.revert(reversed(undos), error, Moment(self.now_ms)))

    @property
    def timer_keys(self) -> set[object]:
        return set(self._timers)

    @property
    def is_writing(self) -> bool:
        return self._under_way is not None

    def awaited(self) -> set[type]:
        """What is still to happen by itself: the kinds of commands whose timers are set."""
        return {type(command) for _, _, command in self._timers.values()}

    def restarted(self) -> "Coordinator":
        """Another coordinator that knows only what this one wrote down."""
        other = Coordinator.__new__(Coordinator)
        other.__dict__.update(self.__dict__)
        other.machine = GroupMachine(self.settings)
        other.answers = {}
        other.entries = list(self.entries)
        other._timers = {}
        for written in self.entries:
            match written:
                case TransactionEnded():
                    other.machine.apply(written)
                case InTransaction(producer_id, entry):
                    other.machine.apply(InTransaction(producer_id, self._journal.decode(entry)))
                case entry:
                    fact = self._journal.decode(entry)
                    assert fact is not None
                    other.machine.apply(fact)
        other._carry_out(other.machine.loaded(Moment(other.now_ms)))
        return other

    def restarted_from_snapshot(self) -> "Coordinator":
        """Another coordinator that knows only what a checkpoint of now would hold."""
        other = self.restarted()
        other.entries = [
            InTransaction(fact.producer_id, entry) if isinstance(fact, InTransaction) else entry
            for fact in self.machine.snapshot()
            for entry in self._journal.encode(fact.fact if isinstance(fact, InTransaction) else fact)
        ]
        return other.restarted()

    def _carry_out(self, decision: Decision) -> None:
        producer, marker = decision.producer, decision.marker
        for fact in decision.facts:
            if producer is None:
                self.entries += self._journal.encode(fact)
                self._apply(fact)
            else:
                producer_id = producer.producer_id
                self.entries += [InTransaction(producer_id, entry) for entry in self._journal.encode(fact)]
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

    # Requests with the defaults of an ordinary consumer

    def join(
        self,
        member_id: str = "",
        *,
        group: str = "g",
        protocols: tuple[tuple[str, bytes], ...] = (("range", b"meta"),),
        instance: str | None = None,
        protocol_type: str = "consumer",
        session_ms: int = 10_000,
        rebalance_ms: int = 60_000,
        version: int = 9,
        client: str = "client",
    ) -> int:
        return self.send(
            Join(
                group,
                member_id,
                instance,
                client,
                "/127.0.0.1",
                session_ms,
                rebalance_ms,
                protocol_type,
                tuple(Protocol(name, metadata) for name, metadata in protocols),
                f"{instance or client}-{next(self._names)}",
                version >= 4,
                version >= 9,
            )
        )

    def new_id(self, group: str = "g", **options: Any) -> str:
        """A member id, as promised to a newcomer."""
        answer = self.answers[self.join(group=group, **options)]
        assert answer.error is Error.MEMBER_ID_REQUIRED
        return answer.member_id

    def enter(self, **options: Any) -> int:
        """Both steps of a newcomer's join; the ticket of the second."""
        return self.join(self.new_id(**options), **options)

    def joined(self, ticket: int) -> Joined:
        answer = self.answers[ticket]
        assert isinstance(answer, Joined)
        return answer

    def sync(self, joined: Joined, assignments: dict[str, bytes] | None = None, **options: Any) -> int:
        return self.send(
            Sync(
                options.get("group", "g"),
                joined.member_id,
                options.get("instance"),
                options.get("generation", joined.generation),
                options.get("protocol_type", joined.protocol_type),
                options.get("protocol_name", joined.protocol_name),
                assignments or {},
            )
        )

    def synced(self, ticket: int) -> Synced:
        answer = self.answers[ticket]
        assert isinstance(answer, Synced), answer
        return answer

    def heartbeat(self, joined: Joined, **options: Any) -> Error:
        command = Heartbeat(
            options.get("group", "g"),
            joined.member_id,
            options.get("instance"),
            options.get("generation", joined.generation),
        )
        answer = self.answers[self.send(command)]
        return answer.error if isinstance(answer, KafkaError) else Error.NONE

    def leave(self, *leavers: Leaver | str, group: str = "g") -> list[Error]:
        members = [leaver if isinstance(leaver, Leaver) else Leaver(leaver) for leaver in leavers]
        errors: list[Error] = self.ask(Leave(group, members))
        return errors

    def stable(self, count: int = 2, **options: Any) -> list[Joined]:
        """A stable group; the leader comes first. Member number n is assigned b"n"."""
        tickets = [self.enter(**options) for _ in range(count)]
        self.advance(self.settings.initial_rebalance_delay_ms)
        joined = [self.joined(ticket) for ticket in tickets]
        self.settle(joined, group=options.get("group", "g"))
        return joined

    def settle(self, joined: list[Joined], **options: Any) -> None:
        """All sync, the leader with an assignment."""
        assignments = {member.member_id: str(number).encode() for number, member in enumerate(joined)}
        for member in joined:
            self.sync(member, assignments if member.member_id == member.leader_id else None, **options)

    def commit(
        self,
        offset: int,
        *,
        group: str = "g",
        topic: str = "t",
        partition: int = 0,
        metadata: str | None = "",
        member: Joined | None = None,
        **options: Any,
    ) -> Any:
        """Commit one offset; the error, of the partition or of the whole request."""
        command = CommitOffsets(
            group,
            options.get("member_id", member.member_id if member else ""),
            options.get("instance"),
            options.get("generation", member.generation if member else -1),
            options.get("retention_ms", -1),
            [
                TopicCommit(
                    topic,
                    options.get("topic_id", ZERO_UUID),
                    [PartitionCommit(partition, offset, options.get("leader_epoch", -1), metadata)],
                )
            ],
            options.get("version", 10) >= 9,
            Transaction(ProducerEpoch(options["producer"], 0)) if "producer" in options else None,
        )
        answer = self.answers[self.send(command)]
        if isinstance(answer, KafkaError):
            return answer.error
        [[error]] = answer
        return error

    def end(self, producer: int, *, committed: bool) -> None:
        """The marker of a producer's transaction comes."""
        assert self.ask(EndTransaction(ProducerEpoch(producer, 0), EndMarker(committed, 0))) is Error.NONE

    def committed(self, group: str = "g") -> dict[tuple[str, int], int]:
        """All offsets of a group."""
        topics = self.ask(FetchOffsets(group, None))
        return {(t.topic, partition): found.offset for t in topics for partition, found in t.partitions}


@pytest.fixture
def coordinator() -> Coordinator:
    return Coordinator()


@pytest.fixture
def make_coordinator() -> Callable[..., Coordinator]:
    return Coordinator
