"""JoinGroup (key 11), versions 0 to 9.

Enters a group, or its next generation. The answer waits until the rebalance completes; the leader's lists the members.
A newcomer gets its member id, `<client id>-<uuid>` or `<instance id>-<uuid>`, and from version 4 on must come back
with it unless it is a static member. Version 0 has no rebalance timeout and uses the session timeout.
"""

from functools import partial
from typing import Final

from kafkapy.delayed import Delayed
from kafkapy.errors import KafkaError
from kafkapy.groups.commands import Join, Joined, Protocol
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.handlers.groups.requests import client_host
from kafkapy.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse

FIRST_KNOWN_MEMBER_VERSION: Final = 4
FIRST_NULL_PROTOCOL_VERSION: Final = 7
FIRST_SKIPPING_VERSION: Final = 9


async def handle(request: JoinGroupRequest, ctx: Context) -> JoinGroupResponse | Delayed[JoinGroupResponse]:
    ctx.require(Operation.READ, ResourceType.GROUP, request.group_id)
    version = ctx.api_version
    command = Join(
        group_id=request.group_id,
        member_id=request.member_id,
        instance_id=request.group_instance_id,
        client_id=ctx.client_id or "",
        client_host=client_host(ctx.session),
        session_timeout_ms=request.session_timeout_ms,
        rebalance_timeout_ms=request.rebalance_timeout_ms if version > 0 else request.session_timeout_ms,
        protocol_type=request.protocol_type,
        protocols=tuple(Protocol(protocol.name, protocol.metadata) for protocol in request.protocols),
        new_member_id="",
        requires_known_member_id=version >= FIRST_KNOWN_MEMBER_VERSION,
        supports_skipping_assignment=version >= FIRST_SKIPPING_VERSION,
        reason=request.reason,
    )
    joined = await ctx.rooms.groups.join(command)
    return joined.then(partial(_packed, version)) if isinstance(joined, Delayed) else _packed(version, joined)


def _packed(version: int, joined: Joined) -> JoinGroupResponse:
    return JoinGroupResponse(
        error_code=joined.error,
        generation_id=joined.generation,
        protocol_type=joined.protocol_type,
        protocol_name=_protocol_name(joined, version),
        leader=joined.leader_id,
        skip_assignment=joined.skip_assignment,
        member_id=joined.member_id,
        members=[
            JoinGroupResponse.JoinGroupResponseMember(
                member_id=member.member_id, group_instance_id=member.instance_id, metadata=member.metadata
            )
            for member in joined.members
        ],
    )


def _protocol_name(joined: Joined, version: int) -> str | None:
    """No protocol is an empty name, and null in the versions that have a null."""
    if version < FIRST_NULL_PROTOCOL_VERSION:
        return joined.protocol_name or ""
    return joined.protocol_name or None


def refuse(request: JoinGroupRequest, refusal: KafkaError, ctx: Context) -> JoinGroupResponse:
    return _packed(ctx.api_version, Joined(refusal.error, ""))
