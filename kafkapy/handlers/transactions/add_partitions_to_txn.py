"""AddPartitionsToTxn (key 24), versions 0 to 5.

Up to version 3 from producers, for one transaction: either all partitions are added, or none, each with its error. From
version 4 on from brokers, for many: they add what their producers write to (`transaction.version` 2), or only verify
that it was added, and need not be allowed to write to the topics.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.handlers.transactions.requests import known_to
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from kafkapy.transactions.commands import AddPartitions, VerifyPartitions

FIRST_OF_BROKERS: Final = 4
_FENCED_FROM_VERSION: Final = 2

_Topics = Sequence[AddPartitionsToTxnRequest.AddPartitionsToTxnTopic]
_Transaction = AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction
_TopicResult = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
_PartitionResult = AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult


async def handle(request: AddPartitionsToTxnRequest, ctx: Context) -> AddPartitionsToTxnResponse:
    if ctx.api_version < FIRST_OF_BROKERS:
        transaction = _Transaction(
            transactional_id=request.v3_and_below_transactional_id,
            producer_id=request.v3_and_below_producer_id,
            producer_epoch=request.v3_and_below_producer_epoch,
            topics=request.v3_and_below_topics,
        )
        ctx.require(Operation.WRITE, ResourceType.TRANSACTIONAL_ID, transaction.transactional_id)
        [errors] = await _decide([transaction], ctx)
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=_results(transaction.topics, errors))
    ctx.require(Operation.CLUSTER_ACTION, ResourceType.CLUSTER, CLUSTER_NAME)
    results = await _decide(request.transactions, ctx)
    return AddPartitionsToTxnResponse(
        results_by_transaction=[
            AddPartitionsToTxnResponse.AddPartitionsToTxnResult(
                transactional_id=transaction.transactional_id, topic_results=_results(transaction.topics, errors)
            )
            for transaction, errors in zip(request.transactions, results, strict=True)
        ]
    )


def refuse(request: AddPartitionsToTxnRequest, refusal: KafkaError, ctx: Context) -> AddPartitionsToTxnResponse:
    """The error response: the error at every partition, or from version 4 on as a whole."""
    if ctx.api_version < FIRST_OF_BROKERS:
        topics = request.v3_and_below_topics
        errors = dict.fromkeys(_partitions(topics), refusal.error)
        return AddPartitionsToTxnResponse(results_by_topic_v3_and_below=_results(topics, errors))
    return AddPartitionsToTxnResponse(error_code=refusal.error)


async def _decide(transactions: Sequence[_Transaction], ctx: Context) -> list[Mapping[TopicPartition, Error]]:
    """For each transaction, an error a partition."""
    asked = [_partitions(transaction.topics) for transaction in transactions]
    results: list[Mapping[TopicPartition, Error]] = [_impossible(partitions, ctx) for partitions in asked]
    possible = [number for number, errors in enumerate(results) if not errors]
    version = 2 if ctx.api_version >= FIRST_OF_BROKERS else 0
    commands = [_command(transactions[number], asked[number], version) for number in possible]
    answers = await ctx.rooms.transactions.add_partitions(commands)
    for number, answer in zip(possible, answers, strict=True):
        if isinstance(answer, KafkaError):
            error = known_to(ctx, answer.error, _FENCED_FROM_VERSION)
            results[number] = dict.fromkeys(asked[number], error)
        else:
            results[number] = {
                partition: Error.NONE if partition in answer else Error.TRANSACTION_ABORTABLE
                for partition in asked[number]
            }
    return results


def _command(
    transaction: _Transaction, partitions: Sequence[TopicPartition], client_version: int
) -> AddPartitions | VerifyPartitions:
    producer = ProducerEpoch(transaction.producer_id, transaction.producer_epoch)
    if transaction.verify_only:
        return VerifyPartitions(transaction.transactional_id, producer, frozenset(partitions))
    return AddPartitions(transaction.transactional_id, producer, frozenset(partitions), client_version)


def _impossible(partitions: Sequence[TopicPartition], ctx: Context) -> dict[TopicPartition, Error]:
    """Why these cannot be added, whatever the transaction: then the others are not even tried."""
    image = ctx.rooms.cluster.image
    errors = {}
    for partition in partitions:
        topic = image.topic(partition.topic)
        if ctx.api_version < FIRST_OF_BROKERS and (
            (topic is not None and topic.is_internal)
            or not ctx.permits(Operation.WRITE, ResourceType.TOPIC, partition.topic)
        ):
            errors[partition] = Error.TOPIC_AUTHORIZATION_FAILED
        elif image.partition(*partition) is None:
            errors[partition] = Error.UNKNOWN_TOPIC_OR_PARTITION
    return (
        {partition: errors.get(partition, Error.OPERATION_NOT_ATTEMPTED) for partition in partitions} if errors else {}
    )


def _partitions(topics: _Topics) -> list[TopicPartition]:
    return [TopicPartition(topic.name, partition) for topic in topics for partition in topic.partitions]


def _results(topics: _Topics, errors: Mapping[TopicPartition, Error]) -> list[_TopicResult]:
    return [
        _TopicResult(
            name=topic.name,
            results_by_partition=[
                _PartitionResult(
                    partition_index=partition, partition_error_code=errors[TopicPartition(topic.name, partition)]
                )
                for partition in topic.partitions
            ],
        )
        for topic in topics
    ]
