"""A group machine with a cluster around it, and the members of its consumer groups as they see themselves."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafkapy.cluster.image import ClusterImage, PartitionInfo, TopicInfo
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.embedded import assignment_of
from kafkapy.groups.modern.commands import (
    ConsumerGroupDescription,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    DescribeConsumerGroup,
)
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.group import without_epochs
from kafkapy.model import LogId
from kafkapy.protocol.journal.consumer_protocol import ConsumerProtocolSubscription
from tests.groups.conftest import Coordinator

BROKER = BrokerConfig.load()


def topic_id_of(name: str, incarnation: int = 0) -> bytes:
    return hashlib.md5(f"{name}/{incarnation}".encode(), usedforsecurity=False).digest()


def image_of(
    counts: Mapping[str, int],
    group_settings: Mapping[str, Mapping[str, str]] | None = None,
    incarnations: Mapping[str, int] | None = None,
) -> ClusterImage:
    """A cluster with these topics, by their counts of partitions."""
    topics = {}
    for name, count in counts.items():
        topic_id = topic_id_of(name, (incarnations or {}).get(name, 0))
        partitions = tuple(PartitionInfo(LogId(name, number, topic_id), (1,)) for number in range(count))
        topics[name] = TopicInfo(name, topic_id, partitions, {}, TopicConfig({}, BROKER))
    names = {topic.topic_id: name for name, topic in topics.items()}
    overrides = {(int(ConfigResource.GROUP), name): own for name, own in (group_settings or {}).items()}
    return ClusterImage("c", BROKER, topics, names, overrides)


class Consumers(Coordinator):
    """The machine; topics are `t` with three partitions unless it is told otherwise."""

    def make_image(self) -> ClusterImage:
        self._ids = itertools.count(1)
        return image_of({"t": 3})

    def set_topics(self, **counts: int) -> None:
        """The cluster has these topics from now on; those that stay are the same objects, as in the real one."""
        new = image_of(counts)
        known = self.image.topics
        topics = {
            name: known[name] if name in known and len(known[name].partitions) == counts[name] else topic
            for name, topic in new.topics.items()
        }
        names = {topic.topic_id: name for name, topic in topics.items()}
        self.image = ClusterImage("c", BROKER, topics, names, self.image.overrides)

    def beat(self, **fields: Any) -> ConsumerHeartbeatAnswer | Error:
        """One heartbeat, by the fields of the command."""
        command = ConsumerHeartbeat(
            group_id=fields.get("group", "g"),
            member_id=fields.get("member_id", ""),
            member_epoch=fields.get("epoch", 0),
            instance_id=fields.get("instance"),
            rack_id=fields.get("rack"),
            rebalance_timeout_ms=fields.get("rebalance_ms", -1),
            topics=fields.get("topics"),
            pattern=fields.get("pattern"),
            assignor=fields.get("assignor"),
            owned=fields.get("owned"),
            client_id="client",
            client_host="/127.0.0.1",
            new_member_id=f"new-{next(self._ids)}",
            may_describe=fields.get("may_describe", lambda topic: True),
        )
        answer = self.answers[self.send(command)]
        return answer.error if isinstance(answer, KafkaError) else answer

    def describe(self, group: str = "g") -> ConsumerGroupDescription:
        description: ConsumerGroupDescription = self.ask(DescribeConsumerGroup(group))
        return description


class Member:
    """A client: what it was told, and what it owns. It gives up what it is told to, unless it clings."""

    def __init__(
        self,
        coordinator: Consumers,
        member_id: str,
        *topics: str,
        group: str = "g",
        instance: str | None = None,
        pattern: str | None = None,
        assignor: str | None = None,
    ) -> None:
        self.coordinator = coordinator
        self.member_id = member_id
        self.group = group
        self.instance = instance
        self.topics: Sequence[str] | None = list(topics) if pattern is None else None
        self.pattern = pattern
        self.assignor = assignor
        self.epoch = 0
        self.owned: Partitions = {}
        self._assigned: Partitions = {}
        """What it was told last: what it owns, once it does not cling."""
        self.clings = False

    def join(self) -> ConsumerHeartbeatAnswer:
        """The first heartbeat, or one that begins anew."""
        self.owned = {}
        return self._told(
            self.coordinator.beat(
                group=self.group,
                member_id=self.member_id,
                epoch=0,
                instance=self.instance,
                rebalance_ms=60_000,
                topics=self.topics,
                pattern=self.pattern,
                assignor=self.assignor,
                owned={},
            )
        )

    def beat(self, **changes: Any) -> ConsumerHeartbeatAnswer:
        """A heartbeat that says what the member owns."""
        return self._told(self.try_beat(**changes))

    def try_beat(self, **changes: Any) -> ConsumerHeartbeatAnswer | Error:
        fields = {"group": self.group, "member_id": self.member_id, "epoch": self.epoch, "instance": self.instance}
        return self.coordinator.beat(**(fields | {"owned": self.owned} | changes))

    def leave(self, epoch: int = -1) -> ConsumerHeartbeatAnswer:
        answer = self.coordinator.beat(group=self.group, member_id=self.member_id, epoch=epoch, instance=self.instance)
        assert isinstance(answer, ConsumerHeartbeatAnswer), answer
        return answer

    def _told(self, answer: ConsumerHeartbeatAnswer | Error) -> ConsumerHeartbeatAnswer:
        assert isinstance(answer, ConsumerHeartbeatAnswer), answer
        self.member_id, self.epoch = answer.member_id, answer.member_epoch
        if answer.assigned is not None:
            self._assigned = without_epochs(answer.assigned)
        if not self.clings:
            self.owned = self._assigned
        return answer

    @property
    def partitions(self) -> set[tuple[str, int]]:
        """What it owns, by the names of topics."""
        image = self.coordinator.image
        return {
            (image.topic_by_id(topic_id).name, number) for topic_id, numbers in self.owned.items() for number in numbers
        }


def settle(*members: Member, rounds: int = 10) -> None:
    """Everybody sends heartbeats in turn, a second apart, until two rounds changed nothing."""
    quiet = 0
    for _ in range(rounds):
        before = [(member.epoch, member.owned) for member in members]
        for member in members:
            member.beat()
        members[0].coordinator.advance(1_000)
        quiet = quiet + 1 if before == [(member.epoch, member.owned) for member in members] else 0
        if quiet == 2:
            return
    raise AssertionError(f"not settled after {rounds} rounds")


MakeConsumers = Callable[..., Consumers]


def subscription_bytes(*topics: str, owned: Mapping[str, Sequence[int]] | None = None) -> bytes:
    """What a consumer says beside a protocol of the classic one, version 1."""
    out = bytearray(b"\x00\x01")
    ConsumerProtocolSubscription(
        topics=list(topics),
        owned_partitions=[
            ConsumerProtocolSubscription.TopicPartition(topic=topic, partitions=list(numbers))
            for topic, numbers in (owned or {}).items()
        ],
    ).encode(1, out)
    return bytes(out)


def assigned_by(assignment: bytes) -> dict[str, list[int]]:
    """What an assignment of the classic protocol gives, topic by topic."""
    return {topic.topic: topic.partitions for topic in assignment_of(assignment).assigned_partitions}
