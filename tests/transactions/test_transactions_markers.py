"""The coordinator with its writer of markers, on the memory store; the leaders of partitions are made up."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.cluster.machine import NewTopic
from kafkapy.cluster.membership import Membership
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import DEVELOPMENT_PROFILE, BrokerConfig
from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.registry import Registry
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest, WriteTxnMarkersResponse
from kafkapy.storage.memory import open_memory
from kafkapy.transactions.commands import AddPartitions, EndTransaction, InitProducer
from kafkapy.transactions.markers import MAX_BACKOFF_SECONDS, MAX_MARKERS_A_REQUEST, REQUEST_TIMEOUT_SECONDS
from kafkapy.transactions.producer_ids import ProducerIds
from kafkapy.transactions.service import TransactionService
from kafkapy.transactions.settings import TRANSACTIONS_TOPIC
from tests.coordination.shards import Door, TrioClock
from tests.handlers.two_brokers import THEM, US, LiveBrokers, SharedLeases


class Leaders:
    """`Peers` whose brokers write markers as the test says."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self.requests: list[tuple[int, WriteTxnMarkersRequest]] = []
        self.written: Counter[tuple[int, int, bool, TopicPartition]] = Counter()
        self.errors: dict[TopicPartition, list[Error]] = {}
        """What a partition answers next; after that its marker is written."""
        self.away: set[int] = set()
        self.holding: dict[int, trio.Event] = {}
        """Brokers that answer once the event is set."""

    async def ask(self, node_id: int, request: Any) -> Any:
        if not isinstance(request, WriteTxnMarkersRequest):
            return await self._registry.ask(request)
        self.requests.append((node_id, request))
        if node_id in self.holding:
            await self.holding[node_id].wait()
        if node_id in self.away:
            raise KafkaError(Error.BROKER_NOT_AVAILABLE)
        await trio.lowlevel.checkpoint()
        return WriteTxnMarkersResponse(markers=[self._answer(marker) for marker in request.markers])

    def _answer(self, marker: Any) -> Any:
        def error(partition: TopicPartition) -> Error:
            if queue := self.errors.get(partition):
                return queue.pop(0)
            self.written[marker.producer_id, marker.producer_epoch, marker.transaction_result, partition] += 1
            return Error.NONE

        response = WriteTxnMarkersResponse
        return response.WritableTxnMarkerResult(
            producer_id=marker.producer_id,
            topics=[
                response.WritableTxnMarkerTopicResult(
                    name=topic.name,
                    partitions=[
                        response.WritableTxnMarkerPartitionResult(
                            partition_index=index, error_code=error(TopicPartition(topic.name, index))
                        )
                        for index in topic.partition_indexes
                    ],
                )
                for topic in marker.topics
            ],
        )


class Broker:
    """Broker 1 and its coordinator. Topic a has four partitions, topic b one."""

    def __init__(self, logs: Any, nursery: trio.Nursery) -> None:
        self.clock, self.config = (
            TrioClock(),
            BrokerConfig.load(flags={"transaction.state.log.num.partitions": "1"}, profile=DEVELOPMENT_PROFILE),
        )
        self.logs = logs
        self.door = Door(logs)
        self.leases = SharedLeases(logs.leases)
        self.brokers = LiveBrokers()
        rooms: Any = SimpleNamespace(config=self.config, clock=self.clock, logs=logs)
        self.leaders = Leaders(Registry(rooms))
        membership = Membership(US, self.leases, self.brokers, self.leaders)
        self.cluster = rooms.cluster = ClusterService("c", self.config, logs, membership, self.clock)
        self._nursery = nursery
        self._scope = trio.CancelScope()
        self._producer_ids = ProducerIds(self.cluster.allocate_producer_ids)

    async def start(self) -> None:
        await self._nursery.start(self.cluster.run)
        await self.cluster.create_topics([NewTopic("a", 4, 1), NewTopic("b", 1, 1)])
        await self.cluster.auto_create([TRANSACTIONS_TOPIC])
        await self.restart()

    async def restart(self) -> None:
        """The coordinator stops and starts again, in the middle of whatever it did."""
        self._scope.cancel()
        await wait_all_tasks_blocked()
        self._scope = trio.CancelScope()
        self.coordinator = TransactionService(
            self.cluster, self.door, self.leases, self.leaders, self._producer_ids, self.clock, self.config
        )

        async def run(task_status: Any) -> None:
            with self._scope:
                await self.coordinator.run(task_status)

        await self._nursery.start(run)

    async def begin(self, name: str, *partitions: TopicPartition, version: int = 2) -> ProducerEpoch:
        producer = await self.coordinator.init_producer(InitProducer(name, 60_000))
        await self.add(name, producer, *partitions, version=version)
        return producer

    async def add(self, name: str, producer: ProducerEpoch, *partitions: TopicPartition, version: int = 2) -> None:
        command = AddPartitions(name, producer, frozenset(partitions), version)
        [answer] = await self.coordinator.add_partitions([command])
        if isinstance(answer, KafkaError):
            raise answer
        assert answer == frozenset(partitions)

    async def end(self, name: str, producer: ProducerEpoch, *, committed: bool = True, version: int = 2) -> Any:
        return await self.coordinator.end(EndTransaction(name, producer, committed, version))

    async def state(self, name: str = "t") -> str:
        return (await self.coordinator.describe(name)).state.label

    async def settle(self, name: str = "t") -> str:
        """The state once it is none on the way to another."""
        while (state := await self.state(name)).startswith("Prepare"):
            await trio.sleep(0.01)
        return state

    def move(self, partition: TopicPartition) -> None:
        """Broker 2 leads this partition from now on."""
        info = self.cluster.image.partition(*partition)
        assert info is not None
        self.leases.lose([info.log])


