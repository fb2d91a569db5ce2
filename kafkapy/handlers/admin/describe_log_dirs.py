"""DescribeLogDirs (key 35), versions 1 to 5.

Directory by directory: how large the logs in it are, in bytes, and how much room there is. Of a directory that is
offline nothing is told but that (KAFKA_STORAGE_ERROR). No directory is cordoned off (KIP-1066). Partitions that do not
exist are left out.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kafkapy.cluster.image import PartitionInfo
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import LogId
from kafkapy.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse

if TYPE_CHECKING:
    from kafkapy.storage.base import LogDir

Result = DescribeLogDirsResponse.DescribeLogDirsResult
TopicResult = DescribeLogDirsResponse.DescribeLogDirsTopic
PartitionResult = DescribeLogDirsResponse.DescribeLogDirsPartition


async def handle(request: DescribeLogDirsRequest, ctx: Context) -> DescribeLogDirsResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    asked = _asked(request, ctx)
    return DescribeLogDirsResponse(results=[_described(log_dir, asked) for log_dir in ctx.rooms.logs.log_dirs()])


def _described(log_dir: "LogDir", asked: set[LogId]) -> Result:
    topics: dict[str, list[PartitionResult]] = defaultdict(list)
    for log, size_bytes, offset_lag, is_future in log_dir.replicas:
        if log in asked:
            topics[log.topic].append(
                PartitionResult(
                    partition_index=log.partition,
                    partition_size=size_bytes,
                    offset_lag=offset_lag,
                    is_future_key=is_future,
                )
            )
    return Result(
        error_code=log_dir.error,
        log_dir=log_dir.path,
        total_bytes=log_dir.total_bytes,
        usable_bytes=log_dir.usable_bytes,
        topics=[TopicResult(name=name, partitions=partitions) for name, partitions in topics.items()],
    )


def _asked(request: DescribeLogDirsRequest, ctx: Context) -> set[LogId]:
    """The logs of all partitions that have a replica here, or of those of the request that do."""
    image, has_replica = ctx.rooms.cluster.image, ctx.rooms.cluster.leadership.has_replica
    partitions: Iterable[PartitionInfo | None]
    if request.topics is None:
        partitions = (partition for topic in image.topics.values() for partition in topic.partitions)
    else:
        partitions = (image.partition(topic.topic, index) for topic in request.topics for index in topic.partitions)
    return {partition.log for partition in partitions if partition is not None and has_replica(partition)}
