"""RenewDelegationToken (key 39), versions 1 to 2.

Moves a token's end to so long from now as is asked for, or as `delegation.token.expiry.time.ms` says, but never beyond
the end of its life. For its owner, and the renewers that its owner named.
"""

from kafkapy.cluster.delegation_tokens import RenewToken
from kafkapy.errors import KafkaError
from kafkapy.handlers.access.token_requests import error_time, forward_identified, require_identity, require_token
from kafkapy.handlers.context import Context
from kafkapy.protocol.messages.renew_delegation_token import (
    RenewDelegationTokenRequest,
    RenewDelegationTokenResponse,
)

forward = forward_identified


async def handle(request: RenewDelegationTokenRequest, ctx: Context) -> RenewDelegationTokenResponse:
    require_identity(ctx)
    token = require_token(request.hmac, ctx)
    period_ms: int = ctx.rooms.config["delegation.token.expiry.time.ms"]
    if request.renew_period_ms > 0:
        period_ms = min(period_ms, request.renew_period_ms)
    command = RenewToken(token.token_id, ctx.session.principal, period_ms)
    return RenewDelegationTokenResponse(expiry_timestamp_ms=await ctx.rooms.cluster.move_token(command))


def refuse(request: RenewDelegationTokenRequest, refusal: KafkaError, ctx: Context) -> RenewDelegationTokenResponse:
    """The error response."""
    return RenewDelegationTokenResponse(error_code=refusal.error, expiry_timestamp_ms=error_time(refusal))
