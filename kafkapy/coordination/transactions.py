"""Facts that transactions wrote: they count from their producer's commit marker on, or never.

Owned by a shard, and by whoever replays its log.

Invariants
 1. A producer has one open transaction at most; its facts stand in the order in which they were decided.
 2. Undoing every change, the last one first, brings back what was.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple


class Change(NamedTuple):
    """What undoes one change: the producer's open facts, and how many they were."""

    producer_id: int
    facts: list[Any]
    length: int


class OpenTransactions:
    """The facts of transactions without a marker yet, by producer id."""

    def __init__(self) -> None:
        self._facts: dict[int, list[Any]] = {}

    def __iter__(self) -> Iterator[tuple[int, Sequence[Any]]]:
        return iter(self._facts.items())

    def add(self, producer_id: int, facts: Sequence[Any]) -> Change:
        """The producer's transaction has these facts, too."""
        known = self._facts.setdefault(producer_id, [])
        change = Change(producer_id, known, len(known))
        known += facts
        return change

    def end(self, producer_id: int) -> Change:
        """The producer's transaction is over; the change tells its facts."""
        facts = self._facts.pop(producer_id, [])
        return Change(producer_id, facts, len(facts))

    def undo(self, change: Change) -> None:
        """Take back the change, after all that came later."""
        del change.facts[change.length :]
        if change.facts:
            self._facts[change.producer_id] = change.facts
        else:
            self._facts.pop(change.producer_id, None)
