"""Who leads a share partition, which topic it is of, what a group may do with it, and a coordinator that is slow."""

import gc
from typing import Any, NamedTuple

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.sharing.partition import SharePartition
from tests.broker.conftest import StartBroker, start_broker  # noqa: F401
from tests.broker.wire import Wire
from tests.coordination.shards import Door
from tests.scale.asking import DELETE
from tests.sharing.conftest import SETTINGS, MakeMember, open_topic
from tests.sharing.members import Member, Topic

ACCEPT, RELEASE, RENEW = 1, 2, 4
NOBODY = (0, 0)
"""What stands there in Apache Kafka as well, where nobody is named."""


def leaders(answer: Any) -> list[tuple[Error, Error, tuple[int, int]]]:
    """Of each partition: the fetch's error, the acknowledgement's, and who is said to lead, in which epoch."""
    return [
        (
            Error.of(data.error_code),
            Error.of(getattr(data, "acknowledge_error_code", 0)),
            (data.current_leader.leader_id, data.current_leader.leader_epoch),
        )
        for topic in answer.responses
        for data in topic.partitions
    ]


def state_bounds(broker: Any) -> list[Any]:
    """Where the logs of share groups' state begin and end."""
    state = broker.rooms.cluster.image.topic("__share_group_state")
    return [broker.rooms.logs.bounds(partition.log) for partition in state.partitions]


async def test_errors_that_are_about_no_leader_name_none(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(1)
    member = await make_member(opens=False)
    answer = await member.fetch(None, [7])
    assert leaders(answer) == [(Error.UNKNOWN_TOPIC_OR_PARTITION, Error.NONE, NOBODY)]
    answer = await member.fetch({0: [(0, 0, [ACCEPT])]}, max_records=0)
    assert [leader for _, _, leader in leaders(answer)] == [NOBODY] * len(leaders(answer))
    assert answer.node_endpoints == []
    answer = await member.acknowledge({0: [(5, 5, [ACCEPT])]})
    assert [leader for _, _, leader in leaders(answer)] == [NOBODY]
    assert answer.node_endpoints == []


async def test_who_asks_another_broker_is_told_who_leads(start_broker: StartBroker) -> None:  # noqa: F811
    async with start_broker(memory=True, settings=SETTINGS, brokers=2) as broker:
        nodes = {node_id: node.port for node_id, node in broker.fleet.nodes.items()}
        async with await Wire.connect(nodes[1]) as wire:
            await open_topic(wire, "t", 1)
            request = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")])
            [found] = (await wire.ask(request, 12)).topics
        leads = found.partitions[0].leader_id
        [other] = set(nodes) - {leads}
        async with await Wire.connect(nodes[other]) as wire:
            member = Member(wire, Topic(wire, "t", found.topic_id))
            answer = await member.fetch(None, [0])
            assert leaders(answer) == [
                (Error.NOT_LEADER_OR_FOLLOWER, Error.NONE, (leads, found.partitions[0].leader_epoch))
            ]
            assert [(each.node_id, each.port) for each in answer.node_endpoints] == [(leads, nodes[leads])]


async def test_who_acknowledges_what_was_reset_is_told_who_leads_and_begins_anew(
    topic: Topic, make_member: MakeMember, broker: Any
) -> None:
    await topic.produce(2)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    assert await topic.initialize("g", 1, state_epoch=2) is Error.NONE
    answer = await member.acknowledge({0: [(0, 1, [ACCEPT])]})
    assert leaders(answer) == [(Error.NOT_LEADER_OR_FOLLOWER, Error.NONE, (broker.node_id, 0))]
    assert [(each.node_id, each.port) for each in answer.node_endpoints] == [(broker.node_id, broker.port)]
    assert await member.take(max_wait_ms=500) == [(1, 1, 1)]


async def test_a_topic_that_is_made_anew_is_another_one(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(2)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    assert await member.told(0, 1, ACCEPT) is Error.NONE
    await topic.wire.ask(DeleteTopicsRequest(topic_names=[topic.name], timeout_ms=1000), DELETE)
    again = await open_topic(topic.wire, topic.name)
    assert again.topic_id != topic.topic_id
    assert leaders(await member.fetch())[0][0] is Error.UNKNOWN_TOPIC_ID
    assert await again.start_offset("g") == -1, "nothing is known of it"
    await again.initialize("g")
    await again.produce(1)
    newcomer = await make_member("n", opens=False)
    newcomer.topic = again
    assert await newcomer.take(None, [0], max_wait_ms=500) == [(0, 0, 1)]


async def test_nothing_is_kept_of_a_topic_that_is_deleted(
    topic: Topic, make_member: MakeMember, broker: Any, clock: ManualClock
) -> None:
    await topic.produce(1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    assert len(broker.rooms.share_partitions) == 1
    await topic.wire.ask(DeleteTopicsRequest(topic_names=[topic.name], timeout_ms=1000), DELETE)
    assert len(broker.rooms.share_partitions) == 0, "the window is gone"
    await wait_all_tasks_blocked(0.01)
    gc.collect()
    assert not any(isinstance(each, SharePartition) for each in gc.get_objects()), "and no alarm has it"
    with trio.fail_after(10):  # so is what the share coordinator has written
        while any(bounds.log_start_offset < bounds.end_offset for bounds in state_bounds(broker)):
            clock.advance_ms(300_000)
            await wait_all_tasks_blocked(0.01)


async def test_a_group_may_be_set_to_renew_nothing(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(2)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    assert await member.told(0, 1, RENEW, renews=True) is Error.NONE
    cls = IncrementalAlterConfigsRequest
    config = cls.AlterableConfig(name="share.renew.acknowledge.enable", config_operation=0, value="false")
    resource = cls.AlterConfigsResource(resource_type=32, resource_name="g", configs=[config])
    assert (await topic.wire.ask(cls(resources=[resource]), 1)).responses[0].error_code == 0
    assert await member.told(0, 1, RENEW, renews=True) is Error.INVALID_RECORD_STATE
    assert await member.told(0, 1, ACCEPT) is Error.NONE


async def test_a_write_of_state_that_takes_too_long_is_not_waited_for(
    start_broker: StartBroker,  # noqa: F811
    clock: ManualClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = SETTINGS | {"share.coordinator.write.timeout.ms": "1000"}
    async with (
        start_broker(memory=True, settings=settings, clock=clock) as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as stream,
        trio.open_nursery() as nursery,
    ):
        topic = await open_topic(wire)
        await topic.initialize("g")
        await topic.produce(2)
        member = Member(stream, topic)
        assert await member.take(None, [0], max_wait_ms=500) == [(0, 1, 1)]
        logs = broker.rooms.logs
        door = Door(_Straight(logs.append))
        door.open = trio.Event()
        told: list[Error] = []
        with monkeypatch.context() as patch:
            patch.setattr(logs, "append", door.append)

            async def tell() -> None:
                told.append(await member.told(0, 1, ACCEPT))

            nursery.start_soon(tell)
            with trio.fail_after(20):
                while not told:
                    await wait_all_tasks_blocked(0.01)
                    clock.advance_ms(500)
            assert told == [Error.COORDINATOR_NOT_AVAILABLE]
            door.open.set()
        assert await member.told(0, 1, RELEASE) is Error.NONE, "the member has the records still"
        assert await member.take() == [(0, 1, 2)]
        assert await member.told(0, 1, ACCEPT) is Error.NONE
        await topic.produce(1)
        assert await member.take(max_wait_ms=500) == [(2, 2, 1)]


class _Straight(NamedTuple):
    """The store itself, past the door."""

    append: Any
