"""Brokers that share a database, as if each had a process of its own: what they say of themselves and of each other."""

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import confluent_kafka
import pytest
import trio

from kafkapy.broker import Broker, open_broker
from kafkapy.clock import SystemClock
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.config.layers import DEVELOPMENT_PROFILE, BrokerConfig
from kafkapy.errors import Error
from kafkapy.protocol.messages.alter_partition_reassignments import AlterPartitionReassignmentsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from kafkapy.protocol.messages.elect_leaders import ElectLeadersRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.heartbeat import HeartbeatRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.shared.database import Link
from kafkapy.storage.shared.lane import lane_of
from kafkapy.storage.shared.lanes import key_of
from tests.broker.wire import Wire
from tests.storage.postgres import database  # noqa: F401  a fixture

PROFILE = {name: value for name, value in DEVELOPMENT_PROFILE.items() if name != "node.id"}
SETTINGS = {
    "listeners": "PLAINTEXT://127.0.0.1:0",
    "offsets.topic.num.partitions": "6",
    "kafkapy.auto.create.wait": "true",
    "kafkapy.database.lease.ms": "2000",
}


class Running:
    """A broker that can be stopped, or killed."""

    def __init__(self, broker: Broker, url: str, scope: trio.CancelScope) -> None:
        self.broker = broker
        self.url = url
        self.node_id = broker.node_id
        self.kill = scope.cancel
        self.told_to_stop = trio.Event()
        self.ended = trio.Event()

    async def stop(self) -> None:
        self.told_to_stop.set()
        await self.ended.wait()

    async def ask(self, request: Any, version: int) -> Any:
        async with await Wire.connect(self.broker.port) as wire:
            return await wire.ask(request, version)


Start = Callable[[], Any]


@pytest.fixture
async def start(database: str, request: pytest.FixtureRequest) -> AsyncIterator[Start]:  # noqa: F811
    """Starts one more broker over a database of the test's own."""
    name = f"of_{abs(hash(request.node.nodeid))}"
    link = Link(database, "public", SystemClock())
    await link.script(f"create database {name}")
    link.close()
    url = database.replace("/postgres?", f"/{name}?")
    assert name in url
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Running]) -> None:
            config = BrokerConfig.load(flags=SETTINGS, profile=PROFILE, brokers=99)
            with trio.CancelScope() as scope:
                async with open_broker(config, data_dir=None, database=url, shares=True) as broker:
                    running = Running(broker, url, scope)
                    task_status.started(running)
                    await running.told_to_stop.wait()
            running.ended.set()

        async def start_one() -> Running:
            running: Running = await nursery.start(run)
            return running

        yield start_one
        nursery.cancel_scope.cancel()


def named(name: str, partitions: int, factor: int, **options: Any) -> CreateTopicsRequest:
    topic = CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partitions, replication_factor=factor, **{"assignments": [], "configs": [], **options}
    )
    return CreateTopicsRequest(topics=[topic], timeout_ms=10_000)


async def metadata(running: Running, *topics: str) -> Any:
    wanted = [MetadataRequest.MetadataRequestTopic(name=name) for name in topics]
    return await running.ask(MetadataRequest(topics=wanted, allow_auto_topic_creation=False), 12)


async def until(running: Running, is_so: Callable[[Any], bool]) -> Any:
    """What the broker says of topic "t", once it says so."""
    with trio.fail_after(60):
        while not is_so(answer := await metadata(running, "t")):
            pass
    return answer


def leaders(answer: Any) -> dict[int, tuple[int, int]]:
    return {each.partition_index: (each.leader_id, each.leader_epoch) for each in answer.topics[0].partitions}


def all_led_by(answer: Any, node_ids: set[int]) -> bool:
    there = {broker.node_id for broker in answer.brokers}
    return there == {leader for leader, _ in leaders(answer).values()} == node_ids


async def test_all_say_the_same_whoever_comes_and_goes(start: Start) -> None:
    first = await start()
    assert (await metadata(first)).controller_id == first.node_id
    others = [await start(), await start()]
    everybody = [first, *others]
    created = await others[0].ask(named("t", 48, 3), 5)
    assert created.topics[0].error_code == Error.NONE
    answers = [await until(one, lambda answer: bool(answer.topics[0].partitions)) for one in everybody]
    assert len({(answer.cluster_id, answer.controller_id) for answer in answers}) == 1
    for answer in answers:
        assert [(broker.node_id, broker.port) for broker in answer.brokers] == [
            (one.node_id, one.broker.port) for one in everybody
        ]
        assert leaders(answer) == leaders(answers[0])
        for partition in answer.topics[0].partitions:
            assert partition.leader_id == partition.replica_nodes[0]
            assert sorted(partition.replica_nodes) == sorted(partition.isr_nodes) == [1, 2, 3]
    before = leaders(answers[0])
    assert {leader for leader, _ in before.values()} == {1, 2, 3}

    await others[1].stop()
    answer = await until(first, lambda answer: all_led_by(answer, {1, 2}))
    for index, (leader, epoch) in leaders(answer).items():
        was, in_epoch = before[index]
        assert (leader, epoch) == (was, in_epoch) if was != 3 else epoch > in_epoch, "nothing moves without need"
    for partition in answer.topics[0].partitions:
        assert (sorted(partition.isr_nodes), partition.offline_replicas) == ([1, 2], [3])

    others[0].kill()
    answer = await until(first, lambda answer: all_led_by(answer, {1}))
    assert answer.controller_id == 1


