"""SyncGroup (key 14), versions 0 to 5.

Asks for the assignment of a generation; the leader brings everybody's. The answer waits for the leader. From version 5
on protocol type and name must be given, and must be the group's.
"""

from typing import Final

from kafkapy.delayed import Delayed
from kafkapy.errors import Error
from kafkapy.groups.commands import Sync, Synced
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.sync_group import SyncGroupRequest, SyncGroupResponse

FIRST_PROTOCOL_VERSION: Final = 5


async def handle(request: SyncGroupRequest, ctx: Context) -> SyncGroupResponse | Delayed[SyncGroupResponse]:
    if ctx.api_version >= FIRST_PROTOCOL_VERSION and None in (request.protocol_type, request.protocol_name):
        return SyncGroupResponse(error_code=Error.INCONSISTENT_GROUP_PROTOCOL)
    command = Sync(
        group_id=request.group_id,
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        generation=request.generation_id,
        protocol_type=request.protocol_type,
        protocol_name=request.protocol_name,
        assignments={assignment.member_id: assignment.assignment for assignment in request.assignments},
    )
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    synced = await ctx.rooms.groups.sync(command)
    return synced.then(_packed) if isinstance(synced, Delayed) else _packed(synced)


def _packed(synced: Synced) -> SyncGroupResponse:
    return SyncGroupResponse(
        protocol_type=synced.protocol_type, protocol_name=synced.protocol_name, assignment=synced.assignment
    )
