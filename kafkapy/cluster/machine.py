"""The machine behind topics, settings and producer ids: commands in, metadata facts out.

Pure: ids come with the commands. One shard on the metadata log runs it (`cluster/controller.py`). Kinds of facts that
have a module of their own decide there (`kinds.py`); what is asked of brokers and replicas is decided in `brokers.py`.

Invariants
 1. A topic id is never used twice, so a re-created topic is another topic.
 2. Producer ids are handed out in blocks that are never handed out again, also after a restart.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from kafkapy.cluster import brokers
from kafkapy.cluster.brokers import check_choice
from kafkapy.cluster.features import settled
from kafkapy.cluster.image import INTERNAL_TOPICS, PartitionInfo, TopicInfo
from kafkapy.cluster.journal import MetadataFact
from kafkapy.cluster.partitions import partition_fact
from kafkapy.cluster.placement import (
    DEFAULT,
    Assignments,
    Placed,
    check_active,
    check_assignment,
    placed_by_count,
    placed_by_hand,
    striped,
)
from kafkapy.cluster.state import ClusterState, Topic, topic_facts
from kafkapy.cluster.topic_names import validate_topic_name
from kafkapy.config.altering import Alteration, altered, check, replacing
from kafkapy.config.layers import BrokerConfig, validate_topic_overrides
from kafkapy.config.setting import ConfigResource
from kafkapy.coordination.shard import Answer, Decision, Moment, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.model import METADATA_TOPIC, LogId
from kafkapy.protocol.journal.cluster_metadata import ConfigRecord, ProducerIdsRecord, RemoveTopicRecord

PRODUCER_ID_BLOCK: Final = 1000
MAX_PARTITIONS_PER_REQUEST: Final = 10_000

Spend = Callable[[int], None]
"""Called with the number of partitions that are to come or go, before that is so; raises what prevents it."""


class NewTopic(NamedTuple):
    """A topic to create; -1 stands for the broker's defaults, `assignments` maps partitions to brokers."""

    name: str
    partition_count: int = DEFAULT
    replication_factor: int = DEFAULT
    assignments: Assignments = ()
    overrides: Mapping[str, str | None] = {}


class NewPartitions(NamedTuple):
    """A topic to grow to `partition_count` partitions; `assignments` gives the brokers of each new one."""

    name: str
    partition_count: int
    assignments: Sequence[Sequence[int]] | None = None


def freely(partitions: int) -> None:
    """What counts the partitions of a command, where nothing limits their number."""


EpochOrigin = Callable[[LogId], int]
"""`storage.base.Logs.epoch_origin`."""


def from_zero(log: LogId) -> int:
    """Of a store that counts each log's epochs by themselves."""
    return 0


@dataclass(slots=True)
class CreateTopics:
    """Answered by a list: for each topic its `TopicInfo`, or the `KafkaError` that refuses it."""

    topics: Sequence[NewTopic]
    topic_ids: Sequence[bytes]
    validate_only: bool = False
    spend: Spend = freely
    epoch_origin: EpochOrigin = from_zero


@dataclass(slots=True)
class DeleteTopics:
    """Answered by a list: for each id the `TopicInfo` that went, or a `KafkaError`."""

    topic_ids: Sequence[bytes]
    spend: Spend = freely


@dataclass(slots=True)
class CreatePartitions:
    """Answered by a list: for each topic its `TopicInfo` afterwards, or a `KafkaError`."""

    topics: Sequence[NewPartitions]
    validate_only: bool = False
    spend: Spend = freely
    epoch_origin: EpochOrigin = from_zero


class ResourceAlteration(NamedTuple):
    """What is asked of one resource's settings; `replaces`: what is not named goes. `kind` is a `ConfigResource`."""

    kind: int
    name: str
    alterations: Sequence[Alteration]
    replaces: bool = False


@dataclass(slots=True)
class AlterConfigs:
    """Answered by a list: for each resource None, or the `KafkaError` that refuses it. No resource is named twice."""

    resources: Sequence[ResourceAlteration]
    validate_only: bool = False


@dataclass(slots=True)
class AllocateProducerIds:
    """Answered by a `range` of producer ids that nobody else gets."""


