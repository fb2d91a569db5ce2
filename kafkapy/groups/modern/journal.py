"""Facts of consumer groups as records of `__consumer_offsets`, in Kafka's own formats (KIP-848, KIP-1101, KIP-1251).

Called by `groups/journal.py`. Lists are written sorted, where Kafka writes them in whatever order its tables have.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

from kafkapy.coordination.shard import Entry
from kafkapy.groups.commands import Protocol
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.modern.facts import (
    ClassicMember,
    ConsumerFact,
    Current,
    CurrentStored,
    EpochStored,
    MemberState,
    Owned,
    PatternStored,
    Resolved,
    Subscription,
    SubscriptionStored,
    TargetEpochStored,
    TargetStored,
    TopicsStored,
)
from kafkapy.protocol.journal.consumer_group_current_member_assignment import (
    ConsumerGroupCurrentMemberAssignmentKey as CurrentKey,
)
from kafkapy.protocol.journal.consumer_group_current_member_assignment import (
    ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
)
from kafkapy.protocol.journal.consumer_group_member_metadata import ConsumerGroupMemberMetadataKey as SubscriptionKey
from kafkapy.protocol.journal.consumer_group_member_metadata import (
    ConsumerGroupMemberMetadataValue as SubscriptionValue,
)
from kafkapy.protocol.journal.consumer_group_metadata import ConsumerGroupMetadataKey as EpochKey
from kafkapy.protocol.journal.consumer_group_metadata import ConsumerGroupMetadataValue as EpochValue
from kafkapy.protocol.journal.consumer_group_partition_metadata import ConsumerGroupPartitionMetadataKey as TopicsKey
from kafkapy.protocol.journal.consumer_group_regular_expression import ConsumerGroupRegularExpressionKey as PatternKey
from kafkapy.protocol.journal.consumer_group_regular_expression import (
    ConsumerGroupRegularExpressionValue as PatternValue,
)
from kafkapy.protocol.journal.consumer_group_target_assignment_member import (
    ConsumerGroupTargetAssignmentMemberKey as TargetKey,
)
from kafkapy.protocol.journal.consumer_group_target_assignment_member import (
    ConsumerGroupTargetAssignmentMemberValue as TargetValue,
)
from kafkapy.protocol.journal.consumer_group_target_assignment_metadata import (
    ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
)
from kafkapy.protocol.journal.consumer_group_target_assignment_metadata import (
    ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue,
)

_VERSION: Final = 0


def encode(fact: ConsumerFact) -> Sequence[Entry]:
    """The record that carries the fact."""
    match fact:
        case EpochStored(group_id, epoch):
            value: Any = None if epoch is None else EpochValue(epoch=epoch.epoch, metadata_hash=epoch.metadata_hash)
            return [entry(EpochKey(group_id=group_id), value)]
        case SubscriptionStored(group_id, member_id, subscription):
            value = None if subscription is None else _subscription_value(subscription)
            return [entry(SubscriptionKey(group_id=group_id, member_id=member_id), value)]
        case TargetEpochStored(group_id, target):
            value = (
                None
                if target is None
                else TargetEpochValue(assignment_epoch=target.epoch, assignment_timestamp=target.timestamp_ms)
            )
            return [entry(TargetEpochKey(group_id=group_id), value)]
        case TargetStored(group_id, member_id, partitions):
            value = (
                None
                if partitions is None
                else TargetValue(
                    topic_partitions=[
                        TargetValue.TopicPartition(topic_id=topic_id, partitions=list(numbers))
                        for topic_id, numbers in sorted(partitions.items())
                    ]
                )
            )
            return [entry(TargetKey(group_id=group_id, member_id=member_id), value)]
        case CurrentStored(group_id, member_id, current):
            value = None if current is None else _current_value(current)
            return [entry(CurrentKey(group_id=group_id, member_id=member_id), value)]
        case PatternStored(group_id, pattern, resolved):
            value = (
                None
                if resolved is None
                else PatternValue(
                    topics=sorted(resolved.topics), version=resolved.version, timestamp=resolved.timestamp_ms
                )
            )
            return [entry(PatternKey(group_id=group_id, regular_expression=pattern), value)]
        case TopicsStored(group_id):
            return [entry(TopicsKey(group_id=group_id), None)]


def entry(key: Any, value: Any) -> Entry:
    """The record of a key and what it says, in the version that all of these are written in; None: a tombstone."""
    raw_key = bytearray(key.RECORD_TYPE.to_bytes(2, "big"))
    key.encode(_VERSION, raw_key)
    if value is None:
        return Entry(bytes(raw_key), None)
    raw_value = bytearray(_VERSION.to_bytes(2, "big"))
    value.encode(_VERSION, raw_value)
    return Entry(bytes(raw_key), bytes(raw_value))


def _subscription_value(subscription: Subscription) -> SubscriptionValue:
    classic = subscription.classic
    return SubscriptionValue(
        instance_id=subscription.instance_id,
        rack_id=subscription.rack_id,
        client_id=subscription.client_id,
        client_host=subscription.client_host,
        subscribed_topic_names=sorted(subscription.topics),
        subscribed_topic_regex=subscription.pattern,
        rebalance_timeout_ms=subscription.rebalance_timeout_ms,
        server_assignor=subscription.assignor,
        classic_member_metadata=None
        if classic is None
        else SubscriptionValue.ClassicMemberMetadata(
            session_timeout_ms=classic.session_timeout_ms,
            supported_protocols=[
                SubscriptionValue.ClassicProtocol(name=name, metadata=metadata) for name, metadata in classic.protocols
            ],
        ),
    )


def _current_value(current: Current) -> CurrentValue:
    return CurrentValue(
        member_epoch=current.epoch,
        previous_member_epoch=current.previous_epoch,
        state=current.state,
        assigned_partitions=_owned_lists(current.assigned),
        partitions_pending_revocation=_owned_lists(current.revoking),
    )


def _owned_lists(owned: Owned) -> list[CurrentValue.TopicPartitions]:
    return [
        CurrentValue.TopicPartitions(
            topic_id=topic_id,
            partitions=(numbers := sorted(epochs)),
            assignment_epochs=[epochs[number] for number in numbers],
        )
        for topic_id, epochs in sorted(owned.items())
    ]


def _decode_epoch(key: bytes, value: bytes | None) -> ConsumerFact:
    group_id = EpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return EpochStored(group_id, None)
    message = EpochValue.decode(version_of(value), value, 2)[0]
    return EpochStored(group_id, GroupEpoch(message.epoch, message.metadata_hash))


def _decode_subscription(key: bytes, value: bytes | None) -> ConsumerFact:
    name = SubscriptionKey.decode(0, key, 2)[0]
    if value is None:
        return SubscriptionStored(name.group_id, name.member_id, None)
    message = SubscriptionValue.decode(version_of(value), value, 2)[0]
    classic = message.classic_member_metadata
    subscription = Subscription(
        message.instance_id,
        message.rack_id,
        message.client_id,
        message.client_host,
        frozenset(message.subscribed_topic_names),
        message.subscribed_topic_regex,
        message.rebalance_timeout_ms,
        message.server_assignor,
        None
        if classic is None
        else ClassicMember(
            classic.session_timeout_ms,
            tuple(Protocol(each.name, bytes(each.metadata)) for each in classic.supported_protocols),
        ),
    )
    return SubscriptionStored(name.group_id, name.member_id, subscription)


def _decode_target_epoch(key: bytes, value: bytes | None) -> ConsumerFact:
    group_id = TargetEpochKey.decode(0, key, 2)[0].group_id
    if value is None:
        return TargetEpochStored(group_id, None)
    message = TargetEpochValue.decode(version_of(value), value, 2)[0]
    return TargetEpochStored(group_id, TargetEpoch(message.assignment_epoch, message.assignment_timestamp))


def _decode_target(key: bytes, value: bytes | None) -> ConsumerFact:
    name = TargetKey.decode(0, key, 2)[0]
    if value is None:
        return TargetStored(name.group_id, name.member_id, None)
    message = TargetValue.decode(version_of(value), value, 2)[0]
    partitions = {topic.topic_id: tuple(sorted(topic.partitions)) for topic in message.topic_partitions}
    return TargetStored(name.group_id, name.member_id, partitions)


def _decode_current(key: bytes, value: bytes | None) -> ConsumerFact:
    name = CurrentKey.decode(0, key, 2)[0]
    if value is None:
        return CurrentStored(name.group_id, name.member_id, None)
    message = CurrentValue.decode(version_of(value), value, 2)[0]
    known = message.state in MemberState.__members__.values()
    current = Current(
        message.member_epoch,
        message.previous_member_epoch,
        MemberState(message.state) if known else MemberState.UNKNOWN,
        _owned(message.assigned_partitions, message.member_epoch),
        _owned(message.partitions_pending_revocation, message.member_epoch),
    )
    return CurrentStored(name.group_id, name.member_id, current)


def _owned(topics: Sequence[CurrentValue.TopicPartitions], member_epoch: int) -> Owned:
    """Before 4.3 no epochs were written: a partition was given to its member in the member's epoch at the latest."""
    owned = {}
    for topic in topics:
        epochs = topic.assignment_epochs
        if epochs is None or len(epochs) != len(topic.partitions):
            epochs = [max(member_epoch, 0)] * len(topic.partitions)
        owned[topic.topic_id] = dict(zip(topic.partitions, epochs, strict=True))
    return owned


