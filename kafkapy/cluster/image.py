"""What the cluster looks like: topics, partitions, settings. Immutable.

Who leads a partition is here as the controller has decided it, and which brokers there are as they have registered;
handlers ask for both elsewhere (`leadership.py`), where what is decided and what is so are one. Handlers and rooms hold
an image for the length of a request and never see it change. `ClusterMachine` makes the next one after each write;
untouched topics are shared between images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from kafkapy.cluster.acls import NO_ACLS, AclTable
from kafkapy.cluster.client_quotas import QuotaTable
from kafkapy.cluster.delegation_tokens import DelegationToken
from kafkapy.cluster.features import Levels
from kafkapy.cluster.registrations import NO_REGISTRATIONS, Registered, alone
from kafkapy.cluster.scram_credentials import CredentialKey
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.model import METADATA_TOPIC, NOBODY, LogId, ScramCredential

INTERNAL_TOPICS: Final = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})
METADATA_TOPIC_ID: Final = bytes(15) + b"\x01"
METADATA_LOG: Final = LogId(METADATA_TOPIC, 0, METADATA_TOPIC_ID)


class PartitionInfo(NamedTuple):
    """One partition, the brokers that are to have it, and what the controller has made of that.

    `isr` and `leader`: those in sync, and who leads; `elr`: who may lead where none is in sync. `adding` and
    `removing`: replicas of a reassignment that is under way. `epoch_origin`: see `storage.base.Catalogue`.
    """

    log: LogId
    replicas: tuple[int, ...]
    isr: tuple[int, ...] = ()
    leader: int = NOBODY
    leader_epoch: int = 0
    partition_epoch: int = 0
    elr: tuple[int, ...] = ()
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()
    epoch_origin: int = 0


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """One topic. `overrides` are its own settings as text, `config` all of them with their values."""

    name: str
    topic_id: bytes
    partitions: tuple[PartitionInfo, ...]
    overrides: Mapping[str, str]
    config: TopicConfig

    @property
    def is_internal(self) -> bool:
        return self.name in INTERNAL_TOPICS

    @property
    def replication_factor(self) -> int:
        return len(self.partitions[0].replicas)


_NO_TOPICS: Final[Mapping[str, TopicInfo]] = MappingProxyType({})
_NO_NAMES: Final[Mapping[bytes, str]] = MappingProxyType({})
_NO_OVERRIDES: Final[Mapping[tuple[int, str], Mapping[str, str]]] = MappingProxyType({})


class Shown(NamedTuple):
    """What images show of the kinds of facts that have a module of their own (`kinds.py`)."""

    acls: AclTable = NO_ACLS
    client_quotas: QuotaTable = MappingProxyType({})
    features: Levels = MappingProxyType({})
    delegation_tokens: Mapping[str, DelegationToken] = MappingProxyType({})
    scram_credentials: Mapping[CredentialKey, ScramCredential] = MappingProxyType({})
    registrations: Registered = NO_REGISTRATIONS


_NOTHING_SHOWN: Final = Shown()


class ClusterImage:
    """The cluster at one moment, as the facts up to then have it.

    `config` is this broker's settings. `overrides` holds the settings of what is no topic, by kind (`ConfigResource`)
    and name. `kinds` is all the rest.
    """

    __slots__ = ("_names", "cluster_id", "config", "kinds", "overrides", "topics")

    def __init__(
        self,
        cluster_id: str,
        config: BrokerConfig,
        topics: Mapping[str, TopicInfo] = _NO_TOPICS,
        names: Mapping[bytes, str] = _NO_NAMES,
        overrides: Mapping[tuple[int, str], Mapping[str, str]] = _NO_OVERRIDES,
        kinds: Shown = _NOTHING_SHOWN,
    ) -> None:
        self.cluster_id = cluster_id
        self.config = config
        self.overrides = overrides
        self.kinds = kinds
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

    def without(self, topics: Sequence[TopicInfo]) -> "ClusterImage":
        """The image as it was before these topics went, without them."""
        gone = {topic.name for topic in topics}
        left = {name: topic for name, topic in self.topics.items() if name not in gone}
        names = {topic.topic_id: name for name, topic in left.items()}
        return ClusterImage(self.cluster_id, self.config, left, names, self.overrides, self.kinds)

    @property
    def brokers(self) -> Registered:
        """The brokers of the cluster, there or not."""
        return self.kinds.registrations or alone(self.config)

    def with_config(self, config: BrokerConfig) -> "ClusterImage":
        """The same cluster, for a broker with other settings."""
        return ClusterImage(self.cluster_id, config, self.topics, self._names, self.overrides, self.kinds)

    def overrides_of(self, kind: int, name: str) -> Mapping[str, str]:
        """The settings of a broker, a group or a client metrics subscription that were changed."""
        return self.overrides.get((kind, name), {})


class Change(NamedTuple):
    """From one image to the next: which topics came, which are others now (be it by a setting), and which went."""

    old: ClusterImage
    new: ClusterImage
    created: list[TopicInfo]
    changed: list[TopicInfo]
    deleted: list[TopicInfo]
