"""A broker that does not lead everything: clients are told who does, and are not served from what is another's."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from kafkapy.clock import ManualClock
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.membership import Membership
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error
from kafkapy.groups.service import GroupService
from kafkapy.handlers.context import Session
from kafkapy.handlers.registry import Registry
from kafkapy.log.fetch_session import FetchSessionCache
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.allocate_producer_ids import AllocateProducerIdsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest
from kafkapy.protocol.messages.describe_producers import DescribeProducersRequest
from kafkapy.protocol.messages.describe_topic_partitions import DescribeTopicPartitionsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest
from kafkapy.protocol.messages.join_group import JoinGroupRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.offset_for_leader_epoch import OffsetForLeaderEpochRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.memory import open_memory
from kafkapy.transactions.producer_ids import ProducerIds
from kafkapy.turns import Turns
from tests.handlers.two_brokers import BROKERS, THEM, US, LiveBrokers, SharedLeases

BATCH = build_batch([Record(0, 1000, b"k", b"v", [])])


class Peers:
    """Reaches broker 1; of what broker 2 is asked, note is taken."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.asked_of_them: list[Any] = []

    async def ask(self, node_id: int, request: Any) -> Any:
        if node_id == US:
            return await self._registry.ask(request)
        self.asked_of_them.append(request)
        return response_class(request.API_KEY)()


class Broker:
    """Broker 1 with its handlers."""

    def __init__(self, logs: Any) -> None:
        clock, config = ManualClock(), BrokerConfig.load()
        self.logs = logs
        self.leases = SharedLeases(logs.leases)
        self.brokers = LiveBrokers()
        rooms: Any = SimpleNamespace(config=config, clock=clock, logs=logs, turns=Turns())
        self.peers = Peers(Registry(rooms))
        membership = Membership(US, self.leases, self.brokers, self.peers)
        self.cluster = rooms.cluster = ClusterService("c", config, logs, membership, clock)
        self.groups = rooms.groups = GroupService(self.cluster, logs, self.leases, clock, config)
        self.session = Session("PLAINTEXT", "PLAINTEXT", "127.0.0.1", 9092, "127.0.0.1", 50_000)
        rooms.fetch_sessions = FetchSessionCache(0, lambda: 1)
        rooms.producer_ids = ProducerIds(self.cluster.allocate_producer_ids)
        self._registry = Registry(rooms)

    async def run(self, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.cluster.run)
            await nursery.start(self.groups.run)
            task_status.started()

    async def ask(self, request: Any, version: int | None = None) -> Any:
        key = request.API_KEY
        version = request.MAX_VERSION if version is None else version
        frame = bytearray()
        encode_request_header(key, version, 7, "tests", frame)
        answer = await self._registry.dispatch(
            memoryview(b"".join(map(bytes, request.encode(version, frame)))), self.session
        )
        raw = b"".join(bytes(buffer) for buffer in answer)[4:]
        _, offset = decode_response_header(key, version, raw)
        return response_class(key).decode(version, raw, offset)[0]

    async def metadata(self) -> Any:
        return await self.ask(MetadataRequest(topics=None))


@pytest.fixture
async def logs() -> AsyncIterator[Any]:
    async with open_memory(ManualClock()) as store:
        yield store


@pytest.fixture
async def broker(logs: Any, nursery: trio.Nursery) -> Broker:
    """With topic "t" of two partitions, of which broker 2 leads the second."""
    one = Broker(logs)
    await nursery.start(one.run)
    [topic] = await one.cluster.create_topics([NewTopic("t", 2)])
    one.leases.lose([topic.partitions[1].log])
    return one


def leaders(metadata: Any) -> list[tuple[int, int, int]]:
    partitions = metadata.topics[0].partitions
    return [(partition.error_code, partition.leader_id, partition.leader_epoch) for partition in partitions]


async def test_metadata_names_who_leads_and_where_they_are_reached(broker: Broker) -> None:
    answer = await broker.metadata()
    assert [(b.node_id, b.host, b.port, b.rack) for b in answer.brokers] == [
        (US, "127.0.0.1", 9092, None),
        (THEM, "two", 9, "r"),
    ]
    assert leaders(answer) == [(0, US, 0), (0, THEM, 1)]
    assert answer.controller_id == US
    broker.session.listener = "INSIDE"
    answer = await broker.metadata()
    assert [(b.host, b.port) for b in answer.brokers] == [("one.inside", 19), ("two.inside", 29)]