def _decode_pattern(key: bytes, value: bytes | None) -> ConsumerFact:
    name = PatternKey.decode(0, key, 2)[0]
    if value is None:
        return PatternStored(name.group_id, name.regular_expression, None)
    message = PatternValue.decode(version_of(value), value, 2)[0]
    resolved = Resolved(frozenset(message.topics), message.version, message.timestamp)
    return PatternStored(name.group_id, name.regular_expression, resolved)


def _decode_topics(key: bytes, value: bytes | None) -> ConsumerFact:
    return TopicsStored(TopicsKey.decode(0, key, 2)[0].group_id, value is not None)


def version_of(value: bytes) -> int:
    """The version that a record's value is written in."""
    return int.from_bytes(value[:2], "big")


DECODERS: Final[dict[int, Callable[[bytes, bytes | None], ConsumerFact]]] = {
    EpochKey.RECORD_TYPE: _decode_epoch,
    TopicsKey.RECORD_TYPE: _decode_topics,
    SubscriptionKey.RECORD_TYPE: _decode_subscription,
    TargetEpochKey.RECORD_TYPE: _decode_target_epoch,
    TargetKey.RECORD_TYPE: _decode_target,
    CurrentKey.RECORD_TYPE: _decode_current,
    PatternKey.RECORD_TYPE: _decode_pattern,
}