async def test_what_cannot_be_chosen_is_refused(start: Start) -> None:
    first = await start()
    assignments = [CreateTopicsRequest.CreatableReplicaAssignment(partition_index=0, broker_ids=[1])]
    refused = await first.ask(named("by-hand", -1, -1, assignments=assignments), 5)
    assert refused.topics[0].error_code == Error.INVALID_REPLICA_ASSIGNMENT
    assert "cannot be chosen" in refused.topics[0].error_message
    assert (await first.ask(named("t", 1, 1), 5)).topics[0].error_code == Error.NONE
    moved = AlterPartitionReassignmentsRequest.ReassignableTopic(
        name="t",
        partitions=[AlterPartitionReassignmentsRequest.ReassignablePartition(partition_index=0, replicas=[1])],
    )
    answer = await first.ask(AlterPartitionReassignmentsRequest(topics=[moved], timeout_ms=10_000), 0)
    assert answer.responses[0].partitions[0].error_code == Error.INVALID_REPLICA_ASSIGNMENT
    wanted = ElectLeadersRequest.TopicPartitions(topic="t", partitions=[0])
    answer = await first.ask(ElectLeadersRequest(election_type=0, topic_partitions=[wanted], timeout_ms=10_000), 2)
    assert answer.replica_election_results[0].partition_result[0].error_code == Error.ELECTION_NOT_NEEDED
    assert (await first.ask(named("u", 1, 2), 5)).topics[0].error_code == Error.INVALID_REPLICATION_FACTOR


async def test_who_does_not_lead_says_who_does(start: Start) -> None:
    both = [await start(), await start()]
    await both[0].ask(named("t", 24, 1), 5)
    for one in both:
        await until(one, lambda answer: sum(leader > 0 for leader, _ in leaders(answer).values()) == 24)
    led = leaders(await metadata(both[0], "t"))
    index = next(index for index, (leader, _) in led.items() if leader == 2)
    data = build_batch([Record(0, 1000, None, b"x", [])])
    record = ProduceRequest.TopicProduceData(
        name="t", partition_data=[ProduceRequest.PartitionProduceData(index=index, records=data)]
    )
    request = ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[record])
    refused = (await both[0].ask(request, 10)).responses[0].partition_responses[0]
    assert refused.error_code == Error.NOT_LEADER_OR_FOLLOWER
    assert (refused.current_leader.leader_id, refused.current_leader.leader_epoch) == led[index]
    assert (await both[1].ask(request, 10)).responses[0].partition_responses[0].error_code == Error.NONE
    sizes = [
        {partition.partition_index for topic in answer.results[0].topics for partition in topic.partitions}
        for answer in [await one.ask(DescribeLogDirsRequest(topics=None), 4) for one in both]
        for answer.results[0].topics in [[topic for topic in answer.results[0].topics if topic.name == "t"]]
    ]
    assert sizes == [{index for index, (leader, _) in led.items() if leader == node_id} for node_id in (1, 2)]


async def test_a_coordinator_is_where_its_partition_is(start: Start) -> None:
    both = [await start(), await start()]
    found = set()
    for number in range(8):
        request = FindCoordinatorRequest(key_type=0, coordinator_keys=[f"g{number}"])
        told = []
        for one in both:
            with trio.fail_after(30):
                while (answer := (await one.ask(request, 4)).coordinators[0]).error_code != Error.NONE:
                    assert answer.error_code == Error.COORDINATOR_NOT_AVAILABLE
            told.append(answer.node_id)
        assert told[0] == told[1]
        found.add(told[0])
        beat = HeartbeatRequest(group_id=f"g{number}", generation_id=1, member_id="m")
        errors = {one.node_id: (await one.ask(beat, 4)).error_code for one in both}
        assert errors[told[0]] == Error.UNKNOWN_MEMBER_ID
        assert errors[3 - told[0]] == Error.NOT_COORDINATOR
    assert found == {1, 2}


async def test_producers_find_a_topic_that_was_made_anew(start: Start) -> None:
    """Stock ones take what is told with a lower epoch than before for old, be it of another topic of that name."""
    everybody = [await start() for _ in range(3)]
    for one in everybody:
        await one.broker.rooms.logs.settled()
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": everybody[0].broker.bootstrap_servers, "message.timeout.ms": 10_000}
    )
    for _ in range(3):
        [created] = (await everybody[1].ask(named("t", 24, 1), 7)).topics
        assert created.error_code == Error.NONE
        for one in everybody:
            answer = await until(one, lambda answer: answer.topics[0].topic_id == created.topic_id)  # noqa: B023
            assert {leader for leader, _ in leaders(answer).values()} == {1, 2, 3}
            assert {epoch for _, epoch in leaders(answer).values()} == {0}
        assert await trio.to_thread.run_sync(write_to_each, producer, "t", range(24)) == set()
        deleted = await everybody[2].ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=10_000), 5)
        assert deleted.responses[0].error_code == Error.NONE


