"""The `uniform` assignor where members read different topics: who has least is given most, then loads are evened.

Called by `groups/modern/assignors.py`. Topics with few readers for their partitions come first, since they leave least
choice. Kafka's algorithm, step by step, so that the same input has the same outcome; it ends after 16 rounds at most,
balanced or nearly so.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.java_order import uuid_rank

_MAX_ROUNDS: Final = 16
_NOBODY: Final = -1


class Member(Protocol):
    """What is known of a member: the topics it reads, and what it was to have so far."""

    @property
    def topic_ids(self) -> Collection[bytes]: ...

    @property
    def partitions(self) -> Partitions: ...


def assign_balanced(members: Mapping[str, Member], partition_counts: Mapping[bytes, int]) -> dict[str, Partitions]:
    """What each is to have, the members being considered in the order given."""
    readers: dict[bytes, list[int]] = {}
    for place, member in enumerate(members.values()):
        for topic_id in member.topic_ids:
            readers.setdefault(topic_id, []).append(place)
    if not readers:
        return {}
    owners = {topic_id: [_NOBODY] * partition_counts[topic_id] for topic_id in readers}
    loads = [0] * len(members)
    for place, member in enumerate(members.values()):
        for topic_id, partitions in member.partitions.items():
            if topic_id in member.topic_ids:
                loads[place] += len(partitions)
                for partition in partitions:
                    owners[topic_id][partition] = place

    def rank(topic_id: bytes) -> tuple[float, int, tuple[int, int]]:
        count = len(readers[topic_id])
        return -partition_counts[topic_id] / count, count, uuid_rank(topic_id)

    topics = sorted(readers, key=rank)
    for topic_id in topics:
        _give_away(owners[topic_id], _Loads(loads, readers[topic_id]))
    _even_out([topic_id for topic_id in topics if len(readers[topic_id]) > 1], readers, owners, loads)
    assigned: list[dict[bytes, tuple[int, ...]]] = [{} for _ in members]
    for topic_id, places in owners.items():
        for place, owned in _by_owner(places).items():
            assigned[place][topic_id] = tuple(owned)
    return dict(zip(members, assigned, strict=True))


def _by_owner(owners: Sequence[int]) -> dict[int, list[int]]:
    owned: dict[int, list[int]] = {}
    for partition, owner in enumerate(owners):
        owned.setdefault(owner, []).append(partition)
    return owned


def _give_away(owners: list[int], loads: "_Loads") -> None:
    """Each partition that nobody has goes to the reader with least."""
    for partition, owner in enumerate(owners):
        if owner == _NOBODY:
            loads.move(owners, partition, loads.next_least())


def _even_out(
    topics: Sequence[bytes], readers: Mapping[bytes, list[int]], owners: Mapping[bytes, list[int]], loads: list[int]
) -> None:
    """Go round the topics until a whole round moved nothing."""
    last_moved: bytes | None = None
    for _ in range(_MAX_ROUNDS):
        for topic_id in topics:
            if topic_id == last_moved:
                return
            if _even_out_topic(owners[topic_id], _Loads(loads, readers[topic_id])) or last_moved is None:
                last_moved = topic_id


def _even_out_topic(owners: list[int], loads: "_Loads") -> bool:
    """Move partitions of one topic from readers with most to those with least; whether any was moved."""
    if loads.imbalance <= 1:
        return False
    owned, moved = _by_owner(owners), False
    while not loads.is_balanced:
        while (giver := loads.next_most()) != _NOBODY and not owned.get(giver):
            loads.pass_over()
        if giver == _NOBODY:
            break
        partition = owned[giver].pop()
        taker = loads.next_least()
        if loads.is_balanced:
            break
        loads.move(owners, partition, taker)
        moved = True
    return moved


class _Loads:
    """The readers of one topic by how much they have: those with least and those with most, each handed out in turn.

    Both are ranges of the readers sorted by load: `least_end` ends the one, which begins at 0, the other lies between
    `most_start` and `most_end`. When all of a range were handed out, it takes in those whose load it has come to.
    """

    def __init__(self, loads: list[int], readers: Sequence[int]) -> None:
        self._loads = loads
        self._sorted = sorted(readers, key=lambda place: (loads[place], place))
        lowest, highest = loads[self._sorted[0]], loads[self._sorted[-1]]
        self.imbalance = highest - lowest
        self._least_load, self._least_end, self._next_least = lowest - 1, 0, 0
        count = len(self._sorted)
        self._most_load, self._most_start, self._most_end, self._next_most = highest + 1, count, count, count - 1

    @property
    def is_balanced(self) -> bool:
        return self._most_load - self._least_load <= 1

    def next_least(self) -> int:
        if self._next_least >= self._least_end:
            self._least_load += 1
            end = self._least_end
            while end < len(self._sorted) and self._loads[self._sorted[end]] == self._least_load:
                end += 1
            self._least_end, self._next_least = end, 0
        place = self._sorted[self._next_least]
        self._next_least += 1
        return place

    def next_most(self) -> int:
        """The next to give something up, or _NOBODY."""
        if self._next_most < self._most_start:
            if self._most_end <= self._most_start and self._most_start > 0:
                # All of the range were passed over: the next one below counts.
                self._most_load = self._loads[self._sorted[self._most_start - 1]]
            else:
                self._most_load -= 1
            start = self._most_start
            while start > 0 and self._loads[self._sorted[start - 1]] == self._most_load:
                start -= 1
            self._most_start, self._next_most = start, self._most_end - 1
        if self._next_most < 0:
            return _NOBODY
        place = self._sorted[self._next_most]
        self._next_most -= 1
        return place

    def pass_over(self) -> None:
        """Who was handed out last has nothing of this topic to give: leave it out from now on."""
        last, here, readers = self._most_end - 1, self._next_most + 1, self._sorted
        readers[here], readers[last] = readers[last], readers[here]
        self._most_end = last

    def move(self, owners: list[int], partition: int, taker: int) -> None:
        """The partition is another's now."""
        giver = owners[partition]
        if giver != _NOBODY:
            self._loads[giver] -= 1
        self._loads[taker] += 1
        owners[partition] = taker
