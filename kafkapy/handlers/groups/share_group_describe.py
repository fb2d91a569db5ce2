"""ShareGroupDescribe (key 77), version 1.

State, epochs and members of share groups, with what each has (KIP-932). What is no share group is answered by
GROUP_ID_NOT_FOUND. A group of which a topic must not be known is not described at all.
"""

from collections.abc import Iterator
from typing import Final

from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import KafkaError
from kafkapy.groups.share.commands import ShareGroupDescription, ShareMemberDescription
from kafkapy.handlers.context import Context
from kafkapy.handlers.groups.describing import described, refused
from kafkapy.handlers.groups.requests import require_share_protocol
from kafkapy.protocol.messages.share_group_describe import ShareGroupDescribeRequest, ShareGroupDescribeResponse

_ASSIGNOR: Final = "simple"
_HIDDEN: Final = "The group has described topic(s) that the client is not authorized to describe."

Response = ShareGroupDescribeResponse
Group = Response.DescribedGroup


async def handle(request: ShareGroupDescribeRequest, ctx: Context) -> Response:
    require_share_protocol(ctx)

    async def describe(group_id: str) -> Group:
        return _pack(await ctx.rooms.share_groups.describe(group_id), ctx.rooms.cluster.image)

    return Response(groups=await described(request, ctx, Group, describe, _topics, _HIDDEN))


def refuse(request: ShareGroupDescribeRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error at every group."""
    return Response(groups=refused(Group, request.group_ids, refusal.error))


def _pack(group: ShareGroupDescription, image: ClusterImage) -> Group:
    return Group(
        group_id=group.group_id,
        group_state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=_ASSIGNOR,
        members=[_pack_member(member, image) for member in group.members],
    )


def _pack_member(member: ShareMemberDescription, image: ClusterImage) -> Response.Member:
    """What it has by topic, of those that still exist."""
    return Response.Member(
        member_id=member.member_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        assignment=Response.Assignment(
            topic_partitions=[
                Response.TopicPartitions(topic_id=topic_id, topic_name=topic.name, partitions=list(numbers))
                for topic_id, numbers in member.assigned.items()
                if (topic := image.topic_by_id(topic_id)) is not None
            ]
        ),
    )


def _topics(group: Group) -> Iterator[str]:
    return (topic.topic_name for member in group.members for topic in member.assignment.topic_partitions)
