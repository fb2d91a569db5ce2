"""AlterReplicaLogDirs (key 34), versions 1 to 2.

In which of a broker's directories a log is to lie. One that does not exist is LOG_DIR_NOT_FOUND, one that is offline
KAFKA_STORAGE_ERROR. A log that lies in another one is moved in the background, which DescribeLogDirs shows. Of a
partition that stands twice the last directory counts. The directory is named as DescribeLogDirs names it.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.alter_replica_log_dirs import AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse

TopicResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult
PartitionResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult


async def handle(request: AlterReplicaLogDirsRequest, ctx: Context) -> AlterReplicaLogDirsResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    logs, image = ctx.rooms.logs, ctx.rooms.cluster.image
    wanted: dict[tuple[str, int], str] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            wanted.update({(topic.name, index): directory.path for index in topic.partitions})
    paths = {log_dir.path for log_dir in logs.log_dirs()}
    results: dict[str, dict[int, Error]] = {}
    for (name, index), path in wanted.items():
        partition = image.partition(name, index)
        if path not in paths:
            error = Error.LOG_DIR_NOT_FOUND
        elif partition is None:
            error = Error.UNKNOWN_TOPIC_OR_PARTITION
        else:
            error = logs.alter_log_dir(partition.log, path)
        results.setdefault(name, {})[index] = error
    return _told(results)


def refuse(request: AlterReplicaLogDirsRequest, refusal: KafkaError, ctx: Context) -> AlterReplicaLogDirsResponse:
    """The error response: the error at every partition."""
    results: dict[str, dict[int, Error]] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            results.setdefault(topic.name, {}).update(dict.fromkeys(topic.partitions, refusal.error))
    return _told(results)


def _told(results: dict[str, dict[int, Error]]) -> AlterReplicaLogDirsResponse:
    return AlterReplicaLogDirsResponse(
        results=[
            TopicResult(
                topic_name=name,
                partitions=[
                    PartitionResult(partition_index=index, error_code=error) for index, error in errors.items()
                ],
            )
            for name, errors in results.items()
        ]
    )
