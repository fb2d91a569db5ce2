"""ListGroups (key 16), versions 0 to 5.

Every group of this broker, those with nothing but committed offsets included. Version 4 filters by state, version 5 by
type; neither filter minds upper and lower case, and an unknown name matches nothing.
"""

from kafkapy.errors import KafkaError
from kafkapy.groups.commands import ListGroups
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType
from kafkapy.protocol.messages.list_groups import ListGroupsRequest, ListGroupsResponse


async def handle(request: ListGroupsRequest, ctx: Context) -> ListGroupsResponse:
    states = frozenset(state.lower().strip() for state in request.states_filter)
    types = frozenset(group_type.lower() for group_type in request.types_filter)
    try:
        listed = await ctx.rooms.groups.list_groups(ListGroups(states, types))
    except KafkaError as refusal:
        return ListGroupsResponse(error_code=refusal.error)
    if not ctx.permits(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME, denial_is_logged=False):
        listed = [
            group
            for group in listed
            if ctx.permits(Operation.DESCRIBE, ResourceType.GROUP, group.group_id, denial_is_logged=False)
        ]
    return ListGroupsResponse(
        groups=[
            ListGroupsResponse.ListedGroup(
                group_id=group.group_id,
                protocol_type=group.protocol_type,
                group_state=group.state,
                group_type=group.group_type,
            )
            for group in listed
        ]
    )
