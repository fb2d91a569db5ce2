"""Stock clients against a broker in this process, each in a thread of its own."""

from pathlib import Path
from typing import Any

import pytest
import trio
from confluent_kafka import Consumer, KafkaError, Producer
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic


def produce(servers: str, topic: str, count: int, **settings: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=servers, **settings)
    sent = [producer.send(topic, key=b"%d" % i, value=b"value %d" % i, headers=[("h", b"x")]) for i in range(count)]
    producer.flush()
    for future in sent:
        future.get(timeout=10)
    producer.close()


def consume(servers: str, topic: str, count: int, group: str | None = None) -> list[tuple[int, int, bytes, bytes]]:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=10_000,
        enable_auto_commit=False,
    )
    found = []
    while len(found) < count:
        for records in consumer.poll(timeout_ms=1000).values():
            found += [(record.partition, record.offset, record.key, record.value) for record in records]
    if group:
        consumer.commit()
    consumer.close()
    return found


async def in_thread(function: Any, *arguments: Any, **named: Any) -> Any:
    with trio.fail_after(60):
        return await trio.to_thread.run_sync(lambda: function(*arguments, **named))


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
async def test_kafka_python_produces_and_consumes(start_broker: Any, codec: str | None) -> None:
    async with start_broker() as broker:
        await in_thread(produce, broker.bootstrap_servers, "t", 200, compression_type=codec)
        found = await in_thread(consume, broker.bootstrap_servers, "t", 200)
        assert found == [(0, i, b"%d" % i, b"value %d" % i) for i in range(200)]


async def test_everything_survives_a_restart(start_broker: Any) -> None:
    async with start_broker() as broker:
        await in_thread(produce, broker.bootstrap_servers, "t", 100)
        await in_thread(consume, broker.bootstrap_servers, "t", 100, group="g")
        before = broker.rooms.cluster.image.topic("t")
        cluster_id = broker.cluster_id
    async with start_broker() as broker:
        assert broker.cluster_id == cluster_id
        after = broker.rooms.cluster.image.topic("t")
        assert (after.topic_id, len(after.partitions)) == (before.topic_id, len(before.partitions))
        await in_thread(produce, broker.bootstrap_servers, "t", 5)
        found = await in_thread(consume, broker.bootstrap_servers, "t", 5, group="g")
        assert [offset for _, offset, _, _ in found] == [100, 101, 102, 103, 104]


async def test_librdkafka_idempotent_producer_and_group(start_broker: Any) -> None:
    def work(servers: str) -> list[tuple[int, bytes]]:
        failed: list[Any] = []
        producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "linger.ms": 2})
        for i in range(1000):
            producer.produce("lib", b"%d" % i, on_delivery=lambda error, _: failed.append(error) if error else None)
        assert producer.flush(20) == 0
        assert not failed
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "auto.offset.reset": "earliest"})
        consumer.subscribe(["lib"])
        found: list[tuple[int, bytes]] = []
        while len(found) < 1000:
            found += [(m.offset(), m.value()) for m in consumer.consume(500, 1.0) if not m.error()]
        consumer.close()
        return found

    async with start_broker() as broker:
        found = await in_thread(work, broker.bootstrap_servers)
        assert found == [(i, b"%d" % i) for i in range(1000)]


async def test_topics_are_made_described_and_deleted(start_broker: Any) -> None:
    def work(servers: str) -> None:
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic("made", num_partitions=3, replication_factor=1)])
        assert "made" in admin.list_topics()
        admin.delete_topics(["made"])
        assert "made" not in admin.list_topics()
        admin.close()

    async with start_broker() as broker:
        await in_thread(work, broker.bootstrap_servers)
        assert not list(Path(broker.rooms.logs.log_dirs()[0].path).glob("made-[0-9]"))


async def test_consumers_of_the_new_protocol_share_a_topic_by_name_or_pattern(start_broker: Any) -> None:
    def consume_by_the_new_protocol(servers: str) -> Any:
        produce(servers, "t", 100)
        settings = {"bootstrap.servers": servers, "group.protocol": "consumer", "auto.offset.reset": "earliest"}
        found = {}
        for group, subscription in (("named", "t"), ("matched", "^t.*")):
            consumer = Consumer({**settings, "group.id": group})
            consumer.subscribe([subscription])
            messages: list[Any] = []
            while len(messages) < 100:
                message = consumer.poll(30)
                assert message is not None
                assert message.error() is None
                messages.append(message)
            consumer.commit(asynchronous=False)
            consumer.close()
            found[group] = [message.value() for message in messages]
        return found

    async with start_broker() as broker:
        found = await in_thread(consume_by_the_new_protocol, broker.bootstrap_servers)
    expected = [b"value %d" % i for i in range(100)]
    assert found == {"named": expected, "matched": expected}


async def test_a_consumer_of_the_new_protocol_gives_up_at_once_where_it_is_off_and_the_log_says_why(
    start_broker: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Were the API just not there, librdkafka would look for a coordinator that has it for ever, in silence."""

    def consume_by_the_new_protocol(servers: str) -> Any:
        produce(servers, "t", 1)
        consumer = Consumer({"bootstrap.servers": servers, "group.id": "g", "group.protocol": "consumer"})
        consumer.subscribe(["t"])
        answer = consumer.poll(30)
        consumer.close()
        return answer.error()

    flags = {"group.coordinator.rebalance.protocols": "classic"}
    async with start_broker(memory=True, settings=flags) as broker:
        error = await in_thread(consume_by_the_new_protocol, broker.bootstrap_servers)
    assert error.code() == KafkaError._FATAL
    assert "ConsumerGroupHeartbeat" in str(error)
    told = [record for record in caplog.records if "ConsumerGroupHeartbeat" in record.getMessage()]
    assert len(told) == 1
    assert "group.protocol=classic" in told[0].getMessage()
