"""AlterReplicaLogDirs (key 34), versions 1 to 2.

In which of a broker's directories a log is to lie. One that does not exist is LOG_DIR_NOT_FOUND, one that is offline
KAFKA_STORAGE_ERROR. A log that lies in another one is not moved yet: INVALID_REQUEST. Of a partition that stands twice
the last directory counts. The directory is named as DescribeLogDirs names it.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.alter_replica_log_dirs import AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse

TopicResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirTopicResult
PartitionResult = AlterReplicaLogDirsResponse.AlterReplicaLogDirPartitionResult


async def handle(request: AlterReplicaLogDirsRequest, ctx: Context) -> AlterReplicaLogDirsResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    log_dirs = {log_dir.path: log_dir for log_dir in ctx.rooms.logs.log_dirs()}
    image = ctx.rooms.cluster.image
    results: dict[str, dict[int, Error]] = {}
    for directory in request.dirs:
        for topic in directory.topics:
            for index in topic.partitions:
                log_dir, partition = log_dirs.get(directory.path), image.partition(topic.name, index)
                if log_dir is None:
                    error = Error.LOG_DIR_NOT_FOUND
                elif log_dir.error:
                    error = log_dir.error
                elif partition is None:
                    error = Error.UNKNOWN_TOPIC_OR_PARTITION
                elif any(replica.log == partition.log for replica in log_dir.replicas):
                    error = Error.NONE
                else:
                    error = Error.INVALID_REQUEST
                results.setdefault(topic.name, {})[index] = error
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
