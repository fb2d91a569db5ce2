"""Transactions as producers, consumers and coordinators see them over the wire. The coordinator is the test's."""

import select
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import sent
from disks import LyingDisk

from kafkapy.broker import Broker
from kafkapy.clock import SystemClock
from kafkapy.cluster.machine import NewTopic
from kafkapy.errors import Error
from kafkapy.handlers.peers import LocalPeers
from kafkapy.model import NO_TIMESTAMP
from kafkapy.protocol.messages.add_partitions_to_txn import AddPartitionsToTxnRequest, AddPartitionsToTxnResponse
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from kafkapy.records.batch import walk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import make_topic

LONG_MS = 600_000
LATEST = -1


class Coordinator(LocalPeers):
    """Has transactions of which all partitions are part, unless it objects; the broker answers everything else."""

    asked: list[AddPartitionsToTxnRequest]
    objections: list[Error]
    may_answer: trio.Event

    async def ask(self, node_id: int, request: Any) -> Any:
        if not isinstance(request, AddPartitionsToTxnRequest):
            return await super().ask(node_id, request)
        self.asked.append(request)
        await self.may_answer.wait()
        error = self.objections.pop(0) if self.objections else Error.NONE
        response = AddPartitionsToTxnResponse
        return response(
            results_by_transaction=[
                response.AddPartitionsToTxnResult(
                    transactional_id=transaction.transactional_id,
                    topic_results=[
                        response.AddPartitionsToTxnTopicResult(
                            name=topic.name,
                            results_by_partition=[
                                response.AddPartitionsToTxnPartitionResult(
                                    partition_index=index, partition_error_code=error
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


@pytest.fixture
def coordinator(monkeypatch: pytest.MonkeyPatch) -> type[Coordinator]:
    Coordinator.asked, Coordinator.objections, Coordinator.may_answer = [], [], trio.Event()
    Coordinator.may_answer.set()
    monkeypatch.setattr("kafkapy.broker.LocalPeers", Coordinator)
    return Coordinator


@asynccontextmanager
async def served(start_broker: StartBroker, **options: Any) -> AsyncIterator[tuple[Broker, Wire]]:
    """A broker with topic "t" of two partitions, and a connection to it."""
    async with start_broker(**{"memory": True, **options}) as broker, await Wire.connect(broker.port) as wire:
        await broker.rooms.cluster.create_topics([NewTopic("__transaction_state", 4)])
        await make_topic(wire, "t", 2)
        yield broker, wire


def produce(sequence: int = 0, *, partitions: tuple[int, ...] = (0,), **options: Any) -> ProduceRequest:
    transactional_id = options.pop("transactional_id", "x")
    options = {"at": SystemClock().now_ms(), "transactional": True, **options}  # the time that markers have
    batch = sent(sequence, b"v", **options)
    data = [ProduceRequest.PartitionProduceData(index=index, records=batch) for index in partitions]
    return ProduceRequest(
        transactional_id=transactional_id,
        acks=-1,
        timeout_ms=10_000,
        topic_data=[ProduceRequest.TopicProduceData(name="t", partition_data=data)],
    )


def outcomes(answer: Any) -> list[tuple[Error, int]]:
    [topic] = answer.responses
    return [(Error.of(partition.error_code), partition.base_offset) for partition in topic.partition_responses]


async def write_marker(
    wire: Wire,
    *,
    committed: bool,
    producer: int = 7,
    epoch: int = 0,
    version: int = 1,
    partition: int = 0,
    topic: str = "t",
) -> Error:
    marker = WriteTxnMarkersRequest.WritableTxnMarker(
        producer_id=producer,
        producer_epoch=epoch,
        transaction_result=committed,
        topics=[WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=topic, partition_indexes=[partition])],
        coordinator_epoch=0,
        transaction_version=version,
    )
    answer = await wire.ask(WriteTxnMarkersRequest(markers=[marker]), 2)
    return Error.of(answer.markers[0].topics[0].partitions[0].error_code)


def fetch(offset: int = 0, *, committed: bool = True, max_wait_ms: int = 0) -> FetchRequest:
    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=1 << 20)
    return FetchRequest(
        max_wait_ms=max_wait_ms,
        min_bytes=1,
        max_bytes=1 << 20,
        isolation_level=int(committed),
        topics=[FetchRequest.FetchTopic(topic="t", partitions=[partition])],
    )


def brought(answer: Any) -> tuple[list[int], int, list[tuple[int, int]] | None]:
    """The base offsets of the batches, the last stable offset, and the aborted transactions."""
    [topic] = answer.responses
    [found] = topic.partitions
    aborted = found.aborted_transactions
    return (
        [header.base_offset for _, header in walk(bytes(found.records or b""))],
        found.last_stable_offset,
        None if aborted is None else [(row.producer_id, row.first_offset) for row in aborted],
    )


@pytest.mark.parametrize("version", range(3, 13))
async def test_the_first_batch_on_a_partition_is_verified_and_no_other(
    start_broker: StartBroker, coordinator: type[Coordinator], version: int
) -> None:
    async with served(start_broker) as (_, wire):
        answer = await wire.ask(produce(partitions=(0, 1)), version)
        assert outcomes(answer) == [(Error.NONE, 0)] * 2
        assert outcomes(await wire.ask(produce(1), version)) == [(Error.NONE, 1)]
        [asked] = coordinator.asked
        [transaction] = asked.transactions
        assert (transaction.transactional_id, transaction.producer_id, transaction.producer_epoch) == ("x", 7, 0)
        assert transaction.verify_only is (version < 12)
        assert [(topic.name, topic.partitions) for topic in transaction.topics] == [("t", [0, 1])]
        await write_marker(wire, committed=True)
        assert outcomes(await wire.ask(produce(2), version)) == [(Error.NONE, 3)]
        assert len(coordinator.asked) == 2


@pytest.mark.parametrize(
    ("objection", "version", "heard"),
    [
        (Error.INVALID_TXN_STATE, 12, (Error.INVALID_TXN_STATE, "Partition was not added to the transaction")),
        (Error.TRANSACTION_ABORTABLE, 10, (Error.INVALID_TXN_STATE, "Partition was not added to the transaction")),
        (Error.TRANSACTION_ABORTABLE, 11, (Error.TRANSACTION_ABORTABLE, None)),
        (Error.PRODUCER_FENCED, 12, (Error.INVALID_PRODUCER_EPOCH, None)),
        (
            Error.CONCURRENT_TRANSACTIONS,
            11,
            (
                Error.NOT_ENOUGH_REPLICAS,
                "Unable to verify the partition has been added to the transaction. Underlying error: "
                "CONCURRENT_TRANSACTIONS",
            ),
        ),
    ],
)
async def test_what_the_coordinator_objects_to_is_not_appended(
    start_broker: StartBroker,
    coordinator: type[Coordinator],
    objection: Error,
    version: int,
    heard: tuple[Error, str | None],
) -> None:
    async with served(start_broker) as (broker, wire):
        coordinator.objections.append(objection)
        answer = await wire.ask(produce(), version)
        [partition] = answer.responses[0].partition_responses
        assert (partition.error_code, partition.error_message) == heard
        assert (partition.base_offset, partition.log_append_time_ms) == (-1, NO_TIMESTAMP)
        log = broker.rooms.cluster.image.partition("t", 0).log  # type: ignore[union-attr]
        assert broker.rooms.logs.bounds(log) == (0, 0, 0, 0)
        assert outcomes(await wire.ask(produce(), version)) == [(Error.NONE, 0)]


async def test_a_producer_of_version_2_waits_for_the_markers_of_its_last_transaction(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (_, wire):
        coordinator.objections += [Error.CONCURRENT_TRANSACTIONS] * 2
        assert outcomes(await wire.ask(produce(), 12)) == [(Error.NONE, 0)]
        assert len(coordinator.asked) == 3


async def test_requests_that_come_while_one_is_verified_wait_for_it(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (_, wire):
        Coordinator.may_answer = trio.Event()
        for sequence in range(5):
            await wire.send(produce(sequence), 12)
        with trio.fail_after(20):
            while not coordinator.asked:
                await trio.lowlevel.checkpoint()
        Coordinator.may_answer.set()
        assert [outcomes(await wire.receive()) for _ in range(5)] == [[(Error.NONE, offset)] for offset in range(5)]
        assert len(coordinator.asked) == 1


async def test_an_answer_that_a_marker_has_overtaken_opens_nothing(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    """Or the transaction would hang: its coordinator takes it for ended."""
    async with served(start_broker) as (broker, wire), await Wire.connect(broker.port) as other:
        Coordinator.may_answer = trio.Event()
        await wire.send(produce(), 9)
        with trio.fail_after(20):
            while not coordinator.asked:
                await trio.lowlevel.checkpoint()
        assert await write_marker(other, committed=False) is Error.NONE
        Coordinator.may_answer.set()
        assert outcomes(await wire.receive()) == [(Error.INVALID_TXN_STATE, -1)]
        assert brought(await wire.ask(fetch(), 12)) == ([0], 1, [])


@pytest.mark.parametrize(("version", "is_asked"), [(11, False), (12, True)])
async def test_without_verification_old_producers_are_believed(
    start_broker: StartBroker, coordinator: type[Coordinator], version: int, is_asked: bool
) -> None:
    settings = {"transaction.partition.verification.enable": "false"}
    async with served(start_broker, settings=settings) as (_, wire):
        assert outcomes(await wire.ask(produce(), version)) == [(Error.NONE, 0)]
        assert bool(coordinator.asked) is is_asked


async def test_a_batch_that_no_transaction_claims_is_refused(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (_, wire):
        refused = [(Error.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, -1)]
        assert outcomes(await wire.ask(produce(transactional_id=None), 9)) == refused
        mixed = produce(partitions=(0, 1))
        mixed.topic_data[0].partition_data[1].records = sent(0, b"v", producer=8, transactional=True)
        assert outcomes(await wire.ask(mixed, 9)) == [(Error.INVALID_PRODUCER_ID_MAPPING, -1)] * 2
        assert outcomes(await wire.ask(produce(transactional=False), 9)) == [(Error.NONE, 0)]
        assert coordinator.asked == []


async def test_without_a_coordinator_producers_come_back(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 2)
        assert outcomes(await wire.ask(produce(), 12)) == [(Error.NOT_ENOUGH_REPLICAS, -1)]


async def test_a_zombie_is_fenced_by_the_marker_that_aborted_its_transaction(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (_, wire):
        await wire.ask(produce(), 12)
        assert await write_marker(wire, committed=False, epoch=1, version=2) is Error.NONE
        assert outcomes(await wire.ask(produce(1), 12)) == [(Error.INVALID_PRODUCER_EPOCH, -1)]
        assert len(coordinator.asked) == 1
        assert outcomes(await wire.ask(produce(0, epoch=1), 12)) == [(Error.NONE, 2)]


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("committed", [True, False])
async def test_readers_of_what_is_committed_wake_at_the_marker_and_not_before(
    start_broker: StartBroker, coordinator: type[Coordinator], memory: bool, committed: bool
) -> None:
    async with (
        served(start_broker, memory=memory) as (broker, wire),
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as curious,
    ):
        await reader.send(fetch(max_wait_ms=LONG_MS), 12)
        await curious.send(fetch(committed=False, max_wait_ms=LONG_MS), 12)
        await wire.ask(produce(), 12)
        with trio.fail_after(20):
            assert brought(await curious.receive()) == ([0], 0, None)
        await wire.ask(produce(1), 12)
        assert brought(await wire.ask(fetch(), 12)) == ([], 0, [])
        assert not select.select([reader.stream.socket.fileno()], [], [], 0)[0]
        await write_marker(wire, committed=committed)
        with trio.fail_after(20):
            found = brought(await reader.receive())
        assert found == ([0, 1, 2], 3, [] if committed else [(7, 0)])


async def test_the_end_of_what_is_committed_is_told_by_list_offsets(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (_, wire):
        await wire.ask(produce(transactional=False, producer=9), 9)
        await wire.ask(produce(), 12)

        async def end_of(*, committed: bool) -> int:
            partition = ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=LATEST)
            request = ListOffsetsRequest(
                replica_id=-1,
                isolation_level=int(committed),
                topics=[ListOffsetsRequest.ListOffsetsTopic(name="t", partitions=[partition])],
            )
            answer = await wire.ask(request, 5)
            return int(answer.topics[0].partitions[0].offset)

        assert (await end_of(committed=True), await end_of(committed=False)) == (1, 2)
        await write_marker(wire, committed=False)
        assert (await end_of(committed=True), await end_of(committed=False)) == (3, 3)


# Whatever ends the broker, the transaction goes on where it was.

GROUPS = "__consumer_offsets"
SYNCED = {"log.flush.interval.messages": "1", "offsets.topic.num.partitions": "1"}


async def commit_offset(wire: Wire, offset: int, *, producer: int = 7) -> Error:
    partition = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=offset)
    topic = TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name="t", partitions=[partition])
    request = TxnOffsetCommitRequest(
        transactional_id="x", group_id="g", producer_id=producer, producer_epoch=0, topics=[topic]
    )
    answer = await wire.ask(request, 2)
    return Error.of(answer.topics[0].partitions[0].error_code)


async def stable_offset(wire: Wire) -> tuple[int, Error]:
    topic = OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0])
    answer = await wire.ask(OffsetFetchRequest(group_id="g", require_stable=True, topics=[topic]), 7)
    [partition] = answer.topics[0].partitions
    return partition.committed_offset, Error.of(partition.error_code)


def come_back_as(disk: LyingDisk, directory: Path, way: str) -> Callable[[], None]:
    """To be called when the broker has ended: the directory is as it would be, had it ended now and in this way."""
    left = directory.with_name("left")
    if way == "kill":
        disk.after_kill(directory, left)
    elif way != "clean stop":
        disk.after_crash(directory, left, lambda: 0.0 if way == "power cut" else 0.65)

    def come_back() -> None:
        if left.exists():
            shutil.rmtree(directory)
            left.rename(directory)

    return come_back


@pytest.mark.parametrize("way", ["clean stop", "kill", "power cut", "power cut in a write"])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_transaction_outlives_the_broker(
    start_broker: StartBroker, coordinator: type[Coordinator], tmp_path: Path, way: str, committed: bool
) -> None:
    directory = tmp_path / "data"
    disk = LyingDisk()
    async with served(start_broker, memory=False, settings=SYNCED, disk=disk) as (broker, wire):
        await broker.rooms.cluster.create_topics([NewTopic(GROUPS, 1)])
        assert outcomes(await wire.ask(produce(producer=8), 9)) == [(Error.NONE, 0)]
        assert await write_marker(wire, producer=8, committed=False) is Error.NONE
        assert outcomes(await wire.ask(produce(), 9)) == [(Error.NONE, 2)]
        assert await commit_offset(wire, 5) is Error.NONE
        assert len(coordinator.asked) == 3
        come_back = come_back_as(disk, directory, way)
    come_back()
    disk = LyingDisk()
    async with start_broker(settings=SYNCED, disk=disk) as broker, await Wire.connect(broker.port) as wire:
        assert brought(await wire.ask(fetch(), 12)) == ([0, 1], 2, [(8, 0)])
        assert await stable_offset(wire) == (-1, Error.UNSTABLE_OFFSET_COMMIT)
        assert outcomes(await wire.ask(produce(1), 9)) == [(Error.NONE, 3)]
        assert await commit_offset(wire, 6) is Error.NONE
        assert len(coordinator.asked) == 3, "it is open on both logs"
        for topic in ("t", GROUPS):
            assert await write_marker(wire, topic=topic, committed=committed) is Error.NONE
        come_back = come_back_as(disk, directory, way)
    come_back()
    async with start_broker(settings=SYNCED) as broker, await Wire.connect(broker.port) as wire:
        aborted = [(8, 0)] if committed else [(8, 0), (7, 2)]
        assert brought(await wire.ask(fetch(), 12)) == ([0, 1, 2, 3, 4], 5, aborted)
        assert await stable_offset(wire) == ((6 if committed else -1), Error.NONE)


async def test_records_may_be_deleted_under_a_transaction(
    start_broker: StartBroker, coordinator: type[Coordinator]
) -> None:
    async with served(start_broker) as (broker, wire):
        for sequence in range(3):
            await wire.ask(produce(sequence), 9)
        log = broker.rooms.cluster.image.partition("t", 0).log  # type: ignore[union-attr]
        assert await broker.rooms.logs.trim(log, 2) == 2
        assert brought(await wire.ask(fetch(2), 12)) == ([], 2, [])
        assert outcomes(await wire.ask(produce(3), 9)) == [(Error.NONE, 3)]
        assert await write_marker(wire, committed=False) is Error.NONE
        assert brought(await wire.ask(fetch(2), 12)) == ([2, 3, 4], 5, [(7, 0)])
