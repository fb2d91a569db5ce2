"""What `steward.py` is among others, for a process that shares the database with nobody: it has all lanes, always."""

import logging

import trio

from kafkapy.clock import Clock
from kafkapy.storage.shared.lanes import Lanes
from kafkapy.storage.shared.problems import DatabaseError, DatabaseInUse

_log = logging.getLogger(__name__)


class SoleSteward:
    """The lanes are taken once; after that only the lease is renewed."""

    def __init__(self, lanes: Lanes, clock: Clock, ttl_ms: int) -> None:
        self._lanes = lanes
        self._clock = clock
        self._ttl_ms = ttl_ms

    async def take_all(self) -> None:
        """Take and serve all of them. Raises DatabaseInUse, DatabaseError."""
        count = self._lanes.count
        lanes = await self._lanes.tenure.take(range(count))
        if len(lanes) < count:
            raise DatabaseInUse("lanes of the cluster in this database have owners that are not among its brokers")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)  # to load them may take longer than a lease lasts
            await self._lanes.gain(lanes)
            nursery.cancel_scope.cancel()

    async def run(self) -> None:
        """Renew the lease, until cancelled. Raises DatabaseInUse when another process took it for run out."""
        while True:
            await self._clock.sleep(self._ttl_ms / 3000)
            try:
                is_there = await self._lanes.tenure.renew()
            except DatabaseError as failure:
                _log.warning("the lease could not be renewed, which is tried again: %s", failure)
                continue
            if not is_there or self._lanes.is_deposed:
                raise DatabaseInUse("another process has taken the cluster over: this one stood still for too long")

    def look_again(self) -> None:
        """Nothing is other than it was."""

    async def settled(self) -> None:
        """All lanes are here."""

    async def leave(self) -> None:
        """There is nobody who would take them."""
