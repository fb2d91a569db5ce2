"""A broker that is alone: every log is its own, and no other broker is there.

The one-process side of `Leases` and `Brokers`; made by the stores that no other broker shares, and by `broker.py`.
"""

from collections.abc import Callable, Sequence
from typing import Final

from kafkapy.model import Endpoint, LogId
from kafkapy.storage.base import Holder, LiveBroker, Watch

_EPOCH: Final = 0
"""Nobody ever takes a log over from this broker."""

Told = Callable[[Sequence[LogId]], None]


class SoleLeases:
    """Leases on whatever there is."""

    def __init__(self, node_id: int) -> None:
        self.moves = 0
        self._ours = Holder(node_id, _EPOCH)
        self._logs: dict[LogId, None] = {}
        self._watches: list[_LeaseWatch] = []

    def epoch(self, log: LogId) -> int | None:
        return _EPOCH if log in self._logs else None

    def holder(self, log: LogId) -> Holder | None:
        return self._ours if log in self._logs else None

    def watch(self, gained: Told, lost: Told) -> Watch:
        watch = _LeaseWatch(self._watches, gained, lost)
        self._watches.append(watch)
        if self._logs:
            gained(list(self._logs))
        return watch

    def gain(self, logs: Sequence[LogId]) -> None:
        """The store has these logs now."""
        new = [log for log in logs if log not in self._logs]
        self._logs.update(dict.fromkeys(new))
        if new:
            self.moves += 1
            for watch in list(self._watches):
                watch.gained(new)

    def lose(self, logs: Sequence[LogId]) -> None:
        """The store has these logs no longer."""
        old = [log for log in logs if log in self._logs]
        for log in old:
            del self._logs[log]
        if old:
            self.moves += 1
            for watch in list(self._watches):
                watch.lost(old)


class _LeaseWatch:
    """One who wants to know."""

    def __init__(self, watches: "list[_LeaseWatch]", gained: Told, lost: Told) -> None:
        self._watches = watches
        self.gained = gained
        self.lost = lost

    def close(self) -> None:
        if self in self._watches:
            self._watches.remove(self)


class SoleBroker:
    """The broker itself, which is there as long as it can be asked."""

    def __init__(self, node_id: int, rack: str | None, endpoints: Sequence[Endpoint]) -> None:
        self._live = (LiveBroker(node_id, rack, tuple(endpoints)),)

    def live(self) -> Sequence[LiveBroker]:
        return self._live

    def watch(self, wake: Callable[[], None]) -> Watch:
        return _NoWatch()


class _NoWatch:
    """Nothing ever changes."""

    def close(self) -> None:
        pass
