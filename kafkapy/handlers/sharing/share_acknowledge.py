"""ShareAcknowledge (key 79), versions 1 to 2.

A member tells what it did with records that it was given: accepted, released, rejected, and from version 2 on that it
needs more time (KIP-1222). Answered once that is written down. The request belongs to the member's share session, whose
epoch it moves on; one that closes the session (epoch -1) releases everything else that the member has.
"""

from typing import Any

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.handlers.data.current_leader import name_leaders
from kafkapy.handlers.sharing.acknowledging import Outcomes, acknowledge, require_group
from kafkapy.handlers.sharing.session_end import end_session
from kafkapy.protocol.messages.share_acknowledge import ShareAcknowledgeRequest, ShareAcknowledgeResponse
from kafkapy.sharing.sessions import FINAL_EPOCH, INITIAL_EPOCH, SessionKey
from kafkapy.sharing.settings import lock_duration_ms

_LEADER_ERRORS = frozenset({Error.NOT_LEADER_OR_FOLLOWER, Error.FENCED_LEADER_EPOCH})

TopicResponse = ShareAcknowledgeResponse.ShareAcknowledgeTopicResponse
PartitionData = ShareAcknowledgeResponse.PartitionData


def refuse(request: ShareAcknowledgeRequest, refusal: KafkaError, ctx: Context) -> ShareAcknowledgeResponse:
    """The error response: as in Kafka without a text."""
    return ShareAcknowledgeResponse(error_code=refusal.error)


async def handle(request: ShareAcknowledgeRequest, ctx: Context) -> ShareAcknowledgeResponse:
    group_id, member_id = require_group(request, ctx)
    key, epoch, sessions = SessionKey(group_id, member_id), request.share_session_epoch, ctx.rooms.share_sessions
    if epoch == INITIAL_EPOCH:
        raise KafkaError(Error.INVALID_SHARE_SESSION_EPOCH)
    if epoch == FINAL_EPOCH:
        sessions.get(key)
    else:
        sessions.proceed(key, epoch)
    outcomes = await acknowledge(request, ctx, group_id, member_id)
    if epoch == FINAL_EPOCH:
        end_session(key, ctx.rooms)
    return _response(outcomes, group_id, ctx)


def _response(outcomes: Outcomes, group_id: str, ctx: Context) -> ShareAcknowledgeResponse:
    image = ctx.rooms.cluster.image
    response = ShareAcknowledgeResponse(acquisition_lock_timeout_ms=lock_duration_ms(image, group_id))
    topics: dict[bytes, TopicResponse] = {}
    elsewhere: list[tuple[Any, Any, int]] = []
    for (topic_id, index), refusal in outcomes.items():
        data = PartitionData(partition_index=index)
        if refusal is not None:
            data.error_code, data.error_message = refusal.error, refusal.message or None
            topic = image.topic_by_id(topic_id)
            if refusal.error in _LEADER_ERRORS and topic is not None:
                elsewhere.append((data, topic, index))
        if topic_id not in topics:
            topics[topic_id] = TopicResponse(topic_id=topic_id)
            response.responses.append(topics[topic_id])
        topics[topic_id].partitions.append(data)
    if elsewhere:
        name_leaders(response, elsewhere, ctx)
    return response
