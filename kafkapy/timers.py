"""Deadlines, one a key at most, of which the earliest is known at once.

Most are taken back long before they come, and their like is set again: a consumer's polls, a member's session. So
moving a deadline out, or taking it back, leaves its entry in the heap, where the next one of the same key uses it as
the moment to look again.

Invariants
 1. Every key with a deadline has an entry that is not later.
 2. There are at most twice as many entries as deadlines, and a constant more: what was taken back costs no memory.

Pure: the caller tells the time, in seconds of its clock.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")

_LEFT_OVERS: Final = 64
"""So many entries that nobody needs may stay, beside two for each deadline."""


class Timers(Generic[Key, Value]):
    """The deadlines of some keys, each with what it is for."""

    __slots__ = ("_entries", "_heap", "_keys", "_live", "_numbers")

    def __init__(self) -> None:
        self._live: dict[Key, tuple[float, Value]] = {}
        self._heap: list[tuple[float, int]] = []  # when to look at which entry
        self._keys: dict[int, Key] = {}  # by entry; of one without a key nothing is left but its place in the heap
        self._entries: dict[Key, tuple[float, int]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        """How many deadlines there are."""
        return len(self._live)

    @property
    def entry_count(self) -> int:
        """How many places the deadlines take, the left-overs with them."""
        return len(self._heap)

    def set(self, key: Key, deadline: float, value: Value) -> None:
        """The key's deadline from now on, instead of whatever it had."""
        self._live[key] = (deadline, value)
        entry = self._entries.get(key)
        if entry is None or deadline < entry[0]:
            self._drop_entry(key)
            self._enter(key, deadline)
            self._bound()

    def deadline_of(self, key: Key) -> float | None:
        """The key's deadline, if it has one."""
        live = self._live.get(key)
        return None if live is None else live[0]

    def cancel(self, key: Key) -> None:
        """The key has no deadline any longer, but perhaps soon another one."""
        if self._live.pop(key, None) is not None:
            self._bound()

    def forget(self, key: Key) -> None:
        """The key will not come back: nothing keeps it alive from now on."""
        self._live.pop(key, None)
        self._drop_entry(key)
        self._bound()

    def clear(self) -> None:
        """Nobody has a deadline."""
        self._live.clear()
        self._heap.clear()
        self._keys.clear()
        self._entries.clear()

    @property
    def next(self) -> float:
        """When to look again: never too late, and infinite when there is nothing to wait for."""
        return self._heap[0][0] if self._heap else inf

    def pop_due(self, now: float) -> tuple[Key, Value] | None:
        """One key whose deadline has come, with what it is for; it has none any longer. None when there is no such."""
        while self._heap and self._heap[0][0] <= now:
            key = self._keys.pop(heappop(self._heap)[1], None)
            if key is None:
                continue
            del self._entries[key]
            live = self._live.get(key)
            if live is None:
                continue
            deadline, value = live
            if deadline <= now:
                del self._live[key]
                return key, value
            self._enter(key, deadline)
        return None

    def _enter(self, key: Key, deadline: float) -> None:
        entry = self._entries[key] = (deadline, next(self._numbers))
        self._keys[entry[1]] = key
        heappush(self._heap, entry)

    def _drop_entry(self, key: Key) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            del self._keys[entry[1]]

    def _bound(self) -> None:
        """Keep invariant 2."""
        if len(self._heap) > 2 * len(self._live) + _LEFT_OVERS:
            self._entries = {key: entry for key, entry in self._entries.items() if key in self._live}
            self._keys = {number: key for key, (_, number) in self._entries.items()}
            self._heap = list(self._entries.values())
            heapify(self._heap)
