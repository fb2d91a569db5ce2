"""Facts of share groups as records of `__consumer_offsets`, in Kafka's own formats (KIP-932).

Called by `groups/journal.py`. Lists are written sorted, where Kafka writes them in whatever order its tables have.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafkapy.coordination.shard import Entry
from kafkapy.groups.modern.core import GroupEpoch, Partitions, TargetEpoch
from kafkapy.groups.modern.journal import entry, version_of
from kafkapy.groups.share.facts import (
    ShareCurrent,
    ShareCurrentStored,
    ShareEpochStored,
    ShareFact,
    ShareSubscription,
    ShareSubscriptionStored,
    ShareTargetEpochStored,
    ShareTargetStored,
    StatePartitions,
    StatePartitionsStored,
    TopicState,
)
from kafkapy.protocol.journal.share_group_current_member_assignment import (
    ShareGroupCurrentMemberAssignmentKey as CurrentKey,
)
from kafkapy.protocol.journal.share_group_current_member_assignment import (
    ShareGroupCurrentMemberAssignmentValue as CurrentValue,
)
from kafkapy.protocol.journal.share_group_member_metadata import ShareGroupMemberMetadataKey as SubscriptionKey
from kafkapy.protocol.journal.share_group_member_metadata import ShareGroupMemberMetadataValue as SubscriptionValue
from kafkapy.protocol.journal.share_group_metadata import ShareGroupMetadataKey as EpochKey
from kafkapy.protocol.journal.share_group_metadata import ShareGroupMetadataValue as EpochValue
from kafkapy.protocol.journal.share_group_state_partition_metadata import (
    ShareGroupStatePartitionMetadataKey as StateKey,
)
from kafkapy.protocol.journal.share_group_state_partition_metadata import (
    ShareGroupStatePartitionMetadataValue as StateValue,
)
from kafkapy.protocol.journal.share_group_target_assignment_member import (
    ShareGroupTargetAssignmentMemberKey as TargetKey,
)
from kafkapy.protocol.journal.share_group_target_assignment_member import (
    ShareGroupTargetAssignmentMemberValue as TargetValue,
)
from kafkapy.protocol.journal.share_group_target_assignment_metadata import (
    ShareGroupTargetAssignmentMetadataKey as TargetEpochKey,
)
from kafkapy.protocol.journal.share_group_target_assignment_metadata import (
    ShareGroupTargetAssignmentMetadataValue as TargetEpochValue,
)


def encode(fact: ShareFact) -> list[Entry]:
    """The record that carries the fact."""
    value: Any = None
    match fact:
        case ShareEpochStored(group_id, epoch):
            if epoch is not None:
                value = EpochValue(epoch=epoch.epoch, metadata_hash=epoch.metadata_hash)
            return [entry(EpochKey(group_id=group_id), value)]
        case ShareSubscriptionStored(group_id, member_id, subscription):
            if subscription is not None:
                value = SubscriptionValue(
                    rack_id=subscription.rack_id,
                    client_id=subscription.client_id,
                    client_host=subscription.client_host,
                    subscribed_topic_names=sorted(subscription.topics),
                )
            return [entry(SubscriptionKey(group_id=group_id, member_id=member_id), value)]
        case ShareTargetEpochStored(group_id, target):
            if target is not None:
                value = TargetEpochValue(assignment_epoch=target.epoch, assignment_timestamp=target.timestamp_ms)
            return [entry(TargetEpochKey(group_id=group_id), value)]
        case ShareTargetStored(group_id, member_id, assignment):
            if assignment is not None:
                value = TargetValue(topic_partitions=_lists(assignment, TargetValue.TopicPartition))
            return [entry(TargetKey(group_id=group_id, member_id=member_id), value)]
        case ShareCurrentStored(group_id, member_id, current):
            if current is not None:
                value = CurrentValue(
                    member_epoch=current.epoch,
                    previous_member_epoch=current.previous_epoch,
                    state=current.state,
                    assigned_partitions=_lists(current.assigned, CurrentValue.TopicPartitions),
                )
            return [entry(CurrentKey(group_id=group_id, member_id=member_id), value)]
        case StatePartitionsStored(group_id, partitions):
            if partitions is not None:
                value = StateValue(
                    initializing_topics=_states(partitions.initializing),
                    initialized_topics=_states(partitions.initialized),
                    deleting_topics=[
                        StateValue.TopicInfo(topic_id=topic_id, topic_name=name)
                        for topic_id, name in sorted(partitions.deleting.items())
                    ],
                )
            return [entry(StateKey(group_id=group_id), value)]


def _lists(partitions: Partitions, topic_type: Callable[..., Any]) -> list[Any]:
    return [topic_type(topic_id=topic_id, partitions=list(numbers)) for topic_id, numbers in sorted(partitions.items())]


def _states(topics: Mapping[bytes, TopicState]) -> list[StateValue.TopicPartitionsInfo]:
    return [
        StateValue.TopicPartitionsInfo(topic_id=topic_id, topic_name=name, partitions=sorted(partitions))
        for topic_id, (name, partitions) in sorted(topics.items())
    ]


def _decode_epoch(key: bytes, value: bytes | None) -> ShareFact:
    group_id = EpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return ShareEpochStored(group_id, None)
    message = EpochValue.decode(version_of(value), value, 2)[0]
    return ShareEpochStored(group_id, GroupEpoch(message.epoch, message.metadata_hash))


def _decode_subscription(key: bytes, value: bytes | None) -> ShareFact:
    name = SubscriptionKey.decode(0, key, 2)[0]
    if value is None:
        return ShareSubscriptionStored(name.group_id, name.member_id, None)
    message = SubscriptionValue.decode(version_of(value), value, 2)[0]
    topics = frozenset(message.subscribed_topic_names)
    subscription = ShareSubscription(message.rack_id, message.client_id, message.client_host, topics)
    return ShareSubscriptionStored(name.group_id, name.member_id, subscription)


def _decode_target_epoch(key: bytes, value: bytes | None) -> ShareFact:
    group_id = TargetEpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return ShareTargetEpochStored(group_id, None)
    message = TargetEpochValue.decode(version_of(value), value, 2)[0]
    return ShareTargetEpochStored(group_id, TargetEpoch(message.assignment_epoch, message.assignment_timestamp))


def _decode_target(key: bytes, value: bytes | None) -> ShareFact:
    name = TargetKey.decode(0, key, 2)[0]
    if value is None:
        return ShareTargetStored(name.group_id, name.member_id, None)
    message = TargetValue.decode(version_of(value), value, 2)[0]
    partitions = {topic.topic_id: tuple(sorted(topic.partitions)) for topic in message.topic_partitions}
    return ShareTargetStored(name.group_id, name.member_id, partitions)


def _decode_current(key: bytes, value: bytes | None) -> ShareFact:
    name = CurrentKey.decode(0, key, 2)[0]
    if value is None:
        return ShareCurrentStored(name.group_id, name.member_id, None)
    message = CurrentValue.decode(version_of(value), value, 2)[0]
    assigned = {topic.topic_id: tuple(sorted(topic.partitions)) for topic in message.assigned_partitions}
    current = ShareCurrent(message.member_epoch, message.previous_member_epoch, message.state, assigned)
    return ShareCurrentStored(name.group_id, name.member_id, current)


def _decode_state(key: bytes, value: bytes | None) -> ShareFact:
    group_id = StateKey.decode(0, key, 2)[0].group_id
    if value is None:
        return StatePartitionsStored(group_id, None)
    message = StateValue.decode(version_of(value), value, 2)[0]
    partitions = StatePartitions(
        _topic_states(message.initializing_topics),
        _topic_states(message.initialized_topics),
        {each.topic_id: each.topic_name for each in message.deleting_topics},
    )
    return StatePartitionsStored(group_id, partitions)


def _topic_states(topics: Sequence[StateValue.TopicPartitionsInfo]) -> dict[bytes, TopicState]:
    return {each.topic_id: TopicState(each.topic_name, frozenset(each.partitions)) for each in topics}


DECODERS: Final[dict[int, Callable[[bytes, bytes | None], ShareFact]]] = {
    SubscriptionKey.RECORD_TYPE: _decode_subscription,
    EpochKey.RECORD_TYPE: _decode_epoch,
    TargetEpochKey.RECORD_TYPE: _decode_target_epoch,
    TargetKey.RECORD_TYPE: _decode_target,
    CurrentKey.RECORD_TYPE: _decode_current,
    StateKey.RECORD_TYPE: _decode_state,
}
