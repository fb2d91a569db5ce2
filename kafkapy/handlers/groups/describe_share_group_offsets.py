"""DescribeShareGroupOffsets (key 90), versions 0 to 1.

Where share groups are: the offset before which all is done with, of the partitions asked for, or of all that the group
has begun with; from version 1 on also how many records are still to come (KIP-1226). What has no state, exists not, or
cannot be told is at -1, which is no error, and so is a group that is not there.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.share.service import PartitionProgress
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_share_protocol
from kafkapy.protocol.messages.describe_share_group_offsets import (
    DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse,
)

AskedGroup = DescribeShareGroupOffsetsRequest.DescribeShareGroupOffsetsRequestGroup
Group = DescribeShareGroupOffsetsResponse.DescribeShareGroupOffsetsResponseGroup
Topic = DescribeShareGroupOffsetsResponse.DescribeShareGroupOffsetsResponseTopic
Partition = DescribeShareGroupOffsetsResponse.DescribeShareGroupOffsetsResponsePartition


async def handle(request: DescribeShareGroupOffsetsRequest, ctx: Context) -> DescribeShareGroupOffsetsResponse:
    require_share_protocol(ctx)
    return DescribeShareGroupOffsetsResponse(groups=[await _describe(group, ctx) for group in request.groups])


def refuse(
    request: DescribeShareGroupOffsetsRequest, refusal: KafkaError, ctx: Context
) -> DescribeShareGroupOffsetsResponse:
    """The error response: the error at every group."""
    return DescribeShareGroupOffsetsResponse(
        groups=[Group(group_id=group.group_id, error_code=refusal.error) for group in request.groups]
    )


async def _describe(asked: AskedGroup, ctx: Context) -> Group:
    group_id = asked.group_id
    if not ctx.permits(Operation.DESCRIBE, ResourceType.GROUP, group_id):
        return Group(group_id=group_id, error_code=Error.GROUP_AUTHORIZATION_FAILED)
    refused = [topic for topic in asked.topics or () if not _may_describe(topic.topic_name, ctx)]
    topics = None
    if asked.topics is not None:
        topics = [(topic.topic_name, topic.partitions) for topic in asked.topics if topic not in refused]
    try:
        found = await ctx.rooms.share_groups.describe_offsets(group_id, topics)
    except KafkaError as refusal:
        return Group(group_id=group_id, error_code=refusal.error, error_message=refusal.error.text)
    described = [
        Topic(topic_name=name, topic_id=topic_id, partitions=[_pack(partition) for partition in partitions])
        for name, topic_id, partitions in found
        if topics is not None or _may_describe(name, ctx)
    ]
    error = Error.TOPIC_AUTHORIZATION_FAILED
    described += [
        Topic(
            topic_name=topic.topic_name,
            partitions=[
                Partition(partition_index=number, start_offset=-1, error_code=error, error_message=error.text)
                for number in topic.partitions
            ],
        )
        for topic in refused
    ]
    return Group(group_id=group_id, topics=described)


def _may_describe(topic: str, ctx: Context) -> bool:
    return ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, topic)


def _pack(found: PartitionProgress) -> Partition:
    return Partition(
        partition_index=found.partition,
        start_offset=found.start_offset,
        leader_epoch=found.leader_epoch,
        lag=found.lag,
        error_code=found.error,
        error_message=None if found.error is Error.NONE else found.error.text,
    )
