"""UnregisterBroker (key 64), version 0.

Forgets a broker that will not come back. One that is there stays: INVALID_REQUEST (Kafka would have it go on as a
stranger to its own cluster).
"""

from kafkapy.handlers.context import CLUSTER_NAME, Context
from kafkapy.model import Operation, ResourceType
from kafkapy.protocol.messages.unregister_broker import UnregisterBrokerRequest, UnregisterBrokerResponse


async def handle(request: UnregisterBrokerRequest, ctx: Context) -> UnregisterBrokerResponse:
    ctx.require(Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    await ctx.rooms.cluster.unregister_broker(request.broker_id)
    return UnregisterBrokerResponse(error_message=None)