async def test_metadata_follows_a_log_that_moves_and_a_broker_that_goes(broker: Broker) -> None:
    first, second = (partition.log for partition in broker.cluster.image.topics["t"].partitions)
    assert leaders(await broker.metadata()) == [(0, US, 0), (0, THEM, 1)]
    broker.leases.lose([first])
    assert leaders(await broker.metadata()) == [(0, THEM, 1), (0, THEM, 1)]
    broker.leases.gain([second])
    assert leaders(await broker.metadata()) == [(0, THEM, 1), (0, US, 0)]
    broker.brokers.change(BROKERS[:1])
    answer = await broker.metadata()
    assert leaders(answer) == [(Error.LEADER_NOT_AVAILABLE, -1, 1), (0, US, 0)]
    assert [b.node_id for b in answer.brokers] == [US]
    broker.leases.nobodys.add(second)
    described = await broker.ask(DescribeTopicPartitionsRequest(response_partition_limit=10))
    assert leaders(described) == [(Error.LEADER_NOT_AVAILABLE, -1, 1), (Error.LEADER_NOT_AVAILABLE, -1, -1)]


async def test_the_cluster_is_described_with_all_brokers_and_the_controller(broker: Broker) -> None:
    broker.leases.lose([METADATA_LOG])
    answer = await broker.ask(DescribeClusterRequest(endpoint_type=1))
    assert (answer.controller_id, [(b.broker_id, b.host) for b in answer.brokers]) == (
        THEM,
        [(US, "127.0.0.1"), (THEM, "two")],
    )


def produce(topic_id: bytes) -> ProduceRequest:
    partitions = [ProduceRequest.PartitionProduceData(index=index, records=BATCH) for index in (0, 1)]
    return ProduceRequest(
        acks=-1,
        timeout_ms=1000,
        topic_data=[ProduceRequest.TopicProduceData(topic_id=topic_id, partition_data=partitions)],
    )


def fetch(topic_id: bytes) -> FetchRequest:
    partitions = [
        FetchRequest.FetchPartition(partition=index, fetch_offset=0, partition_max_bytes=1000) for index in (0, 1)
    ]
    topics = [FetchRequest.FetchTopic(topic_id=topic_id, partitions=partitions)]
    return FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1000, session_id=0, session_epoch=-1, topics=topics)


async def test_produce_and_fetch_say_who_leads_what_is_anothers(broker: Broker) -> None:
    topic = broker.cluster.image.topics["t"]
    produced = await broker.ask(produce(topic.topic_id))
    ours, theirs = sorted(produced.responses[0].partition_responses, key=lambda partition: partition.index)
    assert (ours.error_code, theirs.error_code) == (0, Error.NOT_LEADER_OR_FOLLOWER)
    assert ours.current_leader is None or ours.current_leader.leader_id == -1
    assert (theirs.current_leader.leader_id, theirs.current_leader.leader_epoch) == (THEM, 1)
    assert [(e.node_id, e.host, e.port, e.rack) for e in produced.node_endpoints] == [(THEM, "two", 9, "r")]
    assert broker.logs.bounds(topic.partitions[1].log).end_offset == 0, "nothing was appended there"
    fetched = await broker.ask(fetch(topic.topic_id))
    ours, theirs = fetched.responses[0].partitions
    assert (ours.error_code, theirs.error_code) == (0, Error.NOT_LEADER_OR_FOLLOWER)
    assert (theirs.current_leader.leader_id, theirs.current_leader.leader_epoch) == (THEM, 1)
    assert [(e.node_id, e.host, e.port) for e in fetched.node_endpoints] == [(THEM, "two", 9)]


async def test_offsets_are_not_looked_up_nor_records_deleted_in_what_is_anothers(broker: Broker) -> None:
    wanted = [ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=-1) for index in (0, 1)]
    listed = await broker.ask(
        ListOffsetsRequest(topics=[ListOffsetsRequest.ListOffsetsTopic(name="t", partitions=wanted)])
    )
    asked = [OffsetForLeaderEpochRequest.OffsetForLeaderPartition(partition=index, leader_epoch=0) for index in (0, 1)]
    ends = await broker.ask(
        OffsetForLeaderEpochRequest(
            topics=[OffsetForLeaderEpochRequest.OffsetForLeaderTopic(topic="t", partitions=asked)]
        )
    )
    doomed = [DeleteRecordsRequest.DeleteRecordsPartition(partition_index=index, offset=0) for index in (0, 1)]
    deleted = await broker.ask(
        DeleteRecordsRequest(topics=[DeleteRecordsRequest.DeleteRecordsTopic(name="t", partitions=doomed)])
    )
    for answer in (listed, ends, deleted):
        assert [p.error_code for p in answer.topics[0].partitions] == [0, Error.NOT_LEADER_OR_FOLLOWER]