A0, A1, A2, B0 = TopicPartition("a", 0), TopicPartition("a", 1), TopicPartition("a", 2), TopicPartition("b", 0)


@pytest.fixture
async def broker(nursery):
    async with open_memory(TrioClock()) as logs:
        broker = Broker(logs, nursery)
        await broker.start()
        yield broker
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("version", [0, 2])
async def test_markers_go_to_every_partition_once(broker, autojump_clock, committed, version):
    producer = await broker.begin("t", A0, A1, B0, version=version)
    after = await broker.end("t", producer, committed=committed, version=version)
    assert await broker.settle() == ("CompleteCommit" if committed else "CompleteAbort")
    assert broker.leaders.written == {(*after, committed, partition): 1 for partition in (A0, A1, B0)}
    [(node_id, request)] = broker.leaders.requests
    [marker] = request.markers
    assert (node_id, marker.transaction_version, marker.coordinator_epoch) == (US, version, 0)


async def test_the_end_is_answered_before_the_markers_and_nothing_else_is_meanwhile(broker, autojump_clock):
    broker.leaders.holding[US] = trio.Event()
    after = await broker.end("t", await broker.begin("t", A0))
    assert await broker.state() == "PrepareCommit"
    with pytest.raises(KafkaError) as refusal:
        await broker.add("t", after, A1)
    assert refusal.value.error is Error.CONCURRENT_TRANSACTIONS
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"
    await broker.add("t", after, A1)


async def test_one_transaction_after_the_other(broker, autojump_clock):
    producer = await broker.begin("t", A0)
    for count in range(1, 4):
        producer = await broker.end("t", producer)
        assert await broker.settle() == "CompleteCommit"
        assert len(broker.leaders.written) == count
        await broker.add("t", producer, A0)


async def test_what_is_in_hand_is_not_asked_for_twice_when_an_answer_was_lost(broker, autojump_clock):
    broker.leaders.holding[US] = trio.Event()
    await broker.end("t", await broker.begin("t", A0))
    other = await broker.begin("other", A0)
    broker.door.refuse_with = Error.NOT_ENOUGH_REPLICAS
    with pytest.raises(KafkaError):
        await broker.end("other", other)
    await trio.sleep(1)  # whoever writes markers has asked for everything by now
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"
    await trio.sleep(1)
    assert set(broker.leaders.written.values()) == {1}
    assert len(broker.leaders.requests) == 1


async def test_what_was_told_with_a_lost_answer_is_asked_for(broker, autojump_clock):
    ready = await broker.begin("t", A0)
    other = await broker.begin("other", A0)
    broker.door.refuse_with = Error.NOT_ENOUGH_REPLICAS
    with pytest.raises(KafkaError):
        await broker.end("other", other)
    await broker.end("t", ready)  # while whoever writes markers waits a little, having heard of that
    broker.door.open = trio.Event()
    async with trio.open_nursery() as nursery:

        async def refused() -> None:
            with pytest.raises(KafkaError):
                await broker.coordinator.init_producer(InitProducer("third", 60_000))

        nursery.start_soon(refused)
        await trio.sleep(1)  # the answer to his next question waits for this write
        broker.door.refuse_with = Error.NOT_ENOUGH_REPLICAS
        broker.door.open.set()
    with trio.fail_after(60):
        assert await broker.settle() == "CompleteCommit"


