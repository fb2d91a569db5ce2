"""What several group handlers unpack alike."""

from kafkapy.cluster.features import GROUP_VERSION, SHARE_VERSION, STREAMS_VERSION, level_of
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Session


def client_host(session: Session) -> str:
    """The client's address as Kafka keeps it of a member: behind a slash."""
    return f"/{session.address}"


def require_consumer_protocol(ctx: Context) -> None:
    """Raises UNSUPPORTED_VERSION where consumer groups are switched off."""
    rooms = ctx.rooms
    if "consumer" not in rooms.config["group.coordinator.rebalance.protocols"]:
        why = "group.coordinator.rebalance.protocols"
    elif not level_of(GROUP_VERSION, rooms.cluster.image.kinds.features):
        why = GROUP_VERSION
    else:
        return
    raise KafkaError(Error.UNSUPPORTED_VERSION, f"{why} has the consumer protocol off; set group.protocol=classic")


def require_share_protocol(ctx: Context) -> None:
    """Raises UNSUPPORTED_VERSION where share groups are switched off."""
    if not level_of(SHARE_VERSION, ctx.rooms.cluster.image.kinds.features):
        raise KafkaError(Error.UNSUPPORTED_VERSION, f"{SHARE_VERSION} has share groups off")


def require_streams_protocol(ctx: Context) -> None:
    """Raises UNSUPPORTED_VERSION where streams groups are switched off."""
    if not level_of(STREAMS_VERSION, ctx.rooms.cluster.image.kinds.features):
        raise KafkaError(Error.UNSUPPORTED_VERSION, f"{STREAMS_VERSION} has streams groups off")
