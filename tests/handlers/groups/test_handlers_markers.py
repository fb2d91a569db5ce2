"""WriteTxnMarkers: transactions end on logs, and for groups, each partition by itself."""

from typing import Any

import pytest

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error
from kafkapy.groups.commands import CommitOffsets, FetchOffsets, PartitionCommit, TopicCommit, Transaction
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.model import ZERO_UUID, IsolationLevel
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from kafkapy.records.batch import read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.control import EndMarker, read_end_marker
from kafkapy.records.record import Record
from kafkapy.storage.base import Read, Write

OFFSETS = "__consumer_offsets"
COMMITTED = IsolationLevel.READ_COMMITTED


def marker(
    partitions: dict[str, list[int]], *, producer: int = 7, epoch: int = 0, committed: bool = True, **options: Any
) -> WriteTxnMarkersRequest.WritableTxnMarker:
    return WriteTxnMarkersRequest.WritableTxnMarker(
        producer_id=producer,
        producer_epoch=epoch,
        transaction_result=committed,
        topics=[
            WriteTxnMarkersRequest.WritableTxnMarkerTopic(name=name, partition_indexes=indexes)
            for name, indexes in partitions.items()
        ],
        coordinator_epoch=options.get("coordinator", 0),
        transaction_version=options.get("version", 0),
    )


async def write(broker: Any, *markers: Any, version: int = 2) -> dict[tuple[int, str, int], Error]:
    response = await broker.ask(WriteTxnMarkersRequest(markers=list(markers)), version)
    assert len({result.producer_id for result in response.markers}) == len(response.markers)
    return {
        (result.producer_id, topic.name, partition.partition_index): Error.of(partition.error_code)
        for result in response.markers
        for topic in result.topics
        for partition in topic.partitions
    }


def log_of(broker: Any, partition: int) -> Any:
    return broker.cluster.image.partition("t", partition).log


async def open_transaction(broker: Any, partition: int, *, producer: int = 7, epoch: int = 0) -> None:
    batch = build_batch(
        [Record(0, 1, None, b"v", [])], producer_id=producer, producer_epoch=epoch, base_sequence=0, transactional=True
    )
    [outcome] = await broker.logs.append([Write(log_of(broker, partition), batch, [read_header(batch)])]).wait()
    assert outcome.error is Error.NONE


async def read(broker: Any, partition: int) -> Any:
    [piece] = await broker.logs.read([Read(log_of(broker, partition), 0, 1 << 20, COMMITTED)], 1 << 20)
    return piece


@pytest.fixture
async def broker(open_broker: Any) -> Any:
    """With topic "t" of three partitions."""
    broker = await open_broker()
    await broker.create_topic("t", 3)
    return broker


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("committed", [True, False])
async def test_a_marker_ends_the_transaction_where_it_is_written(broker: Any, version: int, committed: bool) -> None:
    for partition in range(3):
        await open_transaction(broker, partition)
    answers = await write(broker, marker({"t": [0, 2]}, committed=committed, coordinator=5), version=version)
    assert answers == {(7, "t", 0): Error.NONE, (7, "t", 2): Error.NONE}
    assert [(await read(broker, p)).last_stable_offset for p in range(3)] == [2, 0, 2]
    piece = await read(broker, 0)
    assert piece.aborted == ([] if committed else [(7, 0)])
    [_, (position, header)] = walk(piece.records)
    assert (header.producer_id, header.producer_epoch, header.is_transactional) == (7, 0, True)
    assert read_end_marker(piece.records[position:]) == EndMarker(committed, 5)


async def test_each_partition_and_each_producer_is_answered_by_itself(broker: Any) -> None:
    await open_transaction(broker, 0, epoch=3)
    await write(broker, marker({"t": [1]}, producer=8, coordinator=4))
    answers = await write(
        broker,
        marker({"t": [0, 2, 3], "missing": [0]}),
        marker({"t": [1]}, producer=8, coordinator=3),
        marker({"t": [2]}, producer=8, coordinator=3),
    )
    assert answers == {
        (7, "t", 0): Error.INVALID_PRODUCER_EPOCH,
        (7, "t", 2): Error.NONE,
        (7, "t", 3): Error.UNKNOWN_TOPIC_OR_PARTITION,
        (7, "missing", 0): Error.UNKNOWN_TOPIC_OR_PARTITION,
        (8, "t", 1): Error.TRANSACTION_COORDINATOR_FENCED,
        (8, "t", 2): Error.NONE,
    }
    assert (await read(broker, 0)).last_stable_offset == 0


async def test_by_the_rules_of_version_2_a_marker_has_the_next_epoch(broker: Any) -> None:
    await open_transaction(broker, 0)
    wanted = {"t": [0]}
    assert await write(broker, marker(wanted, version=2)) == {(7, "t", 0): Error.INVALID_PRODUCER_EPOCH}
    assert await write(broker, marker(wanted, epoch=1, version=2)) == {(7, "t", 0): Error.NONE}
    assert (await read(broker, 0)).last_stable_offset == 2
    assert await write(broker, marker(wanted, epoch=1, version=2)) == {(7, "t", 0): Error.NONE}
    assert await write(broker, marker(wanted, version=2)) == {(7, "t", 0): Error.INVALID_PRODUCER_EPOCH}
    assert await write(broker, marker(wanted, epoch=1), version=1) == {(7, "t", 0): Error.NONE}


