"""DescribeTransactions (key 65), version 0.

What the transactional ids that are coordinated here are in the middle of (KIP-664), each with an error of its own. Of
partitions only those of topics that the principal may describe are told.
"""

from kafkapy.errors import KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_transactions import DescribeTransactionsRequest, DescribeTransactionsResponse

_State = DescribeTransactionsResponse.TransactionState


async def handle(request: DescribeTransactionsRequest, ctx: Context) -> DescribeTransactionsResponse:
    return DescribeTransactionsResponse(
        transaction_states=[await _described(transactional_id, ctx) for transactional_id in request.transactional_ids]
    )


def refuse(request: DescribeTransactionsRequest, refusal: KafkaError, ctx: Context) -> DescribeTransactionsResponse:
    """The error response: the error at every id."""
    return DescribeTransactionsResponse(
        transaction_states=[
            _State(transactional_id=transactional_id, error_code=refusal.error)
            for transactional_id in request.transactional_ids
        ]
    )


async def _described(transactional_id: str, ctx: Context) -> _State:
    try:
        ctx.require(Operation.DESCRIBE, ResourceType.TRANSACTIONAL_ID, transactional_id)
        transaction = await ctx.rooms.transactions.describe(transactional_id)
    except KafkaError as refusal:
        return _State(transactional_id=transactional_id, error_code=refusal.error)
    topics: dict[str, list[int]] = {}
    for topic, partition in sorted(transaction.partitions):
        topics.setdefault(topic, []).append(partition)
    return _State(
        transactional_id=transactional_id,
        transaction_state=transaction.state.label,
        transaction_timeout_ms=transaction.timeout_ms,
        transaction_start_time_ms=transaction.start_ms,
        producer_id=transaction.producer_id,
        producer_epoch=transaction.producer_epoch,
        topics=[
            DescribeTransactionsResponse.TopicData(topic=topic, partitions=partitions)
            for topic, partitions in topics.items()
            if ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, topic)
        ],
    )
