"""The transaction coordinator's APIs over the wire, in every version."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error
from kafkapy.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest
from kafkapy.protocol.messages.describe_transactions import DescribeTransactionsRequest
from kafkapy.protocol.messages.end_txn import EndTxnRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.init_producer_id import InitProducerIdRequest
from kafkapy.protocol.messages.list_transactions import ListTransactionsRequest
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.broker.wire import Wire
from tests.scale.asking import make_topic

TRANSACTION = 1
FENCED, OLD_FENCED = Error.PRODUCER_FENCED, Error.INVALID_PRODUCER_EPOCH


@pytest.fixture
async def wire(start_broker: Any) -> AsyncIterator[Wire]:
    """A broker with topic "t" of two partitions, and the topic of transactions."""
    settings = {"kafkapy.auto.create.wait": "true", "transaction.state.log.num.partitions": "3"}
    async with start_broker(memory=True, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 2)
        await wire.ask(FindCoordinatorRequest(key="x", key_type=TRANSACTION), 1)
        yield wire


async def init(wire: Wire, version: int = 5, name: str = "x", **fields: Any) -> Any:
    fields = {"transaction_timeout_ms": 60_000, **fields}
    return await wire.ask(InitProducerIdRequest(transactional_id=name, **fields), version)


async def producer(wire: Wire, name: str = "x") -> ProducerEpoch:
    answer = await init(wire, name=name)
    assert answer.error_code == 0
    return ProducerEpoch(answer.producer_id, answer.producer_epoch)


def topics(*partitions: int, name: str = "t") -> list[Any]:
    return [AddPartitionsToTxnRequest.AddPartitionsToTxnTopic(name=name, partitions=list(partitions))]


async def add(wire: Wire, who: ProducerEpoch, asked: list[Any], version: int = 3) -> dict[tuple[str, int], Error]:
    request = AddPartitionsToTxnRequest(
        v3_and_below_transactional_id="x",
        v3_and_below_producer_id=who.producer_id,
        v3_and_below_producer_epoch=who.epoch,
        v3_and_below_topics=asked,
    )
    return errors((await wire.ask(request, version)).results_by_topic_v3_and_below)


def for_brokers(who: ProducerEpoch, *partitions: int, name: str = "x", verify_only: bool = False) -> Any:
    return AddPartitionsToTxnRequest.AddPartitionsToTxnTransaction(
        transactional_id=name,
        producer_id=who.producer_id,
        producer_epoch=who.epoch,
        verify_only=verify_only,
        topics=topics(*partitions),
    )


def errors(results: Any) -> dict[tuple[str, int], Error]:
    return {
        (topic.name, partition.partition_index): Error.of(partition.partition_error_code)
        for topic in results
        for partition in topic.results_by_partition
    }


async def end(wire: Wire, who: ProducerEpoch, version: int, *, committed: bool = True, name: str = "x") -> Any:
    request = EndTxnRequest(
        transactional_id=name, producer_id=who.producer_id, producer_epoch=who.epoch, committed=committed
    )
    with trio.fail_after(10):
        while (answer := await wire.ask(request, version)).error_code == Error.CONCURRENT_TRANSACTIONS:
            await trio.sleep(0)
    return answer


async def described(wire: Wire, name: str = "x") -> Any:
    with trio.fail_after(10):
        while True:
            [state] = (await wire.ask(DescribeTransactionsRequest(transactional_ids=[name]), 0)).transaction_states
            if not state.transaction_state.startswith("Prepare"):
                return state
            await trio.sleep(0)


@pytest.mark.parametrize("version", range(1, 7))
async def test_the_coordinator_of_a_transactional_id_is_found(wire: Wire, version: int) -> None:
    keys: Any = {"coordinator_keys": ["x"]} if version >= 4 else {"key": "x"}
    answer = await wire.ask(FindCoordinatorRequest(key_type=TRANSACTION, **keys), version)
    found = answer.coordinators[0] if version >= 4 else answer
    assert (found.error_code, found.node_id, found.host) == (0, 1, "127.0.0.1")


@pytest.mark.parametrize("version", range(6))
async def test_a_producer_is_initialized(wire: Wire, version: int) -> None:
    first, second = await init(wire, version), await init(wire, version)
    assert (first.error_code, first.producer_epoch) == (0, 0)
    assert (second.error_code, second.producer_id, second.producer_epoch) == (0, first.producer_id, 1)


@pytest.mark.parametrize("version", range(3, 6))
async def test_a_producer_goes_on_after_an_error(wire: Wire, version: int) -> None:
    who = await producer(wire)
    answer = await init(wire, version, producer_id=who.producer_id, producer_epoch=who.epoch)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (0, who.producer_id, 1)
    answer = await init(wire, version, producer_id=who.producer_id, producer_epoch=7)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (
        FENCED if version >= 4 else OLD_FENCED,
        -1,
        -1,
    )
    answer = await init(wire, version, producer_id=who.producer_id)
    assert answer.error_code == Error.INVALID_REQUEST


@pytest.mark.parametrize(
    ("name", "timeout_ms", "error"),
    [
        ("", 1, Error.INVALID_REQUEST),
        ("x", 0, Error.INVALID_TRANSACTION_TIMEOUT),
        ("x", 900_001, Error.INVALID_TRANSACTION_TIMEOUT),
    ],
)
async def test_what_is_no_transactional_producer(wire: Wire, name: str, timeout_ms: int, error: Error) -> None:
    answer = await init(wire, name=name, transaction_timeout_ms=timeout_ms)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (error, -1, -1)


@pytest.mark.parametrize("version", range(4))
async def test_a_producer_adds_partitions(wire: Wire, version: int) -> None:
    who = await producer(wire)
    assert await add(wire, who, topics(0, 1), version) == {("t", 0): Error.NONE, ("t", 1): Error.NONE}
    assert (await described(wire)).transaction_state == "Ongoing"
    fenced = FENCED if version >= 2 else OLD_FENCED
    assert await add(wire, who._replace(epoch=9), topics(0), version) == {("t", 0): fenced}
    assert await add(wire, ProducerEpoch(99, 0), topics(0), version) == {("t", 0): Error.INVALID_PRODUCER_ID_MAPPING}


@pytest.mark.parametrize("version", range(4))
async def test_all_partitions_are_added_or_none(wire: Wire, version: int) -> None:
    who = await producer(wire)
    asked = [*topics(0, 7), *topics(0, name="nowhere"), *topics(0, name="__transaction_state")]
    assert await add(wire, who, asked, version) == {
        ("t", 0): Error.OPERATION_NOT_ATTEMPTED,
        ("t", 7): Error.UNKNOWN_TOPIC_OR_PARTITION,
        ("nowhere", 0): Error.UNKNOWN_TOPIC_OR_PARTITION,
        ("__transaction_state", 0): Error.TOPIC_AUTHORIZATION_FAILED,
    }
    assert (await described(wire)).transaction_state == "Empty"


@pytest.mark.parametrize("version", [4, 5])
async def test_brokers_add_and_verify_for_many_transactions(wire: Wire, version: int) -> None:
    one, other, third = [await producer(wire, name) for name in ("x", "y", "z")]
    answer = await wire.ask(
        AddPartitionsToTxnRequest(
            transactions=[
                for_brokers(one, 0),
                for_brokers(other, 0, name="y", verify_only=True),
                for_brokers(third._replace(epoch=3), 0, 1, name="z"),
                for_brokers(one, 0, name="nobody"),
                for_brokers(one, 0, name=""),
                for_brokers(one, 0, 5, name="w"),
            ]
        ),
        version,
    )
    assert answer.error_code == 0
    assert {result.transactional_id: errors(result.topic_results) for result in answer.results_by_transaction} == {
        "x": {("t", 0): Error.NONE},
        "y": {("t", 0): Error.TRANSACTION_ABORTABLE},
        "z": {("t", 0): FENCED, ("t", 1): FENCED},
        "nobody": {("t", 0): Error.INVALID_PRODUCER_ID_MAPPING},
        "": {("t", 0): Error.INVALID_REQUEST},
        "w": {("t", 0): Error.OPERATION_NOT_ATTEMPTED, ("t", 5): Error.UNKNOWN_TOPIC_OR_PARTITION},
    }
    verify = AddPartitionsToTxnRequest(transactions=[for_brokers(one, 0, 1, verify_only=True)])
    [result] = (await wire.ask(verify, version)).results_by_transaction
    assert errors(result.topic_results) == {("t", 0): Error.NONE, ("t", 1): Error.TRANSACTION_ABORTABLE}


@pytest.mark.parametrize("version", range(5))
async def test_a_producer_adds_its_groups_offsets(wire: Wire, version: int) -> None:
    who = await producer(wire)

    async def error(who: ProducerEpoch) -> Error:
        request = AddOffsetsToTxnRequest(
            transactional_id="x", producer_id=who.producer_id, producer_epoch=who.epoch, group_id="g"
        )
        return Error.of((await wire.ask(request, version)).error_code)

    assert await error(who) is Error.NONE
    [topic] = (await described(wire)).topics
    assert (topic.topic, topic.partitions) == ("__consumer_offsets", [partition_for("g", 50)])
    assert await error(who._replace(epoch=9)) is (FENCED if version >= 2 else OLD_FENCED)
    assert (await end(wire, who, 4)).error_code == 0
    assert (await described(wire)).transaction_state == "CompleteCommit"  # no such topic, so no marker is needed


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("version", range(6))
async def test_a_transaction_ends(wire: Wire, version: int, committed: bool) -> None:
    who = await producer(wire)
    await add(wire, who, topics(0, 1))
    answer = await end(wire, who, version, committed=committed)
    bumped = who._replace(epoch=1)
    assert answer.error_code == 0
    assert (answer.producer_id, answer.producer_epoch) == (bumped if version >= 5 else (-1, -1))
    state = await described(wire)
    assert state.transaction_state == ("CompleteCommit" if committed else "CompleteAbort")
    assert (state.producer_id, state.producer_epoch) == (bumped if version >= 5 else who)
    again = await end(wire, who, version, committed=committed)
    assert again.error_code == 0
    assert (again.producer_id, again.producer_epoch) == (bumped if version >= 5 else (-1, -1))
    assert (await end(wire, who, version, committed=not committed)).error_code == Error.INVALID_TXN_STATE
    fenced = FENCED if version >= 2 else OLD_FENCED
    answer = await end(wire, who._replace(epoch=9), version)
    assert (answer.error_code, answer.producer_id, answer.producer_epoch) == (fenced, -1, -1)
    assert (await end(wire, who, version, name="y")).error_code == Error.INVALID_PRODUCER_ID_MAPPING
    assert (await end(wire, who, version, name="")).error_code == Error.INVALID_REQUEST


async def test_ids_are_described(wire: Wire) -> None:
    who = await producer(wire)
    await add(wire, who, topics(1, 0))
    request = DescribeTransactionsRequest(transactional_ids=["x", "nobody", ""])
    known, unknown, empty = (await wire.ask(request, 0)).transaction_states
    assert (known.error_code, known.transactional_id, known.transaction_state) == (0, "x", "Ongoing")
    assert (known.producer_id, known.producer_epoch, known.transaction_timeout_ms) == (*who, 60_000)
    assert known.transaction_start_time_ms > 0
    assert [(topic.topic, topic.partitions) for topic in known.topics] == [("t", [0, 1])]
    assert (unknown.error_code, unknown.transactional_id) == (Error.TRANSACTIONAL_ID_NOT_FOUND, "nobody")
    assert (empty.error_code, empty.transactional_id) == (Error.INVALID_REQUEST, "")


@pytest.mark.parametrize("version", range(3))
async def test_ids_are_listed(wire: Wire, version: int) -> None:
    for name in ("a1", "a2", "b"):
        who = await producer(wire, name)
    await producer(wire)
    await add(wire, await producer(wire), topics(0))

    async def listed(**filters: Any) -> set[str]:
        answer = await wire.ask(ListTransactionsRequest(**filters), version)
        assert answer.error_code == 0
        return {state.transactional_id for state in answer.transaction_states}

    assert await listed() == {"a1", "a2", "b", "x"}
    assert await listed(state_filters=["Ongoing", "PrepareCommit"]) == {"x"}
    assert await listed(producer_id_filters=[who.producer_id]) == {"b"}
    answer = await wire.ask(ListTransactionsRequest(state_filters=["ongoing", "Dead"]), version)
    assert (answer.unknown_state_filters, answer.transaction_states) == (["ongoing"], [])
    if version >= 1:
        assert await listed(duration_filter=60_000) == {"a1", "a2", "b"}
        assert await listed(duration_filter=-1) == {"a1", "a2", "b", "x"}
    if version >= 2:
        assert await listed(transactional_id_pattern="a.*") == {"a1", "a2"}
        assert await listed(transactional_id_pattern="a") == set()
        assert await listed(transactional_id_pattern="") == {"a1", "a2", "b", "x"}
        answer = await wire.ask(ListTransactionsRequest(transactional_id_pattern="("), version)
        assert (answer.error_code, answer.transaction_states) == (Error.INVALID_REGULAR_EXPRESSION, [])


async def test_a_pattern_that_would_take_for_ever_elsewhere_does_not(wire: Wire) -> None:
    name = "a" * 40
    await producer(wire, name)
    with trio.fail_after(30):
        answer = await wire.ask(ListTransactionsRequest(transactional_id_pattern="(a+)+b"), 2)
    assert answer.transaction_states == []


async def test_a_marker_in_the_coordinators_own_log_is_nothing_to_it(wire: Wire) -> None:
    who = await producer(wire)
    await add(wire, who, topics(0))
    markers = WriteTxnMarkersRequest
    for committed in (True, False):
        marker = markers.WritableTxnMarker(
            producer_id=who.producer_id,
            producer_epoch=who.epoch,
            transaction_result=committed,
            topics=[markers.WritableTxnMarkerTopic(name="__transaction_state", partition_indexes=[0, 1, 2])],
        )
        await wire.ask(WriteTxnMarkersRequest(markers=[marker]), 1)

    async def end_again() -> Any:
        with trio.fail_after(10):
            while (answer := await end(wire, who, 5)).error_code in (Error.NOT_COORDINATOR, 14):
                await trio.sleep(0)
        return answer

    assert (await end_again()).error_code == 0
    assert (await described(wire)).transaction_state == "CompleteCommit"
