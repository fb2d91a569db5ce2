"""Share sessions over the wire: how they begin, go on and end, and what is said to who has lost count."""

import gc
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.sharing.sessions import ShareSession
from tests.broker.conftest import StartBroker, start_broker  # noqa: F401
from tests.broker.wire import Wire
from tests.sharing.conftest import SETTINGS, MakeMember, open_topic
from tests.sharing.members import Member, Topic, acquired

ACCEPT, RELEASE = 1, 2


def errors(answer: Any) -> list[tuple[int, Error, Error]]:
    """Of each partition: its number, the fetch's error, the acknowledgement's."""
    return [
        (data.partition_index, Error.of(data.error_code), Error.of(data.acknowledge_error_code))
        for topic in answer.responses
        for data in topic.partitions
    ]


async def test_a_session_does_not_begin_with_acknowledgements(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(2)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    answer = await member.fetch({0: [(0, 1, [ACCEPT])]}, epoch=0)
    assert answer.error_code == Error.INVALID_REQUEST
    assert await member.told(0, 1, ACCEPT) is Error.NONE, "the session there was goes on"


async def test_no_session_and_another_epoch_are_not_the_same(topic: Topic, make_member: MakeMember) -> None:
    member = await make_member(opens=False)
    assert (await member.fetch(epoch=1)).error_code == Error.SHARE_SESSION_NOT_FOUND
    assert (await member.fetch(epoch=-1)).error_code == Error.SHARE_SESSION_NOT_FOUND
    assert (await member.acknowledge({}, epoch=3)).error_code == Error.SHARE_SESSION_NOT_FOUND
    assert (await member.acknowledge({}, epoch=-1)).error_code == Error.SHARE_SESSION_NOT_FOUND
    await member.fetch(None, [0], epoch=0, max_records=0)
    assert (await member.fetch(epoch=2)).error_code == Error.INVALID_SHARE_SESSION_EPOCH
    assert (await member.acknowledge({}, epoch=7)).error_code == Error.INVALID_SHARE_SESSION_EPOCH
    assert (await member.fetch(epoch=1, max_records=0)).error_code == Error.NONE


async def test_an_acknowledgement_opens_no_session(topic: Topic, make_member: MakeMember) -> None:
    member = await make_member(opens=False)
    answer = await member.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=0)
    assert answer.error_code == Error.INVALID_SHARE_SESSION_EPOCH, "whether or not there is a session"
    assert (await member.fetch(epoch=1)).error_code == Error.SHARE_SESSION_NOT_FOUND


async def test_an_acknowledgement_moves_the_epoch_on_and_one_with_a_fetch_only_once(
    topic: Topic, make_member: MakeMember
) -> None:
    await topic.produce(3)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 2, 1)]
    assert (await member.acknowledge({}, epoch=0)).error_code == Error.INVALID_SHARE_SESSION_EPOCH
    assert (await member.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=2)).error_code == 0
    assert (await member.fetch({0: [(1, 1, [ACCEPT])]}, epoch=3)).error_code == 0
    assert (await member.fetch({0: [(2, 2, [ACCEPT])]}, epoch=4)).error_code == 0
    assert (await member.fetch(epoch=4)).error_code == Error.INVALID_SHARE_SESSION_EPOCH


async def test_the_last_fetch_acknowledges_releases_the_rest_and_is_given_nothing(
    topic: Topic, make_member: MakeMember
) -> None:
    await topic.produce(4)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 3, 1)]
    await topic.produce(1)
    answer = await member.fetch({0: [(0, 1, [ACCEPT])]}, epoch=-1, max_wait_ms=500)
    assert errors(answer) == [(0, Error.NONE, Error.NONE)]
    assert acquired(answer) == []
    assert await other.take_all(3) == [(2, 2), (3, 2), (4, 1)], "the counts stay"
    assert (await member.fetch(epoch=1)).error_code == Error.SHARE_SESSION_NOT_FOUND


