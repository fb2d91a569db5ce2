"""A broker that is the only one of its process, among those of other processes: its `Standing`.

Who leads what, and who is there, the store knows: its leases, and the brokers that share it. The controller only writes
down who has come and gone (`registrar.py`). Made by `broker.py`.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import Final, Protocol

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.core import Core, Onlooker
from kafkapy.cluster.image import Change, ClusterImage
from kafkapy.cluster.membership import InTurn
from kafkapy.config.setting import ConfigError
from kafkapy.storage.base import Brokers, Leases, LiveBroker, Watch

_log = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 60.0
"""A broker that nobody registers, or whose share is with one that stands still, says so, and serves what it has."""

_LEAVE_SECONDS: Final = 10.0
"""A broker does not wait longer for others to take over what it leads: its leases end with it."""


class SharedStore(Protocol):
    """A store of which other processes have a part."""

    @property
    def leases(self) -> Leases:
        """What this process leads."""

    @property
    def brokers(self) -> Brokers:
        """Who is there."""

    @property
    def in_turn(self) -> InTurn:
        """Brokers in the order in which they come to lead a log."""

    async def announce(self, broker: LiveBroker) -> None:
        """This process is reached there, and takes its share."""

    async def settled(self) -> None:
        """Return once all is with whom it is to be with."""

    async def leave(self) -> None:
        """Give everything to those who are there."""


class Seat:
    """The broker's place. `core` is its process's."""

    def __init__(self, core: Core, store: SharedStore, clock: Clock) -> None:
        self.in_turn: InTurn | None = store.in_turn
        self._core = core
        self._store = store
        self._clock = clock
        self._broker: LiveBroker | None = None
        self._has_settled = False
        self._image_changed = trio.Event()

    def tenant(self, node_id: int) -> Leases:
        return self._store.leases

    def live(self) -> Sequence[LiveBroker]:
        return self._store.brokers.live()

    def watch(self, wake: Callable[[], None]) -> Watch:
        return self._store.brokers.watch(wake)

    async def begin(self, node_ids: Collection[int]) -> None:
        """Who else is there, others know."""

    async def enter(self, broker: LiveBroker) -> None:
        """The broker will be there: it is announced once all can serve. Raises ConfigError for a second one."""
        if self._broker is not None and self._broker.node_id != broker.node_id:
            raise ConfigError(
                "over a database that several processes share, each has one broker: start another process"
            )
        self._broker = broker
        if self._has_settled:  # it has been stopped, and comes back
            await self._store.announce(broker)

    async def settle(self) -> None:
        """Take a share, and wait for it, and to be registered."""
        assert self._broker is not None, "a broker has entered"
        self._has_settled = True
        onlooker = Onlooker(self._show, self._tell)
        self._core.join(onlooker)
        try:
            with self._clock.until(self._clock.monotonic() + _SETTLE_SECONDS):
                await self._store.announce(self._broker)
                while not self._is_registered(self._broker):
                    await self._image_changed.wait()
                await self._store.settled()
                return
            _log.warning("this broker has not all that is its to lead after %d seconds", _SETTLE_SECONDS)
        finally:
            self._core.leave(onlooker)

    def _is_registered(self, broker: LiveBroker) -> bool:
        known = self._core.image.kinds.registrations.get(broker.node_id)
        return known is not None and not known.is_fenced and known.endpoints == broker.endpoints

    def _show(self, image: ClusterImage) -> None:
        self._image_changed.set()
        self._image_changed = trio.Event()

    def _tell(self, change: Change) -> None:
        """Nothing but the image is of interest."""

    async def leave(self, node_id: int) -> None:
        with self._clock.until(self._clock.monotonic() + _LEAVE_SECONDS):
            await self._store.leave()
            return
        _log.warning("not everything was taken over by other brokers after %d seconds", _LEAVE_SECONDS)

    async def leave_all(self) -> None:
        if self._broker is not None:
            await self.leave(self._broker.node_id)

    def withdraw(self, node_id: int) -> None:
        """The store takes its leave when it is closed."""
