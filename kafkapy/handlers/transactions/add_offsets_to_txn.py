"""AddOffsetsToTxn (key 25), versions 0 to 4.

Adds the partition of `__consumer_offsets` that the group's offsets go to. From producers before `transaction.version` 2
alone: with that, TxnOffsetCommit adds it by itself. Before version 2 a producer that is shut out hears
INVALID_PRODUCER_EPOCH.
"""

from typing import Final

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.transactions.requests import known_to
from kafkapy.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest, AddOffsetsToTxnResponse
from kafkapy.transactions.commands import AddPartitions

_FENCED_FROM_VERSION: Final = 2


async def handle(request: AddOffsetsToTxnRequest, ctx: Context) -> AddOffsetsToTxnResponse:
    ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    producer = ProducerEpoch(request.producer_id, request.producer_epoch)
    partition = ctx.rooms.groups.offsets_partition(request.group_id)
    command = AddPartitions(request.transactional_id, producer, frozenset({partition}), client_version=0)
    [answer] = await ctx.rooms.transactions.add_partitions([command])
    if isinstance(answer, KafkaError):
        raise answer
    return AddOffsetsToTxnResponse()


def refuse(request: AddOffsetsToTxnRequest, refusal: KafkaError, ctx: Context) -> AddOffsetsToTxnResponse:
    """The error response."""
    return AddOffsetsToTxnResponse(error_code=known_to(ctx, refusal.error, _FENCED_FROM_VERSION))
