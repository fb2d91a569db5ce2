"""Stock clients' transactional producers: what is read, made into something and written again is so exactly once."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import trio
from confluent_kafka import Consumer as LibrdkafkaConsumer
from confluent_kafka import Producer as LibrdkafkaProducer
from confluent_kafka import TopicPartition
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as Partition
from kafka.consumer.group import ConsumerGroupMetadata
from kafka.structs import OffsetAndMetadata

from tests.broker.conftest import StartBroker

COUNT = 60
A_TRANSACTION = 10
EVERY_THIRD = 3
"""So often a transaction is aborted, and done again."""
MANY = 30
"""More polls than it takes, each of which waits some seconds for records."""


async def in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    with trio.fail_after(120):
        return await trio.to_thread.run_sync(function, *arguments)


def fill(servers: str) -> None:
    producer = LibrdkafkaProducer({"bootstrap.servers": servers})
    for number in range(COUNT):
        producer.produce("in", b"%d" % number)
    assert producer.flush(30) == 0


def seen(servers: str, isolation: str, group: str = "reader") -> list[bytes]:
    """All values of the topic that a reader finds from its beginning to where it ends for it."""
    consumer = LibrdkafkaConsumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "isolation.level": isolation,
            "enable.partition.eof": True,
        }
    )
    consumer.assign([TopicPartition("out", 0, 0)])
    found: list[bytes] = []
    while True:
        message = consumer.poll(30)
        assert message is not None
        if message.error():
            consumer.close()
            return found
        found.append(message.value())


def transform_with_librdkafka(servers: str) -> None:
    consumer = LibrdkafkaConsumer(
        {
            "bootstrap.servers": servers,
            "group.id": "copier",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe(["in"])
    producer = LibrdkafkaProducer({"bootstrap.servers": servers, "transactional.id": "copier"})
    producer.init_transactions(30)
    done, transactions, polls = 0, 0, 0
    while done < COUNT:
        polls += 1
        assert polls < MANY, "records are missing"
        messages = [message for message in consumer.consume(A_TRANSACTION, 2) if not message.error()]
        if not messages:
            continue
        transactions += 1
        producer.begin_transaction()
        for message in messages:
            producer.produce("out", b"copy of " + message.value())
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), 30
        )
        if transactions % EVERY_THIRD == 0:
            assert producer.flush(30) == 0  # what was not sent yet would not be
            producer.abort_transaction(30)
            for position in consumer.committed(consumer.assignment(), 30):
                consumer.seek(position)
        else:
            producer.commit_transaction(30)
            done += len(messages)
    consumer.close()


def transform_with_kafka_python(servers: str) -> None:
    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        group_id="copier",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=A_TRANSACTION,
    )
    partition = Partition("in", 0)
    consumer.assign([partition])
    producer = KafkaProducer(bootstrap_servers=servers, transactional_id="copier")
    producer.init_transactions()
    done, transactions, polls = 0, 0, 0
    while done < COUNT:
        polls += 1
        assert polls < MANY, "records are missing"
        messages = [message for found in consumer.poll(2000).values() for message in found]
        if not messages:
            continue
        transactions += 1
        producer.begin_transaction()
        for message in messages:
            producer.send("out", b"copy of " + message.value)
        offsets = {partition: OffsetAndMetadata(consumer.position(partition), "", -1)}
        producer.send_offsets_to_transaction(offsets, ConsumerGroupMetadata("copier", -1, "", None))
        if transactions % EVERY_THIRD == 0:
            producer.flush()
            producer.abort_transaction()
            consumer.seek(partition, consumer.committed(partition) or 0)
        else:
            producer.commit_transaction()
            done += len(messages)
    producer.close()
    consumer.close()


@pytest.mark.parametrize("transform", [transform_with_librdkafka, transform_with_kafka_python])
async def test_what_is_copied_is_there_exactly_once(
    start_broker: StartBroker, transform: Callable[[str], None]
) -> None:
    async with start_broker(settings={"num.partitions": "1"}) as broker:
        await in_thread(fill, broker.bootstrap_servers)
        await in_thread(transform, broker.bootstrap_servers)
        committed = await in_thread(seen, broker.bootstrap_servers, "read_committed")
        assert committed == [b"copy of %d" % number for number in range(COUNT)]
        everything = await in_thread(seen, broker.bootstrap_servers, "read_uncommitted")
        assert set(Counter(everything).values()) == {1, 2}, "none was aborted"
