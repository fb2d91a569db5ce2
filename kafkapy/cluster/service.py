"""The cluster's door: topics are created, grown and deleted here, and their logs with them.

Runs the cluster machine on the metadata log and keeps the store in step with the image: when a topic command is
answered its logs exist, and at start whatever a crash left half done is completed. `broker.py` runs the service before
every room that needs topics.
"""

import os
from collections.abc import Callable, Sequence
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
from kafkapy.coordination.runtime import Shard
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, format_uuid
from kafkapy.storage.base import Logs, LogSettings

TopicResult = TopicInfo | KafkaError

_METADATA_SETTINGS: Final = LogSettings(flush_messages=1)
"""A topic that was answered for must outlive a power cut: metadata is synced at every write, as Kafka does."""


class ClusterService:
    """All topics of this broker."""

    def __init__(self, *, cluster_id: str, node_id: int, config: BrokerConfig, logs: Logs, clock: Clock) -> None:
        self._config = config
        self._logs = logs
        self._deleted_callbacks: list[Callable[[TopicInfo], None]] = []
        self._shard = Shard(
            name="cluster metadata",
            log=METADATA_LOG,
            machine_factory=lambda: ClusterMachine(cluster_id, node_id, config),
            journal=MetadataJournal(),
            logs=logs,
            clock=clock,
            view=ClusterMachine.image,
        )

    @property
    def image(self) -> ClusterImage:
        """The cluster as of the last fact that is in the metadata log."""
        image: ClusterImage = self._shard.view
        return image

    def on_topic_deleted(self, callback: Callable[[TopicInfo], None]) -> None:
        """Have `callback` called with each topic that goes."""
        self._deleted_callbacks.append(callback)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; `started` once topics are known and their logs exist."""
        await self._logs.create(METADATA_LOG, _METADATA_SETTINGS)
        async with trio.open_nursery() as nursery:
            await nursery.start(self._shard.run)
            await self._reconcile()
            task_status.started()

    async def create_topics(self, topics: Sequence[NewTopic], *, validate_only: bool = False) -> list[TopicResult]:
        """Create the topics; for each what it became, or why not."""
        command = CreateTopics(topics, [_new_topic_id() for _ in topics], validate_only)
        results: list[TopicResult] = await self._shard.execute(command)
        if not validate_only:
            for result in results:
                if isinstance(result, TopicInfo):
                    await self._create_logs(result)
        return results

    async def create_partitions(
        self, topics: Sequence[NewPartitions], *, validate_only: bool = False
    ) -> list[TopicResult]:
        """Add partitions; for each topic what it became, or why not."""
        results: list[TopicResult] = await self._shard.execute(CreatePartitions(topics, validate_only))
        if not validate_only:
            for result in results:
                if isinstance(result, TopicInfo):
                    await self._create_logs(result)
        return results

    async def delete_topics(self, topic_ids: Sequence[bytes]) -> list[TopicResult]:
        """Delete the topics and their logs; for each what it was, or why not."""
        results: list[TopicResult] = await self._shard.execute(DeleteTopics(topic_ids))
        for result in results:
            if isinstance(result, TopicInfo):
                for partition in result.partitions:
                    await self._logs.delete(partition.log)
                for callback in self._deleted_callbacks:
                    callback(result)
        return results

    async def ensure_internal_topic(self, name: str) -> TopicInfo:
        """The internal topic, created if it does not exist yet."""
        return await self.auto_create(name)

    async def auto_create(self, name: str) -> TopicInfo:
        """The topic, created with the broker's defaults if need be; raises the `KafkaError` that prevents it."""
        if (topic := self.image.topic(name)) is not None:
            return topic
        wanted = internal_topic(name, self._config) if name in INTERNAL_TOPICS else NewTopic(name)
        [result] = await self.create_topics([wanted])
        if isinstance(result, TopicInfo):
            return result
        if result.error is Error.TOPIC_ALREADY_EXISTS and (topic := self.image.topic(name)) is not None:
            return topic
        raise result

    async def allocate_producer_ids(self) -> range:
        """A block of producer ids that nobody else has, now or after a restart."""
        block: range = await self._shard.execute(AllocateProducerIds())
        return block

    async def _create_logs(self, topic: TopicInfo) -> None:
        settings = log_settings(topic.config)
        for partition in topic.partitions:
            if self._logs.bounds(partition.log) is None:
                await self._logs.create(partition.log, settings)

    async def _reconcile(self) -> None:
        """Bring the store in step with the image: a crash may have come between the fact and the log."""
        wanted: set[LogId] = {METADATA_LOG}
        for topic in self.image.topics.values():
            settings = log_settings(topic.config)
            for partition in topic.partitions:
                wanted.add(partition.log)
                await self._logs.create(partition.log, settings)
        for log in self._logs.logs():
            if log not in wanted:
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
