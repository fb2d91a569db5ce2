"""ListPartitionReassignments (key 46), version 0.

The partitions that are on their way to other brokers, of which some are not there now: all others have them at once.
"""

from collections.abc import Iterable

from kafkapy.cluster.image import PartitionInfo
from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)

TopicResult = ListPartitionReassignmentsResponse.OngoingTopicReassignment
PartitionResult = ListPartitionReassignmentsResponse.OngoingPartitionReassignment


async def handle(request: ListPartitionReassignmentsRequest, ctx: Context) -> ListPartitionReassignmentsResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    image = ctx.rooms.cluster.image
    asked: dict[str, Iterable[PartitionInfo | None]]
    if request.topics is None:
        asked = {topic.name: topic.partitions for topic in image.topics.values()}
    else:
        asked = {
            topic.name: [image.partition(topic.name, index) for index in topic.partition_indexes]
            for topic in request.topics
        }
    told = [TopicResult(name=name, partitions=_under_way(partitions)) for name, partitions in asked.items()]
    return ListPartitionReassignmentsResponse(error_message=None, topics=[topic for topic in told if topic.partitions])


def _under_way(partitions: Iterable[PartitionInfo | None]) -> list[PartitionResult]:
    return [
        PartitionResult(
            partition_index=partition.log.partition,
            replicas=list(partition.replicas),
            adding_replicas=list(partition.adding),
            removing_replicas=list(partition.removing),
        )
        for partition in partitions
        if partition is not None and (partition.adding or partition.removing)
    ]
