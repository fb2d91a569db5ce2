"""What the APIs of ACLs have in common."""

from collections.abc import Iterable
from typing import Final

from kafkapy.cluster.acls import AclFilter
from kafkapy.errors import CloseConnection, Error, KafkaError
from kafkapy.handlers.context import Context

_UNKNOWN: Final = 0
"""In a type's place: a client that does not know what it asks for. Kafka takes the request for malformed."""


def check_types(what: str, codes: Iterable[int]) -> None:
    """Whether the client says of each type which it means."""
    if _UNKNOWN in codes:
        raise CloseConnection(f"{what} of unknown type")


def checked_filter(
    resource_type: int,
    resource_name: str | None,
    pattern_type: int,
    principal: str | None,
    host: str | None,
    operation: int,
    permission: int,
) -> AclFilter:
    """The filter that a request asks by."""
    check_types("an ACL filter", (resource_type, pattern_type, operation, permission))
    return AclFilter(resource_type, resource_name, pattern_type, principal, host, operation, permission)


def require_authorizer(ctx: Context, message: str) -> None:
    """Whether there is somebody to keep ACLs for. Raises SECURITY_DISABLED."""
    if ctx.rooms.authorizer is None:
        raise KafkaError(Error.SECURITY_DISABLED, message)
