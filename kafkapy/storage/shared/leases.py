"""Who leads what, over lanes: `storage.base.Leases` of a process that shares them with others.

Who owns a lane leads its logs, in epochs that follow from the lane's (`Lanes.epoch_of`). A lease is counted here from
before its renewal was sent, on the monotonic clock, and ends a tenth before it ends in the database: from then on this
process leads nothing, until it has heard that it is still there. It goes on to write what it can, which the lanes'
heads decide, and to be read from.
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf

import trio

from kafkapy.clock import Clock
from kafkapy.model import LogId
from kafkapy.storage.base import Holder, Watch
from kafkapy.storage.sole import LeaseWatch, Told


class LaneLeases:
    """The leases as this process knows them. `lane_of` a log that is there; None for others."""

    def __init__(
        self,
        node_id: int,
        clock: Clock,
        lane_of: Callable[[LogId], int | None],
        epoch_of: Callable[[LogId, int], int],
    ) -> None:
        self.moves = 0
        self.until = -inf
        """When this process stops to lead."""
        self.extended = trio.Event()
        self._node_id = node_id
        self._clock = clock
        self._lane_of = lane_of
        self._epoch_of = epoch_of
        self._epochs: dict[LogId, int] = {}
        self._holders: dict[int, Holder] = {}
        self._is_told = False
        self._watches: list[LeaseWatch] = []

    def epoch(self, log: LogId) -> int | None:
        epoch = self._epochs.get(log)
        return epoch if epoch is None or self._clock.monotonic() < self.until else None

    def holder(self, log: LogId) -> Holder | None:
        if (epoch := self._epochs.get(log)) is not None:
            return Holder(self._node_id, epoch)
        lane = self._lane_of(log)
        holder = None if lane is None else self._holders.get(lane)
        if holder is None or holder.node_id == self._node_id:
            return None
        return Holder(holder.node_id, self._epoch_of(log, holder.epoch))

    def watch(self, gained: Told, lost: Told) -> Watch:
        watch = LeaseWatch(self._watches, gained, lost)
        if self._is_told and self._epochs:
            gained(list(self._epochs))
        return watch

    # -- what the store finds out

    def show(self, holders: Mapping[int, Holder]) -> None:
        """These own lanes, in these epochs of the lanes."""
        if holders != self._holders:
            self._holders = dict(holders)
            self.moves += 1

    def gain(self, epochs: Mapping[LogId, int]) -> None:
        """The store has these logs now, in these epochs."""
        new = {log: epoch for log, epoch in epochs.items() if log not in self._epochs}
        self._epochs.update(new)
        if new:
            self.moves += 1
            if self._is_told:
                self._tell_gained(list(new))

    def lose(self, logs: Iterable[LogId]) -> None:
        """The store has these logs no longer."""
        old = [log for log in logs if self._epochs.pop(log, None) is not None]
        if old:
            self.moves += 1
            if self._is_told:
                self._tell_lost(old)

    def extend(self, until: float) -> None:
        """This process is known to be there until then, which may be over by now."""
        now = self._clock.monotonic()
        if now >= self.until:
            self.expire()  # nothing has run since; but who has asked meanwhile was told that nothing is led
        if now < until:
            self.until = until
            if not self._is_told:
                self._is_told = True
                self._tell_gained(list(self._epochs))
        self.extended.set()
        self.extended = trio.Event()

    def expire(self) -> None:
        """Nobody knows whether this process is still there."""
        if self._is_told:
            self._is_told = False
            self.until = -inf
            self._tell_lost(list(self._epochs))

    def _tell_gained(self, logs: list[LogId]) -> None:
        for watch in list(self._watches):
            watch.gained(logs)

    def _tell_lost(self, logs: list[LogId]) -> None:
        for watch in list(self._watches):
            watch.lost(logs)
