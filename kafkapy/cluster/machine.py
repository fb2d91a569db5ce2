"""The machine behind topics and producer ids: commands in, metadata facts out.

Pure: ids come with the commands, time does not matter. One shard on the metadata log runs it
(`cluster/service.py`). Every partition has one replica, on this node: there is one node.

Invariants
 1. A topic's partitions are numbered from 0 without a gap.
 2. A topic id is never used twice, so a re-created topic is another topic.
 3. Producer ids are handed out in blocks that are never handed out again, also after a restart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from kafkapy.cluster.image import METADATA_TOPIC, ClusterImage, PartitionInfo, TopicInfo
from kafkapy.cluster.journal import MetadataFact
from kafkapy.cluster.topic_names import collision_key, validate_topic_name
from kafkapy.config.layers import BrokerConfig, TopicConfig, validate_topic_overrides
from kafkapy.coordination.shard import Answer, Decision, Moment, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.journal.cluster_metadata import (
    ConfigRecord,
    PartitionRecord,
    ProducerIdsRecord,
    RemoveTopicRecord,
    TopicRecord,
)

PRODUCER_ID_BLOCK: Final = 1000
MAX_PARTITIONS_PER_REQUEST: Final = 10_000
_TOPIC_RESOURCE: Final = 2
_DEFAULT: Final = -1


class NewTopic(NamedTuple):
    """A topic to create; -1 stands for the broker's defaults, `assignments` maps partitions to brokers."""

    name: str
    partition_count: int = _DEFAULT
    replication_factor: int = _DEFAULT
    assignments: Sequence[tuple[int, Sequence[int]]] = ()
    overrides: Mapping[str, str | None] = {}


class NewPartitions(NamedTuple):
    """A topic to grow to `partition_count` partitions; `assignments` gives the brokers of each new one."""

    name: str
    partition_count: int
    assignments: Sequence[Sequence[int]] | None = None


@dataclass(slots=True)
class CreateTopics:
    """Answered by a list: for each topic its `TopicInfo`, or the `KafkaError` that refuses it."""

    topics: Sequence[NewTopic]
    topic_ids: Sequence[bytes]
    validate_only: bool = False


@dataclass(slots=True)
class DeleteTopics:
    """Answered by a list: for each id the `TopicInfo` that went, or a `KafkaError`."""

    topic_ids: Sequence[bytes]


@dataclass(slots=True)
class CreatePartitions:
    """Answered by a list: for each topic its `TopicInfo` afterwards, or a `KafkaError`."""

    topics: Sequence[NewPartitions]
    validate_only: bool = False


@dataclass(slots=True)
class AllocateProducerIds:
    """Answered by a `range` of producer ids that nobody else gets."""


@dataclass(slots=True)
class _Topic:
    """A topic while it may still change."""

    name: str
    topic_id: bytes
    partitions: list[PartitionInfo] = field(default_factory=list)
    overrides: dict[str, str] = field(default_factory=dict)


