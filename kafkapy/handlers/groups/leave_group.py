"""LeaveGroup (key 13), versions 0 to 5.

Removes members at once instead of at the end of their sessions. From version 3 on a request names many members, static
ones by their instance id alone if need be, and each has an error of its own; before, the one member's error is the
response's.
"""

from typing import Final

from kafkapy.errors import KafkaError
from kafkapy.groups.commands import Leave, Leaver
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.leave_group import LeaveGroupRequest, LeaveGroupResponse

FIRST_BATCHED_VERSION: Final = 3


async def handle(request: LeaveGroupRequest, ctx: Context) -> LeaveGroupResponse:
    batched = ctx.api_version >= FIRST_BATCHED_VERSION
    leavers = (
        [Leaver(member.member_id, member.group_instance_id, member.reason) for member in request.members]
        if batched
        else [Leaver(request.member_id)]
    )
    try:
        ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
        errors = await ctx.rooms.groups.leave(Leave(request.group_id, leavers))
    except KafkaError as refusal:
        return LeaveGroupResponse(error_code=refusal.error)
    if not batched:
        return LeaveGroupResponse(error_code=errors[0])
    return LeaveGroupResponse(
        members=[
            LeaveGroupResponse.MemberResponse(
                member_id=leaver.member_id, group_instance_id=leaver.instance_id, error_code=error
            )
            for leaver, error in zip(leavers, errors, strict=True)
        ]
    )
