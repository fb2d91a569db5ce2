"""The logs of the cluster's topics: which there are and with which settings, as the store asks for it.

Goes by an image that may be ahead of what the world is shown: a topic's logs are there before the topic is, and go
after it. Called by the follower, and by the store (`storage.base.Catalogue`).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from kafkapy.cluster.image import METADATA_LOG, Change, ClusterImage
from kafkapy.config.layers import TopicConfig
from kafkapy.model import LogId
from kafkapy.storage.base import Logs, LogSettings

_METADATA_SETTINGS: Final = LogSettings(flush_messages=1, segment_bytes=4 << 20)
"""A topic that was answered for must outlive a power cut: metadata is synced at every write, as Kafka does. What its
checkpoints hold goes from the log, a segment at a time.
"""


class TopicLogs:
    """Keeps a store's logs in step with the topics."""

    def __init__(self, image: ClusterImage, logs: Logs) -> None:
        self._image = image
        self._logs = logs
        self._gone: set[bytes] = set()
        self.version = 0
        logs.adopt(self)

    # -- the catalogue

    def settings(self, log: LogId) -> LogSettings | None:
        topic = self._image.topics.get(log.topic)
        if topic is None:
            return _METADATA_SETTINGS if log == METADATA_LOG else None
        if topic.topic_id != log.topic_id or log.partition >= len(topic.partitions):
            return None
        return topic.config.once(log_settings)

    def epoch_origin(self, log: LogId) -> int:
        topic = self._image.topic_by_id(log.topic_id)
        if topic is None or log.partition >= len(topic.partitions):
            return 0
        return topic.partitions[log.partition].epoch_origin

    def is_gone(self, log: LogId) -> bool:
        return log.topic_id in self._gone

    def logs(self) -> Iterator[LogId]:
        yield METADATA_LOG
        for topic in self._image.topics.values():
            yield from (partition.log for partition in topic.partitions)

    # -- changes

    async def open(self) -> None:
        """Have the log that tells of all others."""
        await self._logs.catalogue_changed([METADATA_LOG])

    async def follow_all(self, image: ClusterImage, removed: Iterable[bytes]) -> None:
        """Bring the store in step with a cluster that was just read; topics with these ids were deleted."""
        self._image, self._gone = image, set(removed)
        self.version += 1
        await self._logs.catalogue_changed(None)
        self._gone.clear()

    async def follow(self, change: Change) -> None:
        """Bring the store in step with what has become of topics."""
        topics = [*change.created, *change.changed, *change.deleted]
        if not topics:
            return
        self._image = change.new
        self._gone = {topic.topic_id for topic in change.deleted}
        self.version += 1
        await self._logs.catalogue_changed([partition.log for topic in topics for partition in topic.partitions])
        self._gone.clear()


def log_settings(config: TopicConfig) -> LogSettings:
    """What the store needs to know of a topic's settings."""
    segment_bytes = config["internal.segment.bytes"] or config["segment.bytes"]
    deletes, compacts = "delete" in config["cleanup.policy"], "compact" in config["cleanup.policy"]
    max_compaction_lag_ms = config["max.compaction.lag.ms"]
    return LogSettings(
        segment_bytes=segment_bytes,
        # What is written to is not cleaned: it must not stay so for longer than it may stay dirty.
        segment_ms=min(config["segment.ms"], max_compaction_lag_ms) if compacts else config["segment.ms"],
        segment_jitter_ms=config["segment.jitter.ms"],
        segment_index_bytes=config["segment.index.bytes"],
        index_interval_bytes=config["index.interval.bytes"],
        flush_messages=config["flush.messages"],
        flush_ms=config["flush.ms"],
        file_delete_delay_ms=config["file.delete.delay.ms"],
        retention_ms=config["retention.ms"] if deletes else -1,
        retention_bytes=config["retention.bytes"] if deletes else -1,
        preallocate=config["preallocate"],
        compacts=compacts,
        min_cleanable_dirty_ratio=config["min.cleanable.dirty.ratio"],
        min_compaction_lag_ms=config["min.compaction.lag.ms"],
        max_compaction_lag_ms=max_compaction_lag_ms,
        delete_retention_ms=config["delete.retention.ms"],
    )
