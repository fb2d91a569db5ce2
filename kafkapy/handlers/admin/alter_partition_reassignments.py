"""AlterPartitionReassignments (key 45), versions 0 to 1.

Which brokers partitions are to be on. A partition is at once where brokers are that are there; a reassignment to others
is under way until they come, and can be cancelled. Whether the number of replicas may change (version 1, KIP-860) is
told back as it came. A request that allows no time gets REQUEST_TIMED_OUT.
"""

from kafkapy.cluster.brokers import Reassignment
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
)

TopicResult = AlterPartitionReassignmentsResponse.ReassignableTopicResponse
PartitionResult = AlterPartitionReassignmentsResponse.ReassignablePartitionResponse


async def handle(request: AlterPartitionReassignmentsRequest, ctx: Context) -> AlterPartitionReassignmentsResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    if not request.topics:
        return AlterPartitionReassignmentsResponse(
            allow_replication_factor_change=request.allow_replication_factor_change, error_message=""
        )
    asked = [
        Reassignment(topic.name, partition.partition_index, partition.replicas)
        for topic in request.topics
        for partition in topic.partitions
    ]
    refusals = iter(
        await ctx.rooms.cluster.alter_reassignments(
            asked, may_change_factor=request.allow_replication_factor_change, timeout_ms=request.timeout_ms
        )
    )
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_message=None,
        responses=[
            TopicResult(
                name=topic.name, partitions=[_told(part.partition_index, next(refusals)) for part in topic.partitions]
            )
            for topic in request.topics
        ],
    )


def _told(index: int, refusal: KafkaError | None) -> PartitionResult:
    if refusal is None:
        return PartitionResult(partition_index=index, error_code=Error.NONE, error_message=None)
    return PartitionResult(partition_index=index, error_code=refusal.error, error_message=refusal.message)


def refuse(
    request: AlterPartitionReassignmentsRequest, refusal: KafkaError, ctx: Context
) -> AlterPartitionReassignmentsResponse:
    """The error response: the error at every partition, and at the top."""
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=request.allow_replication_factor_change,
        error_code=refusal.error,
        error_message=refusal.message,
        responses=[
            TopicResult(name=topic.name, partitions=[_told(part.partition_index, refusal) for part in topic.partitions])
            for topic in request.topics
        ],
    )
