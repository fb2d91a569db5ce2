"""Who waits for which log to grow.

A watch costs a set entry per log while it waits. A log that grows wakes its own watchers and nobody else.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import trio

from kafkapy.model import LogId


class Watchers:
    """The watches of one store."""

    def __init__(self) -> None:
        self._by_log: dict[LogId, set[LogWatch]] = {}

    def watch(self, logs: Sequence[LogId]) -> "LogWatch":
        return LogWatch(self._by_log, logs)

    def notify(self, log: LogId) -> None:
        """The log grew, went away, or moved its stable offset."""
        if self._by_log and (watches := self._by_log.get(log)):
            for watch in watches:
                watch.wake()


class LogWatch:
    """One waiter. Remembers a change that came while nobody was looking."""

    __slots__ = ("_by_log", "_changed", "_logs", "_task")

    def __init__(self, by_log: dict[LogId, set["LogWatch"]], logs: Sequence[LogId]) -> None:
        self._by_log = by_log
        self._logs = logs
        self._changed = False
        self._task: trio.lowlevel.Task | None = None

    def __enter__(self) -> Self:
        for log in self._logs:
            self._by_log.setdefault(log, set()).add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for log in self._logs:
            if watches := self._by_log.get(log):
                watches.discard(self)
                if not watches:
                    del self._by_log[log]

    def wake(self) -> None:
        self._changed = True
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    async def changed(self) -> None:
        if not self._changed:
            self._task = trio.lowlevel.current_task()

            def abort(_: object) -> trio.lowlevel.Abort:
                self._task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        self._changed = False
