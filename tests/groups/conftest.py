"""A group machine driven by hand: commands in, decisions out, a clock that moves when told to."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from kafkapy.coordination.shard import ProducerEpoch
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
from tests.driver import Driver


class Coordinator(Driver):
    """A group machine in a driver's hands."""

    journal = GroupJournal()

    def __init__(self, **settings: int) -> None:
        settings.setdefault("initial_rebalance_delay_ms", 0)
        self.settings = GroupSettings(**settings)
        self._names = itertools.count(1)
        super().__init__()

    def make_machine(self) -> GroupMachine:
        return GroupMachine(self.settings)

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
                new_consumer_id=f"new-{next(self._names)}",
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
