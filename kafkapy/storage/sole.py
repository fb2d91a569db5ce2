"""A process that is alone: every log of its store is its own.

The one-process side of `Leases`; made by the stores that no other process shares.
"""

from collections.abc import Callable, Mapping, Sequence

from kafkapy.model import LogId
from kafkapy.storage.base import Holder, Watch

Told = Callable[[Sequence[LogId]], None]


class SoleLeases:
    """Leases on whatever there is, each under the epoch in which the log was last written to: nobody takes it over."""

    def __init__(self, node_id: int) -> None:
        self.moves = 0
        self._node_id = node_id
        self._holders: dict[LogId, Holder] = {}
        self._watches: list[LeaseWatch] = []

    def epoch(self, log: LogId) -> int | None:
        holder = self._holders.get(log)
        return None if holder is None else holder.epoch

    def holder(self, log: LogId) -> Holder | None:
        return self._holders.get(log)

    def watch(self, gained: Told, lost: Told) -> Watch:
        watch = LeaseWatch(self._watches, gained, lost)
        if self._holders:
            gained(list(self._holders))
        return watch

    def gain(self, epochs: Mapping[LogId, int]) -> None:
        """The store has these logs now, last written to in these leader epochs."""
        new = [log for log in epochs if log not in self._holders]
        self._holders.update((log, Holder(self._node_id, epochs[log])) for log in new)
        if new:
            self.moves += 1
            for watch in list(self._watches):
                watch.gained(new)

    def lose(self, logs: Sequence[LogId]) -> None:
        """The store has these logs no longer."""
        old = [log for log in logs if log in self._holders]
        for log in old:
            del self._holders[log]
        if old:
            self.moves += 1
            for watch in list(self._watches):
                watch.lost(old)


class LeaseWatch:
    """One who wants to know."""

    def __init__(self, watches: "list[LeaseWatch]", gained: Told, lost: Told) -> None:
        self._watches = watches
        self.gained = gained
        self.lost = lost
        watches.append(self)

    def close(self) -> None:
        if self in self._watches:
            self._watches.remove(self)
