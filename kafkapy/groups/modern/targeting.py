"""A group's next target assignment: its members as an assignor sees them, and what it decides as facts. Pure.

Called by `groups/modern/consumer.py`.
"""

from typing import TYPE_CHECKING

from kafkapy.groups.modern.assignors import ASSIGNORS, GroupSpec, MemberSpec
from kafkapy.groups.modern.core import NOTHING, Partitions, TargetEpoch
from kafkapy.groups.modern.facts import (
    ConsumerFact,
    Subscription,
    TargetEpochStored,
    TargetStored,
)
from kafkapy.groups.modern.group import ConsumerGroup, Member
from kafkapy.groups.modern.java_order import hash_of_text, in_copied_order, in_order

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage


def topic_ids_of(group: ConsumerGroup, subscription: Subscription, image: "ClusterImage") -> dict[bytes, None]:
    """The topics that the subscription names or matches, and that exist, in the order of their names' table."""
    names = in_copied_order(sorted(subscription.topics), hash_of_text)
    if subscription.pattern and (resolved := group.patterns.get(subscription.pattern)) is not None:
        matching = resolved.topics - subscription.topics
        names += [name for name in in_copied_order(sorted(resolved.topics), hash_of_text) if name in matching]
    return {topic.topic_id: None for name in names if (topic := image.topic(name)) is not None}


def is_subscribed(group: ConsumerGroup, subscription: Subscription, image: "ClusterImage", topic_id: bytes) -> bool:
    """Whether this is one of those topics."""
    topic = image.topic_by_id(topic_id)
    if topic is None:
        return False
    resolved = group.patterns.get(subscription.pattern) if subscription.pattern else None
    return topic.name in subscription.topics or (resolved is not None and topic.name in resolved.topics)


def new_target(
    group: ConsumerGroup,
    updated: Member,
    epoch: int,
    assignor: str,
    is_homogeneous: bool,
    image: "ClusterImage",
    now_ms: int,
) -> tuple[list[ConsumerFact], Partitions]:
    """The facts of the target for this epoch, and what it has for the member that is about to be as given.

    A static member that takes its former self's place takes what that was to have.
    """
    subscriptions = {**group.subscriptions, updated.member_id: updated.subscription}
    targets = group.targets
    instance_id = updated.subscription.instance_id
    former_id = group.static_members.get(instance_id) if instance_id is not None else None
    if former_id is not None and former_id != updated.member_id:
        del subscriptions[former_id]
        targets = {**targets, updated.member_id: targets.get(former_id, NOTHING)}
    members: dict[str, MemberSpec] = {}
    counts: dict[bytes, int] = {}
    known: dict[tuple[frozenset[str], str | None], dict[bytes, None]] = {}
    for member_id, subscription in subscriptions.items():
        key = subscription.topics, subscription.pattern
        topic_ids = known.get(key)
        if topic_ids is None:
            topic_ids = known[key] = topic_ids_of(group, subscription, image)
            for topic_id in topic_ids:
                topic = image.topic_by_id(topic_id)
                assert topic is not None
                counts[topic_id] = len(topic.partitions)
        members[member_id] = MemberSpec(subscription.instance_id, topic_ids, targets.get(member_id, NOTHING))
    found = ASSIGNORS[assignor](GroupSpec(members, counts, is_homogeneous))
    facts: list[ConsumerFact] = []
    for member_id in in_order(members, hash_of_text):
        partitions = found.get(member_id, NOTHING)
        if partitions != targets.get(member_id):
            facts.append(TargetStored(group.group_id, member_id, partitions))
    facts.append(TargetEpochStored(group.group_id, TargetEpoch(epoch, now_ms)))
    return facts, found.get(updated.member_id, NOTHING)
