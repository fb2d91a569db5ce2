"""Every kind of fault, and what a stock client makes of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import pytest
import trio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import GroupAuthorizationFailedError
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic
from kafka.errors import KafkaStorageError

import kafkapy
from kafkapy.errors import Error
from kafkapy.model import TopicPartition
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, driven

TIMEOUT = 20.0


@pytest.fixture(scope="module")
def three() -> Iterator[kafkapy.Broker]:
    with kafkapy.Broker({"default.replication.factor": "3"}, brokers=3) as broker:
        yield broker


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[kafkapy.Broker]:
    with kafkapy.Broker(data_dir=tmp_path) as broker:
        yield broker


def values(broker: kafkapy.Broker, topic: str) -> list[bytes | None]:
    return [record.value for record in broker.records(topic)]


def kafka_producer(broker: kafkapy.Broker, **options: Any) -> Any:
    return kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers.split(","), retry_backoff_ms=10, **options)


# An answer of which only the first bytes arrive


@pytest.mark.parametrize("size", [0, 3, 4, 20])
def test_a_producer_writes_once_what_it_has_half_an_answer_to(broker: kafkapy.Broker, size: int) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Produce", truncate=size)
    again = broker.faults.observe("Produce")
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
    producer.produce("t", b"v")
    assert producer.flush(TIMEOUT) == 0
    assert (rule.hits, again.hits) == (1, 1)
    assert values(broker, "t") == [b"v"]


def test_a_consumer_takes_no_half_an_answer_for_records(broker: kafkapy.Broker) -> None:
    broker.produce("t", b"v" * 1000)
    rule = broker.faults.add("Fetch", truncate=500, topic="t", times=2)
    again = broker.faults.observe("Fetch", topic="t")
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        reconnect_backoff_ms=10,
        consumer_timeout_ms=20_000,
    )
    assert next(consumer).value == b"v" * 1000
    assert again.hits > 0  # the record came in none of those that were cut short
    assert rule.hits == 2
    consumer.close()


# A leader or coordinator who is none


def test_a_producer_that_was_sent_to_the_wrong_node_asks_again(three: kafkapy.Broker) -> None:
    three.reset()
    three.create_topic("t")
    leader = metadata_of(three, "t")
    wrong = next(node_id for node_id in three.node_ids if node_id != leader)
    rule = three.faults.add("Metadata", topic="t", node=wrong)
    misled = three.faults.observe("Produce", topic="t")
    with kafka_producer(three) as producer:
        assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    assert rule.hits == 1
    assert misled.seen > 1  # to whom it does not belong, who says so
    assert values(three, "t") == [b"v"]


def test_a_group_that_was_sent_to_the_wrong_node_finds_its_coordinator(three: kafkapy.Broker) -> None:
    three.reset()
    three.produce("t", "v")
    coordinator = coordinator_of(three, "g")
    wrong = next(node_id for node_id in three.node_ids if node_id != coordinator)
    rule = three.faults.add("FindCoordinator", group="g", node=wrong)
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": three.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
    )
    consumer.subscribe(["t"])
    record = consumer.poll(TIMEOUT)
    assert record is not None
    assert record.value() == b"v"
    consumer.commit(asynchronous=False)
    consumer.close()
    assert rule.hits == 1
    assert three.committed("g") == {TopicPartition("t", 0): 1}


def metadata_of(broker: kafkapy.Broker, topic: str) -> int:
    listed = AdminClient({"bootstrap.servers": broker.bootstrap_servers}).list_topics(topic, timeout=TIMEOUT)
    return int(listed.topics[topic].partitions[0].leader)


def coordinator_of(broker: kafkapy.Broker, group: str) -> int:
    client = Client(BlockingConnection(broker.host, broker.port))
    [found] = driven(client.ask(FindCoordinatorRequest(coordinator_keys=[group]))).coordinators
    driven(client.close())
    return int(found.node_id)


# A disk that fails


def test_a_disk_that_is_full_for_a_while_costs_a_producer_time(on_disk: kafkapy.Broker) -> None:
    on_disk.create_topic("t")
    rule = on_disk.faults.add("DiskWrite", error="ENOSPC", topic="t")
    with kafka_producer(on_disk) as producer:
        assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    assert rule.hits == 1
    assert values(on_disk, "t") == [b"v"]


def test_a_producer_that_does_not_try_again_is_told_of_a_full_disk(on_disk: kafkapy.Broker) -> None:
    on_disk.create_topic("t")
    on_disk.faults.add("DiskWrite", error="ENOSPC", topic="t", times=None)
    with (
        kafka_producer(on_disk, retries=0, enable_idempotence=False, acks=1) as producer,
        pytest.raises(KafkaStorageError),
    ):
        producer.send("t", b"lost").get(TIMEOUT)
    assert values(on_disk, "t") == []


def test_a_disk_that_cannot_be_read_once_costs_a_consumer_time(on_disk: kafkapy.Broker) -> None:
    on_disk.produce("t", "v")
    rule = on_disk.faults.add("DiskRead", error="EIO", topic="t", partition=0)
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=on_disk.bootstrap_servers,
        auto_offset_reset="earliest",
        retry_backoff_ms=10,
        consumer_timeout_ms=20_000,
    )
    assert next(consumer).value == b"v"
    assert rule.hits == 1
    consumer.close()


def test_a_record_whose_sync_fails_is_not_acknowledged_as_synced(on_disk: kafkapy.Broker) -> None:
    on_disk.create_topic("t", config={"flush.messages": "1"})
    rule = on_disk.faults.add("DiskSync", error="EIO", topic="t")
    with kafka_producer(on_disk) as producer:
        assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    assert rule.hits == 1
    assert values(on_disk, "t") == [b"v"]


def test_a_disk_in_memory_does_not_fail(broker: kafkapy.Broker) -> None:
    with pytest.raises(ValueError, match="in memory, where no disk fails"):
        broker.faults.add("DiskWrite", error="EIO")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"error": "NOT_LEADER_OR_FOLLOWER"}, "an error of the system's"),
        ({}, "an error of the system's"),
        ({"error": "EIO", "delay": 1}, "a disk knows error, topic"),
        ({"error": "EIO", "when": "after"}, "a disk knows error, topic"),
        ({"error": "EIO", "partition": 1}, "name that, too"),
    ],
)
def test_what_no_disk_does_is_refused(on_disk: kafkapy.Broker, rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        on_disk.faults.add("DiskWrite", **rule)


# Errors at the levels that answers have


def test_an_error_of_a_topic_is_that_topics(broker: kafkapy.Broker) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    rule = broker.faults.add("CreateTopics", topic="refused", error="POLICY_VIOLATION")
    futures = admin.create_topics([NewTopic("refused", 1), NewTopic("made", 1)])
    futures["made"].result(TIMEOUT)
    with pytest.raises(confluent_kafka.KafkaException) as raised:
        futures["refused"].result(TIMEOUT)
    assert raised.value.args[0].code() == Error.POLICY_VIOLATION
    assert rule.hits == 1
    assert [topic.name for topic in broker.topics()] == ["made"]


def test_an_error_of_a_resource_is_told_of_it(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    broker.faults.add("DescribeConfigs", error="CLUSTER_AUTHORIZATION_FAILED")
    [future] = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, "t")]).values()
    with pytest.raises(confluent_kafka.KafkaException) as raised:
        future.result(TIMEOUT)
    assert raised.value.args[0].code() == Error.CLUSTER_AUTHORIZATION_FAILED


async def test_a_topic_whose_leader_is_not_known_yet_is_asked_about_again(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Metadata", topic="t", error="LEADER_NOT_AVAILABLE", times=2)

    async def send() -> int:
        async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, retry_backoff_ms=10) as producer:
            return int((await producer.send_and_wait("t", b"v")).offset)

    assert await in_asyncio(send) == 0
    assert rule.hits == 2


async def test_an_error_of_a_group_as_a_whole_ends_its_member(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    broker.faults.add("JoinGroup", group="g", error="GROUP_AUTHORIZATION_FAILED")

    async def consume() -> None:
        async with AIOKafkaConsumer("t", bootstrap_servers=broker.bootstrap_servers, group_id="g") as consumer:
            await consumer.getone()

    with pytest.raises(GroupAuthorizationFailedError):
        await in_asyncio(consume)


async def in_asyncio(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await trio.to_thread.run_sync(lambda: asyncio.run(asyncio.wait_for(work(), TIMEOUT)))


# Barriers


def test_of_two_producers_the_one_that_is_held_comes_second(broker: kafkapy.Broker) -> None:
    """A race that a test decides: who was first to send is last in the log."""
    broker.create_topic("t")
    with kafka_producer(broker, client_id="early") as early, kafka_producer(broker, client_id="late") as late:
        with broker.faults.hold("Produce", client_id="early") as held:
            sent = early.send("t", b"early")
            held.wait(timeout=TIMEOUT)
            assert late.send("t", b"late").get(TIMEOUT).offset == 0
        assert sent.get(TIMEOUT).offset == 1
    assert values(broker, "t") == [b"late", b"early"]


# Whoever has to say who it is meets the same


def test_a_client_that_has_logged_in_meets_faults() -> None:
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";'
    settings = {
        "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": login,
    }
    with kafkapy.Broker(settings) as broker:
        rule = broker.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER")
        with kafka_producer(
            broker,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_plain_username="alice",
            sasl_plain_password="secret",
        ) as producer:
            assert producer.send("t", b"v").get(TIMEOUT).offset == 0
        assert rule.hits == 1
