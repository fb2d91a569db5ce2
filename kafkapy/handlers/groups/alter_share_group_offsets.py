"""AlterShareGroupOffsets (key 91), version 0.

Has a share group begin elsewhere: from then on it reads what lies at these offsets or behind, whatever it has done
before. The group must have no members; one that is not there comes into being, and nobody needs to read the topics.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_share_protocol
from kafkapy.model import ZERO_UUID
from kafkapy.protocol.messages.alter_share_group_offsets import (
    AlterShareGroupOffsetsRequest,
    AlterShareGroupOffsetsResponse,
)

Response = AlterShareGroupOffsetsResponse
Topic = Response.AlterShareGroupOffsetsResponseTopic
Partition = Response.AlterShareGroupOffsetsResponsePartition


async def handle(request: AlterShareGroupOffsetsRequest, ctx: Context) -> Response:
    require_share_protocol(ctx)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    image = ctx.rooms.cluster.image
    topics: dict[str, Topic] = {}
    allowed = []
    for asked in request.topics:
        name, topic = asked.topic_name, image.topic(asked.topic_name)
        if not ctx.permits(Operation.READ, ResourceType.TOPIC, name):
            error = Error.TOPIC_AUTHORIZATION_FAILED
        elif topic is None:
            error = Error.UNKNOWN_TOPIC_OR_PARTITION
        else:
            allowed.append((name, [(each.partition_index, each.start_offset) for each in asked.partitions]))
            continue
        answer = topics.setdefault(
            name, Topic(topic_name=name, topic_id=ZERO_UUID if topic is None else topic.topic_id)
        )
        answer.partitions += [
            Partition(partition_index=each.partition_index, error_code=error, error_message=error.text)
            for each in asked.partitions
        ]
    for name, topic_id, partitions in await ctx.rooms.share_groups.alter_offsets(request.group_id, allowed):
        topics.setdefault(name, Topic(topic_name=name, topic_id=topic_id)).partitions += [
            _pack(number, problem) for number, problem in partitions
        ]
    return Response(responses=list(topics.values()))


def refuse(request: AlterShareGroupOffsetsRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error alone."""
    return Response(error_code=refusal.error, error_message=refusal.message or refusal.error.text)


def _pack(number: int, problem: KafkaError | None) -> Partition:
    if problem is None:
        return Partition(partition_index=number)
    return Partition(partition_index=number, error_code=problem.error, error_message=problem.message)
