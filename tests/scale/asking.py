"""Requests over many partitions, and a broker's topics made and filled with few of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.wire import Wire

CREATE, DELETE, PRODUCE, FETCH = 7, 5, 9, 12
"""The versions that these requests are sent in."""


def batch_of(size: int, *, at: int = 1_700_000_000_000, **options: Any) -> bytes:
    """A batch of one record of `size` bytes, of the time `at`."""
    return build_batch([Record(0, at, b"k", b"x" * size, [])], **options)


def produce(topic: str, partitions: Iterable[int], batch: bytes, *, acks: int = -1) -> ProduceRequest:
    """The same batch for each of the partitions."""
    data = [ProduceRequest.PartitionProduceData(index=index, records=batch) for index in partitions]
    topics = [ProduceRequest.TopicProduceData(name=topic, partition_data=data)]
    return ProduceRequest(acks=acks, timeout_ms=30_000, topic_data=topics)


def fetch(
    topic: str,
    offsets: Mapping[int, int],
    *,
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 50 << 20,
    partition_max_bytes: int = 1 << 20,
) -> FetchRequest:
    """Read each partition from its offset on."""
    partitions = [
        FetchRequest.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=partition_max_bytes)
        for index, offset in offsets.items()
    ]
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=partitions)]
    return FetchRequest(max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes, topics=topics)


async def make_topic(wire: Wire, name: str, partition_count: int, **config: str) -> None:
    """A topic with these settings, their dots written as underscores."""
    configs = [
        CreateTopicsRequest.CreatableTopicConfig(name=name.replace("_", "."), value=value)
        for name, value in config.items()
    ]
    topic = CreateTopicsRequest.CreatableTopic(
        name=name, num_partitions=partition_count, replication_factor=1, configs=configs
    )
    answer = await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=60_000), CREATE)
    assert answer.topics[0].error_code == 0, answer.topics[0]


async def delete_topic(wire: Wire, name: str) -> None:
    answer = await wire.ask(DeleteTopicsRequest(topic_names=[name], timeout_ms=60_000), DELETE)
    assert answer.responses[0].error_code == 0, answer.responses[0]


async def fill(wire: Wire, topic: str, partitions: Iterable[int], batch: bytes, *, at_once: int = 500) -> None:
    """Append the batch to each of the partitions, `at_once` of them a request."""
    left = list(partitions)
    while left:
        answer = await wire.ask(produce(topic, left[:at_once], batch), PRODUCE)
        errors = {p.error_code for p in answer.responses[0].partition_responses}
        assert errors == {0}, errors
        del left[:at_once]
