"""What a coordinator remembers of a streams group (KIP-1071): the facts behind its records of `__consumer_offsets`.

Five of them are those of the skeleton (`groups/modern/core.py`); the sixth is the topology. `groups/streams/journal.py`
turns them into Kafka's records and back; `groups/streams/group.py` keeps them.
"""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from kafkapy.groups.modern.core import (
    CurrentFact,
    EpochFact,
    FactTypes,
    SubscriptionFact,
    TargetEpochFact,
    TargetFact,
)
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks

NO_TOPOLOGY_EPOCH: Final = -1
"""As a group's validated epoch: its topics are not what its topology needs."""


class EpochBasis(NamedTuple):
    """What a streams group's epoch was bumped for beside its topics.

    `validated_topology_epoch`: the topology whose topics were all there. `configs`: the settings that the assignor has
    seen, by name. The last two tell of descriptions of the topology, which a plugin keeps in Kafka, and nobody here.
    """

    validated_topology_epoch: int = NO_TOPOLOGY_EPOCH
    configs: tuple[tuple[str, str], ...] = ()
    stored_description_epoch: int = NO_TOPOLOGY_EPOCH
    failed_description_epoch: int = NO_TOPOLOGY_EPOCH


class InternalTopic(NamedTuple):
    """A topic that the application needs for itself. 0: as many partitions as follow, the broker's replicas."""

    name: str
    partition_count: int = 0
    replication_factor: int = 0
    configs: tuple[tuple[str, str], ...] = ()


class CopartitionGroup(NamedTuple):
    """Topics that must have the same number of partitions, by their places in the subtopology's lists."""

    source_topics: tuple[int, ...] = ()
    source_patterns: tuple[int, ...] = ()
    repartition_sources: tuple[int, ...] = ()


class Subtopology(NamedTuple):
    """A part of the application that reads some topics, and of which each partition number is a task."""

    subtopology_id: str
    source_topics: tuple[str, ...] = ()
    source_patterns: tuple[str, ...] = ()
    changelogs: tuple[InternalTopic, ...] = ()
    repartition_sinks: tuple[str, ...] = ()
    repartition_sources: tuple[InternalTopic, ...] = ()
    copartition_groups: tuple[CopartitionGroup, ...] = ()

    @property
    def inputs(self) -> list[str]:
        return [*self.source_topics, *(topic.name for topic in self.repartition_sources)]


class Topology(NamedTuple):
    """What the application reads, keeps and writes for itself; subtopologies by their ids."""

    epoch: int
    subtopologies: tuple[Subtopology, ...]

    @property
    def required_topics(self) -> set[str]:
        return {
            name for each in self.subtopologies for name in (*each.inputs, *(topic.name for topic in each.changelogs))
        }

    def readers(self) -> Iterator[tuple[str, str]]:
        """The topics that are read, and the id of the subtopology that reads them; the last that does counts."""
        for each in self.subtopologies:
            for name in each.inputs:
                yield name, each.subtopology_id


class UserEndpoint(NamedTuple):
    """Where a member answers queries of what it keeps."""

    host: str
    port: int


class StreamsSubscription(NamedTuple):
    """What a member has said of itself."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    rebalance_timeout_ms: int = -1
    topology_epoch: int = NO_TOPOLOGY_EPOCH
    process_id: str = ""
    endpoint: UserEndpoint | None = None
    tags: tuple[tuple[str, str], ...] = ()


class StreamsMemberState(IntEnum):
    """Where a member is on its way to its target; the values are those of Kafka's records.

    UNKNOWN: written by a newer Kafka. STABLE: it has what it is to have. UNREVOKED_TASKS: it is to give tasks up.
    UNRELEASED_TASKS: it waits for tasks that others are to give up.
    """

    UNKNOWN = 127
    STABLE = 1
    UNREVOKED_TASKS = 2
    UNRELEASED_TASKS = 3


class StreamsCurrent(NamedTuple):
    """Where a member stands: its epoch and the one before, what it has, and what it is to give up."""

    epoch: int = 0
    previous_epoch: int = 0
    state: StreamsMemberState = StreamsMemberState.STABLE
    assigned: OwnedTasks = OwnedTasks()
    revoking: OwnedTasks = OwnedTasks()

    def is_reconciled_to(self, target_epoch: int) -> bool:
        return self.state is StreamsMemberState.STABLE and self.epoch == target_epoch


class StreamsEpochStored(EpochFact):
    """The group's epoch."""

    __slots__ = ()


class StreamsSubscriptionStored(SubscriptionFact[StreamsSubscription]):
    """A member's subscription."""

    __slots__ = ()


class StreamsTargetEpochStored(TargetEpochFact):
    """The target assignment's epoch."""

    __slots__ = ()


class StreamsTargetStored(TargetFact[Assignment]):
    """What a member is to have."""

    __slots__ = ()


class StreamsCurrentStored(CurrentFact[StreamsCurrent]):
    """What a member has."""

    __slots__ = ()


class TopologyStored(NamedTuple):
    """The group's topology."""

    group_id: str
    topology: Topology | None


FACT_TYPES: Final = FactTypes(
    StreamsEpochStored, StreamsSubscriptionStored, StreamsTargetEpochStored, StreamsTargetStored, StreamsCurrentStored
)
STREAMS_FACTS: Final = frozenset((*FACT_TYPES, TopologyStored))

StreamsFact = (
    StreamsEpochStored
    | StreamsSubscriptionStored
    | StreamsTargetEpochStored
    | StreamsTargetStored
    | StreamsCurrentStored
    | TopologyStored
)
