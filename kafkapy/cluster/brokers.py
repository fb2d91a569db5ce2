"""Commands about brokers and replicas: who has come and gone, who is to lead, where partitions are to be.

Pure. Decided by the controller's machine, by the rules of `electing.py`. What a broker led goes over to others in the
write that tells of its going, so that no image shows one without the other.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, Final, NamedTuple

from kafkapy.cluster.electing import Election, Target, Voters, change_of, changes_of
from kafkapy.cluster.image import PartitionInfo
from kafkapy.cluster.journal import MetadataFact
from kafkapy.cluster.partitions import changed
from kafkapy.cluster.placement import check_assignment
from kafkapy.cluster.registrations import FENCE, UNFENCE, Registration, fencing, registration_fact
from kafkapy.cluster.state import ClusterState, Topic
from kafkapy.config.layers import TopicConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NOBODY, Endpoint, LogId
from kafkapy.protocol.journal.cluster_metadata import UnregisterBrokerRecord

MAX_ELECTIONS_AT_ONCE: Final = 1000
"""So many leaders are moved in one write to balance them, as in Kafka."""

_UNCLEAN: Final = "unclean.leader.election.enable"


@dataclass(slots=True)
class RegisterBroker:
    """A broker is there, and may lead. Answered by its epoch."""

    node_id: int
    incarnation_id: bytes
    rack: str | None
    endpoints: tuple[Endpoint, ...]


@dataclass(slots=True)
class FenceBrokers:
    """These are not there any more; others lead what they led. Those that are not registered are passed over."""

    node_ids: Sequence[int]


@dataclass(slots=True)
class UnregisterBroker:
    """A broker will not come back. Raises BROKER_ID_NOT_REGISTERED."""

    node_id: int


@dataclass(slots=True)
class ElectLeaders:
    """Answered by a dict: for each partition None, or why its leader stays.

    Without partitions all are asked for, but those whose leader is who it should be.
    """

    partitions: Sequence[tuple[str, int]] | None
    is_unclean: bool


@dataclass(slots=True)
class BalanceLeaders:
    """Preferred replicas that are there lead again. Answered by how many began to."""


class Reassignment(NamedTuple):
    """The brokers that a partition is to have from now on; None ends the reassignment that is under way."""

    topic: str
    partition: int
    brokers: Sequence[int] | None


@dataclass(slots=True)
class AlterReassignments:
    """Answered by a list: for each partition None, or the `KafkaError` that refuses it."""

    reassignments: Sequence[Reassignment]
    may_change_factor: bool = True


Decided = tuple[list[MetadataFact], Any]
VotersOf = Callable[[Topic], Voters]


def _register(state: ClusterState, command: RegisterBroker) -> Decided:
    known = state.brokers.get(command.node_id)
    registered = state.registered
    epoch = max((broker.epoch for broker in registered.values()), default=0) + 1
    is_as_known = known is not None and not known.is_fenced and known.rack == command.rack
    is_alone = not registered and state.leads_by_facts
    if known is not None and is_as_known and (is_alone or known.endpoints == command.endpoints):
        return [], known.epoch
    facts: list[MetadataFact] = []
    if not registered:  # the cluster is one broker's no longer
        facts += [registration_fact(broker) for broker in state.brokers.values() if broker.node_id != command.node_id]
    broker = Registration(
        command.node_id, epoch, command.incarnation_id, command.rack, command.endpoints, is_fenced=True
    )
    facts += [registration_fact(broker), fencing(broker, UNFENCE)]
    voters = _voters_of(state, coming=command.node_id)
    for topic, partition in _partitions(state):
        if command.node_id in partition.replicas:
            facts += changes_of(partition, voters(topic))
    return facts, epoch


def _fence(state: ClusterState, command: FenceBrokers) -> Decided:
    going = {node_id for node_id in command.node_ids if node_id in state.brokers}
    going = {node_id for node_id in going if not state.brokers[node_id].is_fenced}
    if not going:
        return [], None
    facts: list[MetadataFact] = []
    if not state.registered:
        facts += [registration_fact(broker) for broker in state.brokers.values()]
    facts += _without(state, going)
    facts += [fencing(state.brokers[node_id], FENCE) for node_id in sorted(going)]
    return facts, None


def _unregister(state: ClusterState, command: UnregisterBroker) -> Decided:
    node_id = command.node_id
    broker = state.brokers.get(node_id)
    if broker is None:
        raise KafkaError(Error.BROKER_ID_NOT_REGISTERED, f"Broker ID {node_id} is not currently registered")
    if not broker.is_fenced:
        raise KafkaError(Error.INVALID_REQUEST, f"Broker ID {node_id} is there: stop it first")
    facts = _without(state, {node_id})
    return [*facts, UnregisterBrokerRecord(broker_id=node_id, broker_epoch=broker.epoch)], None


def _without(state: ClusterState, going: set[int]) -> list[MetadataFact]:
    """What becomes of partitions that had one of these in sync."""
    facts: list[MetadataFact] = []
    voters = _voters_of(state, going=going)
    for topic, partition in _partitions(state):
        if not going.isdisjoint(partition.isr):
            left = [replica for replica in partition.isr if replica not in going]
            facts += changes_of(partition, voters(topic), Target(isr=left))
    return facts


def _elect(state: ClusterState, command: ElectLeaders) -> Decided:
    facts: list[MetadataFact] = []
    voters = _voters_of(state, election=Election.UNCLEAN if command.is_unclean else Election.PREFERRED)
    if command.partitions is not None:
        asked = dict.fromkeys(command.partitions)
        return facts, {(name, index): _elected(state, name, index, voters, facts) for name, index in asked}
    results: dict[tuple[str, int], KafkaError | None] = {}
    for topic, partition in _partitions(state):
        refusal = _elected(state, topic.name, partition.log.partition, voters, facts)
        if refusal is None or refusal.error is not Error.ELECTION_NOT_NEEDED:
            results[topic.name, partition.log.partition] = refusal
    return facts, results


def _elected(
    state: ClusterState, name: str, index: int, voters_of: VotersOf, facts: list[MetadataFact]
) -> KafkaError | None:
    topic = state.topic(name)
    if topic is None:
        return KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"No such topic as {name}")
    partition = topic.partitions.get(index)
    if partition is None:
        return KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"No such partition as {name}-{index}")
    if not state.leads_by_facts:
        return KafkaError(Error.ELECTION_NOT_NEEDED)
    voters = voters_of(topic)
    is_unclean = voters.election is Election.UNCLEAN
    if partition.leader == partition.replicas[0] or (is_unclean and partition.leader != NOBODY):
        return KafkaError(Error.ELECTION_NOT_NEEDED)
    changes = changes_of(partition, voters)
    if not changes:
        return KafkaError(Error.ELIGIBLE_LEADERS_NOT_AVAILABLE if is_unclean else Error.PREFERRED_LEADER_NOT_AVAILABLE)
    facts += changes
    return None


def _balance(state: ClusterState, command: BalanceLeaders) -> Decided:
    facts: list[MetadataFact] = []
    if not state.registered:
        return facts, 0
    voters = _voters_of(state, election=Election.PREFERRED)
    for topic, partition in _partitions(state):
        if partition.leader != partition.replicas[0]:
            fact = change_of(partition, voters(topic))
            if fact is not None:
                facts.append(fact)
        if len(facts) == MAX_ELECTIONS_AT_ONCE:
            break
    return facts, len(facts)


def _reassign(state: ClusterState, command: AlterReassignments) -> Decided:
    facts: list[MetadataFact] = []
    results: list[KafkaError | None] = []
    voters = _voters_of(state)
    moved: dict[LogId, PartitionInfo] = {}  # as they are after what was decided here before
    for wanted in command.reassignments:
        try:
            topic, partition = _asked_for(state, wanted)
            partition = moved.get(partition.log, partition)
            target = _target(state, wanted, partition, voters(topic), may_change_factor=command.may_change_factor)
        except KafkaError as refusal:
            results.append(refusal)
            continue
        changes = changes_of(partition, voters(topic)._replace(election=Election.ONLINE), target)
        moved[partition.log] = reduce(changed, changes, partition)
        facts += changes
        results.append(None)
    return facts, results


def _asked_for(state: ClusterState, wanted: Reassignment) -> tuple[Topic, PartitionInfo]:
    topic = state.topic(wanted.topic)
    if topic is None:
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, f"Unable to find a topic named {wanted.topic}.")
    partition = topic.partitions.get(wanted.partition)
    if partition is None:
        message = f"Unable to find partition {wanted.topic}:{wanted.partition}."
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, message)
    return topic, partition


def _target(
    state: ClusterState, wanted: Reassignment, partition: PartitionInfo, voters: Voters, *, may_change_factor: bool
) -> Target:
    if wanted.brokers is None:
        if not (partition.adding or partition.removing):
            raise KafkaError(Error.NO_REASSIGNMENT_IN_PROGRESS)
        before = [replica for replica in partition.replicas if replica not in partition.adding]
        in_sync = [replica for replica in partition.isr if replica in before]
        if not in_sync and voters.election is not Election.UNCLEAN:
            raise KafkaError(
                Error.INVALID_REPLICA_ASSIGNMENT,
                f"Unable to revert partition assignment for {wanted.topic}:{wanted.partition} because it would require "
                "an unclean leader election.",
            )
        return Target(in_sync, before, (), ())
    check_choice(state)
    brokers = wanted.brokers
    check_assignment(brokers, state.brokers)
    factor = len(partition.replicas) - len(partition.removing)
    if not may_change_factor and len(brokers) != factor:
        raise KafkaError(
            Error.INVALID_REPLICATION_FACTOR, f"The replication factor is changed from {factor} to {len(brokers)}"
        )
    removing = sorted(replica for replica in partition.replicas if replica not in brokers)
    adding = sorted(broker for broker in brokers if broker not in partition.replicas)
    return Target(None, [*brokers, *removing], adding, removing)


def check_choice(state: ClusterState) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT where it cannot be chosen which brokers have a partition."""
    if not state.leads_by_facts:
        raise KafkaError(
            Error.INVALID_REPLICA_ASSIGNMENT,
            "Which brokers have a partition follows from which are there (its data is in a database that all of them "
            "share), and cannot be chosen.",
        )


