"""AllocateProducerIds (key 67), version 0.

A block of producer ids for another broker, which hands them out (KIP-730): nobody else gets them. Asked of the
controller; who asks as a broker that has registered anew since is refused (STALE_BROKER_EPOCH). For brokers, at the
listener between them.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest, AllocateProducerIdsResponse


async def handle(request: AllocateProducerIdsRequest, ctx: Context) -> AllocateProducerIdsResponse:
    forwarding = ctx.rooms.forwarding
    assert forwarding is not None  # the registry has no such API elsewhere
    forwarding.require_listener(ctx)
    ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    cluster = ctx.rooms.cluster
    registered = cluster.image.brokers.get(request.broker_id)
    if registered is not None and registered.epoch != request.broker_epoch:
        raise KafkaError(Error.STALE_BROKER_EPOCH)
    block = await cluster.allocate_producer_ids_here()
    return AllocateProducerIdsResponse(producer_id_start=block.start, producer_id_len=len(block))
