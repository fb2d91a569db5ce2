"""The share coordinator's door: what brokers ask it about the state of share partitions.

Each asks the shard of its group, topic and partition, one of those that `coordination/shards.py` runs on
`__share_group_state`. `node.py` runs the service (`run`) in the nursery that outlives the connections.
"""

import functools
import logging
from typing import TYPE_CHECKING, Any

import trio

from kafkapy.clock import Clock
from kafkapy.coordination.runtime import Shard
from kafkapy.coordination.shard import ShardType
from kafkapy.coordination.shards import Shards
from kafkapy.coordination.waiting import Waiting
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.records.batch import Compression
from kafkapy.sharing.state.commands import ForgetTopic, PartitionCommand
from kafkapy.sharing.state.facts import SharePartitionKey
from kafkapy.sharing.state.journal import ShareStateJournal
from kafkapy.sharing.state.machine import ShareStateMachine, StateSettings
from kafkapy.storage.base import Leases, Logs

if TYPE_CHECKING:
    from kafkapy.cluster.service import ClusterService
    from kafkapy.config.layers import BrokerConfig

_log = logging.getLogger(__name__)

STATE_TOPIC = "__share_group_state"


class ShareStateService:
    """The state of all share partitions that this broker coordinates."""

    def __init__(
        self, cluster: "ClusterService", logs: Logs, leases: Leases, clock: Clock, config: "BrokerConfig"
    ) -> None:
        self._cluster = cluster
        self._logs = logs
        self._clock = clock
        self._write_timeout_ms: int = config["share.coordinator.write.timeout.ms"]
        self._prune_interval_ms: int = config["share.coordinator.state.topic.prune.interval.ms"]
        settings = StateSettings(
            config["share.coordinator.snapshot.update.records.per.snapshot"],
            config["share.coordinator.cold.partition.snapshot.interval.ms"],
        )
        self._shards = Shards(
            STATE_TOPIC,
            "share coordinator",
            ShardType(
                functools.partial(ShareStateMachine, settings),
                ShareStateJournal(),
                lambda machine: machine.needed_record_count,
                records_add_up=True,
            ),
            logs,
            leases,
            clock,
            lambda: cluster.image,
            Compression(config["share.coordinator.state.topic.compression.codec"]),
        )
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once every shard with a past is on its way."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._shards.run)
            task_status.started()
            while True:
                await self._clock.sleep(self._prune_interval_ms / 1000)
                for shard in self._shards.running():
                    await self._prune(shard)

    async def coordinating_log(self, key: SharePartitionKey) -> LogId:
        """The log whose leader keeps this state: the state topic comes into being when first needed.

        Raises as of `ClusterService.ensure_internal_topic`.
        """
        if self._cluster.image.topic(STATE_TOPIC) is None:
            await self._cluster.ensure_internal_topic(STATE_TOPIC)
        return self._shards.log_of(key.coordinator_key)

    async def ask(self, command: PartitionCommand) -> Any:
        """The answer to a command, as `state/commands.py` has it. Raises its refusal, and NOT_COORDINATOR,
        COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS where this broker cannot tell. A write that takes too
        long is COORDINATOR_NOT_AVAILABLE, too: it may be in the log later, and does no harm when it is asked for again.
        """
        shard = await self._shards.of(command.key.coordinator_key)
        answer = shard.submit(command)
        if not isinstance(answer, Waiting):
            return answer
        with self._clock.until(self._clock.monotonic() + self._write_timeout_ms / 1000):
            return await answer.wait()
        raise KafkaError(Error.COORDINATOR_NOT_AVAILABLE, f"{shard.name} has not written its log in time")

    def on_topic_deleted(self, topic_id: bytes) -> None:
        """Forget the state of its partitions."""
        if self._nursery is not None:
            for shard in self._shards.running():
                self._nursery.start_soon(self._forget, shard, ForgetTopic(topic_id))

    async def _forget(self, shard: Shard, command: ForgetTopic) -> None:
        try:
            await self._shards.wait_loaded(shard)
            await shard.execute(command)
        except KafkaError as refusal:
            _log.warning("%s keeps the state of a deleted topic: %s", shard.name, refusal)

    async def _prune(self, shard: Shard) -> None:
        """Cut off the redundant beginning of the shard's log."""
        bounds, needed_from = self._logs.bounds(shard.log), shard.end_offset - shard.view
        if shard.loaded and not isinstance(bounds, Error) and needed_from > bounds.log_start_offset:
            try:
                await self._logs.trim(shard.log, needed_from)
            except KafkaError as failure:
                _log.warning("%s could not cut off what is redundant: %s", shard.name, failure)
