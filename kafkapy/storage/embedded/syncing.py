"""Puts logs on the medium, for all who wait for that.

A few tasks take what is due, in the order in which it became due, and sync it in worker threads: a log that is due
does not wait for other logs' turns, and whoever asks does none of the work. Logs whose time has come (flush.ms) join
the same queue. Called by the store.

Invariants
 1. A log is in the hands of one task at most: what is asked for meanwhile is another sync, after that one.
 2. A sync that was asked for covers everything that had been written when it was asked for.
 3. A sync that has begun goes to its end, also at a stop.
 4. A log whose sync failed is not synced again before it has been mended: that would succeed, and mean nothing.
"""

import logging
from collections.abc import Callable, Iterable
from math import ceil
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.partition import Partition
from kafkapy.timers import Timers

_log = logging.getLogger(__name__)

_TASKS: Final = 8
"""So many syncs at a time: file systems commit what comes together at once. Kafka has as many request threads."""

NEVER_MS: Final = (1 << 63) - 1

Done = Callable[[], None]


class Syncer:
    """All syncs of a store."""

    def __init__(
        self,
        disk: Disk,
        clock: Clock,
        synced: Callable[[Partition, int], None],
        failed: Callable[[Partition, str], None],
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._synced = synced
        self._failed = failed
        self._threads = trio.CapacityLimiter(_TASKS)
        self._due: dict[Partition, list[Done]] = {}
        self._under_way: dict[Partition, list[Done] | None] = {}  # None: nobody has asked again
        self._idle = trio.lowlevel.ParkingLot()
        self._timers: Timers[Partition, None] = Timers()
        self._nap = trio.CancelScope()

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(_TASKS):
                nursery.start_soon(self._work)
            nursery.start_soon(self._ring)

    def sync(self, partition: Partition, done: Done | None = None) -> None:
        """Have all that is written by now synced; `done` is called when that succeeded or failed."""
        if partition in self._under_way:
            waiting = self._under_way[partition]
            if waiting is None:
                waiting = self._under_way[partition] = []
        else:
            waiting = self._due.setdefault(partition, [])
            self._idle.unpark()
        if done is not None:
            waiting.append(done)

    def note_unsynced(self, partition: Partition) -> None:
        """The log has something to be synced: within its flush.ms, if it has one."""
        flush_ms = partition.settings.flush_ms
        if flush_ms < NEVER_MS:
            deadline = partition.unflushed_since + flush_ms / 1000
            self._timers.set(partition, deadline, None)
            if deadline < self._nap.deadline:
                self._nap.cancel()
        else:
            self._timers.cancel(partition)

    def forget(self, partition: Partition) -> None:
        """The log is deleted: nothing of it need be kept."""
        self._timers.forget(partition)

    async def _ring(self) -> None:
        """Have those synced whose time has come."""
        while True:
            with self._clock.until(self._timers.next) as self._nap:
                await trio.sleep_forever()
            now = self._clock.monotonic()
            while (due := self._timers.pop_due(now)) is not None:
                self.sync(due[0])

    async def _work(self) -> None:
        while True:
            if not self._due:
                await self._idle.park()
                continue
            share = self._take_share()
            begun = self._begin(share)
            with trio.CancelScope(shield=True):
                failed = await trio.to_thread.run_sync(
                    _sync_all, self._disk, {p: paths for p, (_, paths) in begun.items()}, limiter=self._threads
                )
            self._end(begun, failed)
            for partition, waiting in share.items():
                asked_again = self._under_way.pop(partition)
                if asked_again is not None:
                    self._due.setdefault(partition, []).extend(asked_again)
                for done in waiting:
                    done()

    def _take_share(self) -> dict[Partition, list[Done]]:
        """Logs for one trip to a thread: where many are due, every task takes its part of them."""
        share = {}
        for partition in list(self._due)[: ceil(len(self._due) / _TASKS)]:
            share[partition] = self._due.pop(partition)
            self._under_way[partition] = None
            self._timers.cancel(partition)
        return share

    def sync_now(self, partitions: Iterable[Partition]) -> None:
        """Sync these at once, waiting for it: for a stop, when nobody else runs."""
        begun = self._begin(partitions)
        self._end(begun, _sync_all(self._disk, {partition: paths for partition, (_, paths) in begun.items()}))

    def _begin(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, list[str]]]:
        """Where each ends now, and the files to be synced for that."""
        now = self._clock.monotonic()
        return {partition: partition.begin_sync(now) for partition in partitions if not partition.failed}

    def _end(self, begun: dict[Partition, tuple[int, list[str]]], failed: dict[Partition, str]) -> None:
        for partition, (end_offset, _) in begun.items():
            if partition in failed:
                partition.failed = True
                self._failed(partition, failed[partition])
                continue
            partition.synced(end_offset)
            if partition.unflushed_count:
                self.note_unsynced(partition)
            self._synced(partition, end_offset)


def _sync_all(disk: Disk, paths: dict[Partition, list[str]]) -> dict[Partition, str]:
    """Sync each partition's files; the ones that failed, with what the system said. For worker threads."""
    failed = {}
    for partition, files in paths.items():
        try:
            disk.sync(files)
        except OSError as failure:
            failed[partition] = str(failure)
    return failed
