"""OffsetCommit (key 8), versions 2 to 10.

Stores how far a group has come, with a little metadata. Topics are named, from version 10 on identified. Topics and
partitions that do not exist are answered before the group is asked, and their neighbours are still committed; what the
group refuses, it refuses for all of them. Versions 2 to 4 may bring a retention of their own.
"""

from typing import Final

from kafkapy.errors import KafkaError
from kafkapy.groups.commands import CommitOffsets
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.committing import Preparation, Results
from kafkapy.protocol.messages.offset_commit import OffsetCommitRequest, OffsetCommitResponse

FIRST_GROUP_NOT_FOUND_VERSION: Final = 9
FIRST_TOPIC_ID_VERSION: Final = 10

_RESULTS: Final = Results(
    OffsetCommitResponse.OffsetCommitResponseTopic, OffsetCommitResponse.OffsetCommitResponsePartition
)


async def handle(request: OffsetCommitRequest, ctx: Context) -> OffsetCommitResponse:
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    preparation = Preparation(_RESULTS)
    for topic in request.topics:
        preparation.add(topic, ctx, by_id=ctx.api_version >= FIRST_TOPIC_ID_VERSION)
    if commits := preparation.commits:
        command = CommitOffsets(
            group_id=request.group_id,
            member_id=request.member_id,
            instance_id=request.group_instance_id,
            generation=request.generation_id_or_member_epoch,
            retention_ms=request.retention_time_ms,
            topics=commits,
            knows_member_epochs=ctx.api_version >= FIRST_GROUP_NOT_FOUND_VERSION,
        )
        try:
            preparation.fill_in(await ctx.rooms.groups.commit_offsets(command))
        except KafkaError as refusal:
            preparation.fill_in(refusal.error)
    return OffsetCommitResponse(topics=preparation.answers)


def refuse(request: OffsetCommitRequest, refusal: KafkaError, ctx: Context) -> OffsetCommitResponse:
    """The error response: the error at every partition."""
    preparation = Preparation(_RESULTS)
    for topic in request.topics:
        preparation.refuse(topic, topic.name, refusal.error)
    return OffsetCommitResponse(topics=preparation.answers)
