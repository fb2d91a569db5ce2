"""Heartbeat (key 12), versions 0 to 4.

Keeps a member's session alive. REBALANCE_IN_PROGRESS tells it to join again; a group that is just being loaded answers
without an error, so that nobody gives up its place.
"""

from kafkapy.errors import KafkaError
from kafkapy.groups.commands import Heartbeat
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest, HeartbeatResponse


async def handle(request: HeartbeatRequest, ctx: Context) -> HeartbeatResponse:
    command = Heartbeat(request.group_id, request.member_id, request.group_instance_id, request.generation_id)
    try:
        ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
        await ctx.rooms.groups.heartbeat(command)
    except KafkaError as refusal:
        return HeartbeatResponse(error_code=refusal.error)
    return HeartbeatResponse()
