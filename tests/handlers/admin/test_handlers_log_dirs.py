"""DeleteRecords and DescribeLogDirs, as an admin client sees them."""

from collections.abc import Callable
from typing import Any

import pytest

from kafkapy.cluster.machine import NewTopic
from kafkapy.errors import Error
from kafkapy.handlers.context import CLUSTER_NAME, Operation, ResourceType
from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.describe_log_dirs import DescribeLogDirsRequest
from kafkapy.records.batch import walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Write

DeleteTopic = DeleteRecordsRequest.DeleteRecordsTopic
DeletePartition = DeleteRecordsRequest.DeleteRecordsPartition
TO_THE_END = -1
NONE = (-1, Error.UNKNOWN_TOPIC_OR_PARTITION)
BATCH = build_batch([Record(0, 1000, b"k", b"v" * 100, [])])


async def create(broker: Any, name: str, partitions: int = 1, records: int = 0, policy: str = "delete") -> None:
    """A topic, with so many records in each partition."""
    await broker.cluster.create_topics([NewTopic(name, partitions, overrides={"cleanup.policy": policy})])
    headers = [header for _, header in walk(BATCH)]
    for partition in broker.cluster.image.topic(name).partitions:
        await broker.logs.append([Write(partition.log, BATCH, headers) for _ in range(records)]).wait()


async def delete(broker: Any, *asked: tuple[str, int, int], version: int = 2) -> dict[tuple[str, int], tuple[int, int]]:
    """Delete before offsets, given as (topic, partition, offset), each in an entry of its own: low watermark, error."""
    topics = [DeleteTopic(name=name, partitions=[DeletePartition(partition_index=p, offset=o)]) for name, p, o in asked]
    response = await broker.ask(DeleteRecordsRequest(topics=topics, timeout_ms=1000), version)
    names = [topic.name for topic in response.topics]
    assert len(names) == len(set(names))
    return {
        (topic.name, result.partition_index): (result.low_watermark, result.error_code)
        for topic in response.topics
        for result in topic.partitions
    }


def start(broker: Any, name: str, partition: int = 0) -> int:
    return int(broker.logs.bounds(broker.cluster.image.partition(name, partition).log).log_start_offset)


@pytest.mark.parametrize("version", range(3))
async def test_records_before_an_offset_go(broker: Any, version: int) -> None:
    await create(broker, "t", partitions=2, records=5)
    assert await delete(broker, ("t", 0, 3), version=version) == {("t", 0): (3, Error.NONE)}
    assert (start(broker, "t", 0), start(broker, "t", 1)) == (3, 0)


async def test_what_is_gone_already_changes_nothing(broker: Any) -> None:
    await create(broker, "t", records=5)
    await delete(broker, ("t", 0, 3))
    assert await delete(broker, ("t", 0, 1)) == {("t", 0): (3, Error.NONE)}


async def test_everything_goes_for_minus_one(broker: Any) -> None:
    await create(broker, "t", records=5)
    assert await delete(broker, ("t", 0, TO_THE_END)) == {("t", 0): (5, Error.NONE)}
    assert start(broker, "t") == 5


@pytest.mark.parametrize("offset", [6, -2])
async def test_offsets_that_are_none_are_refused(broker: Any, offset: int) -> None:
    await create(broker, "t", records=5)
    assert await delete(broker, ("t", 0, offset)) == {("t", 0): (-1, Error.OFFSET_OUT_OF_RANGE)}
    assert start(broker, "t") == 0


@pytest.mark.parametrize(
    ("policy", "outcome"), [("compact", (-1, Error.POLICY_VIOLATION)), ("compact,delete", (2, Error.NONE))]
)
async def test_a_topic_that_is_only_compacted_keeps_its_records(broker: Any, policy: str, outcome: Any) -> None:
    await create(broker, "t", records=5, policy=policy)
    assert await delete(broker, ("t", 0, 2)) == {("t", 0): outcome}
    assert start(broker, "t") == outcome[0] * (outcome[1] == Error.NONE)


async def test_internal_topics_keep_their_records(broker: Any) -> None:
    await create(broker, "__consumer_offsets", records=5)
    outcome = await delete(broker, ("__consumer_offsets", 0, 2))
    assert outcome == {("__consumer_offsets", 0): (-1, Error.INVALID_TOPIC_EXCEPTION)}
    assert start(broker, "__consumer_offsets") == 0


async def test_each_partition_is_answered_by_itself_and_the_last_word_counts(broker: Any) -> None:
    await create(broker, "t", partitions=2, records=5)
    asked = [("t", 0, 4), ("missing", 0, 1), ("t", 7, 1), ("t", 1, 1), ("t", 0, 2)]
    wanted = {("t", 0): (2, Error.NONE), ("t", 1): (1, Error.NONE), ("missing", 0): NONE, ("t", 7): NONE}
    assert await delete(broker, *asked) == wanted


async def test_who_may_not_delete_is_told_so(broker: Any, deny: Callable[..., None]) -> None:
    await create(broker, "t", records=5)
    deny(Operation.DELETE, ResourceType.TOPIC, "t")
    assert await delete(broker, ("t", 0, 2)) == {("t", 0): (-1, Error.TOPIC_AUTHORIZATION_FAILED)}
    assert start(broker, "t") == 0


async def describe(broker: Any, asked: list[tuple[str, list[int]]] | None, version: int = 5) -> Any:
    Topic = DescribeLogDirsRequest.DescribableLogDirTopic
    topics = None if asked is None else [Topic(topic=name, partitions=partitions) for name, partitions in asked]
    [result] = (await broker.ask(DescribeLogDirsRequest(topics=topics), version)).results
    assert result.error_code == Error.NONE
    return result


def sizes(result: Any) -> dict[str, dict[int, int]]:
    assert all((p.offset_lag, p.is_future_key) == (0, False) for topic in result.topics for p in topic.partitions)
    return {topic.name: {p.partition_index: p.partition_size for p in topic.partitions} for topic in result.topics}


@pytest.mark.parametrize("version", range(1, 6))
async def test_all_logs_with_their_sizes(broker: Any, version: int) -> None:
    await create(broker, "t", partitions=2, records=3)
    await create(broker, "u")
    result = await describe(broker, None, version)
    assert sizes(result) == {"t": {0: 3 * len(BATCH), 1: 3 * len(BATCH)}, "u": {0: 0}}
    assert (result.log_dir, result.total_bytes, result.usable_bytes) == ("memory", -1, -1)
    assert not result.is_cordoned


async def test_only_partitions_that_were_asked_for_and_exist(broker: Any) -> None:
    await create(broker, "t", partitions=3, records=1)
    await create(broker, "u")
    asked = [("t", [2, 9]), ("missing", [0]), ("t", [0, 2]), ("u", [])]
    assert sizes(await describe(broker, asked)) == {"t": {2: len(BATCH), 0: len(BATCH)}}
    assert sizes(await describe(broker, [])) == {}


async def test_who_may_not_see_the_cluster_sees_no_directory(broker: Any, deny: Callable[..., None]) -> None:
    deny(Operation.DESCRIBE, ResourceType.CLUSTER, CLUSTER_NAME)
    response = await broker.ask(DescribeLogDirsRequest(topics=None))
    assert response.error_code != Error.NONE
    assert response.results == []
