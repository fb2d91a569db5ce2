"""EndTxn (key 26), versions 0 to 5.

Commits or aborts. The answer comes when the decision is in the log and cannot be lost any more; the markers are written
after it, and until they are there the producer's next request hears CONCURRENT_TRANSACTIONS. Version 5 comes from
clients of `transaction.version` 2: the answer tells the epoch, or the producer id, of the next transaction. Before
version 2 a producer that is shut out hears INVALID_PRODUCER_EPOCH.
"""

from typing import Final

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.transactions.requests import known_to
from kafkapy.protocol.messages.end_txn import EndTxnRequest, EndTxnResponse
from kafkapy.transactions.commands import EndTransaction

_FENCED_FROM_VERSION: Final = 2
_BUMPS_FROM_VERSION: Final = 5


async def handle(request: EndTxnRequest, ctx: Context) -> EndTxnResponse:
    ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, request.transactional_id)
    command = EndTransaction(
        request.transactional_id,
        ProducerEpoch(request.producer_id, request.producer_epoch),
        request.committed,
        2 if ctx.api_version >= _BUMPS_FROM_VERSION else 0,
    )
    producer_id, epoch = await ctx.rooms.transactions.end(command)
    return EndTxnResponse(producer_id=producer_id, producer_epoch=epoch)


def refuse(request: EndTxnRequest, refusal: KafkaError, ctx: Context) -> EndTxnResponse:
    """The error response: no id, no epoch."""
    return EndTxnResponse(error_code=known_to(ctx, refusal.error, _FENCED_FROM_VERSION))
