"""Groups of hundreds of members: a round of the group costs as much a member as in a small group."""

from contextlib import AsyncExitStack

import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest, JoinGroupResponse
from kafkapy.protocol.messages.sync_group import SyncGroupRequest
from tests.broker.wire import Wire
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, counted_calls

MEMBERS = 50 * SCALE
SETTINGS = {"group.initial.rebalance.delay.ms": "0"}
FIND, JOIN, SYNC, HEARTBEAT = 4, 9, 5, 4


def join(group: str, member_id: str) -> JoinGroupRequest:
    protocol = JoinGroupRequest.JoinGroupRequestProtocol(name="range", metadata=b"what is subscribed to")
    return JoinGroupRequest(
        group_id=group,
        session_timeout_ms=600_000,
        rebalance_timeout_ms=600_000,
        member_id=member_id,
        protocol_type="consumer",
        protocols=[protocol],
    )


async def a_round(wires: list[Wire], group: str, ids: list[str]) -> list[JoinGroupResponse]:
    """The leader joins anew, so that all must; it hands out the assignment, all take theirs and say that they live."""
    for wire, member_id in zip(wires, ids, strict=True):
        await wire.send(join(group, member_id), JOIN)
        if wire is wires[0]:
            await wait_all_tasks_blocked()
    answers = [await wire.receive() for wire in wires]
    assert {answer.error_code for answer in answers} == {0}
    assert len({answer.generation_id for answer in answers}) == 1
    for wire, answer in zip(wires, answers, strict=True):
        assignments = [
            SyncGroupRequest.SyncGroupRequestAssignment(member_id=member.member_id, assignment=b"a share of it")
            for member in answer.members
        ]
        sync = SyncGroupRequest(
            group_id=group,
            generation_id=answer.generation_id,
            member_id=answer.member_id,
            protocol_type="consumer",
            protocol_name="range",
            assignments=assignments,
        )
        await wire.send(sync, SYNC)
    assert {bytes((await wire.receive()).assignment) for wire in wires} == {b"a share of it"}
    for wire, answer in zip(wires, answers, strict=True):
        alive = HeartbeatRequest(group_id=group, generation_id=answer.generation_id, member_id=answer.member_id)
        assert (await wire.ask(alive, HEARTBEAT)).error_code == 0
    return answers


async def cost_of_a_round(wires: list[Wire], group: str) -> int:
    """What the broker calls when a stable group of these members goes through another round."""
    ids = [(await wire.ask(join(group, ""), JOIN)).member_id for wire in wires]  # MEMBER_ID_REQUIRED brings it
    leader = await wires[0].ask(join(group, ids[0]), JOIN)
    assert leader.leader == ids[0]
    for wire, member_id in zip(wires[1:], ids[1:], strict=True):
        await wire.send(join(group, member_id), JOIN)
    await wait_all_tasks_blocked()
    await wires[0].send(join(group, ids[0]), JOIN)
    for wire in wires:
        await wire.receive()
    with counted_calls() as calls:
        await a_round(wires, group, ids)
    return calls.total()


async def test_a_round_of_a_group_costs_the_same_a_member_however_many_there_are(start_broker: StartBroker) -> None:
    async with start_broker(settings=SETTINGS) as broker, AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(await Wire.connect(broker.port)) for _ in range(4 * MEMBERS)]
        while (await wires[0].ask(FindCoordinatorRequest(coordinator_keys=["g"]), FIND)).coordinators[0].error_code:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(120):
            few = await cost_of_a_round(wires[:MEMBERS], "few")
            many = await cost_of_a_round(wires, "many")
    assert many <= 1.2 * 4 * few
