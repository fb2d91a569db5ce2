"""ExpireDelegationToken (key 40), versions 1 to 2.

Moves a token's end to so long from now as is asked for, but never beyond the end of its life; a negative period ends it
at once. For its owner, and the renewers that its owner named.
"""

from kafkapy.cluster.delegation_tokens import ExpireToken
from kafkapy.errors import KafkaError
from kafkapy.handlers.access.token_requests import error_time, forward_identified, require_identity, require_token
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.expire_delegation_token import (
    ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse,
)

forward = forward_identified


async def handle(request: ExpireDelegationTokenRequest, ctx: Context) -> ExpireDelegationTokenResponse:
    require_identity(ctx)
    token = require_token(request.hmac, ctx)
    command = ExpireToken(token.token_id, ctx.session.principal, request.expiry_time_period_ms)
    return ExpireDelegationTokenResponse(expiry_timestamp_ms=await ctx.rooms.cluster.move_token(command))


def refuse(request: ExpireDelegationTokenRequest, refusal: KafkaError, ctx: Context) -> ExpireDelegationTokenResponse:
    """The error response."""
    return ExpireDelegationTokenResponse(error_code=refusal.error, expiry_timestamp_ms=error_time(refusal))
