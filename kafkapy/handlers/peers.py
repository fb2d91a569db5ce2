"""How a broker asks the brokers of its process, itself among them: straight at their registries."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from kafkapy.errors import Error, KafkaError

Ask = Callable[[Any], Awaitable[Any]]


class LocalPeers:
    """`cluster.membership.Peers` within one process."""

    def __init__(self) -> None:
        self._asks: dict[int, tuple[Ask, set[trio.CancelScope]]] = {}

    def add(self, node_id: int, ask: Ask) -> None:
        """This broker answers from now on."""
        self._asks[node_id] = (ask, set())

    def remove(self, node_id: int) -> None:
        """This broker answers no more, nor what it is being asked: its rooms end. A second time it does nothing."""
        _, under_way = self._asks.pop(node_id, (None, set()))
        for scope in under_way:
            scope.cancel()

    async def ask(self, node_id: int, request: Any) -> Any:
        """Its answer. Raises BROKER_NOT_AVAILABLE when it is not there, or goes meanwhile."""
        if node_id not in self._asks:
            raise KafkaError(Error.BROKER_NOT_AVAILABLE)
        ask, under_way = self._asks[node_id]
        with trio.CancelScope() as scope:
            under_way.add(scope)
            try:
                return await ask(request)
            finally:
                under_way.discard(scope)
        raise KafkaError(Error.BROKER_NOT_AVAILABLE)
