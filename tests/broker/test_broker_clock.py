"""All of a broker's time is its clock's: whoever holds that decides when a wait is over."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

UNKNOWN_MEMBER_ID = 25


class Answer:
    """The answer to a request that is under way."""

    def __init__(self, wire: Wire, nursery: trio.Nursery) -> None:
        self.value: Any = None
        self._wire = wire
        nursery.start_soon(self._wait)

    async def _wait(self) -> None:
        self.value = await self._wire.receive()

    async def is_there(self) -> bool:
        """Whether it comes without the clock being moved; nothing else that could bring it takes a thread's time."""
        await wait_all_tasks_blocked(0.02)
        return self.value is not None


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_a_long_poll_ends_when_the_clock_says_so(
    start_broker: StartBroker, clock: ManualClock, nursery: trio.Nursery
) -> None:
    async with start_broker(memory=True, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
        await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
        partition = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)
        topics = [FetchRequest.FetchTopic(topic="t", partitions=[partition])]
        await wire.send(FetchRequest(max_wait_ms=60_000, min_bytes=1, topics=topics), 11)
        answer = Answer(wire, nursery)
        assert not await answer.is_there()
        clock.advance_ms(59_999)
        assert not await answer.is_there()
        clock.advance_ms(1)
        assert await answer.is_there()
        assert answer.value.responses[0].partitions[0].error_code == 0


async def test_a_group_waits_for_members_and_forgets_them_when_the_clock_says_so(
    start_broker: StartBroker, clock: ManualClock, nursery: trio.Nursery
) -> None:
    settings = {"group.initial.rebalance.delay.ms": "3000", "offsets.topic.num.partitions": "1"}
    settings["kafkapy.auto.create.wait"] = "true"
    async with start_broker(settings=settings, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        protocols = [JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")]
        joining = JoinGroupRequest(
            group_id="g",
            session_timeout_ms=10_000,
            rebalance_timeout_ms=10_000,
            protocol_type="consumer",
            protocols=protocols,
        )
        await wire.ask(FindCoordinatorRequest(key="g"), 3)
        await wire.send(joining, 3)
        joined = Answer(wire, nursery)
        assert not await joined.is_there()
        clock.advance_ms(3000)
        assert await joined.is_there()
        member = joined.value.member_id
        assignments = [SyncGroupRequest.SyncGroupRequestAssignment(member_id=member, assignment=b"all")]
        await wire.ask(SyncGroupRequest(group_id="g", generation_id=1, member_id=member, assignments=assignments), 2)
        beat = HeartbeatRequest(group_id="g", generation_id=1, member_id=member)
        clock.advance_ms(9_999)
        assert (await wire.ask(beat, 2)).error_code == 0
        clock.advance_ms(10_000)
        await wait_all_tasks_blocked()
        assert (await wire.ask(beat, 2)).error_code == UNKNOWN_MEMBER_ID
