"""OffsetDelete (key 47), version 0.

Forgets committed offsets, unless a member of the group may be reading the topic. Topics and partitions that do not
exist are answered on their own; what the group refuses is the whole response's error (KIP-496).
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import DeleteOffsets
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.offset_delete import OffsetDeleteRequest, OffsetDeleteResponse

TopicResult = OffsetDeleteResponse.OffsetDeleteResponseTopic
PartitionResult = OffsetDeleteResponse.OffsetDeleteResponsePartition


async def handle(request: OffsetDeleteRequest, ctx: Context) -> OffsetDeleteResponse:
    response = OffsetDeleteResponse()
    asked: list[tuple[str, list[int]]] = []
    waiting: list[list[PartitionResult]] = []
    try:
        ctx.require(Operation.DELETE, ResourceType.GROUP, request.group_id)
        for topic in request.topics:
            result = TopicResult(name=topic.name)
            response.topics.append(result)
            error = _topic_error(topic.name, ctx)
            existing: list[PartitionResult] = []
            for partition in topic.partitions:
                outcome = PartitionResult(partition_index=partition.partition_index, error_code=error)
                result.partitions.append(outcome)
                if error is not Error.NONE:
                    continue
                if ctx.rooms.cluster.image.partition(topic.name, partition.partition_index) is None:
                    outcome.error_code = Error.UNKNOWN_TOPIC_OR_PARTITION
                else:
                    existing.append(outcome)
            if existing:
                asked.append((topic.name, [outcome.partition_index for outcome in existing]))
                waiting.append(existing)
        errors = await ctx.rooms.groups.delete_offsets(DeleteOffsets(request.group_id, asked))
    except KafkaError as refusal:
        return OffsetDeleteResponse(error_code=refusal.error)
    for outcomes, error in zip(waiting, errors, strict=True):
        for outcome in outcomes:
            outcome.error_code = error
    return response


def _topic_error(name: str, ctx: Context) -> Error:
    try:
        ctx.require(Operation.READ, ResourceType.TOPIC, name)
    except KafkaError as refusal:
        return refusal.error
    return Error.NONE if ctx.rooms.cluster.image.topic(name) is not None else Error.UNKNOWN_TOPIC_OR_PARTITION
