"""What may be asked of the streams groups of a group machine, and what they answer.

A command that fails as a whole is answered with a `KafkaError`; each command says what its answer is otherwise.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kafkapy.groups.streams.facts import InternalTopic, StreamsSubscription, Topology, UserEndpoint
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks, TaskOffsets
from kafkapy.groups.streams.topologies import ConfiguredTopology, Status


class StreamsHeartbeat(NamedTuple):
    """A member is there: it joins (epoch 0), says what changed, what it has, or leaves (-1, or -2 to come back).

    None, and -1 of the timeout, leave as it was what the member said before. Answer: `StreamsHeartbeatAnswer`.
    """

    group_id: str
    member_id: str
    member_epoch: int
    endpoint_epoch: int
    instance_id: str | None
    rack_id: str | None
    rebalance_timeout_ms: int
    topology: Topology | None
    claimed: Assignment | None
    process_id: str | None
    endpoint: UserEndpoint | None
    tags: tuple[tuple[str, str], ...] | None
    offsets: TaskOffsets | None
    end_offsets: TaskOffsets | None
    shuts_down: bool
    client_id: str
    client_host: str
    knows_client_tags: bool
    """Whether it may be told that it lacks some."""


class EndpointPartitions(NamedTuple):
    """What can be asked at an endpoint: partitions of the topics that its tasks read."""

    endpoint: UserEndpoint
    active: Sequence[tuple[str, Sequence[int]]]
    standby: Sequence[tuple[str, Sequence[int]]]


class StreamsHeartbeatAnswer(NamedTuple):
    """The member's epoch, when to come again, what it may run from now on, and who runs what.

    None where that is as it was. `missing`: internal topics that are to be made.
    """

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    task_offset_interval_ms: int = 0
    acceptable_recovery_lag: int = -1
    statuses: Sequence[Status] = ()
    assigned: OwnedTasks | None = None
    endpoint_epoch: int = 0
    endpoints: Sequence[EndpointPartitions] | None = None
    missing: Mapping[str, InternalTopic] = {}


class DescribeStreamsGroup(NamedTuple):
    """Look at a streams group. Answer: `StreamsGroupDescription`; GROUP_ID_NOT_FOUND for what is none."""

    group_id: str


class StreamsMemberDescription(NamedTuple):
    """A member as administrators see it."""

    member_id: str
    member_epoch: int
    subscription: StreamsSubscription
    assigned: OwnedTasks
    target: Assignment
    offsets: TaskOffsets
    end_offsets: TaskOffsets


class StreamsGroupDescription(NamedTuple):
    """A streams group as administrators see it; `configured`: its topology as the cluster has it, once it does."""

    group_id: str
    state: str
    epoch: int
    target_epoch: int
    assignor: str
    topology: Topology
    configured: ConfiguredTopology | None
    members: Sequence[StreamsMemberDescription]


class InitialRebalanceDue(NamedTuple):
    """Timer: the first members of a group have had time to come."""

    group_id: str


class StreamsRebalanceExpired(NamedTuple):
    """Timer: a member that was told to give tasks up in this epoch has not done so."""

    group_id: str
    member_id: str
    member_epoch: int
