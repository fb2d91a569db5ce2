"""Who waits for which log to grow.

A watch costs a set entry per log while it waits. A log that grows wakes its own watchers and nobody else.
"""

from collections.abc import Callable, Sequence

from kafkapy.model import LogId


class Watchers:
    """The watches of one store."""

    def __init__(self) -> None:
        self._by_log: dict[LogId, set[LogWatch]] = {}

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> "LogWatch":
        watch = LogWatch(self._by_log, logs, wake)
        for log in logs:
            self._by_log.setdefault(log, set()).add(watch)
        return watch

    def notify(self, log: LogId) -> None:
        """The log grew, went away, or moved its stable offset."""
        if self._by_log and (watches := self._by_log.get(log)):
            for watch in watches:
                watch.wake(log)


class LogWatch:
    """One who wants to be woken."""

    __slots__ = ("_by_log", "_logs", "wake")

    def __init__(
        self, by_log: dict[LogId, set["LogWatch"]], logs: Sequence[LogId], wake: Callable[[LogId], None]
    ) -> None:
        self._by_log = by_log
        self._logs = logs
        self.wake = wake

    def close(self) -> None:
        for log in self._logs:
            if watches := self._by_log.get(log):
                watches.discard(self)
                if not watches:
                    del self._by_log[log]
