"""The group handlers with the real rooms beneath them, on the reference store."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import SystemClock
from kafkapy.cluster.image import Change
from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import DEVELOPMENT_PROFILE, BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.service import GroupService
from kafkapy.groups.share.service import ShareGroups
from kafkapy.groups.streams.service import StreamsGroups
from kafkapy.handlers.context import Context, Session
from kafkapy.handlers.registry import Registry
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.sharing.state.service import ShareStateService
from kafkapy.storage.memory import open_memory
from tests.groups.persisters import Keeper
from tests.membership import alone
from tests.waiting import answered


class TrioClock(SystemClock):
    """Wall time that follows trio's clock, which the tests let jump."""

    def now_ms(self) -> int:
        return 1_700_000_000_000 + round(trio.current_time() * 1000)


class Broker:
    """Rooms and handlers; `ask` sends a frame and decodes the frame that comes back."""

    def __init__(self, logs: Any, config: BrokerConfig) -> None:
        clock = TrioClock()
        self.logs = logs
        self.rooms: Any = SimpleNamespace(config=config, clock=clock, logs=logs)
        membership = alone(logs, self.rooms)
        self.cluster = self.rooms.cluster = ClusterService("c", config, logs, membership, clock)
        self.groups = self.rooms.groups = GroupService(self.cluster, logs, logs.leases, clock, config)
        self.keeper = Keeper()
        self.rooms.share_groups = ShareGroups(self.cluster, self.groups, self.keeper, membership.peers)
        self.rooms.streams_groups = StreamsGroups(self.cluster, self.groups, clock)
        self.rooms.share_state = ShareStateService(self.cluster, logs, logs.leases, clock, config)
        self.cluster.on_change(self._on_change)
        self.denied: dict[Any, Any] = {}
        self.rooms.denied = self.denied
        self._registry = Registry(self.rooms)

    def _on_change(self, change: Change) -> None:
        for topic in change.deleted:
            self.groups.on_topic_deleted(topic)

    async def ask(
        self, request: Any, version: int, *, client_id: str | None = "client", host: str = "127.0.0.1"
    ) -> Any:
        """The response to a request of this version, both as the other side would see them."""
        key = request.API_KEY
        frame = bytearray()
        encode_request_header(key, version, 7, client_id, frame)
        frame = b"".join(map(bytes, request.encode(version, frame)))
        session = Session("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, host, 50_000)
        answer = await answered(await self._registry.dispatch(memoryview(frame), session))
        raw = b"".join(map(bytes, answer))[4:]
        _, offset = decode_response_header(key, version, raw)
        response, end = response_class(key).decode(version, raw, offset)
        assert end == len(raw)
        return response

    async def find_coordinator(self, group_id: str = "g") -> Any:
        """The answer of who asks as clients do: the first may be that there is no coordinator yet."""
        if (await self.ask(FindCoordinatorRequest(key=group_id), 0)).error_code == Error.COORDINATOR_NOT_AVAILABLE:
            await wait_all_tasks_blocked()
        return await self.ask(FindCoordinatorRequest(key=group_id), 0)

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
            await nursery.start(self.rooms.share_groups.run)
            await nursery.start(self.rooms.streams_groups.run)
            task_status.started()


@pytest.fixture
async def logs():
    async with open_memory(TrioClock()) as store:
        yield store


def _require(context: Context, *operation: Any) -> None:
    error = context.rooms.denied.get(operation)  # type: ignore[attr-defined]
    if error is not None:
        raise KafkaError(error)


def _permits(context: Context, *operation: Any, **how: Any) -> bool:
    return operation not in context.rooms.denied  # type: ignore[attr-defined]


@pytest.fixture
def open_broker(logs, nursery, monkeypatch) -> Callable[..., Any]:
    """Start a broker over the test's store; once more is a restart. What it has `denied` is forbidden."""
    monkeypatch.setattr(Context, "require", _require)
    monkeypatch.setattr(Context, "permits", _permits)

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
