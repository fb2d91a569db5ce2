"""Brokers that are to each other as if each had a process of its own: they ask each other over the network alone."""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kafkapy import broker as broker_module
from kafkapy.broker import Broker
from kafkapy.handlers.registry import Registry
from kafkapy.node import House
from kafkapy.protocol.header import decode_request_header
from tests.broker.conftest import StartBroker

SETTINGS = {"kafkapy.auto.create.wait": "true", "offsets.topic.num.partitions": "6", "num.partitions": "6"}


class Seen:
    """Which APIs brokers are asked by, over the network."""

    def __init__(self) -> None:
        self._by_node: dict[int, Counter[int]] = {}

    def dispatch_of(self, registry: Registry) -> Any:
        seen = self._by_node.setdefault(registry.rooms.cluster.leadership.node_id, Counter())

        def dispatch(frame: memoryview, session: Any) -> Any:
            seen[decode_request_header(frame).api_key] += 1
            return registry.dispatch(frame, session)

        return dispatch

    def of(self, node_id: int, key: int) -> int:
        """How often this broker was asked by this API."""
        return self._by_node[node_id][key]

    def __iter__(self) -> Iterator[int]:
        return iter(self._by_node)


@asynccontextmanager
async def apart(
    start_broker: StartBroker,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str] | None = None,
    brokers: int = 2,
    **options: Any,
) -> AsyncIterator[tuple[Broker, Seen]]:
    """So many brokers, of which the first is the controller."""
    seen = Seen()
    monkeypatch.setattr(broker_module, "House", lambda *rooms, between: House(*rooms, between=True))
    async with start_broker(
        memory=True,
        brokers=brokers,
        advertise_host="127.0.0.1",
        settings={**SETTINGS, **(settings or {})},
        dispatch_of=seen.dispatch_of,
        **options,
    ) as broker:
        yield broker, seen


def port_of(broker: Broker, node_id: int, listener: str | None = None) -> int:
    node = broker.fleet.nodes[node_id]
    return node.port if listener is None else node.ports[listener]
