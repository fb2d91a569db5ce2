"""InitProducerId (key 22), versions 0 to 5.

Without a transactional id: a fresh producer id with epoch 0 (idempotent producers). A transactional id needs a
transaction coordinator, which is not here yet: COORDINATOR_NOT_AVAILABLE, as FindCoordinator says for it.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse


async def handle(request: InitProducerIdRequest, ctx: Context) -> InitProducerIdResponse:
    if request.transactional_id is not None:
        ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
    else:
        ctx.require(Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER, CLUSTER_NAME)
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH):
        raise KafkaError(Error.INVALID_REQUEST)
    if request.transactional_id is not None:
        raise KafkaError(Error.INVALID_REQUEST if not request.transactional_id else Error.COORDINATOR_NOT_AVAILABLE)
    return InitProducerIdResponse(producer_id=await ctx.rooms.producer_ids.next_producer_id(), producer_epoch=0)


def refuse(request: InitProducerIdRequest, refusal: KafkaError, ctx: Context) -> InitProducerIdResponse:
    """The error response: no id, no epoch."""
    return InitProducerIdResponse(
        error_code=refusal.error, producer_id=NO_PRODUCER_ID, producer_epoch=NO_PRODUCER_EPOCH
    )
