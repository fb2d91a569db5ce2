"""ShareGroupDescribe (key 77), version 1.

State, epochs and members of share groups, with what each has (KIP-932). What is no share group is answered by
GROUP_ID_NOT_FOUND. A group of which a topic must not be known is not described at all.
"""

from typing import Final

from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.share.commands import ShareGroupDescription, ShareMemberDescription
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_share_protocol
from kafkapy.protocol.messages.share_group_describe import ShareGroupDescribeRequest, ShareGroupDescribeResponse

_ASSIGNOR: Final = "simple"

Response = ShareGroupDescribeResponse
Group = Response.DescribedGroup


async def handle(request: ShareGroupDescribeRequest, ctx: Context) -> Response:
    require_share_protocol(ctx)
    permitted = {group_id: _may_describe(group_id, ctx) for group_id in request.group_ids}
    groups = [
        Group(group_id=group_id, error_code=Error.GROUP_AUTHORIZATION_FAILED)
        for group_id in request.group_ids
        if not permitted[group_id]
    ]
    groups += [await _describe(group_id, ctx) for group_id in request.group_ids if permitted[group_id]]
    if request.include_authorized_operations:
        for group in groups:
            if group.error_code == Error.NONE:
                group.authorized_operations = ctx.authorized_operations(ResourceType.GROUP, group.group_id)
    return Response(groups=[_without_secrets(group, ctx) for group in groups])


def refuse(request: ShareGroupDescribeRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error at every group."""
    return Response(groups=[Group(group_id=group_id, error_code=refusal.error) for group_id in request.group_ids])


def _may_describe(group_id: str, ctx: Context) -> bool:
    return ctx.permits(Operation.DESCRIBE, ResourceType.GROUP, group_id)


async def _describe(group_id: str, ctx: Context) -> Group:
    try:
        found = await ctx.rooms.share_groups.describe(group_id)
    except KafkaError as refusal:
        return Group(group_id=group_id, error_code=refusal.error, error_message=refusal.message)
    return _pack(found, ctx.rooms.cluster.image)


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


def _without_secrets(group: Group, ctx: Context) -> Group:
    topics = {topic.topic_name for member in group.members for topic in member.assignment.topic_partitions}
    if all(ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in topics):
        return group
    return Group(
        group_id=group.group_id,
        error_code=Error.TOPIC_AUTHORIZATION_FAILED,
        error_message="The group has described topic(s) that the client is not authorized to describe.",
    )
