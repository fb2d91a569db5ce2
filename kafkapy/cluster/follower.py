"""Follows the metadata log: makes images of its facts, sees to the logs of topics, and tells whoever wants to know.

Runs on every broker, the controller's own among them, so that all come to know of a change in the same way. Called by
the cluster's service.

Invariants
 1. Every partition of an image that is shown has its log, unless the disk refused to make one, which the store tries
    again: a topic appears once its logs exist, and has gone before they do.
 2. Whatever is in the log is carried out, whether or not anybody waits for it; one task does it, in the log's order.
 3. What a crash left half done is completed at the next start.
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
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.storage.base import Logs

_log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1.0
"""A disk that could not be read for a moment does not end the broker."""


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
    ) -> None:
        machine = partial(ClusterMachine, cluster_id, config, leads_by_facts=leads_by_facts)
        self.shard_type = ShardType(machine, MetadataJournal(), is_trimmed=True)
        self._replay = Replay(logs, METADATA_LOG, self.shard_type)
        self._loaded = trio.Event()
        self._logs = logs
        self._clock = clock
        self._show = show
        image = self._state.advance().new
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
        """The machine as far as the log has been read here, for somebody who goes on by himself."""
        await self._loaded.wait()
        return self._replay.fork()

    async def reach(self, offset: int) -> None:
        """Return once everything before this offset of the metadata log is carried out."""
        while self.offset < offset:
            await self._progress.wait()

    async def _catch_up(self) -> None:
        while True:
            try:
                await self._replay.catch_up()
            except KafkaError as refusal:
                if refusal.error is Error.OFFSET_OUT_OF_RANGE:
                    await self._load_again()
                else:
                    _log.error("the metadata log cannot be followed, which is tried again: %s", refusal)
                    await self._clock.sleep(_RETRY_SECONDS)
            else:
                return

    async def _load_again(self) -> None:
        """The log was trimmed beyond what has been read of it: its checkpoint has what is missing."""
        image = self._state.advance().new
        self._loaded = trio.Event()
        await self._replay.load()
        self._state.succeed(image)
        self._loaded.set()

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
        self._show(change.new)
        if change.new is not change.old:
            for callback in self._callbacks:
                callback(change)
        self.offset = self._replay.offset
        self._progress.set()
        self._progress = trio.Event()
