"""DeleteShareGroupOffsets (key 92), version 0.

Has a share group forget what it has done with topics, so that it begins with them as any new group does. The group must
have no members.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import require_share_protocol
from kafkapy.protocol.messages.delete_share_group_offsets import (
    DeleteShareGroupOffsetsRequest,
    DeleteShareGroupOffsetsResponse,
)

Response = DeleteShareGroupOffsetsResponse
Topic = Response.DeleteShareGroupOffsetsResponseTopic


async def handle(request: DeleteShareGroupOffsetsRequest, ctx: Context) -> Response:
    require_share_protocol(ctx)
    ctx.require(Operation.DELETE, ResourceType.GROUP, request.group_id)
    names = [topic.topic_name for topic in request.topics]
    refused = [name for name in names if not ctx.permits(Operation.READ, ResourceType.TOPIC, name)]
    allowed = [name for name in names if name not in refused]
    found = await ctx.rooms.share_groups.delete_offsets(request.group_id, allowed)
    error = Error.TOPIC_AUTHORIZATION_FAILED
    return Response(
        responses=[
            *(Topic(topic_name=name, error_code=error, error_message=error.text) for name in refused),
            *(
                Topic(topic_name=name, topic_id=topic_id, error_code=error, error_message=message)
                for name, topic_id, error, message in found
            ),
        ]
    )


def refuse(request: DeleteShareGroupOffsetsRequest, refusal: KafkaError, ctx: Context) -> Response:
    """The error response: the error alone."""
    return Response(error_code=refusal.error, error_message=refusal.message or refusal.error.text)
