"""How a broker asks the brokers of its cluster: being alone, it asks itself, straight at the registry."""

from collections.abc import Awaitable, Callable
from typing import Any

from kafkapy.errors import Error, KafkaError


class SolePeers:
    """`cluster.membership.Peers` for a broker that is alone."""

    def __init__(self, node_id: int, ask: Callable[[Any], Awaitable[Any]]) -> None:
        self._node_id = node_id
        self._ask = ask

    async def ask(self, node_id: int, request: Any) -> Any:
        if node_id != self._node_id:
            raise KafkaError(Error.BROKER_NOT_AVAILABLE)
        return await self._ask(request)
