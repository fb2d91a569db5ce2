"""Kafka's server-side assignors: who is to read which partitions. Pure, and the same for the same input as Kafka's.

`range` gives each member the same stretch of every topic, so that topics can be joined; `uniform` gives everybody as
much as everybody else, and moves as little as it can. Neither makes anything of racks, as in Kafka.

Where the outcome hangs on the order of members, topics or partitions, it is that of Kafka's tables
(`groups/modern/java_order.py`); `compat/assignors` compares with Kafka's own classes.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple

from kafkapy.groups.modern.balancing import assign_balanced
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.java_order import (
    hash_of_number,
    hash_of_text,
    hash_of_uuid,
    in_copied_order,
    in_order,
)


class MemberSpec(NamedTuple):
    """What an assignor knows of a member: the topics it reads, all of which exist, and what it was to have so far.

    The topics come in the order of their names' table, and are quickly looked into.
    """

    instance_id: str | None
    topic_ids: Collection[bytes]
    partitions: Partitions


class GroupSpec(NamedTuple):
    """What an assignor knows of a group. `is_homogeneous`: all members read the same topics."""

    members: Mapping[str, MemberSpec]
    partition_counts: Mapping[bytes, int]
    is_homogeneous: bool


Assignor = Callable[[GroupSpec], dict[str, Partitions]]
"""Members that are to have nothing may be missing from what it returns."""


def assign_range(spec: GroupSpec) -> dict[str, Partitions]:
    """Consecutive partitions of each topic, those who come first having one more; static members come first."""
    subscribers = dict.fromkeys(spec.partition_counts, 0)
    for member in spec.members.values():
        for topic_id in member.topic_ids:
            subscribers[topic_id] += 1
    next_partition = dict.fromkeys(subscribers, 0)
    larger_shares = {
        topic_id: spec.partition_counts[topic_id] % count for topic_id, count in subscribers.items() if count
    }
    assigned: dict[str, Partitions] = {}
    for member_id in sorted(spec.members, key=lambda member_id: _rank(member_id, spec.members[member_id])):
        partitions: dict[bytes, tuple[int, ...]] = {}
        for topic_id in spec.members[member_id].topic_ids:
            share = spec.partition_counts[topic_id] // subscribers[topic_id]
            if larger_shares[topic_id]:
                larger_shares[topic_id] -= 1
                share += 1
            start = next_partition[topic_id]
            next_partition[topic_id] = start + share
            if share:
                partitions[topic_id] = tuple(range(start, start + share))
        assigned[member_id] = partitions
    return assigned


def _rank(member_id: str, member: MemberSpec) -> tuple[bool, bytes]:
    """Static members by their instance ids, then the others by their ids, as Java compares strings."""
    instance_id = member.instance_id
    return instance_id is None, (member_id if instance_id is None else instance_id).encode("utf-16-be", "surrogatepass")


def assign_uniform(spec: GroupSpec) -> dict[str, Partitions]:
    """As many partitions for everybody, one more or less, and as few moves as that allows."""
    members = in_order(spec.members, hash_of_text)
    ordered = {member_id: spec.members[member_id] for member_id in members}
    if not spec.is_homogeneous:
        return assign_balanced(ordered, spec.partition_counts)
    topic_ids = ordered[members[0]].topic_ids if members else ()
    return _assign_evenly(ordered, topic_ids, spec.partition_counts) if topic_ids else {}


def _assign_evenly(
    members: Mapping[str, MemberSpec], topic_ids: Collection[bytes], partition_counts: Mapping[bytes, int]
) -> dict[str, Partitions]:
    taken = {
        (topic_id, partition)
        for member in members.values()
        for topic_id, partitions in member.partitions.items()
        for partition in partitions
    }
    free = [
        (topic_id, partition)
        for topic_id in in_copied_order(topic_ids, hash_of_uuid)
        for partition in range(partition_counts[topic_id])
        if (topic_id, partition) not in taken
    ]
    share, larger_shares = divmod(sum(partition_counts[topic_id] for topic_id in topic_ids), len(members))
    assigned: dict[str, dict[bytes, set[int]]] = {}
    unfilled: list[tuple[str, int]] = []
    for place, (member_id, member) in enumerate(members.items()):
        has_larger_share = larger_shares > 0
        room = share + has_larger_share
        kept: dict[bytes, set[int]] = {}
        for topic_id in in_order(member.partitions, hash_of_uuid):
            if topic_id not in topic_ids:
                continue
            partitions = member.partitions[topic_id]
            if len(partitions) > room:
                ordered = in_copied_order(partitions, hash_of_number)
                free += [(topic_id, partition) for partition in ordered[room:]]
                partitions = tuple(ordered[:room])
            room -= len(partitions)
            if partitions:
                kept[topic_id] = set(partitions)
        assigned[member_id] = kept
        if room and has_larger_share and len(members) - place > larger_shares:
            # Somebody behind may have the larger share already; those who are last must take it.
            room -= 1
            has_larger_share = False
        if room:
            unfilled.append((member_id, room))
        larger_shares -= has_larger_share
    position = 0
    for member_id, room in unfilled:
        for topic_id, partition in free[position : position + room]:
            assigned[member_id].setdefault(topic_id, set()).add(partition)
        position += room
    return {
        member_id: {topic_id: tuple(sorted(topics[topic_id])) for topic_id in sorted(topics)}
        for member_id, topics in assigned.items()
    }


ASSIGNORS: Final[Mapping[str, Assignor]] = {"uniform": assign_uniform, "range": assign_range}
"""By the names that members and `group.consumer.assignors` give them."""
