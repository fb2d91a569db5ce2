"""DescribeTopicPartitions (key 75), version 0.

Topics with their partitions in pages (KIP-966): sorted by name, at most `response_partition_limit` partitions an
answer, and a cursor that says where the next page begins. No topics named means all of them.
"""

from collections.abc import Iterable

from kafkapy.cluster.image import INTERNAL_TOPICS, PartitionInfo, TopicInfo
from kafkapy.cluster.topic_names import topic_name_problem
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import NOBODY
from kafkapy.protocol.messages.describe_topic_partitions import (
    DescribeTopicPartitionsRequest,
    DescribeTopicPartitionsResponse,
)

Topic = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponseTopic
Partition = DescribeTopicPartitionsResponse.DescribeTopicPartitionsResponsePartition


async def handle(request: DescribeTopicPartitionsRequest, ctx: Context) -> DescribeTopicPartitionsResponse:
    image = ctx.rooms.cluster.image
    start, first_partition = _start(request)
    everything = not request.topics
    asked: Iterable[str] = image.topics if everything else {topic.name for topic in request.topics}
    names = sorted(name for name in asked if name >= start)
    visible = {name for name in names if ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name)}
    limit = max(min(ctx.rooms.config["max.request.partition.size.limit"], request.response_partition_limit), 1)
    response = DescribeTopicPartitionsResponse()
    for name in names:
        if name not in visible:
            continue
        if limit <= 0:
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(topic_name=name, partition_index=0)
            break
        topic = image.topic(name)
        if topic is None:
            response.topics.append(_missing(name, ctx))
            continue
        begin = first_partition if name == start else 0
        page = topic.partitions[begin : begin + limit]
        response.topics.append(_described(topic, page, ctx))
        limit -= len(page)
        if begin + len(page) < len(topic.partitions):
            response.next_cursor = DescribeTopicPartitionsResponse.Cursor(
                topic_name=name, partition_index=begin + len(page)
            )
            break
    if not everything:
        hidden = [name for name in names if name not in visible]
        response.topics += [Topic(error_code=Error.TOPIC_AUTHORIZATION_FAILED, name=name) for name in hidden]
    return response


def _start(request: DescribeTopicPartitionsRequest) -> tuple[str, int]:
    """The topic and partition where the page begins."""
    cursor = request.cursor
    if cursor is None:
        return "", 0
    if request.topics and all(topic.name != cursor.topic_name for topic in request.topics):
        raise KafkaError(Error.INVALID_REQUEST, f"the topic list lacks the cursor's topic {cursor.topic_name}")
    if cursor.partition_index < 0:
        raise KafkaError(Error.INVALID_REQUEST, f"the cursor's partition {cursor.partition_index} is not valid")
    return cursor.topic_name, cursor.partition_index


def _missing(name: str, ctx: Context) -> Topic:
    return Topic(
        error_code=Error.INVALID_TOPIC_EXCEPTION if topic_name_problem(name) else Error.UNKNOWN_TOPIC_OR_PARTITION,
        name=name,
        is_internal=name in INTERNAL_TOPICS,
        topic_authorized_operations=ctx.authorized_operations(ResourceType.TOPIC, name),
    )


def _described(topic: TopicInfo, page: Iterable[PartitionInfo], ctx: Context) -> Topic:
    leadership = ctx.rooms.cluster.leadership
    partitions = []
    for partition in page:
        leader, leader_epoch, isr, offline, replicas = leadership.of(partition)
        partitions.append(
            Partition(
                error_code=Error.LEADER_NOT_AVAILABLE if leader == NOBODY else Error.NONE,
                partition_index=partition.log.partition,
                leader_id=leader,
                leader_epoch=leader_epoch,
                replica_nodes=list(replicas),
                isr_nodes=list(isr),
                eligible_leader_replicas=list(partition.elr),
                last_known_elr=[],
                offline_replicas=list(offline),
            )
        )
    return Topic(
        name=topic.name,
        topic_id=topic.topic_id,
        is_internal=topic.is_internal,
        partitions=partitions,
        topic_authorized_operations=ctx.authorized_operations(ResourceType.TOPIC, topic.name),
    )


def refuse(
    request: DescribeTopicPartitionsRequest, refusal: KafkaError, ctx: Context
) -> DescribeTopicPartitionsResponse:
    """The error response: the error at every topic."""
    return DescribeTopicPartitionsResponse(
        topics=[Topic(error_code=refusal.error, name=topic.name) for topic in request.topics]
    )
