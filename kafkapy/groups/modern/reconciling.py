"""Brings a member from what it has to what it is to have, one step a heartbeat (KIP-848). Pure.

A partition is revoked before it is assigned: it goes to its new owner only when the old one no longer says that it has
it. Until then the old one stays at its epoch (UNREVOKED_PARTITIONS), and the new one waits (UNRELEASED_PARTITIONS).
Called by `groups/modern/consumer.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.commands import Claimed
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.facts import Current, MemberState, Owned


class Target(NamedTuple):
    """Where a member is to come to."""

    epoch: int
    partitions: Partitions


class Surroundings(NamedTuple):
    """What decides whether a step can be taken.

    `is_subscribed`: whether the member subscribes to a topic that is there. `has_owner`: whether a partition is
    anybody's, this member's included. `claimed`: what the member says it owns, None when it does not say.
    """

    is_subscribed: Callable[[bytes], bool]
    has_owner: Callable[[bytes, int], bool]
    claimed: Claimed
    subscription_changed: bool


def reconcile(current: Current, target: Target, around: Surroundings) -> Current:
    """The member's next state; the same object when there is nothing to do, or it must wait.

    Raises FENCED_MEMBER_EPOCH for a member in a state that is not known here, unless it comes with nothing.
    """
    match current.state:
        case MemberState.STABLE:
            if current.epoch != target.epoch:
                return _next(current, current.epoch, target, around)
            return _within_subscription(current, around) if around.subscription_changed else current
        case MemberState.UNREVOKED_PARTITIONS:
            if _still_claims(current.revoking, around):
                return _within_subscription(current, around) if around.subscription_changed else current
            return _next(current, current.epoch, target, around)
        case MemberState.UNRELEASED_PARTITIONS:
            return _next(current, current.epoch, target, around)
        case MemberState.UNKNOWN:
            if around.claimed is None or around.claimed:
                raise KafkaError(
                    Error.FENCED_MEMBER_EPOCH,
                    "The consumer group member is in a unknown state. "
                    "The member must abandon all its partitions and rejoin.",
                )
            return _next(current, target.epoch, target, around)


def _still_claims(revoking: Owned, around: Surroundings) -> bool:
    """Whether the member owns any of these, for all that it says."""
    if around.claimed is None:
        return True
    return any(
        partition in revoking.get(topic_id, ())
        for topic_id, partitions in around.claimed.items()
        for partition in partitions
    )


def _within_subscription(current: Current, around: Surroundings) -> Current:
    """Topics that the member does not read any more are taken from it at once, without a new target."""
    kept = {topic_id: epochs for topic_id, epochs in current.assigned.items() if around.is_subscribed(topic_id)}
    if len(kept) == len(current.assigned):
        return current
    revoking = {topic_id: dict(epochs) for topic_id, epochs in current.revoking.items()}
    for topic_id, epochs in current.assigned.items():
        if topic_id not in kept:
            revoking.setdefault(topic_id, {}).update(epochs)
    if revoking and _still_claims(revoking, around):
        return Current(current.epoch, current.epoch, MemberState.UNREVOKED_PARTITIONS, kept, revoking)
    return current._replace(previous_epoch=current.epoch, assigned=kept)


def _next(current: Current, epoch: int, target: Target, around: Surroundings) -> Current:
    assigned: dict[bytes, dict[int, int]] = {}
    revoking: dict[bytes, dict[int, int]] = {}
    new: dict[bytes, list[int]] = {}
    must_wait = False
    for topic_id in dict.fromkeys((*target.partitions, *current.assigned)):
        wanted = frozenset(target.partitions.get(topic_id, ()) if around.is_subscribed(topic_id) else ())
        owned = current.assigned.get(topic_id, {})
        kept = {partition: since for partition, since in owned.items() if partition in wanted}
        if kept:
            assigned[topic_id] = kept
        if len(kept) < len(owned):
            revoking[topic_id] = {partition: since for partition, since in owned.items() if partition not in kept}
        for partition in wanted:
            if partition in kept:
                continue
            if around.has_owner(topic_id, partition) and partition not in current.revoking.get(topic_id, ()):
                must_wait = True
            else:
                new.setdefault(topic_id, []).append(partition)
    if revoking and _still_claims(revoking, around):
        return Current(epoch, current.epoch, MemberState.UNREVOKED_PARTITIONS, assigned, revoking)
    for topic_id, partitions in new.items():
        assigned.setdefault(topic_id, {}).update(dict.fromkeys(partitions, target.epoch))
    state = MemberState.UNRELEASED_PARTITIONS if must_wait else MemberState.STABLE
    return Current(target.epoch, current.epoch, state, assigned, {})
