"""What metadata facts add up to: topics, settings, the next producer id.

Pure. The controller's machine decides on it, and whoever follows the metadata log makes images of it: the same facts
give the same state everywhere. Kinds of facts that have a module of their own are added up there (`kinds.py`), and
what becomes of a partition in `partitions.py`.

Invariants
 1. A topic's partitions are numbered from 0 without a gap.
 2. An image never changes, and shares with the one before what no fact has touched.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from kafkapy.cluster.image import Change, ClusterImage, PartitionInfo, Shown, TopicInfo
from kafkapy.cluster.journal import MetadataFact
from kafkapy.cluster.kinds import KINDS, Kind
from kafkapy.cluster.partitions import changed, partition_fact, told
from kafkapy.cluster.registrations import Registered, alone
from kafkapy.cluster.topic_names import collision_key
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.model import format_uuid
from kafkapy.protocol.journal.cluster_metadata import (
    ConfigRecord,
    PartitionChangeRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RemoveTopicRecord,
    TopicRecord,
)

_NOTHING: Final[Mapping[str, str]] = {}


class _Resource(NamedTuple):
    """What has settings: a topic, a broker (all of them: no name), a group, a client metrics subscription."""

    kind: int
    name: str


@dataclass(slots=True)
class Topic:
    """A topic while it may still change."""

    name: str
    topic_id: bytes
    partitions: dict[int, PartitionInfo] = field(default_factory=dict)


class ClusterState:
    """The sum of all facts so far."""

    def __init__(self, cluster_id: str, static: BrokerConfig, *, leads_by_facts: bool = True) -> None:
        """`leads_by_facts`: who leads a partition is decided here, and not by leases alone."""
        self.leads_by_facts = leads_by_facts
        self.config = static
        """This broker's settings, with those that were changed while it ran."""
        self.next_producer_id = 0
        self.removed: set[bytes] = set()
        """The ids of topics that are gone, until it is known that their logs are, too."""
        self.kinds: dict[str, Kind] = {name: kind() for name, kind in KINDS.items()}
        self._kind_of = {record: kind for kind in self.kinds.values() for record in kind.facts}
        self._static = static
        self._node_id: int = static["node.id"]
        self._topics: dict[str, Topic] = {}
        self._names: dict[bytes, str] = {}
        self._collisions: dict[str, set[str]] = {}
        self._overrides: dict[_Resource, dict[str, str]] = {}
        self._infos: dict[str, TopicInfo] = {}
        self._stale: dict[str, None] = {}  # in the order of the facts
        self._others_are_stale = False
        self._configs: WeakValueDictionary[tuple[tuple[str, str], ...], TopicConfig] = WeakValueDictionary()
        """By a topic's own settings: most topics have none, or the same."""
        self._image = ClusterImage(cluster_id, static)

    # -- looking

    def topic(self, name: str) -> Topic | None:
        """The topic of this name."""
        return self._topics.get(name)

    def topics(self) -> Iterable[Topic]:
        """All topics."""
        return self._topics.values()

    @property
    def registered(self) -> Registered:
        """The brokers that have registered: none as long as the cluster is one broker's."""
        brokers: Registered = self.kinds["registrations"].shown
        return brokers

    @property
    def brokers(self) -> Registered:
        """The brokers of the cluster, there or not."""
        return self.registered or alone(self._static)

    def topic_by_id(self, topic_id: bytes) -> Topic | None:
        """The topic of this id."""
        name = self._names.get(topic_id)
        return None if name is None else self._topics[name]

    def colliding_with(self, name: str) -> set[str]:
        """The topics whose metrics would have the name of this one's."""
        return self._collisions.get(collision_key(name), set())

    def described(
        self, name: str, topic_id: bytes, partitions: Sequence[PartitionInfo], overrides: Mapping[str, str]
    ) -> TopicInfo:
        """A topic as images show it."""
        own = dict(overrides)
        key = tuple(own.items())
        config = self._configs.get(key)
        if config is None or config.broker is not self.config:
            config = self._configs[key] = TopicConfig(own, self.config)
        return TopicInfo(name, topic_id, tuple(partitions), own, config)

    def info(self, topic: Topic) -> TopicInfo:
        """The topic as it is now, as images show it."""
        partitions = sorted(topic.partitions.values(), key=_index)
        overrides = self.overrides_of(ConfigResource.TOPIC, topic.name)
        return self.described(topic.name, topic.topic_id, partitions, overrides)

    def overrides_of(self, kind: int, name: str) -> Mapping[str, str]:
        """What a resource (see `ConfigResource`) has of its own settings."""
        return self._overrides.get(_Resource(kind, name), _NOTHING)

    # -- applying

    def apply(self, fact: MetadataFact) -> None:
        """Take one fact. Raises LookupError when it speaks of what no fact before it has told of."""
        match fact:
            case TopicRecord(name=name, topic_id=topic_id):
                self._put(Topic(name, topic_id))
            case PartitionRecord(topic_id=topic_id):
                topic = self._topic_of(topic_id)
                self._put_partition(topic, fact.partition_id, told(fact, topic.name))
            case PartitionChangeRecord(topic_id=topic_id):
                topic = self._topic_of(topic_id)
                self._put_partition(topic, fact.partition_id, changed(topic.partitions[fact.partition_id], fact))
            case ConfigRecord():
                self._set(_Resource(fact.resource_type, fact.resource_name), fact.name, fact.value)
            case RemoveTopicRecord(topic_id=topic_id):
                self.removed.add(topic_id)
                self._drop(topic_id)
            case ProducerIdsRecord():
                self.next_producer_id = fact.next_producer_id
            case _:
                self._kind_of[type(fact)].apply(fact)
                self._others_are_stale = True

    def undo_of(self, fact: MetadataFact) -> Callable[[], None]:
        """What takes the fact back once it is applied, if all that is applied after it was taken back before."""
        match fact:
            case TopicRecord(topic_id=topic_id):
                return partial(self._drop, topic_id)
            case PartitionRecord() | PartitionChangeRecord():
                topic = self._topic_of(fact.topic_id)
                old = topic.partitions.get(fact.partition_id)
                return partial(self._put_partition, topic, fact.partition_id, old)
            case ConfigRecord():
                resource = _Resource(fact.resource_type, fact.resource_name)
                return partial(self._set, resource, fact.name, self._overrides.get(resource, _NOTHING).get(fact.name))
            case RemoveTopicRecord(topic_id=topic_id):
                topic = self._topic_of(topic_id)
                overrides = dict(self.overrides_of(ConfigResource.TOPIC, topic.name))
                return partial(self._put, topic, overrides)
            case ProducerIdsRecord():
                return partial(setattr, self, "next_producer_id", self.next_producer_id)
            case _:
                return partial(self._undo, self._kind_of[type(fact)].undo_of(fact))

    def _undo(self, undo: Callable[[], None]) -> None:
        undo()
        self._others_are_stale = True

    def _topic_of(self, topic_id: bytes) -> Topic:
        name = self._names.get(topic_id)
        if name is None:
            raise LookupError(f"no record has told of a topic with the id {format_uuid(topic_id)}")
        return self._topics[name]

    def _put(self, topic: Topic, overrides: Mapping[str, str] = _NOTHING) -> None:
        name = topic.name
        self._topics[name] = topic
        self._names[topic.topic_id] = name
        self._collisions.setdefault(collision_key(name), set()).add(name)
        self.removed.discard(topic.topic_id)
        if overrides:
            self._overrides[_Resource(ConfigResource.TOPIC, name)] = dict(overrides)
        self._stale[name] = None

    def _drop(self, topic_id: bytes) -> None:
        name = self._names.pop(topic_id, None)
        if name is None:
            return
        del self._topics[name]
        key = collision_key(name)
        self._collisions[key].discard(name)
        if not self._collisions[key]:
            del self._collisions[key]
        self._overrides.pop(_Resource(ConfigResource.TOPIC, name), None)
        self._stale[name] = None

    def _put_partition(self, topic: Topic, index: int, partition: PartitionInfo | None) -> None:
        if partition is None:
            del topic.partitions[index]
        else:
            topic.partitions[index] = partition
        self._stale[topic.name] = None

    def _set(self, resource: _Resource, name: str, value: str | None) -> None:
        overrides = self._overrides.setdefault(resource, {})
        if value is None:
            overrides.pop(name, None)
        else:
            overrides[name] = value
        if not overrides:
            del self._overrides[resource]
        if resource.kind == ConfigResource.TOPIC:
            if resource.name in self._topics:
                self._stale[resource.name] = None
        else:
            self._others_are_stale = True
            if resource.kind == ConfigResource.BROKER:
                self.config = self._static.with_dynamic(
                    broker=self._overrides.get(_Resource(ConfigResource.BROKER, str(self._node_id)), _NOTHING),
                    default=self._overrides.get(_Resource(ConfigResource.BROKER, ""), _NOTHING),
                )
                self._stale.update(dict.fromkeys(self._topics))

    # -- what it comes to

    def copy(self) -> "ClusterState":
        """The same sum, to be added to by itself."""
        twin = ClusterState(self._image.cluster_id, self._static, leads_by_facts=self.leads_by_facts)
        twin.config, twin.next_producer_id, twin.removed = self.config, self.next_producer_id, set(self.removed)
        for name, kind in self.kinds.items():
            for fact in kind.snapshot(kind.shown):
                twin.kinds[name].apply(fact)
        twin._topics = {
            name: Topic(name, topic.topic_id, dict(topic.partitions)) for name, topic in self._topics.items()
        }
        twin._names = dict(self._names)
        twin._collisions = {key: set(names) for key, names in self._collisions.items()}
        twin._overrides = {resource: dict(overrides) for resource, overrides in self._overrides.items()}
        twin._infos, twin._image = self._infos, self._image
        twin._stale, twin._others_are_stale = dict(self._stale), True
        return twin

    def succeed(self, image: ClusterImage) -> None:
        """This state was read anew: `advance` is to tell what is other now than in an image of before."""
        self._infos, self._image = dict(image.topics), image
        self._stale.update(dict.fromkeys(image.topics))
        self._others_are_stale = True

    def advance(self) -> Change:
        """The image now, and what has become of topics since the last one."""
        old = self._image
        change = Change(old, old, [], [], [])
        if not self._stale and not self._others_are_stale:
            return change
        topics_changed = bool(self._stale)
        infos = dict(self._infos) if topics_changed else self._infos
        for name in self._stale:
            topic, before = self._topics.get(name), infos.get(name)
            now = None if topic is None else self.info(topic)
            if now is None:
                infos.pop(name, None)
            else:
                infos[name] = now
            if before is not None and (now is None or now.topic_id != before.topic_id):
                change.deleted.append(before)
            if now is not None:
                is_new = before is None or before.topic_id != now.topic_id
                (change.created if is_new else change.changed).append(now)
        self._infos = infos
        self._stale.clear()
        self._others_are_stale = False
        resources = {
            (resource.kind, resource.name): dict(overrides)
            for resource, overrides in self._overrides.items()
            if resource.kind != ConfigResource.TOPIC
        }
        shown = Shown(**{name: kind.shown for name, kind in self.kinds.items()})
        topics = infos if topics_changed else old.topics  # who has looked through these need not look again
        self._image = ClusterImage(old.cluster_id, self.config, topics, dict(self._names), resources, shown)
        return change._replace(new=self._image)

    def snapshot(self) -> Iterator[MetadataFact]:
        """Facts that bring all of it back; what is applied while they are read does not show in them."""
        return _facts_of(self.advance().new, self._node_id, self.next_producer_id, sorted(self.removed))


def topic_facts(topic: TopicInfo) -> Iterator[MetadataFact]:
    """A topic as the facts that bring it into being."""
    yield TopicRecord(name=topic.name, topic_id=topic.topic_id)
    for name, value in topic.overrides.items():
        yield ConfigRecord(resource_type=ConfigResource.TOPIC, resource_name=topic.name, name=name, value=value)
    for partition in topic.partitions:
        yield partition_fact(partition)


def _facts_of(
    image: ClusterImage, node_id: int, next_producer_id: int, removed: Sequence[bytes]
) -> Iterator[MetadataFact]:
    for topic_id in removed:
        yield RemoveTopicRecord(topic_id=topic_id)
    for (kind, resource), overrides in image.overrides.items():
        for setting, value in overrides.items():
            yield ConfigRecord(resource_type=kind, resource_name=resource, name=setting, value=value)
    for name, shown in image.kinds._asdict().items():
        yield from KINDS[name].snapshot(shown)
    for topic in image.topics.values():
        yield from topic_facts(topic)
    yield ProducerIdsRecord(broker_id=node_id, next_producer_id=next_producer_id)


def _index(partition: PartitionInfo) -> int:
    return partition.log.partition