async def test_a_partition_is_answered_once_whatever_it_is_asked(broker: Any) -> None:
    """What came of the last marker counts; a marker for nothing has no answer."""
    again = [marker({"t": [1]}, epoch=3), marker({"t": [1]}, epoch=2), marker({"t": []}, producer=9)]
    response = await broker.ask(WriteTxnMarkersRequest(markers=again), 2)
    [[partition]] = [topic.partitions for found in response.markers for topic in found.topics]
    assert (partition.partition_index, partition.error_code) == (1, Error.INVALID_PRODUCER_EPOCH)


@pytest.mark.parametrize("options", [{"producer": -1}, {"epoch": -1}])
async def test_a_marker_without_a_producer_is_none(broker: Any, options: dict[str, int]) -> None:
    answers = await write(broker, marker({"t": [0]}, **options))
    assert set(answers.values()) == {Error.UNKNOWN_SERVER_ERROR}
    assert (await read(broker, 0)).high_watermark == 0


async def test_a_log_that_was_made_anew_takes_the_marker_of_its_namesake(broker: Any) -> None:
    await open_transaction(broker, 0)
    await broker.delete_topic(broker.cluster.image.topic("t").topic_id)
    assert await write(broker, marker({"t": [0]})) == {(7, "t", 0): Error.UNKNOWN_TOPIC_OR_PARTITION}
    await broker.create_topic("t", 1)
    assert await write(broker, marker({"t": [0]})) == {(7, "t", 0): Error.NONE}
    assert (await read(broker, 0)).last_stable_offset == 1


async def test_administrators_and_brokers_may_and_nobody_else(broker: Any) -> None:
    alter = (Operation.ALTER, ResourceType.CLUSTER, CLUSTER_NAME)
    broker.denied[alter] = Error.CLUSTER_AUTHORIZATION_FAILED
    assert await write(broker, marker({"t": [0]})) == {(7, "t", 0): Error.NONE}
    broker.denied[Operation.CLUSTER_ACTION, *alter[1:]] = Error.CLUSTER_AUTHORIZATION_FAILED
    assert await write(broker, marker({"t": [0]})) == {(7, "t", 0): Error.CLUSTER_AUTHORIZATION_FAILED}
    del broker.denied[alter]
    assert await write(broker, marker({"t": [0]})) == {(7, "t", 0): Error.NONE}


async def test_without_markers_there_is_nothing_to_say(broker: Any) -> None:
    assert await write(broker) == {}


# What groups have committed in transactions


async def commit(broker: Any, group: str, offset: int, *, producer: int = 7, epoch: int = 0) -> int:
    """Commit in a transaction; the partition of the group's coordinator."""
    await broker.find_coordinator(group)
    log = await broker.groups.coordinating_log(group)
    partitions = [TopicCommit("t", ZERO_UUID, [PartitionCommit(0, offset, -1, "")])]
    transaction = Transaction(ProducerEpoch(producer, epoch))
    await broker.groups.commit_offsets(CommitOffsets(group, "", None, -1, -1, partitions, False, transaction))
    return int(log.partition)


async def committed(broker: Any, group: str) -> list[int]:
    topics = await broker.groups.fetch_offsets(FetchOffsets(group, None))
    return [found.offset for topic in topics for _, found in topic.partitions]


async def test_a_groups_offsets_count_from_the_marker_on_that_its_coordinator_writes(broker: Any) -> None:
    groups = ["a", "b", "c"]
    partitions = [await commit(broker, group, 5) for group in groups]
    assert len(set(partitions)) == 3
    answers = await write(broker, marker({OFFSETS: partitions[:2]}, coordinator=1))
    assert set(answers.values()) == {Error.NONE}
    assert [await committed(broker, group) for group in groups] == [[5], [5], []]
    await write(broker, marker({OFFSETS: partitions[2:]}, committed=False))
    await broker.groups.commit_offsets(
        CommitOffsets("c", "", None, -1, -1, [TopicCommit("t", ZERO_UUID, [PartitionCommit(0, 1, -1, "")])], False)
    )  # the shard goes on
    assert await committed(broker, "c") == [1]


async def test_a_refused_marker_decides_nothing_for_a_group(broker: Any) -> None:
    partition = await commit(broker, "a", 5, epoch=3)
    key = (7, OFFSETS, partition)
    assert await write(broker, marker({OFFSETS: [partition]}, epoch=2)) == {key: Error.INVALID_PRODUCER_EPOCH}
    assert await write(broker, marker({OFFSETS: [partition]}, epoch=3, version=2)) == {
        key: Error.INVALID_PRODUCER_EPOCH
    }
    assert await committed(broker, "a") == []
    wanted = marker({OFFSETS: [partition]}, epoch=4, version=2, coordinator=2)
    assert await write(broker, wanted) == {key: Error.NONE}
    assert await committed(broker, "a") == [5]
    assert await write(broker, marker({OFFSETS: [partition]}, epoch=4, coordinator=1)) == {
        key: Error.TRANSACTION_COORDINATOR_FENCED
    }


async def test_one_write_carries_what_comes_together(broker: Any) -> None:
    for producer in (7, 8, 9):
        partition = await commit(broker, "a", producer, producer=producer)
    before = broker.logs.bounds(await broker.groups.coordinating_log("a")).end_offset
    answers = await write(broker, *(marker({OFFSETS: [partition]}, producer=producer) for producer in (7, 8, 9)))
    assert set(answers.values()) == {Error.NONE}
    assert await committed(broker, "a") == [9]
    assert broker.logs.bounds(await broker.groups.coordinating_log("a")).end_offset == before + 3
