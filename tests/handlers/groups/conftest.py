"""The group handlers with the real rooms beneath them, on the reference store."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kafkapy.clock import SystemClock
from kafkapy.cluster.image import Change
from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import DEVELOPMENT_PROFILE, BrokerConfig
from kafkapy.errors import KafkaError
from kafkapy.groups.service import GroupService
from kafkapy.handlers import ALL
from kafkapy.handlers.context import Context, Session
from kafkapy.protocol.messages import request_class, response_class
from kafkapy.storage.memory import open_memory
from tests.membership import alone

MODULES = {route.key: route.module for route in ALL}


class TrioClock(SystemClock):
    """Wall time that follows trio's clock, which the tests let jump."""

    def now_ms(self) -> int:
        return 1_700_000_000_000 + round(trio.current_time() * 1000)


class Broker:
    """Rooms and handlers; `ask` goes through the wire form of the request and the response."""

    def __init__(self, logs: Any, config: BrokerConfig) -> None:
        clock = TrioClock()
        self.logs = logs
        self.rooms: Any = SimpleNamespace(config=config, clock=clock, logs=logs)
        self.cluster = self.rooms.cluster = ClusterService("c", config, logs, alone(logs, self.rooms), clock)
        self.groups = self.rooms.groups = GroupService(self.cluster, logs, logs.leases, clock, config)
        self.cluster.on_change(self._on_change)
        self.denied: dict[Any, Any] = {}

    def _on_change(self, change: Change) -> None:
        for topic in change.deleted:
            self.groups.on_topic_deleted(topic)

    def context(self, key: int, version: int, client_id: str | None = "client", host: str = "127.0.0.1") -> Context:
        session = Session("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, host, 50_000)
        return _DenyingContext(key, version, 1, client_id, session, self.rooms, self.denied)

    async def ask(self, request: Any, version: int, **options: Any) -> Any:
        """The response to a request of this version, both as the other side would see them."""
        key = request.API_KEY
        out = bytearray()
        request.encode(version, out)
        decoded, end = request_class(key).decode(version, bytes(out))
        assert end == len(out)
        module = __import__(f"kafkapy.handlers.{MODULES[key]}", fromlist=["handle"])
        response = await module.handle(decoded, self.context(key, version, **options))
        out = bytearray()
        response.encode(version, out)
        answer, end = response_class(key).decode(version, bytes(out))
        assert end == len(out)
        return answer

    async def create_topic(self, name: str, partition_count: int = 1) -> bytes:
        [topic] = await self.cluster.create_topics([NewTopic(name, partition_count)])
        assert not isinstance(topic, KafkaError), topic
        return topic.topic_id

    async def delete_topic(self, topic_id: bytes) -> None:
        await self.cluster.delete_topics([topic_id])

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.cluster.run)
            await nursery.start(self.groups.run)
            task_status.started()


class _DenyingContext(Context):
    """A context in which some operations are forbidden, as an authorizer would."""

    def __init__(self, *fields: Any) -> None:
        *fields, self._denied = fields
        super().__init__(*fields)

    def require(self, operation: Any, resource_type: Any, name: str) -> None:
        error = self._denied.get((operation, resource_type, name))
        if error is not None:
            raise KafkaError(error)


@pytest.fixture
async def logs():
    async with open_memory(TrioClock()) as store:
        yield store


@pytest.fixture
def open_broker(logs, nursery) -> Callable[..., Any]:
    """Start a broker over the test's store; once more is a restart."""

    async def open_one(**settings: str) -> Broker:
        overrides = {name.replace("_", "."): value for name, value in settings.items()}
        config = BrokerConfig.load(file=overrides, environment={}, flags={}, profile=DEVELOPMENT_PROFILE)
        broker = Broker(logs, config)
        await nursery.start(broker.run)
        return broker

    return open_one


@pytest.fixture
async def broker(open_broker) -> Broker:
    return await open_broker()
