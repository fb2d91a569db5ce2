"""What a test is told of: records, topics, groups."""

from dataclasses import dataclass, field
from typing import NamedTuple

from kafkapy.model import TopicPartition


class ConsumedRecord(NamedTuple):
    """One record as a consumer would see it; the timestamp is in milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class ListedTopic(NamedTuple):
    """A topic and its number of partitions."""

    name: str
    partitions: int
    is_internal: bool


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as tools list it: its type is "classic" or "consumer", its state as Kafka spells it ("Stable")."""

    group_id: str
    group_type: str
    state: str
    members: int
    committed: dict[TopicPartition, int] = field(default_factory=dict)


class NotInTime(AssertionError):
    """What a test waited for did not come; the text says how far it got."""
