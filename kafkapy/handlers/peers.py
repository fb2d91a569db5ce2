"""How a broker asks the brokers of its process, itself among them: straight at their registries."""

from collections.abc import Awaitable, Callable
from typing import Any

from kafkapy.errors import Error, KafkaError

Ask = Callable[[Any], Awaitable[Any]]


class LocalPeers:
    """`cluster.membership.Peers` within one process."""

    def __init__(self) -> None:
        self._asks: dict[int, Ask] = {}

    def add(self, node_id: int, ask: Ask) -> None:
        """This broker answers from now on."""
        self._asks[node_id] = ask

    def remove(self, node_id: int) -> None:
        """This broker answers no more."""
        del self._asks[node_id]

    async def ask(self, node_id: int, request: Any) -> Any:
        ask = self._asks.get(node_id)
        if ask is None:
            raise KafkaError(Error.BROKER_NOT_AVAILABLE)
        return await ask(request)
