"""ListPartitionReassignments (key 46), version 0.

The partitions that are on their way to other brokers: none ever is.
"""

from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.list_partition_reassignments import (
    ListPartitionReassignmentsRequest,
    ListPartitionReassignmentsResponse,
)


async def handle(request: ListPartitionReassignmentsRequest, ctx: Context) -> ListPartitionReassignmentsResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    return ListPartitionReassignmentsResponse(error_message=None)
