"""Coordinators are asked before a transaction begins on a log: whom, what about, and what producers hear of it."""

from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import SystemClock
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from kafkapy.storage.base import Holder
from kafkapy.storage.memory import open_memory
from kafkapy.storage.verification import ALREADY_OPEN, Verification
from kafkapy.transactions.verifying import Claimed, Verifier, error_for_producer
from tests.storage.batches import append, end, sent
from tests.storage.catalogues import create

LOGS = [LogId("t", 0, b"1" * 16), LogId("t", 1, b"1" * 16), LogId("u", 0, b"2" * 16)]
PARTITION_COUNT = 4

Result = AddPartitionsToTxnResponse.AddPartitionsToTxnResult
Topic = AddPartitionsToTxnResponse.AddPartitionsToTxnTopicResult
Partition = AddPartitionsToTxnResponse.AddPartitionsToTxnPartitionResult


class TrioClock(SystemClock):
    """Wall time that follows trio's clock, which the tests let jump."""

    def now_ms(self) -> int:
        return round(trio.current_time() * 1000)


class Coordinators:
    """Answers each question of the verifier's, when it may."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, AddPartitionsToTxnRequest]] = []
        self.answers: list[Error] = []  # to the next questions; then there are no objections
        self.refuses: dict[tuple[str, int], Error] = {}
        self.may_answer = trio.Event()
        self.may_answer.set()

    async def ask(self, node_id: int, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse:
        self.asked.append((node_id, request))
        await self.may_answer.wait()
        error = self.answers.pop(0) if self.answers else Error.NONE
        if error in (Error.BROKER_NOT_AVAILABLE, Error.CLUSTER_AUTHORIZATION_FAILED):
            if error is Error.BROKER_NOT_AVAILABLE:
                raise KafkaError(error)
            return AddPartitionsToTxnResponse(error_code=error)
        return AddPartitionsToTxnResponse(
            results_by_transaction=[
                Result(
                    transactional_id=transaction.transactional_id,
                    topic_results=[
                        Topic(
                            name=topic.name,
                            results_by_partition=[
                                Partition(
                                    partition_index=index,
                                    partition_error_code=self.refuses.get((topic.name, index), error),
                                )
                                for index in topic.partitions
                            ],
                        )
                        for topic in transaction.topics
                    ],
                )
                for transaction in request.transactions
            ]
        )

    def questions(self) -> list[list[tuple[str, bool, dict[str, list[int]]]]]:
        """What each request asked: transactional id, whether it is only to be verified, and partitions."""
        return [
            [
                (each.transactional_id, each.verify_only, {topic.name: topic.partitions for topic in each.topics})
                for each in request.transactions
            ]
            for _, request in self.asked
        ]


class Cluster:
    """The topic of transactions: its first partitions are led by broker 1, the others by broker 2."""

    def __init__(self) -> None:
        partitions = [SimpleNamespace(log=LogId("__transaction_state", n, b"3" * 16)) for n in range(PARTITION_COUNT)]
        self.topic: Any = SimpleNamespace(partitions=partitions)
        self.there = {1, 2}
        self.image = SimpleNamespace(config=BrokerConfig.load(), topic=lambda name: self.topic)
        self.leadership = SimpleNamespace(
            holder=lambda log: Holder(1 if log.partition < 2 else 2, 0),
            broker=lambda node_id: node_id if node_id in self.there else None,
        )


@pytest.fixture
async def logs() -> Any:
    async with open_memory(TrioClock()) as store:
        for log in LOGS:
            await create(store, log)
        yield store


@pytest.fixture
def coordinators() -> Coordinators:
    return Coordinators()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def verifier(cluster: Any, logs: Any, coordinators: Any, nursery: trio.Nursery) -> Verifier:
    verifier = Verifier(cluster, logs, coordinators, TrioClock())
    await nursery.start(verifier.run)
    return verifier


def claim(transactional_id: str = "x", producer_id: int = 7, epoch: int = 0, **options: bool) -> Claimed:
    return Claimed(
        transactional_id, producer_id, epoch, options.get("adds", True), options.get("knows_abortable", True)
    )


def id_led_by(node_id: int, number: int = 0) -> str:
    names = (f"id{n}" for n in range(100))
    found = [name for name in names if (partition_for(name, PARTITION_COUNT) < 2) == (node_id == 1)]
    return found[number]


@pytest.mark.parametrize("adds", [True, False])
async def test_a_coordinator_is_asked_about_what_is_not_open(logs, verifier, coordinators, adds) -> None:
    first = await verifier.verify(claim(adds=adds), {LOGS[0]: 0})
    await append(logs, LOGS[0], sent(0, b"v", transactional=True), verification=first[LOGS[0]])
    outcomes = await verifier.verify(claim(adds=adds), {LOGS[0]: 1, LOGS[1]: 0, LOGS[2]: 0})
    assert outcomes[LOGS[0]] is ALREADY_OPEN
    assert coordinators.questions() == [[("x", not adds, {"t": [0]})], [("x", not adds, {"t": [1], "u": [0]})]]
    for log in LOGS[1:]:
        verification = outcomes[log]
        assert isinstance(verification, Verification)
        outcome = await append(logs, log, sent(0, b"v", transactional=True), verification=verification)
        assert outcome.error is Error.NONE
    assert set((await verifier.verify(claim(), dict.fromkeys(LOGS, 1))).values()) == {ALREADY_OPEN}
    assert len(coordinators.asked) == 2


async def test_what_the_answer_allowed_is_no_longer_so_after_a_marker(logs, verifier, coordinators) -> None:
    coordinators.may_answer = trio.Event()
    found: dict[LogId, Any] = {}

    async def verify() -> None:
        found.update(await verifier.verify(claim(adds=False), {LOGS[0]: 0}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(verify)
        await wait_all_tasks_blocked()
        await end(logs, LOGS[0], 7, committed=False)
        coordinators.may_answer.set()
    outcome = await append(logs, LOGS[0], sent(0, b"v", transactional=True), verification=found[LOGS[0]])
    assert outcome.error is Error.INVALID_TXN_STATE


async def test_each_partition_has_its_own_outcome(logs, verifier, coordinators) -> None:
    await end(logs, LOGS[2], 7, committed=True)
    coordinators.refuses[("t", 1)] = Error.INVALID_TXN_STATE
    missing = LogId("missing", 0, b"9" * 16)
    outcomes = await verifier.verify(claim(epoch=-1), dict.fromkeys([*LOGS, missing], 0))
    assert isinstance(outcomes.pop(LOGS[0]), Verification)
    assert outcomes == {
        LOGS[1]: Error.INVALID_TXN_STATE,
        LOGS[2]: Error.INVALID_PRODUCER_EPOCH,
        missing: Error.UNKNOWN_TOPIC_OR_PARTITION,
    }


@pytest.mark.parametrize(
    ("answered", "knows_abortable", "heard"),
    [
        (Error.PRODUCER_FENCED, True, Error.INVALID_PRODUCER_EPOCH),
        (Error.TRANSACTION_ABORTABLE, True, Error.TRANSACTION_ABORTABLE),
        (Error.TRANSACTION_ABORTABLE, False, Error.INVALID_TXN_STATE),
        (Error.INVALID_PRODUCER_ID_MAPPING, True, Error.INVALID_PRODUCER_ID_MAPPING),
        (Error.NOT_COORDINATOR, True, Error.NOT_COORDINATOR),
        (Error.CLUSTER_AUTHORIZATION_FAILED, True, Error.INVALID_TXN_STATE),
        (Error.BROKER_NOT_AVAILABLE, True, Error.NETWORK_EXCEPTION),
    ],
)
async def test_an_objection_is_told_as_producers_know_it(
    verifier, coordinators, answered: Error, knows_abortable: bool, heard: Error
) -> None:
    coordinators.answers.append(answered)
    assert await verifier.verify(claim(knows_abortable=knows_abortable), {LOGS[0]: 0}) == {LOGS[0]: heard}


@pytest.mark.parametrize(
    ("error", "old", "new"),
    [
        (Error.INVALID_TXN_STATE, Error.INVALID_TXN_STATE, Error.INVALID_TXN_STATE),
        (Error.NETWORK_EXCEPTION, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS),
        (Error.COORDINATOR_LOAD_IN_PROGRESS, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS),
        (Error.COORDINATOR_NOT_AVAILABLE, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS),
        (Error.NOT_COORDINATOR, Error.NOT_ENOUGH_REPLICAS, Error.NOT_ENOUGH_REPLICAS),
        (Error.CONCURRENT_TRANSACTIONS, Error.NOT_ENOUGH_REPLICAS, Error.CONCURRENT_TRANSACTIONS),
        (Error.INVALID_PRODUCER_EPOCH, Error.INVALID_PRODUCER_EPOCH, Error.INVALID_PRODUCER_EPOCH),
    ],
)
def test_old_producers_hear_errors_that_they_know(error: Error, old: Error, new: Error) -> None:
    assert error_for_producer(error, adds=False).error is old
    assert error_for_producer(error, adds=True).error is new


async def test_nobody_to_ask_is_no_coordinator(cluster, verifier, coordinators) -> None:
    name = id_led_by(2)
    cluster.there.remove(2)
    assert await verifier.verify(claim(name), {LOGS[0]: 0}) == {LOGS[0]: Error.COORDINATOR_NOT_AVAILABLE}
    cluster.topic = None
    assert await verifier.verify(claim(), {LOGS[0]: 0}) == {LOGS[0]: Error.COORDINATOR_NOT_AVAILABLE}
    assert coordinators.asked == []


async def test_a_coordinator_that_does_not_answer_is_given_up(verifier, coordinators, autojump_clock) -> None:
    coordinators.may_answer = trio.Event()
    assert await verifier.verify(claim(), {LOGS[0]: 0}) == {LOGS[0]: Error.NETWORK_EXCEPTION}
    assert trio.current_time() >= 30
    coordinators.may_answer.set()
    assert isinstance((await verifier.verify(claim(), {LOGS[0]: 0}))[LOGS[0]], Verification)


async def test_who_comes_meanwhile_shares_the_next_request(verifier, coordinators) -> None:
    """But an id is in a request once, and each coordinator is asked by itself."""
    ours = [id_led_by(1, number) for number in range(3)]
    theirs = id_led_by(2)
    coordinators.may_answer = trio.Event()
    async with trio.open_nursery() as nursery:
        for number, name in enumerate([ours[0], ours[1], ours[2], theirs, ours[1]]):
            nursery.start_soon(verifier.verify, claim(name, number), {LOGS[number % 3]: 0})
            await wait_all_tasks_blocked()
        coordinators.may_answer.set()
    names = [
        (node_id, [each.transactional_id for each in request.transactions]) for node_id, request in coordinators.asked
    ]
    assert sorted(names[:2]) == [(1, [ours[0]]), (2, [theirs])]
    assert names[2:] == [(1, [ours[1], ours[2]]), (1, [ours[1]])]


async def test_who_leaves_does_not_take_the_answer_of_others_along(verifier, coordinators) -> None:
    coordinators.may_answer = trio.Event()
    found = {}

    async def verify(name: str, number: int) -> None:
        found[name] = await verifier.verify(claim(name, number), {LOGS[0]: 0})

    async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
        for number in range(3):
            (leaving if number != 1 else nursery).start_soon(verify, id_led_by(1, number), number)
            await wait_all_tasks_blocked()
        leaving.cancel_scope.cancel()
        coordinators.may_answer.set()
    assert set(found) == {id_led_by(1, 1)}


@pytest.mark.parametrize(("times", "patient", "heard"), [(2, True, None), (2, False, True), (99, True, True)])
async def test_a_producer_waits_a_little_for_the_markers_of_its_last_transaction(
    verifier, coordinators, autojump_clock, times: int, patient: bool, heard: bool | None
) -> None:
    coordinators.answers = [Error.CONCURRENT_TRANSACTIONS] * times
    [outcome] = (await verifier.verify(claim(), {LOGS[0]: 0}, patient=patient)).values()
    assert (outcome is Error.CONCURRENT_TRANSACTIONS) is bool(heard)
    assert len(coordinators.asked) == (1 if not patient else 3 if times == 2 else 6)
