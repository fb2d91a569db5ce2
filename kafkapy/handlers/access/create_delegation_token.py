"""CreateDelegationToken (key 38), versions 1 to 3.

A token by which others act as its owner, who is the client, or from version 3 on somebody for whom the client may
create tokens (KIP-373). Only who has said who it is, and not by a token, gets one; and only where brokers have a
secret.
"""

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.access.token_requests import forward_identified, require_identity, require_secret
from kafkapy.handlers.context import Context, Operation, ResourceType
from kafkapy.model import Principal
from kafkapy.protocol.messages.create_delegation_token import (
    CreateDelegationTokenRequest,
    CreateDelegationTokenResponse,
)

_REQUESTER_FROM_VERSION = 3
_USER = "User"

forward = forward_identified


async def handle(request: CreateDelegationTokenRequest, ctx: Context) -> CreateDelegationTokenResponse:
    owner, requester = _owner(request, ctx), ctx.session.principal
    require_identity(ctx)
    if owner != requester and not ctx.permits(Operation.CREATE_TOKENS, ResourceType.USER, str(owner)):
        raise KafkaError(Error.DELEGATION_TOKEN_AUTHORIZATION_FAILED)
    if any(renewer.principal_type != _USER for renewer in request.renewers):
        raise KafkaError(Error.INVALID_PRINCIPAL_TYPE)
    secret = require_secret(ctx)
    config = ctx.rooms.config
    lifetime_ms: int = config["delegation.token.max.lifetime.ms"]
    token = await ctx.rooms.cluster.create_token(
        owner,
        requester,
        tuple(Principal(renewer.principal_type, renewer.principal_name) for renewer in request.renewers),
        lifetime_ms=min(lifetime_ms, request.max_lifetime_ms) if request.max_lifetime_ms > 0 else lifetime_ms,
        renewal_ms=config["delegation.token.expiry.time.ms"],
    )
    response = _response(request, ctx)
    response.issue_timestamp_ms = token.issued_ms
    response.expiry_timestamp_ms = token.expires_ms
    response.max_timestamp_ms = token.max_ms
    response.token_id = token.token_id
    response.hmac = secret.code_of(token.token_id)
    return response


def _owner(request: CreateDelegationTokenRequest, ctx: Context) -> Principal:
    if not request.owner_principal_name:
        return ctx.session.principal
    return Principal(request.owner_principal_type or "", request.owner_principal_name)


def _response(request: CreateDelegationTokenRequest, ctx: Context) -> CreateDelegationTokenResponse:
    owner, requester = _owner(request, ctx), ctx.session.principal
    response = CreateDelegationTokenResponse(principal_type=owner.kind, principal_name=owner.name)
    if ctx.api_version >= _REQUESTER_FROM_VERSION:
        response.token_requester_principal_type = requester.kind
        response.token_requester_principal_name = requester.name
    return response


def refuse(request: CreateDelegationTokenRequest, refusal: KafkaError, ctx: Context) -> CreateDelegationTokenResponse:
    """The error response: whose token it would be, and no token."""
    response = _response(request, ctx)
    response.error_code = refusal.error
    # As in Kafka: brokers put -1 there, and the controller, which knows whether there are tokens, nothing.
    time_ms = 0 if refusal.error is Error.DELEGATION_TOKEN_AUTH_DISABLED else -1
    response.issue_timestamp_ms = response.expiry_timestamp_ms = response.max_timestamp_ms = time_ms
    return response
