"""The admin handlers behind the registry, with the real rooms beneath them on the reference store."""

from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kafkapy.clock import ManualClock
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context
from kafkapy.handlers.context import Session as HandlerSession
from kafkapy.handlers.registry import Registry
from kafkapy.model import LogId
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.storage.memory import open_memory
from kafkapy.telemetry.service import Telemetry
from tests.membership import alone


class Broker:
    """The cluster room and the handlers; `ask` sends a frame and decodes the frame that comes back."""

    def __init__(self, logs: Any, config: BrokerConfig) -> None:
        self.logs = logs
        self.there: set[LogId] = set()
        logs.leases.watch(self.there.update, self.there.difference_update)
        rooms: Any = SimpleNamespace(
            config=config, logs=logs, authorizer=None, telemetry=Telemetry(listens=True), forwarding=None
        )
        membership = alone(logs, rooms, config["broker.rack"])
        self.cluster = rooms.cluster = ClusterService("the-cluster", config, logs, membership, ManualClock())
        self.session = HandlerSession("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, "127.0.0.1", 50_000)
        self._registry = Registry(rooms)

    async def ask(self, request: Any, version: int | None = None) -> Any:
        key = request.API_KEY
        version = request.MAX_VERSION if version is None else version
        frame = bytearray()
        encode_request_header(key, version, 7, "tests", frame)
        frame = b"".join(bytes(buffer) for buffer in request.encode(version, frame))
        answer = await self._registry.dispatch(memoryview(frame), self.session)
        assert answer is not None
        raw = b"".join(bytes(buffer) for buffer in answer)[4:]
        correlation_id, offset = decode_response_header(key, version, raw)
        assert correlation_id == 7
        response, end = response_class(key).decode(version, raw, offset)
        assert end == len(raw)
        return response

    def partition_logs(self, topic: str) -> list[int]:
        """The partitions of the topic that have a log in the store."""
        return sorted(log.partition for log in self.there if log.topic == topic)


OpenBroker = Callable[..., Awaitable[Broker]]


@pytest.fixture
async def logs() -> AsyncIterator[Any]:
    async with open_memory(ManualClock()) as store:
        yield store


@pytest.fixture
def open_broker(logs: Any, nursery: trio.Nursery) -> OpenBroker:
    """Start a broker over the test's store with `settings`."""

    async def open_one(settings: dict[str, str] | None = None) -> Broker:
        broker = Broker(logs, BrokerConfig.load(file=settings))
        await nursery.start(broker.cluster.run)
        return broker

    return open_one


@pytest.fixture
async def broker(open_broker: OpenBroker) -> Broker:
    return await open_broker()


@pytest.fixture
def deny(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Forbid operations as an authorizer would: `deny(operation, resource_type, name)`, all names if none is given."""
    denied: list[tuple[Any, Any, str | None]] = []

    def permits(self: Context, operation: Any, resource_type: Any, name: str, **how: Any) -> bool:
        return (operation, resource_type, name) not in denied and (operation, resource_type, None) not in denied

    def require(self: Context, operation: Any, resource_type: Any, name: str) -> None:
        if not self.permits(operation, resource_type, name):
            raise KafkaError(Error.TOPIC_AUTHORIZATION_FAILED)

    monkeypatch.setattr(Context, "permits", permits)
    monkeypatch.setattr(Context, "require", require)

    def add(operation: Any, resource_type: Any, name: str | None = None) -> None:
        denied.append((operation, resource_type, name))

    return add
