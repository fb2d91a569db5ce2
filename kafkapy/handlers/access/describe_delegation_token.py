"""DescribeDelegationToken (key 41), versions 1 to 3.

The tokens that the client owns, asked for or may renew, and those that it may describe: each by its id, or all of an
owner (KIP-373). With owners named, only tokens that are theirs in one of these ways.
"""

from kafkapy.cluster.delegation_tokens import DelegationToken
from kafkapy.handlers.access.token_requests import require_identity, require_secret
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import Principal
from kafkapy.protocol.messages.describe_delegation_token import (
    DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse,
)

Described = DescribeDelegationTokenResponse.DescribedDelegationToken

_REQUESTER_FROM_VERSION = 3


async def handle(request: DescribeDelegationTokenRequest, ctx: Context) -> DescribeDelegationTokenResponse:
    require_identity(ctx)
    secret = require_secret(ctx)
    owners = None
    if request.owners is not None:
        owners = [Principal(owner.principal_type, owner.principal_name) for owner in request.owners]
    return DescribeDelegationTokenResponse(
        tokens=[
            _described(token, secret.code_of(token.token_id), ctx)
            for token in ctx.rooms.cluster.image.kinds.delegation_tokens.values()
            if (owners is None or any(map(token.belongs_to, owners))) and _may_see(token, ctx)
        ]
    )


def _may_see(token: DelegationToken, ctx: Context) -> bool:
    return (
        token.belongs_to(ctx.session.principal)
        or ctx.permits(Operation.DESCRIBE, ResourceType.DELEGATION_TOKEN, token.token_id)
        or ctx.permits(Operation.DESCRIBE_TOKENS, ResourceType.USER, str(token.owner))
    )


def _described(token: DelegationToken, code: bytes, ctx: Context) -> Described:
    described = Described(
        principal_type=token.owner.kind,
        principal_name=token.owner.name,
        issue_timestamp=token.issued_ms,
        expiry_timestamp=token.expires_ms,
        max_timestamp=token.max_ms,
        token_id=token.token_id,
        hmac=code,
        renewers=[
            DescribeDelegationTokenResponse.DescribedDelegationTokenRenewer(
                principal_type=renewer.kind, principal_name=renewer.name
            )
            for renewer in token.renewers
        ],
    )
    if ctx.api_version >= _REQUESTER_FROM_VERSION:
        described.token_requester_principal_type = token.requester.kind
        described.token_requester_principal_name = token.requester.name
    return described
