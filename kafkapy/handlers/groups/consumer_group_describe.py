"""ConsumerGroupDescribe (key 69), versions 0 to 1.

State, epochs and members of consumer groups, with what each has and is to have (KIP-848). From version 1 on it says
which members speak the classic protocol. What is no consumer group is answered by GROUP_ID_NOT_FOUND. A group of which
a topic must not be known is not described at all.
"""

from collections.abc import Sequence

from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.commands import ConsumerGroupDescription, ConsumerMemberDescription
from kafkapy.groups.modern.core import Partitions
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_consumer_protocol
from kafkapy.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)

Response = ConsumerGroupDescribeResponse
Group = Response.DescribedGroup

_CLASSIC, _CONSUMER = 0, 1


async def handle(request: ConsumerGroupDescribeRequest, ctx: Context) -> Response:
    require_consumer_protocol(ctx)
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


def refuse(request: ConsumerGroupDescribeRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error at every group."""
    return Response(groups=[Group(group_id=group_id, error_code=refusal.error) for group_id in request.group_ids])


def _may_describe(group_id: str, ctx: Context) -> bool:
    return ctx.permits(Operation.DESCRIBE, ResourceType.GROUP, group_id)


async def _describe(group_id: str, ctx: Context) -> Group:
    try:
        found = await ctx.rooms.groups.describe_consumer_group(group_id)
    except KafkaError as refusal:
        return Group(group_id=group_id, error_code=refusal.error, error_message=refusal.message)
    return _pack(found, ctx.rooms.cluster.image)


def _pack(group: ConsumerGroupDescription, image: ClusterImage) -> Group:
    return Group(
        group_id=group.group_id,
        group_state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.target_epoch,
        assignor_name=group.assignor,
        members=[_pack_member(member, image) for member in group.members],
    )


def _pack_member(member: ConsumerMemberDescription, image: ClusterImage) -> Response.Member:
    return Response.Member(
        member_id=member.member_id,
        instance_id=member.instance_id,
        rack_id=member.rack_id,
        member_epoch=member.member_epoch,
        client_id=member.client_id,
        client_host=member.client_host,
        subscribed_topic_names=list(member.topics),
        subscribed_topic_regex=member.pattern,
        assignment=Response.Assignment(topic_partitions=_pack_partitions(member.assigned, image)),
        target_assignment=Response.Assignment(topic_partitions=_pack_partitions(member.target, image)),
        member_type=_CLASSIC if member.is_classic else _CONSUMER,
    )


def _pack_partitions(partitions: Partitions, image: ClusterImage) -> list[Response.TopicPartitions]:
    """By topic, of those that still exist."""
    return [
        Response.TopicPartitions(topic_id=topic_id, topic_name=topic.name, partitions=list(numbers))
        for topic_id, numbers in partitions.items()
        if (topic := image.topic_by_id(topic_id)) is not None
    ]


def _without_secrets(group: Group, ctx: Context) -> Group:
    if all(ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in _topics(group.members)):
        return group
    return Group(
        group_id=group.group_id,
        error_code=Error.TOPIC_AUTHORIZATION_FAILED,
        error_message="The group has described topic(s) that the client is not authorized to describe.",
    )


def _topics(members: Sequence[Response.Member]) -> set[str]:
    return {
        topic.topic_name
        for member in members
        for assignment in (member.assignment, member.target_assignment)
        for topic in assignment.topic_partitions
    }
