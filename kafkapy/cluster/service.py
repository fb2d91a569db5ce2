"""The cluster's door: topics are created, grown and deleted here, and their logs with them.

Runs the cluster machine on the metadata log and keeps the store in step with it. `broker.py` runs the service before
every room that needs topics.

Invariants
 1. Every partition of `image` has its log, unless the disk refused to make one, which the store tries again: a topic
    appears once its logs exist, and has gone before they do.
 2. A change that was decided is carried out, whether or not its caller still waits; one task carries out all of them,
    in order.
 3. What a crash left half done is completed at the next start.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.image import INTERNAL_TOPICS, METADATA_LOG, ClusterImage, TopicInfo
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.leadership import Leadership
from kafkapy.cluster.logs import TopicLogs
from kafkapy.cluster.machine import (
    AllocateProducerIds,
    ClusterMachine,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    NewPartitions,
    NewTopic,
    internal_topic,
)
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.model import format_uuid
from kafkapy.storage.base import Brokers, Leases, Logs

TopicResult = TopicInfo | KafkaError

_MAX_WAITING_CHANGES: Final = 100
"""Further callers wait before they are queued; each is a connection, and those are bounded."""

_OF_COORDINATORS: Final = {
    Error.COORDINATOR_LOAD_IN_PROGRESS,
    Error.COORDINATOR_NOT_AVAILABLE,
    Error.NOT_COORDINATOR,
}


@dataclass(slots=True)
class _Change:
    """A command that changes topics, and the caller who waits for its answer."""

    command: CreateTopics | CreatePartitions | DeleteTopics
    done: trio.Event = field(default_factory=trio.Event)
    answer: "list[TopicResult] | KafkaError | None" = None


class ClusterService:
    """All topics of this broker."""

    def __init__(
        self, cluster_id: str, config: BrokerConfig, logs: Logs, leases: Leases, brokers: Brokers, clock: Clock
    ) -> None:
        node_id: int = config["node.id"]
        self.leadership = Leadership(node_id, leases, brokers)
        """Which brokers there are, and who leads what."""
        self._config = config
        self._clock = clock
        self._deleted_callbacks: list[Callable[[TopicInfo], None]] = []
        self._shard = Shard(
            "cluster metadata",
            ShardType(lambda: ClusterMachine(cluster_id, node_id, config), MetadataJournal(), ClusterMachine.image),
            ShardLog(logs, METADATA_LOG),
            clock,
        )
        self.image: ClusterImage = self._shard.view
        """The cluster as of the last change that was carried out."""
        self._topic_logs = TopicLogs(self.image, logs)
        self._to_change, self._changes = trio.open_memory_channel[_Change](_MAX_WAITING_CHANGES)

    def on_topic_deleted(self, callback: Callable[[TopicInfo], None]) -> None:
        """Have `callback` called with each topic that goes."""
        self._deleted_callbacks.append(callback)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once topics are known and their logs exist."""
        await self._topic_logs.open()
        async with trio.open_nursery() as nursery:
            await nursery.start(self._shard.run)
            await self._topic_logs.follow_all(self._shard.view, self._shard.machine.removed)
            self._shard.machine.removed.clear()
            self.image = self._shard.view
            task_status.started()
            async for change in self._changes:
                change.answer = await self._carry_out(change.command)
                change.done.set()

    # Each raises REQUEST_TIMED_OUT when `timeout_ms` run out (the change may still be carried out), and NOT_CONTROLLER
    # when the metadata log refused the change.

    async def create_topics(
        self, topics: Sequence[NewTopic], *, validate_only: bool = False, timeout_ms: int | None = None
    ) -> list[TopicResult]:
        """Create the topics; for each what it became, or why not."""
        return await self._change(CreateTopics(topics, [_new_topic_id() for _ in topics], validate_only), timeout_ms)

    async def create_partitions(
        self, topics: Sequence[NewPartitions], *, validate_only: bool = False, timeout_ms: int | None = None
    ) -> list[TopicResult]:
        """Add partitions; for each topic what it became, or why not."""
        return await self._change(CreatePartitions(topics, validate_only), timeout_ms)

    async def delete_topics(self, topic_ids: Sequence[bytes], *, timeout_ms: int | None = None) -> list[TopicResult]:
        """Delete the topics and their logs; for each what it was, or why not."""
        return await self._change(DeleteTopics(topic_ids), timeout_ms)

    async def auto_create(self, names: Sequence[str]) -> list[TopicResult]:
        """Create the topics with the broker's defaults, internal ones with theirs; for each what it is, or why not."""
        wanted = [internal_topic(name, self._config) if name in INTERNAL_TOPICS else NewTopic(name) for name in names]
        results = await self.create_topics(wanted)
        return [self.image.topic(name) or result for name, result in zip(names, results, strict=True)]

    async def ensure_internal_topic(self, name: str) -> TopicInfo:
        """The internal topic, created if it does not exist yet; raises the `KafkaError` that prevents it."""
        topic: TopicResult | None = self.image.topic(name)
        if topic is None:
            [topic] = await self.auto_create([name])
        if isinstance(topic, KafkaError):
            raise topic
        return topic

    async def allocate_producer_ids(self) -> range:
        """A block of producer ids that nobody else has, now or after a restart."""
        block: range = await self._shard.execute(AllocateProducerIds())
        return block

    async def _change(
        self, command: CreateTopics | CreatePartitions | DeleteTopics, timeout_ms: int | None
    ) -> list[TopicResult]:
        timeout_seconds = math.inf if timeout_ms is None else timeout_ms / 1000
        if timeout_seconds <= 0:  # as in Kafka, no time at all is not enough: nothing is done
            raise KafkaError(Error.REQUEST_TIMED_OUT)
        change = _Change(command)
        with self._clock.until(self._clock.monotonic() + timeout_seconds):
            await self._to_change.send(change)
            await change.done.wait()
        answer = change.answer
        if answer is None:
            raise KafkaError(Error.REQUEST_TIMED_OUT)
        if isinstance(answer, KafkaError):
            raise answer
        return answer

    async def _carry_out(
        self, command: CreateTopics | CreatePartitions | DeleteTopics
    ) -> "list[TopicResult] | KafkaError":
        try:
            results: list[TopicResult] = await self._shard.execute(command)
        except KafkaError as refusal:
            if refusal.error in _OF_COORDINATORS:  # what a client of topics understands, and tries again
                return KafkaError(Error.NOT_CONTROLLER, refusal.message)
            return refusal
        if isinstance(command, DeleteTopics):
            self.image = self._shard.view
            removed = [result for result in results if isinstance(result, TopicInfo)]
            await self._topic_logs.follow(self.image, (), removed)
            self._shard.machine.removed.clear()
            for topic in removed:
                for callback in self._deleted_callbacks:
                    callback(topic)
        elif not command.validate_only:
            changed = [result for result in results if isinstance(result, TopicInfo)]
            await self._topic_logs.follow(self._shard.view, changed, ())
            self.image = self._shard.view
        return results


def _new_topic_id() -> bytes:
    """A random id whose text form does not begin with a dash, which command lines would take for an option."""
    while True:
        topic_id = os.urandom(16)
        topic_id = topic_id[:6] + bytes([topic_id[6] & 0x0F | 0x40]) + topic_id[7:]
        topic_id = topic_id[:8] + bytes([topic_id[8] & 0x3F | 0x80]) + topic_id[9:]
        if not format_uuid(topic_id).startswith("-"):
            return topic_id
