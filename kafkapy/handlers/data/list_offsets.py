"""ListOffsets (key 2), versions 1 to 11.

The first offset whose record is not older than a timestamp, or a special mark: the end (-1), the start (-2), the record
with the largest timestamp (-3, version 7 on), the start on local disk (-4, 8 on), the last tiered offset (-5, 9 on) and
the first one still to be tiered (-6, 11 on). Nothing is ever tiered here, so the last two find nothing.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.log.offsets import LogAtEpoch, find_offset, is_supported
from kafkapy.model import IsolationLevel
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest, ListOffsetsResponse

Question = ListOffsetsRequest.ListOffsetsPartition
TopicResponse = ListOffsetsResponse.ListOffsetsTopicResponse
PartitionResponse = ListOffsetsResponse.ListOffsetsPartitionResponse

_CONSUMER_REPLICA_ID = -1
_EPOCH_FROM_VERSION = 4


async def handle(request: ListOffsetsRequest, ctx: Context) -> ListOffsetsResponse:
    isolation = None
    if request.replica_id == _CONSUMER_REPLICA_ID:
        isolation = IsolationLevel.READ_COMMITTED if request.isolation_level == 1 else IsolationLevel.READ_UNCOMMITTED
    response = ListOffsetsResponse()
    for name, partitions in _asked(request).items():
        answers = []
        for index, questions in partitions.items():
            try:
                ctx.require(Operation.DESCRIBE, ResourceType.TOPIC, name)
                if len(questions) > 1:
                    raise KafkaError(Error.INVALID_REQUEST)
                answers.append(await _find(name, questions[0], isolation, ctx))
            except KafkaError as refusal:
                answers.append(PartitionResponse(partition_index=index, error_code=refusal.error))
        response.topics.append(TopicResponse(name=name, partitions=answers))
    return response


def _asked(request: ListOffsetsRequest) -> dict[str, dict[int, list[Question]]]:
    """What is asked of each partition of each topic; more than once is an error, as in Kafka."""
    asked: dict[str, dict[int, list[Question]]] = {}
    for topic in request.topics:
        partitions = asked.setdefault(topic.name, {})
        for partition in topic.partitions:
            partitions.setdefault(partition.partition_index, []).append(partition)
    return asked


async def _find(name: str, asked: Question, isolation: IsolationLevel | None, ctx: Context) -> PartitionResponse:
    if not is_supported(asked.timestamp, ctx.api_version):
        raise KafkaError(Error.UNSUPPORTED_VERSION)
    partition = ctx.rooms.cluster.image.partition(name, asked.partition_index)
    if partition is None:
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
    leader_epoch = ctx.rooms.cluster.leadership.epoch(partition.log)
    if leader_epoch is None:
        raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER)
    log = LogAtEpoch(partition.log, leader_epoch, asked.current_leader_epoch)
    found = await find_offset(ctx.rooms.logs, log, asked.timestamp, isolation)
    answer = PartitionResponse(partition_index=asked.partition_index, timestamp=found.timestamp, offset=found.offset)
    if ctx.api_version >= _EPOCH_FROM_VERSION:
        answer.leader_epoch = found.leader_epoch
    return answer


def refuse(request: ListOffsetsRequest, refusal: KafkaError, ctx: Context) -> ListOffsetsResponse:
    """The error response: the error at every partition."""
    return ListOffsetsResponse(
        topics=[
            TopicResponse(
                name=name,
                partitions=[PartitionResponse(partition_index=index, error_code=refusal.error) for index in partitions],
            )
            for name, partitions in _asked(request).items()
        ]
    )