def write_to_each(producer: confluent_kafka.Producer, topic: str, partitions: Iterable[int]) -> set[int]:
    """Have a record in each of the partitions, but for those whose leaders are not found; what is refused by those of a
    topic that is gone is sent again.
    """
    left = set(partitions)

    def delivered(error: confluent_kafka.KafkaError | None, message: confluent_kafka.Message) -> None:
        if error is None:
            left.discard(message.partition())

    for _ in range(6):
        for partition in left:
            producer.produce(topic, b"x", partition=partition, on_delivery=delivered)
        producer.flush()
    return left


METADATA_LANE = lane_of(key_of(METADATA_LOG), 64)

SPOIL = f"""
    create function kafkapy.spoil() returns trigger language plpgsql as $$ declare at int; begin
      at = position('poison'::bytea in new.data);
      if new.lane = {METADATA_LANE} and at > 0 then new.data = set_byte(new.data, at - 1, ascii('q')); end if;
      return new;
    end $$;
    create trigger spoil before insert on kafkapy.commits for each row execute function kafkapy.spoil()
"""
"""What tells of a topic "poison" is damaged on its way to the disk: who writes it does not see that, others do."""

MEND = """
    drop trigger spoil on kafkapy.commits;
    update kafkapy.commits set data = set_byte(data, position('qoison'::bytea in data) - 1, ascii('p'))
      where position('qoison'::bytea in data) > 0
"""


async def test_who_cannot_read_what_became_of_the_cluster_goes_on_with_what_it_knows(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And decides nothing by it: neither what is to be, nor that something is gone. Once it can, it knows all."""
    monkeypatch.setattr("kafkapy.cluster.follower._READ_AGAIN_SECONDS", 0.1)
    monkeypatch.setitem(SETTINGS, "log.retention.check.interval.ms", "100")
    both = {one.node_id: one for one in (await start(), await start())}
    writer = both.pop((await metadata(next(iter(both.values())))).controller_id)
    [reader] = both.values()
    await writer.ask(named("t", 24, 1), 5)
    for one in (writer, reader):
        known = leaders(await until(one, lambda answer: all_led_by(answer, {1, 2})))
    link = Link(reader.url, "kafkapy", SystemClock())
    await link.script(SPOIL)

    def times(said: str) -> int:
        return sum(said in record.getMessage() for record in caplog.records)

    async def until_said(said: str) -> None:
        await until(reader, lambda answer: times(said) > 0)

    assert (await writer.ask(named("poison", 24, 1), 5)).topics[0].error_code == Error.NONE
    await until_said("the metadata log cannot be followed")
    assert (await reader.ask(named("later", 1, 1), 5)).topics[0].error_code == Error.NONE, "the other can"
    of_poison = leaders(await metadata(writer, "poison"))
    index = next(index for index, (leader, _) in of_poison.items() if leader == writer.node_id)
    assert await written(writer, "poison", index) == Error.NONE
    for topic in ("poison", "later"):
        assert (await metadata(reader, topic)).topics[0].error_code == Error.UNKNOWN_TOPIC_OR_PARTITION
    assert leaders(await metadata(reader, "t")) == known
    for partition, (leader, _) in known.items():
        assert leader != reader.node_id or await written(reader, "t", partition) == Error.NONE

    writer.kill()
    await until(reader, lambda answer: all_led_by(answer, {reader.node_id}))
    for partition in known:
        assert await written(reader, "t", partition) == Error.NONE
    await until_said("this broker cannot be the controller")
    await until_said("what logs of no topic there are is looked at later")
    assert times("the metadata log cannot be followed") == times("this broker cannot be the controller") == 1

    await link.script(MEND)
    link.close()
    with trio.fail_after(60):
        while (await metadata(reader, "later")).topics[0].error_code != Error.NONE:
            pass
    asked = ListOffsetsRequest.ListOffsetsTopic(
        name="poison", partitions=[ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=-1)]
    )
    [found] = (await reader.ask(ListOffsetsRequest(replica_id=-1, topics=[asked]), 5)).topics[0].partitions
    assert (found.error_code, found.offset) == (Error.NONE, 1)
    assert (await reader.ask(named("last", 1, 1), 5)).topics[0].error_code == Error.NONE


async def written(running: Running, topic: str, partition: int) -> int:
    """What is answered to a record."""
    data = build_batch([Record(0, 1000, None, b"x", [])])
    record = ProduceRequest.TopicProduceData(
        name=topic, partition_data=[ProduceRequest.PartitionProduceData(index=partition, records=data)]
    )
    answer = await running.ask(ProduceRequest(acks=-1, timeout_ms=5000, topic_data=[record]), 10)
    return answer.responses[0].partition_responses[0].error_code
