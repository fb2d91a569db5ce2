"""A broker among others: what it leads, who is there, and how it asks them."""

from typing import Any, NamedTuple, Protocol

from kafkapy.storage.base import Brokers, Leases


class Peers(Protocol):
    """Asks other brokers, in Kafka's own protocol."""

    async def ask(self, node_id: int, request: Any) -> Any:
        """The response of a broker, which may be this one, to a request in the latest version that is served.

        Raises KafkaError BROKER_NOT_AVAILABLE when there is no such broker, or it does not answer.
        """


class Membership(NamedTuple):
    """What connects a broker to its cluster."""

    node_id: int
    leases: Leases
    brokers: Brokers
    peers: Peers
