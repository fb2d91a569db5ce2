"""What the cluster looks like: topics, partitions, settings. Immutable.

Who leads a partition and which brokers there are is no part of it: that is a view (`leadership.py`). Handlers and rooms
hold an image for the length of a request and never see it change. `ClusterMachine` makes the next one after each write;
untouched topics are shared between images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from kafkapy.config.layers import TopicConfig
from kafkapy.derived import Deriving
from kafkapy.model import LogId

INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
METADATA_TOPIC: Final = "__cluster_metadata"
METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
METADATA_LOG: Final = LogId(METADATA_TOPIC, 0, METADATA_TOPIC_ID)


class PartitionInfo(NamedTuple):
    """One partition and the brokers that are to have it."""

    log: LogId
    replicas: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TopicInfo(Deriving):
    """One topic. `overrides` are its own settings as text, `config` all of them with their values."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionInfo, ...]
    overrides: Mapping[str, str]
    config: TopicConfig
    _derived: dict[Callable[[Any], Any], Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_internal(self) -> bool:
        return self.name in INTERNAL_TOPICS

    @property
    def replication_factor(self) -> int:
        return len(self.partitions[0].replicas)


class ClusterImage:
    """The cluster at one moment."""

    __slots__ = ("_names", "cluster_id", "topics")

    def __init__(self, cluster_id: str, topics: Mapping[str, TopicInfo], names: Mapping[bytes, str]) -> None:
        self.cluster_id = cluster_id
        self.topics: Mapping[str, TopicInfo] = MappingProxyType(topics) if isinstance(topics, dict) else topics
        self._names = names

    def topic(self, name: str) -> TopicInfo | None:
        """The topic of this name."""
        return self.topics.get(name)

    def topic_by_id(self, topic_id: bytes) -> TopicInfo | None:
        """The topic of this id."""
        name = self._names.get(topic_id)
        return None if name is None else self.topics.get(name)

    def partition(self, name: str, partition: int) -> PartitionInfo | None:
        """One partition by its topic's name."""
        topic = self.topics.get(name)
        if topic is None or not 0 <= partition < len(topic.partitions):
            return None
        return topic.partitions[partition]
