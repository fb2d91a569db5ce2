"""DeleteGroups (key 42), versions 0 to 3.

Removes groups that have no members, and all they committed, or share groups have done. A group named twice is answered
once. The text beside an error (version 3 on) stays null: in Kafka only streams groups have something to say there.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest, DeleteGroupsResponse


async def handle(request: DeleteGroupsRequest, ctx: Context) -> DeleteGroupsResponse:
    errors: dict[str, Error] = {}
    allowed: list[str] = []
    for group_id in dict.fromkeys(request.groups_names):
        try:
            ctx.require(Operation.DELETE, ResourceType.GROUP, group_id)
            allowed.append(group_id)
        except KafkaError as refusal:
            errors[group_id] = refusal.error
    errors |= await ctx.rooms.share_groups.forget(allowed)
    errors |= await ctx.rooms.groups.delete_groups([group_id for group_id in allowed if group_id not in errors])
    return DeleteGroupsResponse(
        results=[
            DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=error)
            for group_id, error in errors.items()
        ]
    )


def refuse(request: DeleteGroupsRequest, refusal: KafkaError, ctx: Context) -> DeleteGroupsResponse:
    """The error response: the error at every group."""
    return DeleteGroupsResponse(
        results=[
            DeleteGroupsResponse.DeletableGroupResult(group_id=group_id, error_code=refusal.error)
            for group_id in request.groups_names
        ]
    )
