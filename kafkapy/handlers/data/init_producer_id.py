"""InitProducerId (key 22), versions 0 to 5.

Without a transactional id: a fresh producer id with epoch 0 (idempotent producers), for whoever may write to any topic.
With one, its coordinator says with which id and epoch this instance of the producer begins, or goes on after an error
(version 3, KIP-360), once it has shut out older instances. Before version 4 a producer that is shut out itself hears
INVALID_PRODUCER_EPOCH.
Not yet: version 6, which is not stable in Kafka (two-phase commit).
"""

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.handlers.transactions.requests import known_to
from kafkapy.model import NO_PRODUCER_EPOCH, NO_PRODUCER_ID
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from kafkapy.transactions.commands import InitProducer

_FENCED_FROM_VERSION = 4


async def handle(request: InitProducerIdRequest, ctx: Context) -> InitProducerIdResponse:
    transactional_id, expected = request.transactional_id, None
    if transactional_id is not None:
        ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transactional_id)
    elif not ctx.permits(
        Operation.IDEMPOTENT_WRITE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False
    ) and not ctx.permits_somewhere(Operation.WRITE, ResourceType.TOPIC):
        raise KafkaError(Error.CLUSTER_AUTHORIZATION_FAILED)
    if (request.producer_id == NO_PRODUCER_ID) != (request.producer_epoch == NO_PRODUCER_EPOCH):
        raise KafkaError(Error.INVALID_REQUEST)
    if transactional_id is None:
        return InitProducerIdResponse(producer_id=await ctx.rooms.producer_ids.next_producer_id(), producer_epoch=0)
    if request.producer_id != NO_PRODUCER_ID:
        expected = ProducerEpoch(request.producer_id, request.producer_epoch)
    command = InitProducer(transactional_id, request.transaction_timeout_ms, expected)
    producer_id, epoch = await ctx.rooms.transactions.init_producer(command)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=epoch)


def refuse(request: InitProducerIdRequest, refusal: KafkaError, ctx: Context) -> InitProducerIdResponse:
    """The error response: no id, no epoch."""
    return InitProducerIdResponse(
        error_code=known_to(ctx, refusal.error, _FENCED_FROM_VERSION),
        producer_id=NO_PRODUCER_ID,
        producer_epoch=NO_PRODUCER_EPOCH,
    )