class ClusterMachine:
    """Decides what becomes of topics; `state` is what has become of them."""

    def __init__(
        self,
        cluster_id: str,
        static: BrokerConfig,
        state: ClusterState | None = None,
        *,
        leads_by_facts: bool = True,
    ) -> None:
        self.state = state or ClusterState(cluster_id, static, leads_by_facts=leads_by_facts)
        self._cluster_id = cluster_id
        self._static = static
        self._node_id: int = static["node.id"]
        self._kind_of = {command: kind for kind in self.state.kinds.values() for command in kind.commands}

    # -- deciding

    def decide(self, command: Any, ticket: Ticket, moment: Moment) -> Decision:
        match command:
            case CreateTopics():
                return self._create_topics(command, ticket)
            case DeleteTopics():
                return self._delete_topics(command, ticket)
            case CreatePartitions():
                return self._create_partitions(command, ticket)
            case AlterConfigs():
                return self._alter_configs(command, ticket)
            case AllocateProducerIds():
                first = self.state.next_producer_id
                fact = ProducerIdsRecord(broker_id=self._node_id, next_producer_id=first + PRODUCER_ID_BLOCK)
                return Decision([fact], [Answer(ticket, range(first, first + PRODUCER_ID_BLOCK))])
        facts: Sequence[MetadataFact]
        if (decide := brokers.COMMANDS.get(type(command))) is not None:
            facts, answer = decide(self.state, command)
        else:
            facts, answer = self._kind_of[type(command)].decide(command, moment)
        return Decision(list(facts), [Answer(ticket, answer)])

    def loaded(self, moment: Moment) -> Decision:
        return Decision([*settled(self.state.kinds["features"].shown)])

    def _create_topics(self, command: CreateTopics, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        _refuse_too_many(sum(self._asked_partition_count(topic) for topic in command.topics), "partitions")
        taken: set[str] = set()
        for topic, topic_id in zip(command.topics, command.topic_ids, strict=True):
            try:
                self._check_name(topic.name, taken)
                overrides = _checked_overrides(topic.overrides, self.state.config)
                assignments = self._place(topic, topic_id)
                command.spend(len(assignments))
            except KafkaError as refusal:
                results.append(refusal)
                continue
            taken.add(topic.name)
            partitions = [
                self._partition(LogId(topic.name, index, topic_id), replicas, command.epoch_origin)
                for index, replicas in assignments
            ]
            created = self.state.described(topic.name, topic_id, partitions, overrides)
            results.append(created)
            facts += topic_facts(created)
        return Decision([] if command.validate_only else facts, [Answer(ticket, results)])

    def _place(self, topic: NewTopic, topic_id: bytes) -> Placed:
        count, factor, registered = topic.partition_count, topic.replication_factor, self.state.brokers
        if topic.assignments:
            check_choice(self.state)
            return placed_by_hand(count, factor, topic.assignments, registered)
        if not self.state.leads_by_facts and (factor == DEFAULT or topic.name in INTERNAL_TOPICS):
            # What is written is as safe with one broker as with three: a cluster that is still coming up need not wait.
            wanted = self.state.config["default.replication.factor"] if factor == DEFAULT else factor
            factor = min(wanted, len(registered))
        return placed_by_count(count, factor, self.state.config, registered, topic_id)

    def _asked_partition_count(self, topic: NewTopic) -> int:
        """How many partitions the topic asks for, whether or not it will get them."""
        if topic.assignments:
            return len(topic.assignments)
        count: int = self.state.config["num.partitions"] if topic.partition_count == DEFAULT else topic.partition_count
        return max(count, 0)

    def _check_name(self, name: str, taken: set[str]) -> None:
        validate_topic_name(name)
        if name == METADATA_TOPIC:
            raise KafkaError(Error.INVALID_REQUEST, f"Creation of internal topic {METADATA_TOPIC} is prohibited.")
        if self.state.topic(name) is not None or name in taken:
            raise KafkaError(Error.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        # As in Kafka, names that collide within one request pass.
        if others := self.state.colliding_with(name):
            raise KafkaError(
                Error.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {min(others)}"
            )

    def _delete_topics(self, command: DeleteTopics, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        for topic_id in command.topic_ids:
            topic = self.state.topic_by_id(topic_id)
            if topic is None:
                results.append(KafkaError(Error.UNKNOWN_TOPIC_ID))
                continue
            try:
                command.spend(len(topic.partitions))
            except KafkaError as refusal:
                results.append(refusal)
                continue
            results.append(self.state.info(topic))
            facts.append(RemoveTopicRecord(topic_id=topic_id))
        return Decision(facts, [Answer(ticket, results)])

    def _create_partitions(self, command: CreatePartitions, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[TopicInfo | KafkaError] = []
        _refuse_too_many(sum(self._additional_count(topic) for topic in command.topics), "additional partitions")
        for wanted in command.topics:
            try:
                topic = self._existing(wanted.name)
                added = self._grow(topic, wanted, command.epoch_origin)
                command.spend(len(added))
            except KafkaError as refusal:
                results.append(refusal)
                continue
            present = self.state.info(topic)
            results.append(
                self.state.described(topic.name, topic.topic_id, [*present.partitions, *added], present.overrides)
            )
            facts += [partition_fact(partition) for partition in added]
        return Decision([] if command.validate_only else facts, [Answer(ticket, results)])

    def _additional_count(self, wanted: NewPartitions) -> int:
        topic = self.state.topic(wanted.name)
        return 0 if topic is None else max(wanted.partition_count - len(topic.partitions), 0)

    def _existing(self, name: str) -> Topic:
        topic = self.state.topic(name)
        if topic is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
        return topic

    def _grow(self, topic: Topic, wanted: NewPartitions, epoch_origin: EpochOrigin) -> list[PartitionInfo]:
        present = len(topic.partitions)
        if wanted.partition_count == present:
            raise KafkaError(Error.INVALID_PARTITIONS, f"Topic already has {present} partition(s).")
        if wanted.partition_count < present:
            raise KafkaError(
                Error.INVALID_PARTITIONS,
                f"The topic {wanted.name} currently has {present} partition(s); "
                f"{wanted.partition_count} would not be an increase.",
            )
        count, registered = wanted.partition_count - present, self.state.brokers
        factor = len(topic.partitions[0].replicas)
        if wanted.assignments is None:
            placed: Sequence[Sequence[int]] = striped(count, factor, registered, topic.topic_id + present.to_bytes(4))
        else:
            check_choice(self.state)
            placed = wanted.assignments
            if len(placed) != count:
                raise KafkaError(
                    Error.INVALID_REPLICA_ASSIGNMENT,
                    f"Attempted to add {count} additional partition(s), but only {len(placed)} assignment(s) were "
                    "specified.",
                )
            for index, replicas in enumerate(placed, present):
                check_assignment(replicas, registered, factor)
                check_active(index, replicas, registered)
        return [
            self._partition(LogId(topic.name, index, topic.topic_id), tuple(replicas), epoch_origin)
            for index, replicas in enumerate(placed, present)
        ]

    def _alter_configs(self, command: AlterConfigs, ticket: Ticket) -> Decision:
        facts: list[MetadataFact] = []
        results: list[KafkaError | None] = []
        for resource in command.resources:
            try:
                facts += self._altered(resource)
            except KafkaError as refusal:
                results.append(refusal)
            else:
                results.append(None)
        return Decision([] if command.validate_only else facts, [Answer(ticket, results)])

    def _altered(self, resource: ResourceAlteration) -> list[MetadataFact]:
        kind, name, alterations, replaces = resource
        own = self.state.overrides_of(kind, name)
        if replaces:
            alterations = replacing(own, alterations)
        values = altered(kind, own, alterations)
        if kind == ConfigResource.TOPIC:
            if not name:
                raise KafkaError(Error.INVALID_REQUEST, "Default topic resources are not allowed.")
            validate_topic_name(name)
        check(kind, name, own, values, self.state.config)
        if kind == ConfigResource.TOPIC and self.state.topic(name) is None:
            raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"The topic '{name}' does not exist.")
        return [
            ConfigRecord(resource_type=kind, resource_name=name, name=setting, value=value)
            for setting, value in values.items()
            # As in Kafka brokers are told anew also of what is as it was.
            if value != own.get(setting) or kind == ConfigResource.BROKER
        ]

    def _partition(self, log: LogId, replicas: tuple[int, ...], epoch_origin: EpochOrigin) -> PartitionInfo:
        registered = self.state.brokers
        there = tuple(replica for replica in replicas if not registered[replica].is_fenced)
        isr = replicas if there == replicas else there
        return PartitionInfo(log, replicas, isr, there[0], epoch_origin=epoch_origin(log))

    # -- applying

    def apply(self, fact: MetadataFact) -> None:
        self.state.apply(fact)

    def undo_of(self, fact: MetadataFact) -> Callable[[], None]:
        return self.state.undo_of(fact)

    def revert(self, undos: Iterable[Callable[[], None]], error: KafkaError, moment: Moment) -> Decision:
        for undo in undos:
            undo()
        return Decision()

    def snapshot(self) -> Iterator[MetadataFact]:
        return self.state.snapshot()

    def copy(self) -> "ClusterMachine":
        """One that has come as far, and shares nothing that changes."""
        return ClusterMachine(self._cluster_id, self._static, self.state.copy())


def _refuse_too_many(count: int, what: str) -> None:
    if count > MAX_PARTITIONS_PER_REQUEST:
        raise KafkaError(Error.POLICY_VIOLATION, f"Excessively large number of {what} per request.")


def _checked_overrides(overrides: Mapping[str, str | None], broker: BrokerConfig) -> dict[str, str]:
    missing = [name for name, value in overrides.items() if value is None]
    if missing:
        raise KafkaError(Error.INVALID_CONFIG, f"Null value not supported for topic configs: {','.join(missing)}")
    checked = {name: value for name, value in overrides.items() if value is not None}
    validate_topic_overrides(checked, broker)
    return checked
