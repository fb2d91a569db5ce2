"""Facts of streams groups as records of `__consumer_offsets`, in the formats of Kafka 4.4 (KIP-1071).

Called by `groups/journal.py`. Lists of tasks are written sorted, where Kafka writes them in whatever order its
tables have.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafkapy.coordination.shard import Entry
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.streams.facts import (
    CopartitionGroup,
    EpochBasis,
    InternalTopic,
    StreamsCurrent,
    StreamsCurrentStored,
    StreamsEpochStored,
    StreamsFact,
    StreamsMemberState,
    StreamsSubscription,
    StreamsSubscriptionStored,
    StreamsTargetEpochStored,
    StreamsTargetStored,
    Subtopology,
    Topology,
    TopologyStored,
    UserEndpoint,
)
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks, TaskEpochs, Tasks
from kafkapy.protocol.journal.streams_group_current_member_assignment import (
    StreamsGroupCurrentMemberAssignmentKey as CurrentKey,
)
from kafkapy.protocol.journal.streams_group_current_member_assignment import (
    StreamsGroupCurrentMemberAssignmentValue as CurrentValue,
)
from kafkapy.protocol.journal.streams_group_member_metadata import StreamsGroupMemberMetadataKey as SubscriptionKey
from kafkapy.protocol.journal.streams_group_member_metadata import StreamsGroupMemberMetadataValue as SubscriptionValue
from kafkapy.protocol.journal.streams_group_metadata import StreamsGroupMetadataKey as EpochKey
from kafkapy.protocol.journal.streams_group_metadata import StreamsGroupMetadataValue as EpochValue
from kafkapy.protocol.journal.streams_group_target_assignment_member import (
    StreamsGroupTargetAssignmentMemberKey as TargetKey,
)
from kafkapy.protocol.journal.streams_group_target_assignment_member import (
    StreamsGroupTargetAssignmentMemberValue as TargetValue,
)
from kafkapy.protocol.journal.streams_group_target_assignment_metadata import (
    StreamsGroupTargetAssignmentMetadataKey as TargetEpochKey,
)
from kafkapy.protocol.journal.streams_group_target_assignment_metadata import (
    StreamsGroupTargetAssignmentMetadataValue as TargetEpochValue,
)
from kafkapy.protocol.journal.streams_group_topology import StreamsGroupTopologyKey as TopologyKey
from kafkapy.protocol.journal.streams_group_topology import StreamsGroupTopologyValue as TopologyValue

_VERSION: Final = 0


def encode(fact: StreamsFact) -> Sequence[Entry]:
    """The record that carries the fact."""
    match fact:
        case StreamsEpochStored(group_id, epoch):
            return _entry(EpochKey(group_id=group_id), None if epoch is None else _epoch_value(epoch))
        case StreamsSubscriptionStored(group_id, member_id, subscription):
            value: Any = None if subscription is None else _subscription_value(subscription)
            return _entry(SubscriptionKey(group_id=group_id, member_id=member_id), value)
        case StreamsTargetEpochStored(group_id, target):
            value = (
                None
                if target is None
                else TargetEpochValue(assignment_epoch=target.epoch, assignment_timestamp=target.timestamp_ms)
            )
            return _entry(TargetEpochKey(group_id=group_id), value)
        case StreamsTargetStored(group_id, member_id, assignment):
            value = None
            if assignment is not None:
                active, standby, warmup = (_task_lists(TargetValue.TaskIds, tasks) for tasks in assignment)
                value = TargetValue(active_tasks=active, standby_tasks=standby, warmup_tasks=warmup)
            return _entry(TargetKey(group_id=group_id, member_id=member_id), value)
        case StreamsCurrentStored(group_id, member_id, current):
            value = None if current is None else _current_value(current)
            return _entry(CurrentKey(group_id=group_id, member_id=member_id), value)
        case TopologyStored(group_id, topology):
            return _entry(TopologyKey(group_id=group_id), None if topology is None else _topology_value(topology))


def _entry(key: Any, value: Any) -> Sequence[Entry]:
    raw_key = bytearray(key.RECORD_TYPE.to_bytes(2, "big"))
    key.encode(_VERSION, raw_key)
    if value is None:
        return [Entry(bytes(raw_key), None)]
    raw_value = bytearray(_VERSION.to_bytes(2, "big"))
    value.encode(_VERSION, raw_value)
    return [Entry(bytes(raw_key), bytes(raw_value))]


def _epoch_value(epoch: GroupEpoch) -> EpochValue:
    basis = epoch.basis
    assert isinstance(basis, EpochBasis)
    return EpochValue(
        epoch=epoch.epoch,
        metadata_hash=epoch.metadata_hash,
        validated_topology_epoch=basis.validated_topology_epoch,
        last_assignment_configs=[EpochValue.LastAssignmentConfig(key=key, value=value) for key, value in basis.configs],
        stored_description_topology_epoch=basis.stored_description_epoch,
        failed_description_topology_epoch=basis.failed_description_epoch,
    )


def _subscription_value(subscription: StreamsSubscription) -> SubscriptionValue:
    endpoint = subscription.endpoint
    return SubscriptionValue(
        instance_id=subscription.instance_id,
        rack_id=subscription.rack_id,
        client_id=subscription.client_id,
        client_host=subscription.client_host,
        rebalance_timeout_ms=subscription.rebalance_timeout_ms,
        topology_epoch=subscription.topology_epoch,
        process_id=subscription.process_id,
        user_endpoint=None if endpoint is None else SubscriptionValue.Endpoint(host=endpoint.host, port=endpoint.port),
        client_tags=[SubscriptionValue.KeyValue(key=key, value=value) for key, value in subscription.tags],
    )


def _current_value(current: StreamsCurrent) -> CurrentValue:
    assigned, revoking = current.assigned, current.revoking
    return CurrentValue(
        member_epoch=current.epoch,
        previous_member_epoch=current.previous_epoch,
        state=current.state,
        active_tasks=_epoch_lists(assigned.active),
        standby_tasks=_task_lists(CurrentValue.TaskIds, assigned.standby),
        warmup_tasks=_task_lists(CurrentValue.TaskIds, assigned.warmup),
        active_tasks_pending_revocation=_epoch_lists(revoking.active),
        standby_tasks_pending_revocation=_task_lists(CurrentValue.TaskIds, revoking.standby),
        warmup_tasks_pending_revocation=_task_lists(CurrentValue.TaskIds, revoking.warmup),
    )


def _task_lists(kind: Callable[..., Any], tasks: Tasks) -> list[Any]:
    return [kind(subtopology_id=name, partitions=sorted(numbers)) for name, numbers in sorted(tasks.items())]


def _epoch_lists(tasks: TaskEpochs) -> list[CurrentValue.TaskIds]:
    return [
        CurrentValue.TaskIds(
            subtopology_id=name,
            partitions=(numbers := sorted(epochs)),
            assignment_epochs=[epochs[number] for number in numbers],
        )
        for name, epochs in sorted(tasks.items())
    ]


def _topology_value(topology: Topology) -> TopologyValue:
    return TopologyValue(
        epoch=topology.epoch,
        subtopologies=[
            TopologyValue.Subtopology(
                subtopology_id=each.subtopology_id,
                source_topics=list(each.source_topics),
                source_topic_regex=list(each.source_patterns),
                state_changelog_topics=[_topic_info(topic) for topic in each.changelogs],
                repartition_sink_topics=list(each.repartition_sinks),
                repartition_source_topics=[_topic_info(topic) for topic in each.repartition_sources],
                copartition_groups=[
                    TopologyValue.CopartitionGroup(
                        source_topics=list(group.source_topics),
                        source_topic_regex=list(group.source_patterns),
                        repartition_source_topics=list(group.repartition_sources),
                    )
                    for group in each.copartition_groups
                ],
            )
            for each in topology.subtopologies
        ],
    )


def _topic_info(topic: InternalTopic) -> TopologyValue.TopicInfo:
    return TopologyValue.TopicInfo(
        name=topic.name,
        partitions=topic.partition_count,
        replication_factor=topic.replication_factor,
        topic_configs=[TopologyValue.TopicConfig(key=key, value=value) for key, value in topic.configs],
    )


def _decode_epoch(key: bytes, value: bytes | None) -> StreamsFact:
    group_id = EpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return StreamsEpochStored(group_id, None)
    message = EpochValue.decode(_version(value), value, 2)[0]
    basis = EpochBasis(
        message.validated_topology_epoch,
        tuple(sorted((each.key, each.value) for each in message.last_assignment_configs or ())),
        message.stored_description_topology_epoch,
        message.failed_description_topology_epoch,
    )
    return StreamsEpochStored(group_id, GroupEpoch(message.epoch, message.metadata_hash, basis))


def _decode_subscription(key: bytes, value: bytes | None) -> StreamsFact:
    name = SubscriptionKey.decode(0, key, 2)[0]
    if value is None:
        return StreamsSubscriptionStored(name.group_id, name.member_id, None)
    message = SubscriptionValue.decode(_version(value), value, 2)[0]
    endpoint = message.user_endpoint
    subscription = StreamsSubscription(
        message.instance_id,
        message.rack_id,
        message.client_id,
        message.client_host,
        message.rebalance_timeout_ms,
        message.topology_epoch,
        message.process_id,
        None if endpoint is None else UserEndpoint(endpoint.host, endpoint.port),
        tuple((each.key, each.value) for each in message.client_tags),
    )
    return StreamsSubscriptionStored(name.group_id, name.member_id, subscription)


def _decode_target_epoch(key: bytes, value: bytes | None) -> StreamsFact:
    group_id = TargetEpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return StreamsTargetEpochStored(group_id, None)
    message = TargetEpochValue.decode(_version(value), value, 2)[0]
    return StreamsTargetEpochStored(group_id, TargetEpoch(message.assignment_epoch, message.assignment_timestamp))


def _decode_target(key: bytes, value: bytes | None) -> StreamsFact:
    name = TargetKey.decode(0, key, 2)[0]
    if value is None:
        return StreamsTargetStored(name.group_id, name.member_id, None)
    message = TargetValue.decode(_version(value), value, 2)[0]
    assignment = Assignment(_tasks(message.active_tasks), _tasks(message.standby_tasks), _tasks(message.warmup_tasks))
    return StreamsTargetStored(name.group_id, name.member_id, assignment)


def _decode_current(key: bytes, value: bytes | None) -> StreamsFact:
    name = CurrentKey.decode(0, key, 2)[0]
    if value is None:
        return StreamsCurrentStored(name.group_id, name.member_id, None)
    message = CurrentValue.decode(_version(value), value, 2)[0]
    known = message.state in StreamsMemberState.__members__.values()
    current = StreamsCurrent(
        message.member_epoch,
        message.previous_member_epoch,
        StreamsMemberState(message.state) if known else StreamsMemberState.UNKNOWN,
        OwnedTasks(
            _epochs(message.active_tasks, message.member_epoch),
            _tasks(message.standby_tasks),
            _tasks(message.warmup_tasks),
        ),
        OwnedTasks(
            _epochs(message.active_tasks_pending_revocation, message.member_epoch),
            _tasks(message.standby_tasks_pending_revocation),
            _tasks(message.warmup_tasks_pending_revocation),
        ),
    )
    return StreamsCurrentStored(name.group_id, name.member_id, current)


def _tasks(lists: Sequence[Any]) -> Tasks:
    return {each.subtopology_id: frozenset(each.partitions) for each in lists if each.partitions}


def _epochs(lists: Sequence[CurrentValue.TaskIds], member_epoch: int) -> TaskEpochs:
    """Before 4.3 no epochs were written: a task was given to its member in the member's epoch at the latest."""
    owned: dict[str, Mapping[int, int]] = {}
    for each in lists:
        epochs = each.assignment_epochs
        if epochs is None or len(epochs) != len(each.partitions):
            epochs = [max(member_epoch, 0)] * len(each.partitions)
        if each.partitions:
            owned[each.subtopology_id] = dict(zip(each.partitions, epochs, strict=True))
    return owned


