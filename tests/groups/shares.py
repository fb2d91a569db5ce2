"""A group machine with a cluster and a share coordinator around it, and the members of its share groups."""

from typing import Any

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.share.commands import (
    DescribeShareGroup,
    InitializeStates,
    ListInitialized,
    ShareGroupDescription,
    ShareHeartbeat,
    ShareHeartbeatAnswer,
    StatesInitialized,
    StatesNotInitialized,
)
from tests.groups.consumers import Consumers


class Shares(Consumers):
    """The machine. `asked` is what the share coordinator was asked to begin with, and has not answered."""

    def __init__(self, **settings: int) -> None:
        super().__init__(**settings)
        self.asked: list[tuple[str, InitializeStates]] = []

    def share_beat(self, member_id: str, epoch: int, *topics: str, **fields: Any) -> ShareHeartbeatAnswer | Error:
        """One heartbeat; without topics it says nothing of them."""
        group = fields.get("group", "g")
        command = ShareHeartbeat(
            group, member_id, epoch, fields.get("rack"), topics or None, fields.get("client", "client"), "/127.0.0.1"
        )
        answer = self.answers[self.send(command)]
        if isinstance(answer, KafkaError):
            return answer.error
        if answer.asks is not None:
            self.asked.append((group, answer.asks))
        return answer

    def initialize(self, *, fails: bool = False) -> None:
        """The share coordinator answers all that it was asked for."""
        asked, self.asked = self.asked, []
        for group, asks in asked:
            partitions: dict[bytes, set[int]] = {}
            for topic_id, number in asks.starts:
                partitions.setdefault(topic_id, set()).add(number)
            answered = {topic_id: frozenset(numbers) for topic_id, numbers in partitions.items()}
            self.ask((StatesNotInitialized if fails else StatesInitialized)(group, answered))

    def describe_share(self, group: str = "g") -> ShareGroupDescription:
        description: ShareGroupDescription = self.ask(DescribeShareGroup(group))
        return description

    def initialized(self, group: str = "g") -> set[tuple[str, int]]:
        """The partitions that have state, by the names of topics."""
        found: Partitions = self.ask(ListInitialized(group))
        return self.named(found)

    def named(self, partitions: Partitions) -> set[tuple[str, int]]:
        image = self.image
        return {
            ("gone" if (topic := image.topic_by_id(topic_id)) is None else topic.name, number)
            for topic_id, numbers in partitions.items()
            for number in numbers
        }


class Sharer:
    """A client: what it was told, and what it may read."""

    def __init__(self, coordinator: Shares, member_id: str, *topics: str, group: str = "g") -> None:
        self.coordinator = coordinator
        self.member_id = member_id
        self.group = group
        self.topics = topics
        self.epoch = 0
        self.assigned: Partitions = {}

    def join(self) -> ShareHeartbeatAnswer:
        self.epoch = 0
        return self._told(self.coordinator.share_beat(self.member_id, 0, *self.topics, group=self.group))

    def beat(self, *topics: str) -> ShareHeartbeatAnswer:
        return self._told(self.coordinator.share_beat(self.member_id, self.epoch, *topics, group=self.group))

    def leave(self) -> ShareHeartbeatAnswer:
        answer = self.coordinator.share_beat(self.member_id, -1, group=self.group)
        assert isinstance(answer, ShareHeartbeatAnswer), answer
        return answer

    def _told(self, answer: ShareHeartbeatAnswer | Error) -> ShareHeartbeatAnswer:
        assert isinstance(answer, ShareHeartbeatAnswer), answer
        self.epoch = answer.member_epoch
        if answer.assigned is not None:
            self.assigned = answer.assigned
        return answer

    @property
    def partitions(self) -> set[tuple[str, int]]:
        """What it may read, by the names of topics."""
        return self.coordinator.named(self.assigned)


def settle(*members: Sharer, rounds: int = 10) -> None:
    """Everybody sends heartbeats in turn, two seconds apart, and the share coordinator answers, until all is quiet."""
    quiet = 0
    for _ in range(rounds):
        before = [(member.epoch, member.assigned) for member in members]
        for member in members:
            member.beat()
        members[0].coordinator.initialize()
        members[0].coordinator.advance(2_000)
        quiet = quiet + 1 if before == [(member.epoch, member.assigned) for member in members] else 0
        if quiet == 2:
            return
    raise AssertionError(f"not settled after {rounds} rounds")
