"""ShareGroupHeartbeat (key 76), version 1.

Enters a share group, stays in it, and leaves it (KIP-932): a member says what it reads, and is told which partitions it
may read, others with it. Members bring their own ids. Where share groups are off, by the feature `share.version`, the
answer is UNSUPPORTED_VERSION; `group.coordinator.rebalance.protocols` does not matter.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.core import LEFT_EPOCH
from kafkapy.groups.share.commands import ShareHeartbeat
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import client_host, require_share_protocol
from kafkapy.protocol.messages.share_group_heartbeat import ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse

_MAX_ID_LENGTH: Final = 36

Response = ShareGroupHeartbeatResponse


async def handle(request: ShareGroupHeartbeatRequest, ctx: Context) -> Response:
    require_share_protocol(ctx)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    if not 0 < len(request.member_id) <= _MAX_ID_LENGTH:
        raise KafkaError(Error.INVALID_REQUEST)
    for name in request.subscribed_topic_names or ():
        if not ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name):
            return Response(error_code=Error.TOPIC_AUTHORIZATION_FAILED)
    _validate(request)
    answer = await ctx.rooms.share_groups.heartbeat(
        ShareHeartbeat(
            group_id=request.group_id,
            member_id=request.member_id,
            member_epoch=request.member_epoch,
            rack_id=request.rack_id,
            topics=request.subscribed_topic_names,
            client_id=ctx.client_id or "",
            client_host=client_host(ctx.session),
        )
    )
    return Response(
        member_id=answer.member_id,
        member_epoch=answer.member_epoch,
        heartbeat_interval_ms=answer.heartbeat_interval_ms,
        assignment=None
        if answer.assigned is None
        else Response.Assignment(
            topic_partitions=[
                Response.TopicPartitions(topic_id=topic_id, partitions=list(numbers))
                for topic_id, numbers in answer.assigned.items()
            ]
        ),
    )


def refuse(request: ShareGroupHeartbeatRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response; what is decided before the group is asked has no text, as in Kafka."""
    told = refusal.error not in (Error.UNSUPPORTED_VERSION, Error.GROUP_AUTHORIZATION_FAILED)
    return Response(error_code=refusal.error, error_message=refusal.message if told else None)


def _validate(request: ShareGroupHeartbeatRequest) -> None:
    """Raises INVALID_REQUEST for what makes no sense, in Kafka's order and words."""
    if not request.member_id.strip():
        raise _invalid("MemberId can't be empty.")
    if not request.group_id.strip():
        raise _invalid("GroupId can't be empty.")
    if request.rack_id is not None and not request.rack_id.strip():
        raise _invalid("RackId can't be empty.")
    if request.member_epoch == 0:
        if not request.subscribed_topic_names:
            raise _invalid("SubscribedTopicNames must be set in first request.")
    elif request.member_epoch < LEFT_EPOCH:
        raise _invalid("MemberEpoch is invalid.")


def _invalid(why: str) -> KafkaError:
    return KafkaError(Error.INVALID_REQUEST, why)
