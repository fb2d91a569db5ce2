"""ConsumerGroupHeartbeat (key 68), versions 0 to 1.

Enters a consumer group, stays in it, and leaves it (KIP-848): a member says what is new, and is told what it may read.
Version 1 has members bring their own ids, and may subscribe to a pattern in RE2's syntax; a member of version 0 may do
that, too, and gets an id if it has none. Where the protocol is off, by `group.coordinator.rebalance.protocols` or the
feature `group.version`, the answer is UNSUPPORTED_VERSION, upon which consumers stop and say why.
"""

from collections.abc import Sequence
from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.commands import ConsumerHeartbeat
from kafkapy.groups.modern.core import LEFT_EPOCH
from kafkapy.groups.modern.facts import AWAY_EPOCH
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import client_host, require_consumer_protocol
from kafkapy.protocol.messages.consumer_group_heartbeat import (
    ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse,
)

FIRST_OWN_ID_VERSION: Final = 1

Response = ConsumerGroupHeartbeatResponse


async def handle(request: ConsumerGroupHeartbeatRequest, ctx: Context) -> Response:
    require_consumer_protocol(ctx)
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    for name in request.subscribed_topic_names or ():
        if not ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name):
            return Response(error_code=Error.TOPIC_AUTHORIZATION_FAILED)
    _validate(request, ctx.api_version)
    answer = await ctx.rooms.groups.consumer_heartbeat(
        ConsumerHeartbeat(
            group_id=request.group_id,
            member_id=request.member_id,
            member_epoch=request.member_epoch,
            instance_id=request.instance_id,
            rack_id=request.rack_id,
            rebalance_timeout_ms=request.rebalance_timeout_ms,
            topics=request.subscribed_topic_names,
            pattern=request.subscribed_topic_regex,
            assignor=request.server_assignor,
            owned=_owned(request.topic_partitions),
            client_id=ctx.client_id or "",
            client_host=client_host(ctx.session),
            new_member_id="",
            may_describe=lambda topic: ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, topic),
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
                Response.TopicPartitions(topic_id=topic_id, partitions=sorted(epochs))
                for topic_id, epochs in answer.assigned.items()
            ]
        ),
    )


def refuse(request: ConsumerGroupHeartbeatRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response; what is decided before the group is asked has no text, as in Kafka."""
    told = refusal.error not in (Error.UNSUPPORTED_VERSION, Error.GROUP_AUTHORIZATION_FAILED)
    return Response(error_code=refusal.error, error_message=refusal.message if told else None)


def _owned(topics: Sequence[ConsumerGroupHeartbeatRequest.TopicPartitions] | None) -> dict[bytes, list[int]] | None:
    return None if topics is None else {topic.topic_id: topic.partitions for topic in topics}


def _validate(request: ConsumerGroupHeartbeatRequest, version: int) -> None:
    """Raises INVALID_REQUEST for what makes no sense, in Kafka's order and words."""
    epoch = request.member_epoch
    if (version >= FIRST_OWN_ID_VERSION or epoch > 0 or epoch == LEFT_EPOCH) and not request.member_id.strip():
        raise _invalid("MemberId can't be empty.")
    if not request.group_id.strip():
        raise _invalid("GroupId can't be empty.")
    if request.instance_id is not None and not request.instance_id.strip():
        raise _invalid("InstanceId can't be empty.")
    if request.rack_id is not None and not request.rack_id.strip():
        raise _invalid("RackId can't be empty.")
    if epoch == 0:
        if request.rebalance_timeout_ms == -1:
            raise _invalid("RebalanceTimeoutMs must be provided in first request.")
        if request.topic_partitions is None or request.topic_partitions:
            raise _invalid("TopicPartitions must be empty when (re-)joining.")
        if request.subscribed_topic_names is None and request.subscribed_topic_regex is None:
            raise _invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
    elif epoch == AWAY_EPOCH:
        if request.instance_id is None:
            raise _invalid("InstanceId can't be null.")
    elif epoch < AWAY_EPOCH:
        raise _invalid("MemberEpoch is invalid.")


def _invalid(why: str) -> KafkaError:
    return KafkaError(Error.INVALID_REQUEST, why)