def _decode_topology(key: bytes, value: bytes | None) -> StreamsFact:
    group_id = TopologyKey.decode(0, key, 2)[0].group_id
    if value is None:
        return TopologyStored(group_id, None)
    message = TopologyValue.decode(_version(value), value, 2)[0]
    subtopologies = [
        Subtopology(
            each.subtopology_id,
            tuple(each.source_topics),
            tuple(each.source_topic_regex),
            _internal_topics(each.state_changelog_topics),
            tuple(each.repartition_sink_topics),
            _internal_topics(each.repartition_source_topics),
            tuple(
                CopartitionGroup(
                    tuple(group.source_topics), tuple(group.source_topic_regex), tuple(group.repartition_source_topics)
                )
                for group in each.copartition_groups
            ),
        )
        for each in message.subtopologies
    ]
    return TopologyStored(group_id, Topology(message.epoch, tuple(sorted(subtopologies))))


def _internal_topics(topics: Sequence[TopologyValue.TopicInfo]) -> tuple[InternalTopic, ...]:
    return tuple(
        InternalTopic(
            each.name,
            each.partitions,
            each.replication_factor,
            tuple((config.key, config.value) for config in each.topic_configs),
        )
        for each in topics
    )


def _version(value: bytes) -> int:
    return int.from_bytes(value[:2], "big")


DECODERS: Final[dict[int, Callable[[bytes, bytes | None], StreamsFact]]] = {
    EpochKey.RECORD_TYPE: _decode_epoch,
    SubscriptionKey.RECORD_TYPE: _decode_subscription,
    TargetEpochKey.RECORD_TYPE: _decode_target_epoch,
    TargetKey.RECORD_TYPE: _decode_target,
    CurrentKey.RECORD_TYPE: _decode_current,
    TopologyKey.RECORD_TYPE: _decode_topology,
}
