"""Whose heartbeat it is, which epochs of its are believed, and what it says of itself (KIP-1071). Pure.

Called by `groups/streams/protocol.py`.
"""

from typing import Any, Final

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.streams.commands import StreamsHeartbeat
from kafkapy.groups.streams.facts import (
    StreamsCurrent,
    StreamsCurrentStored,
    StreamsSubscription,
    StreamsSubscriptionStored,
    StreamsTargetStored,
)
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.tasks import Assignment

AWAY_EPOCH: Final = -2
"""The epoch of a static member that left to come back."""


def sender(
    group: StreamsGroup, command: StreamsHeartbeat, facts: list[Any]
) -> tuple[StreamsSubscription, StreamsCurrent]:
    """Who speaks; one that joins may be new, or take the place of a static member that went away.

    Raises UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH, FENCED_INSTANCE_ID, UNRELEASED_INSTANCE_ID.
    """
    member_id, instance_id, joins = command.member_id, command.instance_id, command.member_epoch == 0
    if joins:
        former_id = None if instance_id is None else group.static_members.get(instance_id)
        if former_id is None:
            return group.subscriptions.get(member_id, StreamsSubscription()), group.current(member_id)
        return _replaced(group, command, former_id, facts)
    if instance_id is not None:
        known_static(group, member_id, instance_id)
    subscription, current = group.require_subscription(member_id), group.current(member_id)
    _require_epoch(current, command)
    return subscription, current


def known_static(group: StreamsGroup, member_id: str, instance_id: str) -> None:
    """Raises UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
    known_id = group.static_members.get(instance_id)
    if known_id is None:
        raise KafkaError(Error.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if known_id != member_id:
        raise KafkaError(
            Error.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {known_id}.",
        )


def _replaced(
    group: StreamsGroup, command: StreamsHeartbeat, former_id: str, facts: list[Any]
) -> tuple[StreamsSubscription, StreamsCurrent]:
    """A static member came back under another id: it has what it had, in an epoch that is still to come."""
    group_id, member_id, former = group.group_id, command.member_id, group.current(former_id)
    if former.epoch != AWAY_EPOCH:
        raise KafkaError(
            Error.UNRELEASED_INSTANCE_ID,
            f"Static member {member_id} with instance id {command.instance_id} cannot join the group because the "
            f"instance id is owned by {former_id} member.",
        )
    subscription, current = group.subscriptions[former_id], former._replace(epoch=0, previous_epoch=0)
    facts += group.removal(former_id)
    facts.append(StreamsSubscriptionStored(group_id, member_id, subscription))
    facts.append(StreamsTargetStored(group_id, member_id, group.target(former_id)))
    facts.append(StreamsCurrentStored(group_id, member_id, current))
    return subscription, current


def updated_subscription(old: StreamsSubscription, command: StreamsHeartbeat) -> StreamsSubscription:
    """The member's subscription after what this heartbeat says."""
    joins = command.member_epoch == 0
    return StreamsSubscription(
        old.instance_id if command.instance_id is None else command.instance_id,
        old.rack_id if command.rack_id is None else command.rack_id,
        command.client_id,
        command.client_host,
        old.rebalance_timeout_ms if command.rebalance_timeout_ms == -1 else command.rebalance_timeout_ms,
        old.topology_epoch if command.topology is None else command.topology.epoch,
        old.process_id if command.process_id is None else command.process_id,
        command.endpoint if joins or command.endpoint is not None else old.endpoint,
        old.tags if command.tags is None else command.tags,
    )


def matters(old: StreamsSubscription, new: StreamsSubscription) -> bool:
    """Whether what a static member says of itself calls for a new assignment."""
    return (old.topology_epoch, old.rack_id, old.tags, old.process_id) != (
        new.topology_epoch,
        new.rack_id,
        new.tags,
        new.process_id,
    )


def _require_epoch(current: StreamsCurrent, command: StreamsHeartbeat) -> None:
    """The epoch before is good, too, when the answer that told of the new one may have been lost."""
    epoch = command.member_epoch
    if epoch == current.epoch:
        return
    claimed, is_previous = command.claimed, epoch < current.epoch and epoch == current.previous_epoch
    if is_previous and claimed is not None and _lies_within(claimed, current.assigned.without_epochs):
        return
    greater = "greater" if epoch > current.epoch else "smaller"
    raise KafkaError(
        Error.FENCED_MEMBER_EPOCH,
        f"The streams group member has a {greater} member epoch ({epoch}) than the one known by the group "
        f"coordinator ({current.epoch}). The member must abandon all its partitions and rejoin.",
    )


def _lies_within(claimed: Assignment, assigned: Assignment) -> bool:
    return all(
        name in has and partitions <= has[name]
        for says, has in zip(claimed, assigned, strict=True)
        for name, partitions in says.items()
    )