async def test_partitions_that_fail_at_two_leaders_are_both_tried_again(broker, autojump_clock):
    broker.move(A1)
    broker.leaders.errors = {A0: [Error.KAFKA_STORAGE_ERROR], A1: [Error.KAFKA_STORAGE_ERROR]}
    after = await broker.end("t", await broker.begin("t", A0, A1))
    with trio.fail_after(60):
        assert await broker.settle() == "CompleteCommit"
    assert broker.leaders.written == {(*after, True, A0): 1, (*after, True, A1): 1}


async def test_an_abort_of_nothing_asks_nobody(broker, autojump_clock):
    producer = await broker.coordinator.init_producer(InitProducer("t", 60_000))
    await broker.end("t", producer, committed=False)
    assert await broker.settle() == "CompleteAbort"
    assert broker.leaders.requests == []


async def test_no_marker_before_the_decision_is_in_the_log(broker, autojump_clock):
    producer = await broker.begin("t", A0)
    broker.door.open = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: broker.end("t", producer))
        await wait_all_tasks_blocked()
        assert broker.leaders.requests == []
        broker.door.open.set()
    assert await broker.settle() == "CompleteCommit"


async def test_no_marker_for_a_decision_that_the_log_refused(broker, autojump_clock):
    producer = await broker.begin("t", A0)
    broker.door.refuse_with = Error.NOT_ENOUGH_REPLICAS
    with pytest.raises(KafkaError) as refusal:
        await broker.end("t", producer)
    assert refusal.value.error is Error.COORDINATOR_NOT_AVAILABLE
    await trio.sleep(60)
    assert broker.leaders.requests == []
    assert await broker.state() == "Ongoing"
    await broker.end("t", producer, committed=False)
    assert await broker.settle() == "CompleteAbort"


async def test_a_completion_that_the_log_refused_is_written_again_without_markers(broker, autojump_clock):
    broker.leaders.holding[US] = trio.Event()
    await broker.end("t", await broker.begin("t", A0))
    broker.door.refuse_with = Error.NOT_ENOUGH_REPLICAS
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"
    assert len(broker.leaders.requests) == 1


RETRIED = [
    Error.NOT_LEADER_OR_FOLLOWER,
    Error.UNKNOWN_TOPIC_OR_PARTITION,
    Error.NOT_ENOUGH_REPLICAS,
    Error.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    Error.REQUEST_TIMED_OUT,
    Error.KAFKA_STORAGE_ERROR,
    Error.UNKNOWN_SERVER_ERROR,
    Error.CLUSTER_AUTHORIZATION_FAILED,
]


@pytest.mark.parametrize("error", RETRIED)
async def test_a_marker_that_was_not_written_is_asked_for_again_alone(broker, autojump_clock, error):
    broker.leaders.errors[A1] = [error, error]
    after = await broker.end("t", await broker.begin("t", A0, A1))
    assert await broker.settle() == "CompleteCommit"
    assert broker.leaders.written == {(*after, True, A0): 1, (*after, True, A1): 1}
    assert [_asked(request) for _, request in broker.leaders.requests] == [{A0, A1}, {A1}, {A1}]


@pytest.mark.parametrize(
    "error", [Error.INVALID_PRODUCER_EPOCH, Error.UNSUPPORTED_FOR_MESSAGE_FORMAT, Error.UNSUPPORTED_VERSION]
)
async def test_a_marker_that_is_not_needed_is_not_asked_for_again(broker, autojump_clock, error):
    broker.leaders.errors[A1] = [error]
    await broker.end("t", await broker.begin("t", A0, A1))
    assert await broker.settle() == "CompleteCommit"
    assert len(broker.leaders.requests) == 1


async def test_what_a_newer_coordinator_has_is_left_to_it(broker, autojump_clock):
    broker.leaders.errors[A1] = [Error.TRANSACTION_COORDINATOR_FENCED]
    await broker.end("t", await broker.begin("t", A0, A1))
    await trio.sleep(600)
    assert await broker.state() == "PrepareCommit"
    assert len(broker.leaders.requests) == 1
    other = await broker.end("other", await broker.begin("other", A0))  # the others go on
    assert await broker.settle("other") == "CompleteCommit"
    assert broker.leaders.written[(*other, True, A0)] == 1


