"""The cluster's door: topics are created, grown and deleted here, and their logs with them.

Runs the cluster machine on the metadata log and keeps the store in step with it. `broker.py` runs the service before
every room that needs topics.

Invariants
 1. Every partition of `image` has its log, unless the disk refused to make one: a topic appears once its logs exist,
    and has gone before they do.
 2. A change that was decided is carried out, whether or not its caller still waits; one task carries out all of them,
    in order.
 3. What a crash left half done is completed at the next start.
"""

import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.image import INTERNAL_TOPICS, METADATA_LOG, ClusterImage, TopicInfo
from kafkapy.cluster.journal import MetadataJournal
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
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.coordination.runtime import Kind, Ledger, Shard
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, format_uuid
from kafkapy.storage.base import Logs, LogSettings

_log = logging.getLogger(__name__)

TopicResult = TopicInfo | KafkaError

_METADATA_SETTINGS: Final = LogSettings(flush_messages=1)
"""A topic that was answered for must outlive a power cut: metadata is synced at every write, as Kafka does."""

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

    def __init__(self, *, cluster_id: str, node_id: int, config: BrokerConfig, logs: Logs, clock: Clock) -> None:
        self._config = config
        self._logs = logs
        self._clock = clock
        self._deleted_callbacks: list[Callable[[TopicInfo], None]] = []
        self._shard = Shard(
            "cluster metadata",
            Kind(lambda: ClusterMachine(cluster_id, node_id, config), MetadataJournal(), ClusterMachine.image),
            Ledger(logs, METADATA_LOG),
            clock,
        )
        self.image: ClusterImage = self._shard.view
        """The cluster as of the last change that was carried out."""
        self._to_change, self._changes = trio.open_memory_channel[_Change](_MAX_WAITING_CHANGES)

    def on_topic_deleted(self, callback: Callable[[TopicInfo], None]) -> None:
        """Have `callback` called with each topic that goes."""
        self._deleted_callbacks.append(callback)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once topics are known and their logs exist."""
        await self._logs.create(METADATA_LOG, _METADATA_SETTINGS)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._shard.run)
            await self._reconcile()
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
            for result in results:
                if isinstance(result, TopicInfo):
                    await self._remove(result)
        elif not command.validate_only:
            results = [await self._make_logs(result) if isinstance(result, TopicInfo) else result for result in results]
            self.image = self._shard.view
        return results

    async def _make_logs(self, topic: TopicInfo) -> TopicResult:
        settings = log_settings(topic.config)
        for partition in topic.partitions:
            if self._logs.bounds(partition.log) is None:
                try:
                    await self._logs.create(partition.log, settings)
                except OSError as failure:
                    _log.error("%s: its log could not be made, the next start tries again: %s", partition.log, failure)
                    return KafkaError(Error.KAFKA_STORAGE_ERROR, f"the disk failed: {failure.strerror or failure}")
                await trio.lowlevel.checkpoint()  # a thousand logs take a while: others get their turn
        return topic

    async def _remove(self, topic: TopicInfo) -> None:
        for partition in topic.partitions:
            await self._logs.delete(partition.log)
        for callback in self._deleted_callbacks:
            callback(topic)

    async def _reconcile(self) -> None:
        """Bring the store in step with the metadata: a crash may have come between a fact and its logs."""
        topics: ClusterImage = self._shard.view
        wanted: set[LogId] = {METADATA_LOG}
        for topic in topics.topics.values():
            settings = log_settings(topic.config)
            for partition in topic.partitions:
                wanted.add(partition.log)
                await self._logs.create(partition.log, settings)
        for log in self._logs.logs():
            if log not in wanted:
                _log.warning("%s: no topic has this log, it is deleted", log)
                await self._logs.delete(log)


def log_settings(config: TopicConfig) -> LogSettings:
    """What the store needs to know of a topic's settings."""
    segment_bytes = config["internal.segment.bytes"] or config["segment.bytes"]
    return LogSettings(
        segment_bytes=segment_bytes,
        segment_ms=config["segment.ms"],
        segment_jitter_ms=config["segment.jitter.ms"],
        segment_index_bytes=config["segment.index.bytes"],
        index_interval_bytes=config["index.interval.bytes"],
        flush_messages=config["flush.messages"],
        flush_ms=config["flush.ms"],
        file_delete_delay_ms=config["file.delete.delay.ms"],
        preallocate=config["preallocate"],
    )


def _new_topic_id() -> bytes:
    """A random id whose text form does not begin with a dash, which command lines would take for an option."""
    while True:
        topic_id = os.urandom(16)
        topic_id = topic_id[:6] + bytes([topic_id[6] & 0x0F | 0x40]) + topic_id[7:]
        topic_id = topic_id[:8] + bytes([topic_id[8] & 0x3F | 0x80]) + topic_id[9:]
        if not format_uuid(topic_id).startswith("-"):
            return topic_id
