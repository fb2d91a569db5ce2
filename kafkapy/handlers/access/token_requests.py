"""What the APIs of delegation tokens have in common: who may ask at all, and whether there are any."""

from typing import TYPE_CHECKING, Any

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.handlers.forwarding import Send
from kafkapy.model import ANONYMOUS

if TYPE_CHECKING:
    from kafkapy.cluster.delegation_tokens import DelegationToken
    from kafkapy.security.tokens import TokenSecret


def require_identity(ctx: Context) -> None:
    """Whether the client has said who it is, and not by a token. Raises DELEGATION_TOKEN_REQUEST_NOT_ALLOWED.

    Of a client of another broker, that broker has judged it.
    """
    session = ctx.session
    if session.is_forwarded:
        return
    is_anonymous = session.security_protocol == "SSL" and session.principal == ANONYMOUS
    if session.token_authenticated or session.security_protocol == "PLAINTEXT" or is_anonymous:
        raise KafkaError(Error.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED)


async def forward_identified(request: Any, ctx: Context, send: Send) -> Any:
    """Who asks is judged by the broker that was asked; the rest is the controller's to decide."""
    require_identity(ctx)
    return await send(request)


def require_secret(ctx: Context) -> "TokenSecret":
    """What tokens are made with. Raises DELEGATION_TOKEN_AUTH_DISABLED."""
    if ctx.rooms.token_secret is None:
        raise KafkaError(Error.DELEGATION_TOKEN_AUTH_DISABLED)
    return ctx.rooms.token_secret


def require_token(code: bytes, ctx: Context) -> "DelegationToken":
    """The token that the client has shown. Raises DELEGATION_TOKEN_NOT_FOUND, DELEGATION_TOKEN_AUTH_DISABLED."""
    tokens = ctx.rooms.cluster.image.kinds.delegation_tokens.values()
    token = require_secret(ctx).token_of(code, tokens)
    if token is None:
        raise KafkaError(Error.DELEGATION_TOKEN_NOT_FOUND)
    return token


def error_time(refusal: KafkaError) -> int:
    """What stands in the place of times: as in Kafka it depends on which of its parts has refused."""
    return -1 if refusal.error is Error.DELEGATION_TOKEN_REQUEST_NOT_ALLOWED else 0
