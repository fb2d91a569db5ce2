"""What consumers say to each other inside of the classic protocol: subscriptions and assignments, as bytes.

Two bytes of version come first; a later version is read as the latest known here.
"""

from kafkapy.groups.commands import Protocol
from kafkapy.protocol.journal.consumer_protocol import ConsumerProtocolAssignment, ConsumerProtocolSubscription
from kafkapy.protocol.primitives import ProtocolError


def subscription_of(metadata: bytes) -> ConsumerProtocolSubscription:
    """What a member says of itself. Raises ProtocolError."""
    return ConsumerProtocolSubscription.decode(version_of(metadata), metadata, 2)[0]


def assignment_of(assignment: bytes) -> ConsumerProtocolAssignment:
    """What the leader gave a member. Raises ProtocolError."""
    return ConsumerProtocolAssignment.decode(version_of(assignment), assignment, 2)[0]


def topics_of(metadata: bytes) -> list[str]:
    """The topics alone, which stand first in every version. Raises ProtocolError."""
    version_of(metadata)
    return ConsumerProtocolSubscription.decode(0, metadata, 2)[0].topics


def encoded_assignment(partitions: dict[str, list[int]], protocols: tuple[Protocol, ...]) -> bytes:
    """An assignment in the version that a member with these protocols speaks. Raises ProtocolError."""
    version = version_of(protocols[0].metadata)
    out = bytearray(version.to_bytes(2, "big"))
    ConsumerProtocolAssignment(
        assigned_partitions=[
            ConsumerProtocolAssignment.TopicPartition(topic=topic, partitions=numbers)
            for topic, numbers in partitions.items()
        ]
    ).encode(version, out)
    return bytes(out)


def version_of(data: bytes) -> int:
    """Raises ProtocolError."""
    if len(data) < 2 or data[0] & 0x80:
        raise ProtocolError("consumer metadata has no valid version")
    return min(int.from_bytes(data[:2], "big"), ConsumerProtocolSubscription.MAX_VERSION)
