"""ListOffsets (key 2), versions 1 to 11.

The first offset whose record is not older than a timestamp, or a special mark: the end (-1), the start (-2), the record
with the largest timestamp (-3, version 7 on), the start on local disk (-4, 8 on), the last tiered offset (-5, 9 on) and
the first one still to be tiered (-6, 11 on). Nothing is ever tiered here, so the last two find nothing.
"""

from collections import Counter

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.log.offsets import Target, find_offset, is_supported
from kafkapy.model import IsolationLevel
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

TopicResponse = ListOffsetsResponse.ListOffsetsTopicResponse
PartitionResponse = ListOffsetsResponse.ListOffsetsPartitionResponse

_CONSUMER_REPLICA_ID = -1
_EPOCH_FROM_VERSION = 4


async def handle(request: ListOffsetsRequest, ctx: Context) -> ListOffsetsResponse:
    counts = Counter((topic.name, p.partition_index) for topic in request.topics for p in topic.partitions)
    isolation = None
    if request.replica_id == _CONSUMER_REPLICA_ID:
        isolation = IsolationLevel.READ_COMMITTED if request.isolation_level == 1 else IsolationLevel.READ_UNCOMMITTED
    response = ListOffsetsResponse()
    for topic in request.topics:
        answers = []
        for asked in {partition.partition_index: partition for partition in topic.partitions}.values():
            try:
                if counts[topic.name, asked.partition_index] > 1:
                    raise KafkaError(Error.INVALID_REQUEST)
                answers.append(await _find(topic.name, asked, isolation, ctx))
            except KafkaError as refusal:
                answers.append(PartitionResponse(partition_index=asked.partition_index, error_code=refusal.error))
        response.topics.append(TopicResponse(name=topic.name, partitions=answers))
    return response


async def _find(
    name: str, asked: ListOffsetsRequest.ListOffsetsPartition, isolation: IsolationLevel | None, ctx: Context
) -> PartitionResponse:
    ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, name)
    if not is_supported(asked.timestamp, ctx.api_version):
        raise KafkaError(Error.UNSUPPORTED_VERSION)
    partition = ctx.rooms.cluster.image.partition(name, asked.partition_index)
    if partition is None:
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
    leader_epoch = ctx.rooms.cluster.leadership.epoch(partition.log)
    if leader_epoch is None:
        raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER)
    target = Target(partition.log, leader_epoch, asked.current_leader_epoch)
    found = await find_offset(ctx.rooms.logs, target, asked.timestamp, isolation)
    answer = PartitionResponse(partition_index=asked.partition_index, timestamp=found.timestamp, offset=found.offset)
    if ctx.api_version >= _EPOCH_FROM_VERSION:
        answer.leader_epoch = found.leader_epoch
    return answer


def refuse(request: ListOffsetsRequest, refusal: KafkaError, ctx: Context) -> ListOffsetsResponse:
    """The error response: the error at every partition."""
    return ListOffsetsResponse(
        topics=[
            TopicResponse(
                name=topic.name,
                partitions=[
                    PartitionResponse(partition_index=asked.partition_index, error_code=refusal.error)
                    for asked in topic.partitions
                ],
            )
            for topic in request.topics
        ]
    )