class ClusterMachine:
    """Topics by name and id, and the next producer id."""

    def __init__(self, cluster_id: str, node_id: int, config: BrokerConfig) -> None:
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._config = config
        self._topics: dict[str, _Topic] = {}
        self._names: dict[bytes, str] = {}
        self._collisions: dict[str, set[str]] = {}
        self._next_producer_id = 0
        self._infos: dict[str, TopicInfo] = {}
        self.removed: set[bytes] = set()
        """The ids of topics whose removal was applied; emptied by who sees to their logs."""
        self._stale: dict[str, None] = {}  # in the order of the facts
        self._image = ClusterImage(cluster_id, {}, {})

    # -- deciding

    def decide(self, command: Any, ticket: Ticket, moment: Moment) -> Decision:
        match command:
            case CreateTopics():
                return self._create_topics(command, ticket)
            case DeleteTopics():
                return self._delete_topics(command, ticket)
            case CreatePartitions():
                return self._create_partitions(command, ticket)
            case AllocateProducerIds():
                first = self._next_producer_id
                fact = ProducerIdsRecord(broker_id=self._node_id, next_producer_id=first + PRODUCER_ID_BLOCK)
                return Decision([fact], [Answer(ticket, range(first, first + PRODUCER_ID_BLOCK))])
        raise TypeError(f"not a command of the cluster machine: {command!r}")

    def loaded(self, moment: Moment) -> Decision:
        return Decision()

    def _create_topics(self, command: CreateTopics, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        _refuse_too_many(sum(self._asked_partition_count(topic) for topic in command.topics))
        taken: set[str] = set()
        for topic, topic_id in zip(command.topics, command.topic_ids, strict=True):
            try:
                self._check_name(topic.name, taken)
                overrides = _checked_overrides(topic.overrides, self._config)
                assignments = self._place(topic)
            except KafkaError as refusal:
                results.append(refusal)
                continue
            taken.add(topic.name)
            partitions = [self._partition(topic.name, topic_id, index, brokers) for index, brokers in assignments]
            results.append(self._info(_Topic(topic.name, topic_id, partitions, overrides)))
            facts += _topic_facts(topic.name, topic_id, overrides, partitions)
        return Decision([] if command.validate_only else facts, [Answer(ticket, results)])

    def _asked_partition_count(self, topic: NewTopic) -> int:
        """How many partitions the topic asks for, whether or not it will get them."""
        if topic.assignments:
            return len(topic.assignments)
        count: int = self._config["num.partitions"] if topic.partition_count == _DEFAULT else topic.partition_count
        return max(count, 0)

    def _check_name(self, name: str, taken: set[str]) -> None:
        validate_topic_name(name)
        if name == METADATA_TOPIC:
            raise KafkaError(Error.INVALID_REQUEST, f"Creation of internal topic {METADATA_TOPIC} is prohibited.")
        if name in self._topics or name in taken:
            raise KafkaError(Error.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        # As in Kafka, names that collide within one request pass.
        if others := self._collisions.get(collision_key(name)):
            raise KafkaError(
                Error.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {min(others)}"
            )

    def _place(self, topic: NewTopic) -> list[tuple[int, tuple[int, ...]]]:
        """The brokers of each partition, by the request or by the defaults."""
        if topic.assignments:
            return self._manual_placement(topic)
        if topic.replication_factor < _DEFAULT or topic.replication_factor == 0:
            raise KafkaError(
                Error.INVALID_REPLICATION_FACTOR,
                "Replication factor must be larger than 0, or -1 to use the default value.",
            )
        if topic.partition_count < _DEFAULT or topic.partition_count == 0:
            raise KafkaError(Error.INVALID_PARTITIONS, "Number of partitions was set to an invalid non-positive value.")
        count = self._config["num.partitions"] if topic.partition_count == _DEFAULT else topic.partition_count
        factor = topic.replication_factor
        if factor == _DEFAULT:
            factor = self._config["default.replication.factor"]
        if factor > 1:
            raise KafkaError(
                Error.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {factor} time(s): The target replication factor of {factor} "
                "cannot be reached because only 1 broker(s) are registered.",
            )
        return [(index, (self._node_id,)) for index in range(count)]

    def _manual_placement(self, topic: NewTopic) -> list[tuple[int, tuple[int, ...]]]:
        if topic.replication_factor != _DEFAULT:
            raise KafkaError(
                Error.INVALID_REQUEST,
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            )
        if topic.partition_count != _DEFAULT:
            raise KafkaError(
                Error.INVALID_REQUEST,
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            )
        placed: dict[int, tuple[int, ...]] = {}
        for index, brokers in topic.assignments:
            if index in placed:
                raise KafkaError(
                    Error.INVALID_REPLICA_ASSIGNMENT,
                    f"Found multiple manual partition assignments for partition {index}",
                )
            self._check_assignment(brokers)
            placed[index] = tuple(brokers)
        if set(placed) != set(range(len(placed))):
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT, "partitions should be a consecutive 0-based integer sequence"
            )
        return sorted(placed.items())

    def _check_assignment(self, brokers: Sequence[int]) -> None:
        """With one broker to choose from, an assignment that passes is that broker."""
        prefix = "The manual partition assignment includes"
        if not brokers:
            raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} an empty replica list.")
        for position, broker in enumerate(sorted(brokers)):
            if broker != self._node_id:
                raise KafkaError(
                    Error.INVALID_REPLICA_ASSIGNMENT,
                    f"{prefix} broker {broker}, but no such broker is registered.",
                )
            if position:
                raise KafkaError(Error.INVALID_REPLICA_ASSIGNMENT, f"{prefix} the broker {broker} more than once.")

    def _delete_topics(self, command: DeleteTopics, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        for topic_id in command.topic_ids:
            name = self._names.get(topic_id)
            if name is None:
                results.append(KafkaError(Error.UNKNOWN_TOPIC_ID))
                continue
            results.append(self._info(self._topics[name]))
            facts.append(RemoveTopicRecord(topic_id=topic_id))
        return Decision(facts, [Answer(ticket, results)])

    def _create_partitions(self, command: CreatePartitions, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        _refuse_too_many(sum(self._additional_count(topic) for topic in command.topics))
        for topic in command.topics:
            try:
                added = self._grow(topic)
            except KafkaError as refusal:
                results.append(refusal)
                continue
            old = self._topics[topic.name]
            grown = _Topic(old.name, old.topic_id, [*old.partitions, *added], old.overrides)
            results.append(self._info(grown))
            facts += [_partition_record(partition) for partition in added]
        return Decision([] if command.validate_only else facts, [Answer(ticket, results)])

    def _additional_count(self, wanted: NewPartitions) -> int:
        topic = self._topics.get(wanted.name)
        return 0 if topic is None else max(wanted.partition_count - len(topic.partitions), 0)

    def _grow(self, wanted: NewPartitions) -> list[PartitionInfo]:
        topic = self._topics.get(wanted.name)
        if topic is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        present = len(topic.partitions)
        if wanted.partition_count == present:
            raise KafkaError(Error.INVALID_PARTITIONS, f"Topic already has {present} partition(s).")
        if wanted.partition_count < present:
            raise KafkaError(
                Error.INVALID_PARTITIONS,
                f"The topic {wanted.name} currently has {present} partition(s); "
                f"{wanted.partition_count} would not be an increase.",
            )
        brokers: Sequence[Sequence[int]] = [(self._node_id,)] * (wanted.partition_count - present)
        if wanted.assignments is not None:
            if len(wanted.assignments) != wanted.partition_count - present:
                raise KafkaError(
                    Error.INVALID_REPLICA_ASSIGNMENT,
                    f"Attempted to add {wanted.partition_count - present} additional partition(s), "
                    f"but only {len(wanted.assignments)} assignment(s) were specified.",
                )
            for replicas in wanted.assignments:
                self._check_assignment(replicas)
            brokers = wanted.assignments
        return [
            self._partition(topic.name, topic.topic_id, present + number, tuple(replicas))
            for number, replicas in enumerate(brokers)
        ]

    def _partition(self, name: str, topic_id: bytes, index: int, replicas: tuple[int, ...]) -> PartitionInfo:
        return PartitionInfo(LogId(name, index, topic_id), replicas)

    # -- applying

    def apply(self, fact: MetadataFact) -> None:
        match fact:
            case TopicRecord():
                self._add(_Topic(fact.name, fact.topic_id))
            case PartitionRecord():
                topic = self._topics[self._names[fact.topic_id]]
                log = LogId(topic.name, fact.partition_id, fact.topic_id)
                topic.partitions.append(PartitionInfo(log, tuple(fact.replicas)))
                self._stale[topic.name] = None
            case ConfigRecord(resource_type=kind, resource_name=name) if kind == _TOPIC_RESOURCE:
                overrides = self._topics[name].overrides
                if fact.value is None:
                    overrides.pop(fact.name, None)
                else:
                    overrides[fact.name] = fact.value
                self._stale[name] = None
            case RemoveTopicRecord():
                self._remove(fact.topic_id)
                self.removed.add(fact.topic_id)
            case ProducerIdsRecord():
                self._next_producer_id = fact.next_producer_id

    def undo_of(self, fact: MetadataFact) -> Callable[[], object]:
        """What has the fact never applied."""
        match fact:
            case TopicRecord():
                return partial(self._remove, fact.topic_id)
            case PartitionRecord():
                name = self._names[fact.topic_id]
                return partial(self._change, name, self._topics[name].partitions.pop)
            case ConfigRecord(resource_type=kind, resource_name=name) if kind == _TOPIC_RESOURCE:
                before = ConfigRecord(
                    resource_type=kind,
                    resource_name=name,
                    name=fact.name,
                    value=self._topics[name].overrides.get(fact.name),
                )
                return partial(self.apply, before)
            case RemoveTopicRecord():
                return partial(self._bring_back, self._topics[self._names[fact.topic_id]])
            case _:
                return partial(
                    self.apply,
                    ProducerIdsRecord(broker_id=self._node_id, next_producer_id=self._next_producer_id),
                )

    def revert(self, undos: Iterable[Callable[[], object]], error: KafkaError, moment: Moment) -> Decision:
        for undo in undos:
            undo()
        return Decision()

    def _add(self, topic: _Topic) -> None:
        self._topics[topic.name] = topic
        self._names[topic.topic_id] = topic.name
        self._collisions.setdefault(collision_key(topic.name), set()).add(topic.name)
        self._stale[topic.name] = None

    def _remove(self, topic_id: bytes) -> None:
        name = self._names.pop(topic_id)
        del self._topics[name]
        key = collision_key(name)
        self._collisions[key].discard(name)
        if not self._collisions[key]:
            del self._collisions[key]
        self._stale[name] = None

    def _bring_back(self, topic: _Topic) -> None:
        self._add(topic)
        self.removed.discard(topic.topic_id)

    def _change(self, name: str, change: Callable[[], object]) -> None:
        change()
        self._stale[name] = None

    def snapshot(self) -> Iterator[MetadataFact]:
        return _facts_of(self.image(), self._node_id, self._next_producer_id)

    def image(self) -> ClusterImage:
        """The cluster now; topics that no fact has touched since the last call are shared with the last image."""
        if self._stale:
            infos = dict(self._infos)
            for name in self._stale:
                topic = self._topics.get(name)
                if topic is None:
                    infos.pop(name, None)
                else:
                    infos[name] = self._info(topic)
            self._infos = infos
            self._stale.clear()
            self._image = ClusterImage(self._cluster_id, infos, dict(self._names))
        return self._image

    def _info(self, topic: _Topic) -> TopicInfo:
        overrides = dict(topic.overrides)
        config = TopicConfig(overrides, self._config)
        return TopicInfo(topic.name, topic.topic_id, tuple(topic.partitions), overrides, config)


def _refuse_too_many(partition_count: int) -> None:
    if partition_count > MAX_PARTITIONS_PER_REQUEST:
        raise KafkaError(Error.POLICY_VIOLATION, "Excessively large number of partitions per request.")


def _topic_facts(
    name: str, topic_id: bytes, overrides: Mapping[str, str], partitions: Sequence[PartitionInfo]
) -> Iterator[MetadataFact]:
    """A topic as the facts that bring it into being."""
    yield TopicRecord(name=name, topic_id=topic_id)
    for key, value in overrides.items():
        yield ConfigRecord(resource_type=_TOPIC_RESOURCE, resource_name=name, name=key, value=value)
    for partition in partitions:
        yield _partition_record(partition)


def _facts_of(image: ClusterImage, node_id: int, next_producer_id: int) -> Iterator[MetadataFact]:
    """Everything that there is, as facts."""
    for topic in image.topics.values():
        yield from _topic_facts(topic.name, topic.topic_id, topic.overrides, topic.partitions)
    yield ProducerIdsRecord(broker_id=node_id, next_producer_id=next_producer_id)


def _partition_record(partition: PartitionInfo) -> PartitionRecord:
    """The fact, with what Kafka wants to see in it of leaders: that all is as it was asked for."""
    return PartitionRecord(
        partition_id=partition.log.partition,
        topic_id=partition.log.topic_id,
        replicas=list(partition.replicas),
        isr=list(partition.replicas),
        leader=partition.replicas[0],
        leader_epoch=0,
        partition_epoch=0,
    )


def _checked_overrides(overrides: Mapping[str, str | None], broker: BrokerConfig) -> dict[str, str]:
    missing = [name for name, value in overrides.items() if value is None]
    if missing:
        raise KafkaError(Error.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(missing)}")
    checked = {name: value for name, value in overrides.items() if value is not None}
    validate_topic_overrides(checked, broker)
    return checked


def internal_topic(name: str, config: BrokerConfig) -> NewTopic:
    """An internal topic as the broker creates it for itself."""
    if name == "__consumer_offsets":
        return NewTopic(
            name,
            config["offsets.topic.num.partitions"],
            config["offsets.topic.replication.factor"],
            overrides={
                "cleanup.policy": "compact",
                "compression.type": "producer",
                "segment.bytes": str(config["offsets.topic.segment.bytes"]),
            },
        )
    if name == "__transaction_state":
        return NewTopic(
            name,
            config["transaction.state.log.num.partitions"],
            config["transaction.state.log.replication.factor"],
            overrides={
                "cleanup.policy": "compact",
                "compression.type": "uncompressed",
                "min.insync.replicas": str(config["transaction.state.log.min.isr"]),
                "segment.bytes": str(config["transaction.state.log.segment.bytes"]),
                "unclean.leader.election.enable": "false",
            },
        )
    return NewTopic(
        name,
        config["share.coordinator.state.topic.num.partitions"],
        config["share.coordinator.state.topic.replication.factor"],
        overrides={
            "cleanup.policy": "delete",
            "compression.type": "producer",
            "min.insync.replicas": str(config["share.coordinator.state.topic.min.isr"]),
            "retention.ms": "-1",
            "segment.bytes": str(config["share.coordinator.state.topic.segment.bytes"]),
        },
    )
