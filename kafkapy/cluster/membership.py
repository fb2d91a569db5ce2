"""A broker among others: what it leads, who is there, and how it asks them."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from kafkapy.model import LogId
from kafkapy.storage.base import Brokers, Leases, LiveBroker

InTurn = Callable[[LogId, Iterable[int]], Sequence[int]]
"""Brokers in the order in which they come to lead a log, those that are there before."""


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
    in_turn: InTurn | None = None
    """Where it is not the facts that say who leads: who does."""


class Standing(Brokers, Protocol):
    """How the brokers of a process come to lead, and cease to, among all that there are."""

    in_turn: InTurn | None
    """As in `Membership`."""

    def tenant(self, node_id: int) -> Leases:
        """A broker's leases."""

    async def begin(self, node_ids: Collection[int]) -> None:
        """The process begins, with these brokers."""

    async def enter(self, broker: LiveBroker) -> None:
        """A broker can be reached, and may lead."""

    async def settle(self) -> None:
        """Return once all brokers of the process lead what is theirs to lead."""

    async def leave(self, node_id: int) -> None:
        """A broker is to stop, and leads nothing from now on; or it has been killed."""

    async def leave_all(self) -> None:
        """The process is to stop."""

    def withdraw(self, node_id: int) -> None:
        """A broker can be reached no more."""
