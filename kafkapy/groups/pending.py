"""Offsets that transactions have written and not yet decided: who waits for which marker.

Owned by the offsets of one shard (`groups/offsets.py`).

Invariants
 1. Of what is written about a partition the last that counts wins, by the order in which it was written, not in which
    transactions end: a later commit overtakes an earlier pending one, which stays pending until its marker comes.
 2. A removed offset takes what is pending of it along, as in Kafka: its transactions have nothing to say about it.
"""

from collections.abc import Iterable, Iterator
from itertools import count
from typing import NamedTuple

from kafkapy.coordination.shard import InTransaction
from kafkapy.groups.facts import OffsetStored


class OffsetKey(NamedTuple):
    """What an offset is committed for."""

    group_id: str
    topic: str
    partition: int


class Pending(NamedTuple):
    """An offset that waits for its transaction's marker, `position` telling its place among all that were written."""

    fact: OffsetStored
    position: int
    overtaken: bool = False


class PendingOffsets:
    """All pending offsets of a shard, by what they are for, and by who has written them."""

    def __init__(self) -> None:
        self._by_key: dict[OffsetKey, dict[int, Pending]] = {}  # then by producer id
        self._by_producer: dict[int, dict[OffsetKey, None]] = {}
        self._by_group: dict[str, dict[OffsetKey, None]] = {}
        self._positions = count()

    def add(self, producer_id: int, fact: OffsetStored) -> None:
        """The producer's transaction has written this, instead of what it wrote of the same before."""
        self._put(_key_of(fact), producer_id, Pending(fact, next(self._positions)))

    def overtake(self, key: OffsetKey, position: int | None = None) -> None:
        """Something has come that was written at this position, by default at the end: what is older will not count."""
        for producer_id, pending in self.about(key).items():
            if position is None or pending.position < position:
                self._put(key, producer_id, pending._replace(overtaken=True))

    def end(self, producer_id: int) -> Iterator[Pending]:
        """The producer's transaction is over: take what was pending of it."""
        for key in list(self._by_producer.get(producer_id, ())):
            yield self._by_key[key][producer_id]
            self._drop(key, producer_id)

    def remove(self, key: OffsetKey) -> None:
        """Nothing is pending of this any longer."""
        for producer_id in self.about(key):
            self._drop(key, producer_id)

    def restore(self, key: OffsetKey, pending: dict[int, Pending]) -> None:
        """Exactly this is pending of it, by producer id."""
        self.remove(key)
        for producer_id, each in pending.items():
            self._put(key, producer_id, each)

    def about(self, key: OffsetKey) -> dict[int, Pending]:
        """What is pending of this, by producer id."""
        known = self._by_key.get(key)
        return dict(known) if known else {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def is_pending(self, key: OffsetKey) -> bool:
        """Whether a marker may change this offset, or would have if nothing had come since."""
        return key in self._by_key

    def of_group(self, group_id: str) -> Iterable[OffsetKey]:
        """Of what something is pending in the group."""
        return self._by_group.get(group_id, ())

    def of_producer(self, producer_id: int) -> Iterable[OffsetKey]:
        """Of what something is pending in the producer's transaction."""
        return self._by_producer.get(producer_id, ())

    def facts(self) -> Iterator[OffsetStored]:
        """All that is pending, overtaken or not."""
        return (pending.fact for known in self._by_key.values() for pending in known.values())

    def snapshot(self) -> tuple[list[InTransaction], list[InTransaction]]:
        """The facts that bring it back: those to be applied before the offsets that count, and those behind them."""
        known = [(pending, producer_id) for found in self._by_key.values() for producer_id, pending in found.items()]
        known.sort(key=_position)
        return (
            [InTransaction(producer_id, pending.fact) for pending, producer_id in known if pending.overtaken],
            [InTransaction(producer_id, pending.fact) for pending, producer_id in known if not pending.overtaken],
        )

    def _put(self, key: OffsetKey, producer_id: int, pending: Pending) -> None:
        self._by_key.setdefault(key, {})[producer_id] = pending
        self._by_producer.setdefault(producer_id, {})[key] = None
        self._by_group.setdefault(key.group_id, {})[key] = None

    def _drop(self, key: OffsetKey, producer_id: int) -> None:
        del self._by_key[key][producer_id]
        if not self._by_key[key]:
            del self._by_key[key]
            del self._by_group[key.group_id][key]
            if not self._by_group[key.group_id]:
                del self._by_group[key.group_id]
        del self._by_producer[producer_id][key]
        if not self._by_producer[producer_id]:
            del self._by_producer[producer_id]


def _key_of(fact: OffsetStored) -> OffsetKey:
    return OffsetKey(fact.group_id, fact.topic, fact.partition)


def _position(known: tuple[Pending, int]) -> int:
    return known[0].position