async def test_an_answer_that_leaves_a_partition_out_is_none(broker, autojump_clock, monkeypatch):
    answer = broker.leaders._answer
    monkeypatch.setattr(broker.leaders, "_answer", lambda marker: answer(marker) if broker.leaders.errors else _empty())
    await broker.end("t", await broker.begin("t", A0))
    await trio.sleep(1)
    assert await broker.state() == "PrepareCommit"
    broker.leaders.errors = {B0: []}
    assert await broker.settle() == "CompleteCommit"


async def test_a_leader_that_is_away_is_asked_again_and_again_at_a_measured_pace(broker, autojump_clock):
    broker.leaders.away.add(US)
    await broker.end("t", await broker.begin("t", A0))
    await trio.sleep(600)
    asked = len(broker.leaders.requests)
    assert 590 / MAX_BACKOFF_SECONDS <= asked <= 610 / MAX_BACKOFF_SECONDS + 10
    broker.leaders.away.clear()
    await trio.sleep(1.5 * MAX_BACKOFF_SECONDS)
    assert await broker.state() == "CompleteCommit"


async def test_a_leader_that_does_not_answer_is_not_waited_for_for_ever(broker, autojump_clock):
    broker.leaders.holding[US] = trio.Event()
    await broker.end("t", await broker.begin("t", A0))
    await trio.sleep(REQUEST_TIMEOUT_SECONDS + 1)
    assert len(broker.leaders.requests) == 2
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"


async def test_each_leader_is_asked_for_its_own(broker, autojump_clock):
    broker.move(A1)
    await broker.end("t", await broker.begin("t", A0, A1, A2))
    assert await broker.settle() == "CompleteCommit"
    assert {node_id: _asked(request) for node_id, request in broker.leaders.requests} == {US: {A0, A2}, THEM: {A1}}


async def test_a_slow_leader_holds_up_its_own_transactions_alone(broker, autojump_clock):
    broker.move(A1)
    broker.leaders.holding[THEM] = trio.Event()
    await broker.end("t", await broker.begin("t", A0, A1))
    await broker.end("other", await broker.begin("other", A0))
    assert await broker.settle("other") == "CompleteCommit"
    assert await broker.state() == "PrepareCommit"
    broker.leaders.holding.pop(THEM).set()
    assert await broker.settle() == "CompleteCommit"


async def test_the_next_try_goes_to_whoever_leads_then(broker, autojump_clock):
    broker.leaders.errors[A1] = [Error.NOT_LEADER_OR_FOLLOWER]
    broker.leaders.holding[US] = trio.Event()
    await broker.end("t", await broker.begin("t", A1))
    await wait_all_tasks_blocked()
    broker.move(A1)
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"
    assert [node_id for node_id, _ in broker.leaders.requests] == [US, THEM]


@pytest.mark.parametrize("how", ["nobody leads", "the leader is gone"])
async def test_a_partition_without_a_leader_is_waited_for(broker, autojump_clock, how):
    info = broker.cluster.image.partition(*A1)
    live = broker.brokers.live()
    if how == "nobody leads":
        broker.leases.nobodys.add(info.log)
    else:
        broker.move(A1)
        broker.brokers.change(live[:1])
    await broker.end("t", await broker.begin("t", A0, A1))
    await trio.sleep(30)
    assert await broker.state() == "PrepareCommit"
    assert [_asked(request) for _, request in broker.leaders.requests] == [{A0}]
    broker.leases.nobodys.clear()
    broker.brokers.change(live)
    assert await broker.settle() == "CompleteCommit"


async def test_a_partition_that_is_no_more_needs_no_marker(broker, autojump_clock):
    producer = await broker.begin("t", A0, B0)
    topic = broker.cluster.image.topic("b")
    await broker.cluster.delete_topics([topic.topic_id])
    await broker.end("t", producer)
    assert await broker.settle() == "CompleteCommit"
    assert [_asked(request) for _, request in broker.leaders.requests] == [{A0}]


async def test_a_topic_that_is_deleted_while_its_marker_is_tried_needs_none(broker, autojump_clock):
    broker.leaders.errors[B0] = [Error.UNKNOWN_TOPIC_OR_PARTITION] * 1_000
    await broker.end("t", await broker.begin("t", A0, B0))
    await trio.sleep(10)
    assert await broker.state() == "PrepareCommit"
    topic = broker.cluster.image.topic("b")
    await broker.cluster.delete_topics([topic.topic_id])
    assert await broker.settle() == "CompleteCommit"


