"""DescribeProducers (key 61), version 0.

Who has written to a partition idempotently or in transactions, as its leader remembers it: what an administrator looks
at who searches for a transaction that does not end (KIP-664). Each partition is answered by itself.
"""

from kafkapy.cluster.topic_names import topic_name_problem
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_producers import DescribeProducersRequest, DescribeProducersResponse

TopicResponse = DescribeProducersResponse.TopicResponse
PartitionResponse = DescribeProducersResponse.PartitionResponse
ProducerState = DescribeProducersResponse.ProducerState


async def handle(request: DescribeProducersRequest, ctx: Context) -> DescribeProducersResponse:
    response = DescribeProducersResponse()
    for topic in request.topics:
        refusal = _topic_refusal(topic.name, ctx)
        partitions = [
            _describe(topic.name, index, ctx) if refusal is None else _refused(index, refusal)
            for index in topic.partition_indexes
        ]
        response.topics.append(TopicResponse(name=topic.name, partitions=partitions))
    return response


def _topic_refusal(name: str, ctx: Context) -> KafkaError | None:
    """Why no partition of the topic is described."""
    if problem := topic_name_problem(name):
        return KafkaError(Error.INVALID_TOPIC_EXCEPTION, problem)
    try:
        ctx.require(Operation.READ, ResourceType.TOPIC, name)
    except KafkaError as refusal:
        return refusal
    if ctx.rooms.cluster.image.topic(name) is None:
        return KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
    return None


def _describe(name: str, index: int, ctx: Context) -> PartitionResponse:
    partition = ctx.rooms.cluster.image.partition(name, index)
    if partition is None:
        return PartitionResponse(partition_index=index, error_code=Error.UNKNOWN_TOPIC_OR_PARTITION)
    if ctx.rooms.cluster.leadership.epoch(partition.log) is None:
        return PartitionResponse(partition_index=index, error_code=Error.NOT_LEADER_OR_FOLLOWER)
    producers = ctx.rooms.logs.producers(partition.log)
    if isinstance(producers, Error):
        return PartitionResponse(partition_index=index, error_code=producers)
    return PartitionResponse(
        partition_index=index,
        active_producers=[
            ProducerState(
                producer_id=producer.producer_id,
                producer_epoch=producer.epoch,
                last_sequence=producer.last_sequence,
                last_timestamp=producer.last_timestamp,
                coordinator_epoch=producer.coordinator_epoch,
                current_txn_start_offset=producer.transaction_start,
            )
            for producer in producers
        ],
    )


def _refused(index: int, refusal: KafkaError) -> PartitionResponse:
    message = refusal.message or refusal.error.text
    return PartitionResponse(partition_index=index, error_code=refusal.error, error_message=message)


def refuse(request: DescribeProducersRequest, refusal: KafkaError, ctx: Context) -> DescribeProducersResponse:
    """The error response: the error at every partition."""
    return DescribeProducersResponse(
        topics=[
            TopicResponse(name=topic.name, partitions=[_refused(index, refusal) for index in topic.partition_indexes])
            for topic in request.topics
        ]
    )
