"""What several group handlers unpack alike."""

from kafkapy.handlers.context import Session


def client_host(session: Session) -> str:
    """The client's address as Kafka keeps it of a member: behind a slash."""
    return f"/{session.address}"