async def test_the_coordinators_own_topic_gets_no_marker(broker, autojump_clock):
    """A broker may name it. A marker would end the tenure of the coordinator that has it written, again and again."""
    await broker.end("t", await broker.begin("t", A0, TopicPartition(TRANSACTIONS_TOPIC, 0)))
    assert await broker.settle() == "CompleteCommit"
    assert [_asked(request) for _, request in broker.leaders.requests] == [{A0}]


async def test_a_restart_in_the_middle_of_anything_loses_no_marker(broker, autojump_clock):
    broker.leaders.holding[US] = trio.Event()
    commit = await broker.end("t", await broker.begin("t", A0))
    abort = await broker.end("other", await broker.begin("other", A0), committed=False)
    await wait_all_tasks_blocked()
    await broker.restart()
    broker.leaders.holding.pop(US).set()
    assert await broker.settle() == "CompleteCommit"
    assert await broker.settle("other") == "CompleteAbort"
    assert broker.leaders.written[(*commit, True, A0)] >= 1
    assert broker.leaders.written[(*abort, False, A0)] >= 1


async def test_a_coordinator_that_lost_its_log_writes_no_more_and_the_next_one_does(broker, autojump_clock):
    broker.leaders.away.add(US)
    await broker.end("t", await broker.begin("t", A0))
    log = await broker.coordinator.coordinating_log("t")
    broker.leases.lose([log])
    await trio.sleep(1)
    asked = len(broker.leaders.requests)
    await trio.sleep(60)
    assert len(broker.leaders.requests) == asked
    with pytest.raises(KafkaError) as refusal:
        await broker.state()
    assert refusal.value.error is Error.NOT_COORDINATOR
    broker.leaders.away.clear()
    broker.leases.gain([log])
    assert await broker.settle() == "CompleteCommit"


async def test_a_thousand_ends_take_few_requests_and_writes(broker, autojump_clock):
    """No request, no task and no write for each: what comes while a leader is asked goes with the next request."""
    count = 1_000
    producers = [await broker.begin(f"t{number}", A0, A1) for number in range(count)]
    broker.leaders.holding[US] = trio.Event()
    appends = broker.door.appends
    async with trio.open_nursery() as nursery:
        for number, producer in enumerate(producers):
            nursery.start_soon(broker.end, f"t{number}", producer)
    tasks = trio.lowlevel.current_statistics().tasks_living
    broker.leaders.holding.pop(US).set()
    for number in range(count):
        assert await broker.settle(f"t{number}") == "CompleteCommit"
    assert trio.lowlevel.current_statistics().tasks_living <= tasks + 5
    assert sum(broker.leaders.written.values()) == 2 * count
    partitions = len(broker.cluster.image.topic(TRANSACTIONS_TOPIC).partitions)
    assert len(broker.leaders.requests) <= partitions * (2 + count // MAX_MARKERS_A_REQUEST)
    assert broker.door.appends - appends <= 8 * partitions


async def test_a_transaction_that_times_out_is_aborted_everywhere(broker, autojump_clock):
    producer = await broker.begin("t", A0)
    await trio.sleep(75)
    assert await broker.state() == "CompleteAbort"
    assert broker.leaders.written == {(producer.producer_id, producer.epoch + 1, False, A0): 1}


async def test_bounds_of_the_timeout(broker, autojump_clock):
    async def error(timeout_ms: int, name: str = "t") -> Error:
        with pytest.raises(KafkaError) as refusal:
            await broker.coordinator.init_producer(InitProducer(name, timeout_ms))
        return refusal.value.error

    assert await error(0) is Error.INVALID_TRANSACTION_TIMEOUT
    assert await error(-1) is Error.INVALID_TRANSACTION_TIMEOUT
    assert await error(900_001) is Error.INVALID_TRANSACTION_TIMEOUT
    assert await error(1, "") is Error.INVALID_REQUEST
    assert (await broker.coordinator.init_producer(InitProducer("t", 900_000))).epoch == 0
    assert (await broker.coordinator.init_producer(InitProducer("t", 1))).epoch == 1


def _asked(request: WriteTxnMarkersRequest) -> set[TopicPartition]:
    return {
        TopicPartition(topic.name, index)
        for marker in request.markers
        for topic in marker.topics
        for index in topic.partition_indexes
    }


def _empty() -> WriteTxnMarkersResponse.WritableTxnMarkerResult:
    return WriteTxnMarkersResponse.WritableTxnMarkerResult()
