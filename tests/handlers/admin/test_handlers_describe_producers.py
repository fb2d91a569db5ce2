"""DescribeProducers, as an administrator sees it who searches for a transaction that does not end."""

from collections.abc import Callable
from typing import Any

from kafkapy.cluster.machine import NewTopic
from kafkapy.errors import Error
from kafkapy.handlers.context import Operation, ResourceType
from kafkapy.protocol.messages.describe_producers import DescribeProducersRequest
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Write

OPEN = build_batch(
    [Record(0, 1000, b"k", b"v", [])], producer_id=7, producer_epoch=3, base_sequence=5, transactional=True
)


async def describe(broker: Any, *asked: tuple[str, list[int]]) -> list[tuple[str, list[Any]]]:
    topics = [DescribeProducersRequest.TopicRequest(name=name, partition_indexes=found) for name, found in asked]
    response = await broker.ask(DescribeProducersRequest(topics=topics))
    return [(topic.name, topic.partitions) for topic in response.topics]


async def test_an_open_transaction_is_told_with_its_producer(broker: Any) -> None:
    await broker.cluster.create_topics([NewTopic("t", 2)])
    log = broker.cluster.image.partition("t", 1).log
    await broker.logs.append([Write(log, OPEN, [read_header(OPEN)])]).wait()
    [(name, [empty, found])] = await describe(broker, ("t", [0, 1]))
    assert (name, empty.partition_index, empty.error_code, empty.active_producers) == ("t", 0, Error.NONE, [])
    [producer] = found.active_producers
    assert (found.partition_index, found.error_code, found.error_message) == (1, Error.NONE, None)
    assert (producer.producer_id, producer.producer_epoch, producer.last_sequence) == (7, 3, 5)
    assert (producer.last_timestamp, producer.coordinator_epoch, producer.current_txn_start_offset) == (1000, -1, 0)


async def test_each_partition_is_refused_by_itself(broker: Any, deny: Callable[..., None]) -> None:
    await broker.cluster.create_topics([NewTopic("t", 1), NewTopic("secret", 1)])
    deny(Operation.READ, ResourceType.TOPIC, "secret")
    found = await describe(broker, ("t", [0, 1]), ("secret", [0, 7]), ("missing", [0]), ("no name", [0]))
    assert [(name, [partition.error_code for partition in partitions]) for name, partitions in found] == [
        ("t", [Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION]),
        ("secret", [Error.TOPIC_AUTHORIZATION_FAILED] * 2),
        ("missing", [Error.UNKNOWN_TOPIC_OR_PARTITION]),
        ("no name", [Error.INVALID_TOPIC_EXCEPTION]),
    ]
    assert "no name" in found[3][1][0].error_message