async def test_the_last_acknowledgement_releases_the_rest(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(2)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    assert (await member.acknowledge({0: [(0, 0, [ACCEPT])]}, epoch=-1)).error_code == 0
    assert await other.take(max_wait_ms=500) == [(1, 1, 2)]


async def test_who_finds_no_room_hears_it_after_the_wait(
    start_broker: StartBroker,  # noqa: F811
    clock: ManualClock,
) -> None:
    settings = SETTINGS | {"group.share.max.share.sessions": "1", "group.share.max.size": "1"}
    async with (
        start_broker(memory=True, settings=settings, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as second,
    ):
        topic = await open_topic(wire)
        await Member(wire, topic, "first").fetch(None, [0], max_records=0)
        late = Member(second, topic, "late")
        await late.send_fetch(None, [0], max_wait_ms=5_000)
        with trio.move_on_after(0.2) as at_once:
            await second.begin_to_receive()
        assert at_once.cancelled_caught
        clock.advance_ms(5_000)
        assert (await second.receive()).error_code == Error.SHARE_SESSION_LIMIT_REACHED


async def test_a_partition_named_for_its_acknowledgements_joins_the_session(
    topic: Topic, make_member: MakeMember
) -> None:
    await topic.produce(1)
    await topic.produce(1, partition=1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    answer = await member.fetch({1: [(0, 0, [ACCEPT])]})
    assert (1, Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION) in errors(answer)
    assert await member.take(partition=1, max_wait_ms=500) == [(0, 0, 1)]


async def test_a_connection_that_ends_frees_what_its_member_had(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(2)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    await other.send_fetch(max_wait_ms=60_000)
    await member.wire.stream.aclose()
    assert acquired(await other.wire.receive()) == [(0, 1, 2)]


async def test_a_member_that_came_back_keeps_its_session_when_its_old_connection_ends(
    broker: Any, topic: Topic, make_member: MakeMember
) -> None:
    old, new = await make_member("m"), await make_member("m")
    await old.wire.stream.aclose()
    await wait_all_tasks_blocked(0.05)
    assert (await new.fetch(max_records=0)).error_code == 0
    assert len(broker.rooms.share_sessions) == 1


async def test_without_members_nothing_is_kept_in_memory(broker: Any, topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    assert len(broker.rooms.share_partitions) == 1
    await member.wire.stream.aclose()
    with trio.fail_after(5):
        while len(broker.rooms.share_partitions):
            await wait_all_tasks_blocked(0.01)
    assert len(broker.rooms.share_sessions) == 0


async def test_a_connection_keeps_nothing_of_the_sessions_that_have_ended_on_it(
    topic: Topic, make_member: MakeMember
) -> None:
    member = await make_member("m-ends")
    for _ in range(50):
        assert (await member.fetch(None, [0], epoch=0, max_records=0)).error_code == Error.NONE
    gc.collect()
    mine = [each for each in gc.get_objects() if isinstance(each, ShareSession) and each.key.member_id == "m-ends"]
    assert len(mine) <= 1


@pytest.mark.parametrize("member_id", ["", "x" * 37])
async def test_a_member_needs_an_id(topic: Topic, make_member: MakeMember, member_id: str) -> None:
    member = await make_member(member_id, opens=False)
    assert (await member.fetch(None, [0])).error_code == Error.INVALID_REQUEST
    assert (await member.acknowledge({}, epoch=1)).error_code == Error.INVALID_REQUEST


async def test_what_is_not_there_is_an_error_of_its_partition(topic: Topic, make_member: MakeMember) -> None:
    member = await make_member(opens=False)
    answer = await member.fetch(None, [7])
    assert errors(answer) == [(7, Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NONE)]
    stranger = Member(member.wire, Topic(topic.wire, "?", b"?" * 16), "n")
    assert errors(await stranger.fetch(None, [0])) == [(0, Error.UNKNOWN_TOPIC_ID, Error.NONE)]
    answer = await stranger.fetch({0: [(0, 0, [ACCEPT])]})
    assert errors(answer) == [(0, Error.UNKNOWN_TOPIC_ID, Error.UNKNOWN_TOPIC_ID)]


async def test_a_group_that_nobody_assigned_the_partition_to_is_given_nothing(
    topic: Topic, make_member: MakeMember
) -> None:
    await topic.produce(1)
    member = await make_member(group="another", opens=False)
    answer = await member.fetch(None, [0], max_wait_ms=60_000)
    assert errors(answer) == [(0, Error.UNKNOWN_SERVER_ERROR, Error.NONE)]
