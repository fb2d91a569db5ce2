"""DescribeLogDirs (key 35), versions 1 to 5.

How large the logs are, in bytes, and how much room there is where they lie. A broker has one directory and never moves
a log to another, so nothing lags, nothing is a future replica, and no directory is cordoned off (KIP-1066). Partitions
that do not exist are left out.
"""

from kafkapy.cluster.image import PartitionInfo
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_log_dirs import DescribeLogDirsRequest, DescribeLogDirsResponse

Result = DescribeLogDirsResponse.DescribeLogDirsResult
TopicResult = DescribeLogDirsResponse.DescribeLogDirsTopic
PartitionResult = DescribeLogDirsResponse.DescribeLogDirsPartition


async def handle(request: DescribeLogDirsRequest, ctx: Context) -> DescribeLogDirsResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    logs = ctx.rooms.logs
    log_dir = logs.log_dir()
    result = Result(log_dir=log_dir.path, total_bytes=log_dir.total_bytes, usable_bytes=log_dir.usable_bytes)
    for name, partitions in _asked(request, ctx).items():
        sizes = [(partition.log.partition, logs.size_bytes(partition.log)) for partition in partitions]
        results = [PartitionResult(partition_index=index, partition_size=size) for index, size in sizes]
        result.topics.append(TopicResult(name=name, partitions=results))
    return DescribeLogDirsResponse(results=[result])


def _asked(request: DescribeLogDirsRequest, ctx: Context) -> dict[str, list[PartitionInfo]]:
    """The partitions, by topic: all that there are, or those of the request that exist, each once."""
    image = ctx.rooms.cluster.image
    if request.topics is None:
        return {topic.name: list(topic.partitions) for topic in image.topics.values()}
    found: dict[str, dict[int, PartitionInfo]] = {}
    for topic in request.topics:
        for index in topic.partitions:
            partition = image.partition(topic.topic, index)
            if partition is not None:
                found.setdefault(topic.topic, {})[index] = partition
    return {name: list(partitions.values()) for name, partitions in found.items()}
