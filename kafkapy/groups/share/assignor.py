"""Kafka's `simple` assignor of share groups: who is to read which partitions, several members the same one. Pure.

Each partition has as many readers as it takes for every member to have something, and each member as many partitions as
any other, one more or less. Balance goes first; what a member has it keeps as far as that allows. Where the members
read different topics, this is done topic by topic, each among its readers.

Where the outcome hangs on the order of members or partitions, it is that of Kafka's tables
(`groups/modern/java_order.py`); `compat/assignors` compares with Kafka's own class.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, TypeVar

from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.java_order import (
    hash_of_number,
    hash_of_text,
    hash_of_uuid,
    in_copied_order,
    in_order,
    sized_for,
)

P = TypeVar("P")


class ShareMemberSpec(NamedTuple):
    """What the assignor knows of a member: the topics it reads, all of which exist, and what it was to have so far."""

    topic_ids: Collection[bytes]
    partitions: Partitions


class ShareGroupSpec(NamedTuple):
    """What the assignor knows of a group: its members, and which partitions of the topics may be assigned, ascending.

    `is_homogeneous`: all members read the same topics.
    """

    members: Mapping[str, ShareMemberSpec]
    assignable: Mapping[bytes, Sequence[int]]
    is_homogeneous: bool


def assign_simple(spec: ShareGroupSpec) -> dict[str, Partitions]:
    """What each member is to have. A topic of which all was taken from a member stays with it, without partitions."""
    member_ids = in_order(spec.members, hash_of_text)
    members = [spec.members[member_id] for member_id in member_ids]
    if not members:
        return {}
    shared = _share_all(members, spec) if spec.is_homogeneous else _share_by_topic(members, spec)
    return dict(zip(member_ids, shared, strict=False))


def _share_all(members: Sequence[ShareMemberSpec], spec: ShareGroupSpec) -> list[Partitions]:
    topic_ids = members[0].topic_ids
    if not topic_ids:
        return []
    old = [
        [
            (topic_id, partition)
            for topic_id in in_order(member.partitions, hash_of_uuid)
            if topic_id in topic_ids
            for partition in in_copied_order(member.partitions[topic_id], hash_of_number)
        ]
        for member in members
    ]
    targets = [(topic_id, partition) for topic_id in topic_ids for partition in spec.assignable.get(topic_id, ())]
    shared = _share(targets, list(range(len(members))), old, _hash_of_partition)
    return [
        _by_topic([topic_id for topic_id in member.partitions if topic_id in topic_ids], partitions)
        for member, partitions in zip(members, shared, strict=True)
    ]


def _share_by_topic(members: Sequence[ShareMemberSpec], spec: ShareGroupSpec) -> list[Partitions]:
    readers: dict[bytes, list[int]] = {}
    for place, member in enumerate(members):
        for topic_id in member.topic_ids:
            readers.setdefault(topic_id, []).append(place)
    if not readers:
        return []
    assigned: list[dict[bytes, tuple[int, ...]]] = [dict(member.partitions) for member in members]
    for topic_id, places in readers.items():
        old = [in_copied_order(member.partitions.get(topic_id, ()), hash_of_number) for member in members]
        shared = _share(list(spec.assignable.get(topic_id, ())), places, old, hash_of_number)
        for topics, partitions in zip(assigned, shared, strict=True):
            if partitions or topic_id in topics:
                topics[topic_id] = tuple(sorted(partitions))
    return [dict(sorted(topics.items())) for topics in assigned]


def _share(
    targets: Sequence[P], readers: Sequence[int], old: Sequence[Sequence[P]], hash_of: Callable[[P], int]
) -> list[set[P]]:
    """What each member is to have of these partitions; `readers` are the places of those who may have any."""
    sharing = math.ceil(len(readers) / len(targets)) if targets else 0
    wanted = [0] * len(old)
    precise = sharing * len(targets) / len(readers)
    for number, place in enumerate(readers):
        wanted[place] = math.ceil(precise * (number + 1)) - math.ceil(precise * number)
    owners: dict[P, list[int]] = {}
    for place, partitions in enumerate(old):
        for partition in partitions:
            owners.setdefault(partition, []).append(place)
    owners = {partition: in_order(places, hash_of_number) for partition, places in owners.items()}
    owned = [set(partitions) for partitions in old]
    for place, partitions in enumerate(old):
        surplus = len(partitions) - wanted[place]
        if surplus > 0:
            for partition in in_order(partitions, hash_of)[:surplus]:
                owned[place].remove(partition)
                owners[partition].remove(place)
    for partition, places in owners.items():
        surplus = len(places) - sharing
        if surplus > 0:
            for place in places[:surplus]:
                owned[place].remove(partition)
            del places[:surplus]
    for partition in targets:
        owners.setdefault(partition, [])
    # Kafka puts them into its table one before the other: of those that share a bucket, the last comes first.
    partitions = in_order(reversed(owners), hash_of, sized_for(len(targets)))
    _fill_up({partition: owners[partition] for partition in partitions}, owned, readers, wanted, sharing)
    return owned


def _fill_up(
    owners: Mapping[P, list[int]],
    owned: Sequence[set[P]],
    readers: Sequence[int],
    wanted: Sequence[int],
    sharing: int,
) -> None:
    """Go round those who have too little, and give each the next partition that has too few readers.

    As in Kafka, who is given a partition in one round may be given it in the next once more, and then has it once.
    """
    unfilled = sorted(place for place in readers if len(owned[place]) < wanted[place])
    round_, made_one = iter(unfilled), False
    for partition, places in owners.items():
        missing = sharing - len(places)
        while missing > 0:
            place = next(round_, None)
            if place is None:
                if not made_one:
                    break
                unfilled = [each for each in unfilled if len(owned[each]) < wanted[each]]
                round_, made_one = iter(unfilled), False
                if (place := next(round_, None)) is None:
                    return
            if place not in places:
                owned[place].add(partition)
                missing -= 1
                made_one = True


def _by_topic(topic_ids: Collection[bytes], partitions: Collection[tuple[bytes, int]]) -> Partitions:
    found: dict[bytes, list[int]] = {topic_id: [] for topic_id in topic_ids}
    for topic_id, partition in partitions:
        found.setdefault(topic_id, []).append(partition)
    return {topic_id: tuple(sorted(numbers)) for topic_id, numbers in sorted(found.items())}


def _hash_of_partition(partition: tuple[bytes, int]) -> int:
    topic_id, number = partition
    return (31 * hash_of_uuid(topic_id) + number) & 0xFFFFFFFF
