"""Deadlines, one a key at most, of which the earliest is known at once.

Most are taken back long before they come, and their like is set again: a consumer's polls. So taking one back leaves
its entry in the heap, where the next one of the same key uses it as the moment to look again.

Invariant: every key with a deadline has an entry that is not later. Pure: the caller tells the time.
"""

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_LEFT_OVERS: Final = 64
"""So many entries that nobody needs may stay, beside one for each that somebody does."""


class Alarms(Generic[Key]):
    """The deadlines of some keys, in seconds."""

    def __init__(self) -> None:
        self._deadlines: dict[Key, float] = {}
        self._heap: list[tuple[float, int]] = []  # when to look at which entry
        self._keys: dict[int, Key] = {}  # by entry; of one without a key nothing is left but its place in the heap
        self._entries: dict[Key, tuple[float, int]] = {}
        self._numbers = count()

    def __len__(self) -> int:
        """How many entries there are, the left-overs with them."""
        return len(self._heap)

    def set(self, key: Key, deadline: float) -> None:
        self._deadlines[key] = deadline
        entry = self._entries.get(key)
        if entry is None or deadline < entry[0]:
            self._drop_entry(key)
            self._enter(key, deadline)

    def clear(self, key: Key) -> None:
        """The key has no deadline any longer, but probably soon another one."""
        self._deadlines.pop(key, None)

    def forget(self, key: Key) -> None:
        """The key will not come back."""
        self._deadlines.pop(key, None)
        self._drop_entry(key)
        if len(self._heap) > 2 * len(self._keys) + _LEFT_OVERS:
            self._heap = [entry for entry in self._heap if entry[1] in self._keys]
            heapify(self._heap)

    @property
    def next(self) -> float:
        """When to ask for what is due; never, as long as it is infinite."""
        return self._heap[0][0] if self._heap else inf

    def due(self, now: float) -> list[Key]:
        """The keys whose deadlines have come; they are cleared."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            key = self._keys.pop(heappop(self._heap)[1], None)
            if key is None:
                continue
            del self._entries[key]
            deadline = self._deadlines.get(key)
            if deadline is None:
                continue
            if deadline > now:
                self._enter(key, deadline)
            else:
                del self._deadlines[key]
                found.append(key)
        return found

    def _enter(self, key: Key, deadline: float) -> None:
        entry = self._entries[key] = (deadline, next(self._numbers))
        self._keys[entry[1]] = key
        heappush(self._heap, entry)

    def _drop_entry(self, key: Key) -> None:
        if (entry := self._entries.pop(key, None)) is not None:
            del self._keys[entry[1]]
