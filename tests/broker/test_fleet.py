"""Several brokers in one process: who leads what, what a broker says that does not, and what is so once one is gone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from kafkapy.broker import Broker
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.peers import LocalPeers
from kafkapy.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest
from kafkapy.protocol.messages.describe_groups import DescribeGroupsRequest
from kafkapy.protocol.messages.elect_leaders import ElectLeadersRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.list_partition_reassignments import ListPartitionReassignmentsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.unregister_broker import UnregisterBrokerRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire

SETTINGS = {
    "kafkapy.auto.create.wait": "true",
    "offsets.topic.num.partitions": "6",
    "default.replication.factor": "3",
    "num.partitions": "3",
}
THREE: Any = {"brokers": 3, "racks": ("a", "b", "c"), "settings": SETTINGS}


class Told:
    """What Metadata says of topic "t", and of the brokers."""

    def __init__(self, answer: Any) -> None:
        [topic] = answer.topics
        self.topic_id = topic.topic_id
        self.brokers = {broker.node_id: broker for broker in answer.brokers}
        self.partitions = {partition.partition_index: partition for partition in topic.partitions}
        self.leaders = {index: partition.leader_id for index, partition in self.partitions.items()}

    def led_by(self, node_id: int) -> int:
        """A partition that this broker leads."""
        return next(index for index, leader in self.leaders.items() if leader == node_id)


def port_of(broker: Broker, node_id: int) -> int:
    return broker.fleet.nodes[node_id].port


async def metadata(broker: Broker, node_id: int | None = None) -> Told:
    async with await Wire.connect(port_of(broker, node_id or min(broker.fleet.nodes))) as wire:
        return Told(await wire.ask(MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")]), 12))


@asynccontextmanager
async def three(start_broker: StartBroker, factor: int = 3, **options: Any) -> AsyncIterator[Broker]:
    """Three brokers with topic "t" of three partitions."""
    async with start_broker(**{**THREE, **options}) as broker:
        topic = CreateTopicsRequest.CreatableTopic(
            name="t",
            num_partitions=3,
            replication_factor=factor,
            configs=[CreateTopicsRequest.CreatableTopicConfig(name="min.insync.replicas", value="2")],
        )
        async with await Wire.connect(broker.port) as wire:
            answer = await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=30_000), 7)
        assert (answer.topics[0].error_code, answer.topics[0].replication_factor) == (0, factor)
        yield broker


async def produce(broker: Broker, node_id: int, partition: int, *, acks: int = -1) -> Any:
    batch = build_batch([Record(0, 1000, b"k", b"v", [])])
    data = [ProduceRequest.PartitionProduceData(index=partition, records=batch)]
    topic = ProduceRequest.TopicProduceData(name="t", partition_data=data)
    async with await Wire.connect(port_of(broker, node_id)) as wire:
        answer = await wire.ask(ProduceRequest(acks=acks, timeout_ms=9000, topic_data=[topic]), 10)
    [told] = answer.responses[0].partition_responses
    return told, answer.node_endpoints


def fetching(told: Told, partition: int, offset: int = 0, *, wait_ms: int = 0) -> FetchRequest:
    wanted = FetchRequest.FetchPartition(partition=partition, fetch_offset=offset, partition_max_bytes=1 << 20)
    topic = FetchRequest.FetchTopic(topic_id=told.topic_id, partitions=[wanted])
    return FetchRequest(max_wait_ms=wait_ms, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, topics=[topic])


async def test_each_leads_its_share_and_all_tell_the_same(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        seen = [await metadata(broker, node_id) for node_id in (1, 2, 3)]
        assert sorted(seen[0].leaders.values()) == [1, 2, 3]
        for told in seen:
            assert told.leaders == seen[0].leaders
            assert {node: (one.port, one.rack) for node, one in told.brokers.items()} == {
                node_id: (port_of(broker, node_id), rack) for node_id, rack in ((1, "a"), (2, "b"), (3, "c"))
            }
            for partition in told.partitions.values():
                assert sorted(partition.replica_nodes) == sorted(partition.isr_nodes) == [1, 2, 3]
        leaders = await coordinators(broker)
        assert set(leaders.values()) == {1, 2, 3}


async def coordinators(broker: Broker, count: int = 12) -> dict[str, int]:
    """Who coordinates groups g0, g1, and so on."""
    keys = [f"g{number}" for number in range(count)]
    async with await Wire.connect(port_of(broker, max(broker.fleet.nodes))) as wire:
        answer = await wire.ask(FindCoordinatorRequest(key_type=0, coordinator_keys=keys), 4)
    assert {one.error_code for one in answer.coordinators} == {0}
    return {one.key: one.node_id for one in answer.coordinators}


async def test_who_does_not_lead_says_who_does(start_broker: StartBroker) -> None:
    async with three(start_broker, factor=1) as broker:
        told = await metadata(broker)
        of_two = told.led_by(2)
        answer, endpoints = await produce(broker, 1, of_two)
        assert answer.error_code == Error.NOT_LEADER_OR_FOLLOWER
        assert (answer.current_leader.leader_id, answer.current_leader.leader_epoch) == (2, 0)
        assert [(one.node_id, one.port, one.rack) for one in endpoints] == [(2, port_of(broker, 2), "b")]
        answer, _ = await produce(broker, 2, of_two)
        assert (answer.error_code, answer.base_offset) == (0, 0)
        async with await Wire.connect(port_of(broker, 3)) as wire:
            fetched = await wire.ask(fetching(told, of_two), 16)
        [found] = fetched.responses[0].partitions
        assert found.error_code == Error.NOT_LEADER_OR_FOLLOWER
        assert found.current_leader.leader_id == 2
        assert [one.node_id for one in fetched.node_endpoints] == [2]


async def only_coordinators_answer(broker: Broker, leaders: dict[str, int]) -> None:
    for group_id, leader in leaders.items():
        for node_id in broker.fleet.nodes:
            async with await Wire.connect(port_of(broker, node_id)) as wire:
                answer = await wire.ask(HeartbeatRequest(group_id=group_id, member_id="m", generation_id=1), 4)
            expected = Error.UNKNOWN_MEMBER_ID if node_id == leader else Error.NOT_COORDINATOR
            assert Error.of(answer.error_code) is expected


async def test_who_does_not_coordinate_says_so_and_neither_does_who_did(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        before = await coordinators(broker)
        await only_coordinators_answer(broker, before)
        await broker.fleet.kill(2)
        await broker.fleet.start(2)
        after = await coordinators(broker)
        assert 2 not in after.values()
        await only_coordinators_answer(broker, after)
        async with await Wire.connect(broker.port) as wire:
            await wire.ask(ElectLeadersRequest(topic_partitions=None, timeout_ms=9000), 2)
        assert await coordinators(broker) == before
        await only_coordinators_answer(broker, before)


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_what_a_broker_led_goes_over_to_others_and_comes_back(start_broker: StartBroker, way: str) -> None:
    async with three(start_broker) as broker:
        before = await metadata(broker)
        index = before.led_by(2)
        coordinating = await coordinators(broker)
        port = port_of(broker, 2)
        await getattr(broker.fleet, way)(2)
        after = await metadata(broker)
        assert sorted(after.brokers) == [1, 3]
        one = after.partitions[index]
        assert one.leader_id in (1, 3)
        assert one.leader_epoch == 1
        assert (sorted(one.isr_nodes), one.offline_replicas) == ([1, 3], [2])
        answer, _ = await produce(broker, one.leader_id, index)
        assert answer.error_code == 0
        of_two = {group for group, node_id in coordinating.items() if node_id == 2}
        assert of_two
        for group, node_id in (await coordinators(broker)).items():
            assert node_id in (1, 3) if group in of_two else node_id == coordinating[group]
        with pytest.raises(OSError):
            await trio.open_tcp_stream("127.0.0.1", port)

        await broker.fleet.start(2)
        again = await metadata(broker, 2)
        assert port_of(broker, 2) == port
        assert sorted(again.partitions[index].isr_nodes) == [1, 2, 3]
        assert again.leaders == after.leaders  # until leaders are balanced


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_a_broker_may_go_while_others_ask_it(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    peers, heard = LocalPeers(), set[Error]()
    monkeypatch.setattr("kafkapy.broker.LocalPeers", lambda: peers)
    async with three(start_broker) as broker:
        groups = [group for group, node_id in (await coordinators(broker)).items() if node_id == 2]

        async def ask_on() -> None:
            while True:
                try:
                    answer = await peers.ask(2, DescribeGroupsRequest(groups=groups))
                    heard.update(Error.of(group.error_code) for group in answer.groups)
                except KafkaError as problem:
                    heard.add(problem.error)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask_on)
            await getattr(broker.fleet, way)(2)
            nursery.cancel_scope.cancel()
    assert Error.BROKER_NOT_AVAILABLE in heard


async def test_too_few_in_sync_refuse_acks_all(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        await broker.fleet.stop(2)
        await broker.fleet.kill(3)
        answer, _ = await produce(broker, 1, 0)
        assert answer.error_code == Error.NOT_ENOUGH_REPLICAS
        answer, _ = await produce(broker, 1, 0, acks=1)
        assert answer.error_code == 0
        await broker.fleet.start(3)
        answer, _ = await produce(broker, 1, 0)
        assert answer.error_code == 0


async def test_a_partition_whose_brokers_are_all_gone_has_no_leader(start_broker: StartBroker) -> None:
    async with three(start_broker, factor=1) as broker:
        before = await metadata(broker)
        index = before.led_by(3)
        await broker.fleet.stop(3)
        one = (await metadata(broker)).partitions[index]
        assert (one.error_code, one.leader_id, one.isr_nodes) == (Error.LEADER_NOT_AVAILABLE, -1, [])
        await broker.fleet.start(3)
        one = (await metadata(broker)).partitions[index]
        assert (one.error_code, one.leader_id, one.leader_epoch) == (0, 3, 2)


async def test_a_fetch_that_waits_hears_at_once_that_the_leader_is_another(
    start_broker: StartBroker, autojump_clock: object
) -> None:
    async with three(start_broker, memory=True) as broker:
        told = await metadata(broker)
        index = told.led_by(2)
        async with await Wire.connect(port_of(broker, 2)) as wire, trio.open_nursery() as nursery:
            await wire.send(fetching(told, index, wait_ms=3_600_000), 16)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(broker.fleet.stop, 2)
            [found] = (await wire.receive()).responses[0].partitions
            assert found.error_code == Error.NOT_LEADER_OR_FOLLOWER
            assert found.current_leader.leader_id in (1, 3)


async def test_a_replica_is_read_like_the_leader_by_clients_that_can(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        told = await metadata(broker)
        index = told.led_by(2)
        await produce(broker, 2, index)
        async with await Wire.connect(port_of(broker, 3)) as wire:
            [found] = (await wire.ask(fetching(told, index), 13)).responses[0].partitions
            assert (found.error_code, found.high_watermark, len(found.records) > 0) == (0, 1, True)
            old = fetching(told, index)
            old.topics[0].topic = "t"
            [found] = (await wire.ask(old, 10)).responses[0].partitions
            assert found.error_code == Error.NOT_LEADER_OR_FOLLOWER


async def test_a_client_is_sent_to_the_replica_in_its_rack(start_broker: StartBroker) -> None:
    selector = {"replica.selector.class": "org.apache.kafka.common.replica.RackAwareReplicaSelector"}
    async with three(start_broker, settings={**SETTINGS, **selector}) as broker:
        told = await metadata(broker)
        index = told.led_by(2)
        await produce(broker, 2, index)

        async def asked_from(rack: str) -> tuple[int, int]:
            request = fetching(told, index)
            request.rack_id = rack
            async with await Wire.connect(port_of(broker, 2)) as wire:
                [found] = (await wire.ask(request, 13)).responses[0].partitions
            assert (found.error_code, found.high_watermark) == (0, 1)
            return found.preferred_read_replica, len(found.records)

        assert await asked_from("c") == (3, 0)
        assert (await asked_from("b"))[0] == -1
        assert (await asked_from("elsewhere"))[0] == -1
        await broker.fleet.stop(3)
        near, size = await asked_from("c")
        assert near == -1
        assert size > 0


async def test_leaders_come_back_when_they_are_elected_and_by_themselves(
    start_broker: StartBroker, autojump_clock: object
) -> None:
    async with three(start_broker, memory=True) as broker:
        before = (await metadata(broker)).leaders
        await broker.fleet.kill(2)
        await broker.fleet.start(2)
        assert 2 not in (await metadata(broker)).leaders.values()
        async with await Wire.connect(broker.port) as wire:
            answer = await wire.ask(ElectLeadersRequest(topic_partitions=None, timeout_ms=9000), 2)
        [topic] = [topic for topic in answer.replica_election_results if topic.topic == "t"]
        assert [one.error_code for one in topic.partition_result] == [0]
        assert (await metadata(broker)).leaders == before
        await broker.fleet.kill(3)
        await broker.fleet.start(3)
        await trio.sleep(301)  # the interval of leader.imbalance.check.interval.seconds, on a clock that jumps
        assert (await metadata(broker)).leaders == before


async def test_replicas_move_to_other_brokers(start_broker: StartBroker) -> None:
    async with three(start_broker, factor=1) as broker:
        index = (await metadata(broker)).led_by(1)
        await produce(broker, 1, index)
        assert await reassign(broker, index, [3]) == 0
        one = (await metadata(broker)).partitions[index]
        assert (one.leader_id, one.replica_nodes, one.isr_nodes) == (3, [3], [3])
        answer, _ = await produce(broker, 3, index)
        assert (answer.error_code, answer.base_offset) == (0, 1)
        await broker.fleet.stop(2)
        assert await reassign(broker, index, [2]) == 0
        async with await Wire.connect(broker.port) as wire:
            [topic] = (await wire.ask(ListPartitionReassignmentsRequest(), 0)).topics
        [moving] = topic.partitions
        assert (moving.replicas, moving.adding_replicas, moving.removing_replicas) == ([2, 3], [2], [3])
        await broker.fleet.start(2)
        one = (await metadata(broker)).partitions[index]
        assert (one.leader_id, one.replica_nodes) == (2, [2])


async def reassign(broker: Broker, index: int, replicas: list[int]) -> int:
    partition = AlterPartitionReassignmentsRequest.ReassignablePartition(partition_index=index, replicas=replicas)
    topic = AlterPartitionReassignmentsRequest.ReassignableTopic(name="t", partitions=[partition])
    async with await Wire.connect(broker.port) as wire:
        answer = await wire.ask(AlterPartitionReassignmentsRequest(topics=[topic], timeout_ms=9000), 0)
    error: int = answer.responses[0].partitions[0].error_code
    return error


async def test_a_broker_that_is_gone_is_told_as_fenced_until_it_is_unregistered(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker, await Wire.connect(broker.port) as wire:
        there = await wire.ask(UnregisterBrokerRequest(broker_id=3), 0)
        assert there.error_code == Error.INVALID_REQUEST
        await broker.fleet.stop(3)
        asked = DescribeClusterRequest(endpoint_type=1, include_fenced_brokers=True)
        answer = await wire.ask(asked, 2)
        assert {one.broker_id: one.is_fenced for one in answer.brokers} == {1: False, 2: False, 3: True}
        assert (await wire.ask(UnregisterBrokerRequest(broker_id=3), 0)).error_code == 0
        answer = await wire.ask(asked, 2)
        assert [one.broker_id for one in answer.brokers] == [1, 2]
        await broker.fleet.start(3)
        answer = await wire.ask(asked, 2)
        assert [one.broker_id for one in answer.brokers] == [1, 2, 3]


async def test_a_broker_that_is_added_takes_part(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        assert await broker.fleet.add(rack="d") == 4
        assert (await metadata(broker, 4)).brokers[4].rack == "d"
        topic = CreateTopicsRequest.CreatableTopic(name="wide", num_partitions=4, replication_factor=4)
        async with await Wire.connect(broker.port) as wire:
            [made] = (await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=30_000), 7)).topics
        assert made.error_code == 0
        partitions = broker.rooms.cluster.image.topics["wide"].partitions
        assert sorted(partition.leader for partition in partitions) == [1, 2, 3, 4]


async def test_leaders_and_epochs_outlive_the_process(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        await broker.fleet.kill(1)
        before = await metadata(broker)
        index = before.led_by(2)
        await produce(broker, 2, index)
    async with start_broker(**THREE) as broker:
        after = await metadata(broker)
        assert after.leaders == before.leaders
        assert [one.leader_epoch for one in after.partitions.values()] == [
            one.leader_epoch for one in before.partitions.values()
        ]
        assert all(sorted(one.isr_nodes) == [1, 2, 3] for one in after.partitions.values())


async def test_one_broker_goes_on_with_what_three_have_left(start_broker: StartBroker) -> None:
    async with three(start_broker) as broker:
        told = await metadata(broker)
        await produce(broker, 3, told.led_by(3))
    async with start_broker(settings=SETTINGS) as broker:
        alone = await metadata(broker)
        assert list(alone.brokers) == [1]
        assert set(alone.leaders.values()) == {1}
        async with await Wire.connect(broker.port) as wire:
            [found] = (await wire.ask(fetching(alone, told.led_by(3)), 16)).responses[0].partitions
        assert (found.error_code, found.high_watermark) == (0, 1)
