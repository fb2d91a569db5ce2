"""ConsumerGroupDescribe (key 69), versions 0 to 1.

State, epochs and members of consumer groups, with what each has and is to have (KIP-848). From version 1 on it says
which members speak the classic protocol. What is no consumer group is answered by GROUP_ID_NOT_FOUND. A group of which
a topic must not be known is not described at all.
"""

from collections.abc import Iterator
from typing import Final

from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import KafkaError
from kafkapy.groups.modern.commands import ConsumerGroupDescription, ConsumerMemberDescription
from kafkapy.groups.modern.core import Partitions
from kafkapy.handlers.context import Context
from kafkapy.handlers.groups.describing import described, refused
from kafkapy.handlers.groups.requests import require_consumer_protocol
from kafkapy.protocol.messages.consumer_group_describe import (
    ConsumerGroupDescribeRequest,
    ConsumerGroupDescribeResponse,
)

Response = ConsumerGroupDescribeResponse
Group = Response.DescribedGroup

_CLASSIC, _CONSUMER = 0, 1
_HIDDEN: Final = "The group has described topic(s) that the client is not authorized to describe."


async def handle(request: ConsumerGroupDescribeRequest, ctx: Context) -> Response:
    require_consumer_protocol(ctx)

    async def describe(group_id: str) -> Group:
        return _pack(await ctx.rooms.groups.describe_consumer_group(group_id), ctx.rooms.cluster.image)

    return Response(groups=await described(request, ctx, Group, describe, _topics, _HIDDEN))


def refuse(request: ConsumerGroupDescribeRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error at every group."""
    return Response(groups=refused(Group, request.group_ids, refusal.error))


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


def _topics(group: Group) -> Iterator[str]:
    return (
        topic.topic_name
        for member in group.members
        for assignment in (member.assignment, member.target_assignment)
        for topic in assignment.topic_partitions
    )
