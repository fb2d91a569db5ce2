"""DescribeGroups (key 15), versions 0 to 6.

State, protocol and members of groups; what members said beside the protocol is shown while the group is stable. A
group that is not there is described as Dead, from version 6 on with GROUP_ID_NOT_FOUND and a message.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import GroupDescription
from kafkapy.groups.group import GroupState
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.protocol.messages.describe_groups import DescribeGroupsRequest, DescribeGroupsResponse

FIRST_OPERATIONS_VERSION: Final = 3
FIRST_NOT_FOUND_VERSION: Final = 6

DescribedGroup = DescribeGroupsResponse.DescribedGroup


async def handle(request: DescribeGroupsRequest, ctx: Context) -> DescribeGroupsResponse:
    groups = [await _describe(group_id, ctx) for group_id in request.groups]
    if request.include_authorized_operations and ctx.api_version >= FIRST_OPERATIONS_VERSION:
        for group in groups:
            if group.error_code == Error.NONE:
                group.authorized_operations = ctx.authorized_operations(ResourceType.GROUP, group.group_id)
    return DescribeGroupsResponse(groups=groups)


def refuse(request: DescribeGroupsRequest, refusal: KafkaError, ctx: Context) -> DescribeGroupsResponse:
    """The error response: the error at every group."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(group_id=group_id, error_code=refusal.error) for group_id in request.groups]
    )


async def _describe(group_id: str, ctx: Context) -> DescribedGroup:
    try:
        ctx.require(Operation.DESCRIBE, ResourceType.GROUP, group_id)
        return _pack(await ctx.rooms.groups.describe_group(group_id))
    except KafkaError as refusal:
        if refusal.error is not Error.GROUP_ID_NOT_FOUND:
            return DescribedGroup(group_id=group_id, error_code=refusal.error)
        if ctx.api_version < FIRST_NOT_FOUND_VERSION:
            return DescribedGroup(group_id=group_id, group_state=GroupState.DEAD.value)
        return DescribedGroup(
            group_id=group_id,
            group_state=GroupState.DEAD.value,
            error_code=refusal.error,
            error_message=refusal.message,
        )


def _pack(group: GroupDescription) -> DescribedGroup:
    return DescribedGroup(
        group_id=group.group_id,
        group_state=group.state,
        protocol_type=group.protocol_type,
        protocol_data=group.protocol_name,
        members=[
            DescribeGroupsResponse.DescribedGroupMember(
                member_id=member.member_id,
                group_instance_id=member.instance_id,
                client_id=member.client_id,
                client_host=member.client_host,
                member_metadata=member.metadata,
                member_assignment=member.assignment,
            )
            for member in group.members
        ],
    )
