"""Whose heartbeat it is, which epochs of its are believed, and what it says of itself (KIP-848). Pure.

Called by `groups/modern/consumer.py`, and by `groups/modern/classic_members.py` for members of the other protocol.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.commands import ConsumerHeartbeat
from kafkapy.groups.modern.core import NOTHING
from kafkapy.groups.modern.facts import (
    AWAY_EPOCH,
    ConsumerFact,
    Current,
    CurrentStored,
    Subscription,
    SubscriptionStored,
    TargetStored,
)
from kafkapy.groups.modern.group import ConsumerGroup, Member


def sender(group: ConsumerGroup, command: ConsumerHeartbeat, member_id: str, facts: list[ConsumerFact]) -> Member:
    """Whose heartbeat it is; one that joins may be new, or take the place of a static member that went away."""
    joins, instance_id = command.member_epoch == 0, command.instance_id
    if instance_id is None:
        if joins and member_id not in group.subscriptions:
            return Member(member_id)
        member = group.member(member_id)
    elif not joins:
        member = known_static(group, member_id, instance_id)
    else:
        former = group.static_member(instance_id)
        if former is None:
            return group.member(member_id) if member_id in group.subscriptions else Member(member_id)
        if not former.uses_classic and former.current.epoch != AWAY_EPOCH:
            raise KafkaError(
                Error.UNRELEASED_INSTANCE_ID,
                f"Static member {member_id} with instance id {instance_id} cannot join the group because the "
                f"instance id is owned by {former.member_id} member.",
            )
        return replace_static(group, former, member_id, facts)
    if not joins:
        _require_epoch(member.current, command)
    return member


def known_static(group: ConsumerGroup, member_id: str, instance_id: str) -> Member:
    """The static member that speaks. Raises UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID."""
    member = group.static_member(instance_id)
    if member is None:
        raise KafkaError(Error.UNKNOWN_MEMBER_ID, f"Instance id {instance_id} is unknown.")
    if member.member_id != member_id:
        raise KafkaError(
            Error.FENCED_INSTANCE_ID,
            f"Static member {member_id} with instance id {instance_id} was fenced by member {member.member_id}.",
        )
    return member


def replace_static(group: ConsumerGroup, former: Member, member_id: str, facts: list[ConsumerFact]) -> Member:
    """A static member came back under another id: it has what it had, in an epoch that is still to come."""
    group_id = group.group_id
    member = Member(member_id, former.subscription, former.current._replace(epoch=0, previous_epoch=0))
    facts += group.removal(former.member_id)
    facts.append(SubscriptionStored(group_id, member_id, member.subscription))
    facts.append(TargetStored(group_id, member_id, group.targets.get(former.member_id, NOTHING)))
    facts.append(CurrentStored(group_id, member_id, member.current))
    return member


def note_subscription(group: ConsumerGroup, member: Member, updated: Member, facts: list[ConsumerFact]) -> bool:
    """Write down what the member says of itself, if that is new; whether it names other topics."""
    if updated == member:
        return False
    facts.append(SubscriptionStored(group.group_id, updated.member_id, updated.subscription))
    return updated.subscription.topics != member.subscription.topics


def updated_subscription(old: Subscription, command: ConsumerHeartbeat) -> Subscription:
    """The member's subscription after what this heartbeat says; the same object when that is nothing new."""
    new = Subscription(
        old.instance_id if command.instance_id is None else command.instance_id,
        old.rack_id if command.rack_id is None else command.rack_id,
        command.client_id,
        command.client_host,
        old.topics if command.topics is None else frozenset(command.topics),
        old.pattern if command.pattern is None else command.pattern,
        old.rebalance_timeout_ms if command.rebalance_timeout_ms == -1 else command.rebalance_timeout_ms,
        old.assignor if command.assignor is None else command.assignor,
        None,
    )
    return old if new == old else new


def _require_epoch(current: Current, command: ConsumerHeartbeat) -> None:
    """The epoch before is good, too, when the answer that told of the new one may have been lost.

    Raises FENCED_MEMBER_EPOCH.
    """
    epoch = command.member_epoch
    if epoch == current.epoch:
        return
    if epoch < current.epoch and epoch == current.previous_epoch and command.owned is not None:
        has_only_its_own = all(
            partition in current.assigned.get(topic_id, ())
            for topic_id, partitions in command.owned.items()
            for partition in partitions
        )
        if has_only_its_own and all(topic_id in current.assigned for topic_id in command.owned):
            return
    greater = "greater" if epoch > current.epoch else "smaller"
    raise KafkaError(
        Error.FENCED_MEMBER_EPOCH,
        f"The consumer group member has a {greater} member epoch ({epoch}) than the one known by the group "
        f"coordinator ({current.epoch}). The member must abandon all its partitions and rejoin.",
    )
