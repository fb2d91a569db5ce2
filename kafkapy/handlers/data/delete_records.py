"""DeleteRecords (key 21), versions 0 to 2.

Moves the start of logs forward. Each partition is answered by itself, with the log's new start; internal topics are
refused. A partition that is named twice gets what was asked last, and topics are answered once each.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.log.trimming import delete_records
from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest, DeleteRecordsResponse

TopicResult = DeleteRecordsResponse.DeleteRecordsTopicResult
PartitionResult = DeleteRecordsResponse.DeleteRecordsPartitionResult

_NO_LOW_WATERMARK: Final = -1


async def handle(request: DeleteRecordsRequest, ctx: Context) -> DeleteRecordsResponse:
    response = DeleteRecordsResponse()
    for name, offsets in _asked(request).items():
        results = []
        for index, offset in offsets.items():
            result = PartitionResult(partition_index=index, low_watermark=_NO_LOW_WATERMARK)
            try:
                result.low_watermark = await _delete(name, index, offset, ctx)
            except KafkaError as refusal:
                result.error_code = refusal.error
            results.append(result)
        response.topics.append(TopicResult(name=name, partitions=results))
    return response


async def _delete(name: str, index: int, offset: int, ctx: Context) -> int:
    ctx.require(Operation.DELETE, ResourceType.TOPIC, name)
    image = ctx.rooms.cluster.image
    topic, partition = image.topic(name), image.partition(name, index)
    if topic is None or partition is None:
        raise KafkaError(Error.UNKNOWN_TOPIC_OR_PARTITION)
    if topic.is_internal:
        raise KafkaError(Error.INVALID_TOPIC_EXCEPTION)
    if ctx.rooms.cluster.leadership.epoch(partition.log) is None:
        raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER)
    return await delete_records(ctx.rooms.logs, partition.log, topic.config, offset)


def _asked(request: DeleteRecordsRequest) -> dict[str, dict[int, int]]:
    """The offset for each partition of each topic that has any."""
    asked: dict[str, dict[int, int]] = {}
    for topic in request.topics:
        for partition in topic.partitions:
            asked.setdefault(topic.name, {})[partition.partition_index] = partition.offset
    return asked


def refuse(request: DeleteRecordsRequest, refusal: KafkaError, ctx: Context) -> DeleteRecordsResponse:
    """The error response: the error at every partition."""
    return DeleteRecordsResponse(
        topics=[
            TopicResult(
                name=name,
                partitions=[
                    PartitionResult(partition_index=index, low_watermark=_NO_LOW_WATERMARK, error_code=refusal.error)
                    for index in offsets
                ],
            )
            for name, offsets in _asked(request).items()
        ]
    )
