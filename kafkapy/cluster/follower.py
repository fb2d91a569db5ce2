"""Follows the metadata log: makes images of its facts, sees to the logs of topics, and tells whoever wants to know.

Runs on every broker, the controller's own among them, so that all come to know of a change in the same way. Called by
the cluster's service.

Invariants
 1. Every partition of an image that is shown has its log, unless the disk refused to make one, which the store tries
    again: a topic appears once its logs exist, and has gone before they do.
 2. Whatever is in the log is carried out, whether or not anybody waits for it; one task does it, in the log's order.
 3. What a crash left half done is completed at the next start.
 4. An image is shown of facts that were read one after the other without a gap: where the log cannot be read, the last
    one stays.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.image import METADATA_LOG, Change, ClusterImage
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.logs import TopicLogs
from kafkapy.cluster.machine import ClusterMachine
from kafkapy.cluster.state import ClusterState
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.replaying import DamagedLog, Replay
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.storage.base import Logs

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
"""A disk that could not be read for a moment does not end the broker."""

_READ_AGAIN_SECONDS: Final = 30.0
"""A log that makes no sense may have been mended."""


class Follower:
    """The cluster as this broker knows it. `show` is given each image that the world may see."""

    def __init__(
        self,
        cluster_id: str,
        config: BrokerConfig,
        logs: Logs,
        clock: Clock,
        show: Callable[[ClusterImage], None],
        *,
        leads_by_facts: bool,
        read_again: Callable[[], None] | None = None,
    ) -> None:
        """`read_again` has the store forget what it knows of the log's bytes, which other processes write, too: damage
        done to them is mended while brokers run. Without it a damaged log ends the process.
        """
        machine = partial(ClusterMachine, cluster_id, config, leads_by_facts=leads_by_facts)
        self.shard_type = ShardType(machine, MetadataJournal(), is_trimmed=True)
        self._replay = Replay(logs, METADATA_LOG, self.shard_type)
        self._loaded = trio.Event()
        self._damage: str | None = None
        """Why the log cannot be read now."""
        self._read_again = read_again
        self._logs = logs
        self._clock = clock
        self._show = show
        image = self._state.advance().new
        self._carried_out = image
        self._topic_logs = TopicLogs(image, logs)
        self._callbacks: list[Callable[[Change], None]] = []
        self._removal_callbacks: list[Callable[[set[bytes]], None]] = []
        self._grown = trio.Event()
        self.offset = 0
        """Everything before it in the metadata log is carried out."""
        self._progress = trio.Event()
        show(image)

    @property
    def _state(self) -> ClusterState:
        state: ClusterState = self._replay.machine.state
        return state

    def on_change(self, callback: Callable[[Change], None]) -> None:
        """Have `callback` called with each change, once it is carried out."""
        self._callbacks.append(callback)

    def on_removal(self, callback: Callable[[set[bytes]], None]) -> None:
        """Have `callback` called with the ids of topics whose logs are no more."""
        self._removal_callbacks.append(callback)

    @property
    def outlives_damage(self) -> bool:
        """Whether a log that makes no sense is no reason to end."""
        return self._read_again is not None

    async def open(self) -> None:
        """Have the log that is followed."""
        await self._topic_logs.open()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow until cancelled; `started` once topics are known and their logs exist.

        Raises KafkaError or DamagedLog when the log cannot be read from its start.
        """
        watch = self._logs.watch([METADATA_LOG], lambda log: self._grown.set())
        try:
            await self._replay.load()
            self._loaded.set()
            self._tell_progress()
            change = self._state.advance()
            await self._topic_logs.follow_all(change.new, self._state.removed)
            self._end(change)
            task_status.started()
            while True:
                await self._grown.wait()
                self._grown = trio.Event()
                await self._catch_up()
                await self._carry_out(self._state.advance())
        finally:
            watch.close()

    async def fork(self) -> Replay:
        """The machine as far as the log has been read here, for somebody who goes on by himself.

        Raises KAFKA_STORAGE_ERROR while it cannot be read.
        """
        while not self._loaded.is_set():
            self._check()
            await self._progress.wait()
        return self._replay.fork()

    async def reach(self, offset: int) -> None:
        """Return once everything before this offset of the metadata log is carried out.

        Raises KAFKA_STORAGE_ERROR while it cannot be read.
        """
        while self.offset < offset:
            self._check()
            await self._progress.wait()

    def _check(self) -> None:
        if self._damage is not None:
            raise KafkaError(Error.KAFKA_STORAGE_ERROR, self._damage)

    async def _catch_up(self) -> None:
        while True:
            try:
                if not self._loaded.is_set():
                    await self._load_again()
                await self._replay.catch_up()
            except KafkaError as refusal:
                if refusal.error is Error.OFFSET_OUT_OF_RANGE:
                    # The log was trimmed beyond what has been read of it: its checkpoint has what is missing.
                    self._loaded = trio.Event()
                else:
                    self._stand_still(refusal)
                    await self._clock.sleep(_RETRY_SECONDS)
            except DamagedLog as damage:
                if self._read_again is None:
                    raise
                self._loaded = trio.Event()  # what was applied of it is not to be applied twice
                self._stand_still(damage)
                await self._clock.sleep(_READ_AGAIN_SECONDS)
                self._read_again()
            else:
                if self._damage is not None:
                    self._damage = None
                    _log.info("the metadata log can be read again")
                return

    def _stand_still(self, reason: KafkaError | DamagedLog) -> None:
        """The log cannot be read now: what is known of the cluster stays as it is."""
        if str(reason) != self._damage:
            self._damage = str(reason)
            _log.error(
                "the metadata log cannot be followed, which is tried again; this broker goes on with what it knows of "
                "the cluster: %s",
                reason,
            )
        self._tell_progress()

    async def _load_again(self) -> None:
        await self._replay.load()
        self._state.succeed(self._carried_out)
        self._loaded.set()
        self._tell_progress()

    async def _carry_out(self, change: Change) -> None:
        if change.deleted:
            only_deleted = not (change.created or change.changed)
            self._show(change.new if only_deleted else change.old.without(change.deleted))
        await self._topic_logs.follow(change)
        self._end(change)

    def _end(self, change: Change) -> None:
        for forget in self._removal_callbacks:
            forget(self._state.removed)
        self._state.removed.clear()
        self._carried_out = change.new
        self._show(change.new)
        if change.new is not change.old:
            for callback in self._callbacks:
                callback(change)
        self.offset = self._replay.offset
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()
