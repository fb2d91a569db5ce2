"""What several group handlers unpack alike."""

import ipaddress

from kafkapy.errors import KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType, Session


def client_host(session: Session) -> str:
    """The client's address as Kafka keeps it: a slash, then Java's text form, which never shortens IPv6."""
    address = ipaddress.ip_address(session.peer_host.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return f"/{address.ipv4_mapped}"
        return "/" + ":".join(f"{int(group, 16):x}" for group in address.exploded.split(":"))
    return f"/{address}"


def is_allowed(ctx: Context, operation: Operation, resource_type: ResourceType, name: str) -> bool:
    """Whether the principal may do it, where Kafka leaves out what it may not instead of refusing."""
    try:
        ctx.require(operation, resource_type, name)
    except KafkaError:
        return False
    return True