def _partitions(state: ClusterState) -> Iterator[tuple[Topic, PartitionInfo]]:
    """All of which it is decided here who leads them."""
    if not state.leads_by_facts:
        return
    for topic in state.topics():
        for partition in topic.partitions.values():
            yield topic, partition


def _voters_of(
    state: ClusterState, *, coming: int = NOBODY, going: Iterable[int] = (), election: Election | None = None
) -> VotersOf:
    """What decides on a topic's partitions, once this broker has come, or those have gone.

    Without an `election` it is the one that the topic's settings allow.
    """
    there = {node_id for node_id, broker in state.brokers.items() if not broker.is_fenced}
    there = {node_id for node_id in (*there, coming) if node_id not in going}
    known: dict[str, Voters] = {}

    def voters(topic: Topic) -> Voters:
        if topic.name not in known:
            config = TopicConfig(state.overrides_of(ConfigResource.TOPIC, topic.name), state.config)
            allowed = Election.UNCLEAN if config[_UNCLEAN] else Election.ONLINE
            known[topic.name] = Voters(there.__contains__, config["min.insync.replicas"], election or allowed)
        return known[topic.name]

    return voters


COMMANDS: Final[dict[type[Any], Callable[[ClusterState, Any], Decided]]] = {
    RegisterBroker: _register,
    FenceBrokers: _fence,
    UnregisterBroker: _unregister,
    ElectLeaders: _elect,
    BalanceLeaders: _balance,
    AlterReassignments: _reassign,
}