async def test_transactions_are_ended_and_described_where_their_log_is_led(broker: Broker) -> None:
    producers = await broker.ask(
        DescribeProducersRequest(topics=[DescribeProducersRequest.TopicRequest(name="t", partition_indexes=[0, 1])])
    )
    assert [p.error_code for p in producers.topics[0].partitions] == [0, Error.NOT_LEADER_OR_FOLLOWER]
    await broker.ask(FindCoordinatorRequest(coordinator_keys=["g"]))
    await trio.testing.wait_all_tasks_blocked()
    broker.leases.lose([partition.log for partition in broker.cluster.image.topics["__consumer_offsets"].partitions])
    topics = [
        WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=name, partition_indexes=[0, 1])
        for name in ("t", "__consumer_offsets")
    ]
    marker = WriteTxnMarkersRequest.WritableTxnMarker(
        producer_id=1, producer_epoch=0, transaction_result=True, topics=topics, coordinator_epoch=0
    )
    answer = await broker.ask(WriteTxnMarkersRequest(markers=[marker]))
    found = [[p.error_code for p in topic.partitions] for topic in answer.markers[0].topics]
    assert found == [[0, Error.NOT_LEADER_OR_FOLLOWER], [Error.NOT_LEADER_OR_FOLLOWER] * 2]


async def test_a_group_whose_log_is_anothers_is_coordinated_there(broker: Broker) -> None:
    await broker.ask(FindCoordinatorRequest(coordinator_keys=["g"]))
    await trio.testing.wait_all_tasks_blocked()
    found = await broker.ask(FindCoordinatorRequest(coordinator_keys=["g"]))
    assert [(c.error_code, c.node_id, c.host) for c in found.coordinators] == [(0, US, "127.0.0.1")]
    topic = broker.cluster.image.topics["__consumer_offsets"]
    log = topic.partitions[partition_for("g", len(topic.partitions))].log
    broker.leases.lose([log])
    found = await broker.ask(FindCoordinatorRequest(coordinator_keys=["g"]))
    assert [(c.error_code, c.node_id, c.host, c.port) for c in found.coordinators] == [(0, THEM, "two", 9)]
    joined = await broker.ask(JoinGroupRequest(group_id="g", session_timeout_ms=10_000, protocol_type="consumer"))
    beat = await broker.ask(HeartbeatRequest(group_id="g", member_id="m", generation_id=1))
    assert (joined.error_code, beat.error_code) == (Error.NOT_COORDINATOR, Error.NOT_COORDINATOR)
    broker.leases.nobodys.add(log)
    found = await broker.ask(FindCoordinatorRequest(coordinator_keys=["g"]))
    assert [(c.error_code, c.node_id) for c in found.coordinators] == [(Error.COORDINATOR_NOT_AVAILABLE, -1)]


async def test_topics_are_changed_by_the_controller_alone(broker: Broker) -> None:
    def creation(name: str) -> CreateTopicsRequest:
        topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
        return CreateTopicsRequest(topics=[topic], timeout_ms=1000)

    broker.leases.lose([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    answer = await broker.ask(creation("u"))
    assert [topic.error_code for topic in answer.topics] == [Error.NOT_CONTROLLER]
    assert "u" not in broker.cluster.image.topics
    broker.leases.gain([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    answer = await broker.ask(creation("u"))
    assert [topic.error_code for topic in answer.topics] == [Error.NONE]
    assert "u" in broker.cluster.image.topics


async def test_a_topic_that_is_made_in_passing_is_asked_of_the_controller(broker: Broker) -> None:
    """And is there for the client once this broker has heard of it, as in Kafka."""
    wanted = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="new")], allow_auto_topic_creation=True)
    broker.leases.lose([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    answer = await broker.ask(wanted)
    assert [topic.error_code for topic in answer.topics] == [Error.UNKNOWN_TOPIC_OR_PARTITION]
    await trio.testing.wait_all_tasks_blocked()
    [asked] = broker.peers.asked_of_them
    assert [(t.name, t.num_partitions, t.replication_factor) for t in asked.topics] == [("new", -1, -1)]
    broker.leases.gain([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    await broker.ask(wanted)
    await trio.testing.wait_all_tasks_blocked()
    answer = await broker.ask(wanted)
    assert [topic.error_code for topic in answer.topics] == [Error.NONE]


async def test_a_producer_gets_an_id_once_the_controller_can_be_had(broker: Broker) -> None:
    broker.leases.lose([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    wanted = InitProducerIdRequest(producer_id=-1, producer_epoch=-1, transactional_id=None)
    answer = await broker.ask(wanted, 4)
    assert (answer.error_code, answer.producer_id) == (Error.COORDINATOR_LOAD_IN_PROGRESS, -1)
    [asked] = broker.peers.asked_of_them
    assert (type(asked), asked.broker_id) == (AllocateProducerIdsRequest, US)
    broker.leases.gain([METADATA_LOG])
    await trio.testing.wait_all_tasks_blocked()
    answer = await broker.ask(wanted, 4)
    assert (answer.error_code, answer.producer_id) == (Error.NONE, 0)
