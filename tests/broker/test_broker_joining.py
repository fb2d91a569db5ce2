"""Members that wait for their group, from the socket to the coordinator: what they cost, and what ends the waiting."""

from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.protocol.messages.describe_groups import DescribeGroupsRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.sync_group import SyncGroupRequest
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

FIND, JOIN, SYNC, DESCRIBE = 4, 3, 2, 5
SETTINGS = {
    "group.initial.rebalance.delay.ms": "3000",
    "offsets.topic.num.partitions": "1",
    "kafkapy.auto.create.wait": "true",
}


def join(member_id: str = "") -> JoinGroupRequest:
    return JoinGroupRequest(
        group_id="g",
        session_timeout_ms=10_000,
        rebalance_timeout_ms=60_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"")],
    )


async def connect(stack: AsyncExitStack, broker: Broker, count: int) -> list[Wire]:
    wires = [await stack.enter_async_context(await Wire.connect(broker.port)) for _ in range(count)]
    await wires[0].ask(FindCoordinatorRequest(coordinator_keys=["g"]), FIND)
    return wires


async def begin(clock: ManualClock) -> None:
    """Have the first generation begin: whoever came while the group waited has it wait once more (KIP-134)."""
    for _ in range(2):
        clock.advance_ms(3000)
        await wait_all_tasks_blocked(0.02)


async def member_count(wire: Wire) -> int:
    [group] = (await wire.ask(DescribeGroupsRequest(groups=["g"]), DESCRIBE)).groups
    return len(group.members)


@pytest.mark.parametrize("syncs", [False, True])
async def test_a_stop_does_not_wait_for_who_waits_for_a_group(start_broker: StartBroker, syncs: bool) -> None:
    """As with Apache Kafka, they are closed. The clock stands still, so that no grace would ever be over."""
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        with trio.fail_after(20):
            async with start_broker(memory=True, clock=clock, settings=SETTINGS) as broker:
                wires = await connect(stack, broker, 3)
                for wire in wires[:2]:
                    await wire.send(join(), JOIN)
                await wait_all_tasks_blocked(0.02)
                if syncs:
                    await begin(clock)
                    answers = [await wire.receive() for wire in wires[:2]]
                    for wire, answer in zip(wires, answers, strict=False):
                        if answer.member_id != answer.leader:
                            sync = SyncGroupRequest(group_id="g", generation_id=1, member_id=answer.member_id)
                            await wire.send(sync, SYNC)
                    await wait_all_tasks_blocked(0.02)
                assert await member_count(wires[2]) == 2
            for wire in wires:
                assert await wire.receive_frame() is None


async def test_a_hundred_who_wait_for_a_group_hold_no_task(start_broker: StartBroker) -> None:
    clock = ManualClock()
    async with start_broker(memory=True, clock=clock, settings=SETTINGS) as broker, AsyncExitStack() as stack:
        [asking, *wires] = await connect(stack, broker, 101)
        await wires[0].send(join(), JOIN)  # the first of a group has its coordinator begin
        await wait_all_tasks_blocked(0.02)
        before = trio.lowlevel.current_statistics().tasks_living
        for wire in wires[1:]:
            await wire.send(join(), JOIN)
        await wait_all_tasks_blocked(0.02)
        assert await member_count(asking) == 100
        assert trio.lowlevel.current_statistics().tasks_living <= before + 1
        await begin(clock)
        with trio.fail_after(20):
            answers = [await wire.receive() for wire in wires]
        assert {(answer.error_code, answer.generation_id) for answer in answers} == {(0, 1)}


async def test_a_member_whose_connection_ends_while_it_waits_stays_in_the_group(start_broker: StartBroker) -> None:
    """As with Apache Kafka, whose coordinator learns nothing of it: only its session's end ends it."""
    clock = ManualClock()
    async with start_broker(memory=True, clock=clock, settings=SETTINGS) as broker, AsyncExitStack() as stack:
        [asking, staying] = await connect(stack, broker, 2)
        async with await Wire.connect(broker.port) as going:
            await going.send(join(), JOIN)
            await wait_all_tasks_blocked(0.02)
        await staying.send(join(), JOIN)
        await wait_all_tasks_blocked(0.02)
        assert await member_count(asking) == 2
        await begin(clock)
        with trio.fail_after(20):
            answer = await staying.receive()
        assert (answer.error_code, answer.generation_id) == (0, 1)
        assert await member_count(asking) == 2
        clock.advance_ms(9_999)
        await wait_all_tasks_blocked(0.02)
        assert await member_count(asking) == 2
