"""What the brokers of one process share of their cluster: the controller, the follower, and who sees its images.

Each broker has a door of its own to it (`service.py`). `broker.py` runs it before the first broker of the process.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.controller import Controller
from kafkapy.cluster.follower import Follower
from kafkapy.cluster.idle_settings import warn_of_idle_settings
from kafkapy.cluster.image import METADATA_LOG, Change, ClusterImage
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.storage.base import Leases, Logs


class Onlooker(NamedTuple):
    """A broker that is shown images, and then told what has changed."""

    show: Callable[[ClusterImage], None]
    tell: Callable[[Change], None]


class SharedLog(Protocol):
    """The metadata log, where other processes write it, too: what the store does besides, to keep up with them."""

    async def refresh(self) -> None:
        """Look how far the log has come."""

    def read_again(self) -> None:
        """Forget what is known here of the log's bytes: they make no sense, and may have been mended."""


class Core:
    """The cluster, as this process knows and changes it."""

    image: ClusterImage
    """The cluster as of the last change that was carried out; its settings are those of the process's first broker."""

    def __init__(
        self,
        cluster_id: str,
        config: BrokerConfig,
        logs: Logs,
        leases: Leases,
        clock: Clock,
        *,
        shared: SharedLog | None = None,
    ) -> None:
        """With a `shared` log, who leads partitions is not the controller's to decide."""
        self.config = config
        """The settings of the process's first broker, as it was started with them."""
        self.epoch_origin = logs.epoch_origin
        """Where the epochs of partitions begin that come into being."""
        self._logs = logs
        self._clock = clock
        self._onlookers: list[Onlooker] = []
        self._shared = shared
        self._follower = Follower(
            cluster_id,
            config,
            logs,
            clock,
            self._show,
            leads_by_facts=shared is None,
            read_again=None if shared is None else shared.read_again,
        )
        self.controller = Controller(self._follower, logs, leases, clock)
        self._follower.on_change(warn_of_idle_settings)
        self._follower.on_change(self._tell)
        self._follower.on_removal(self.controller.forget_removed)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once topics are known and their logs exist."""
        await self._follower.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._follower.run)
            await nursery.start(self.controller.run)
            task_status.started()

    def join(self, onlooker: Onlooker) -> None:
        """Show this broker every image from the present one on."""
        self._onlookers.append(onlooker)
        onlooker.show(self.image)

    def leave(self, onlooker: Onlooker) -> None:
        """Show it no more."""
        self._onlookers.remove(onlooker)

    async def change(self, command: Any, timeout_ms: int | None = None) -> Any:
        """The controller's answer to a command, once what was decided is carried out here.

        Raises REQUEST_TIMED_OUT when `timeout_ms` run out (the change may still be carried out), NOT_CONTROLLER when
        another process has the controller, or the metadata log refused the change, and as `catch_up` does.
        """
        timeout_seconds = math.inf if timeout_ms is None else timeout_ms / 1000
        if timeout_seconds <= 0:  # as in Kafka, no time at all is not enough: nothing is done
            raise KafkaError(Error.REQUEST_TIMED_OUT)
        with self._clock.until(self._clock.monotonic() + timeout_seconds):
            results = await self.controller.execute(command)
            await self.catch_up()
            return results
        raise KafkaError(Error.REQUEST_TIMED_OUT)

    @property
    def metadata_offset(self) -> int:
        """How far the image has come in the metadata log: all facts before this offset are in it."""
        return self._follower.offset

    async def catch_up(self) -> None:
        """Return once the image has whatever the metadata log has now. Raises KafkaError when it cannot be read."""
        if self._shared is not None:
            await self._shared.refresh()
        bounds = self._logs.bounds(METADATA_LOG)
        if isinstance(bounds, Error):
            raise KafkaError(bounds, "how far the metadata log has come cannot be seen")
        await self._follower.reach(bounds.high_watermark)

    def _show(self, image: ClusterImage) -> None:
        self.image = image
        for onlooker in self._onlookers:
            onlooker.show(image)

    def _tell(self, change: Change) -> None:
        for onlooker in list(self._onlookers):
            onlooker.tell(change)
