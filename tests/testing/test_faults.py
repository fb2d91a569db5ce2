"""Faults at will: what stock clients make of them, and that nothing else is disturbed."""

import struct
import threading
from collections.abc import Iterator
from typing import Any

import confluent_kafka
import kafka
import pytest
from confluent_kafka.admin import AdminClient
from kafka.errors import TopicAuthorizationFailedError

import kafkapy
from kafkapy.errors import Error, KafkaError
from kafkapy.testing.connection import BlockingConnection, driven
from kafkapy.testing.nouns import NotInTime

TIMEOUT = 20.0


@pytest.fixture
def producer(broker: kafkapy.Broker) -> Iterator[Any]:
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, retry_backoff_ms=10) as producer:
        yield producer


def values(broker: kafkapy.Broker, topic: str) -> list[bytes | None]:
    return [record.value for record in broker.records(topic)]


@pytest.mark.parametrize("error", ["NOT_LEADER_OR_FOLLOWER", "NOT_ENOUGH_REPLICAS", "REQUEST_TIMED_OUT"])
def test_a_producer_tries_again(broker: kafkapy.Broker, producer: Any, error: str) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Produce", error=error, times=2)
    assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    assert rule.hits == 2
    assert values(broker, "t") == [b"v"]


def test_a_producer_is_told_what_it_cannot_mend(broker: kafkapy.Broker, producer: Any) -> None:
    broker.create_topic("t")
    broker.faults.add("Produce", error=Error.TOPIC_AUTHORIZATION_FAILED)
    with pytest.raises(TopicAuthorizationFailedError):
        producer.send("t", b"lost").get(TIMEOUT)
    assert values(broker, "t") == []


@pytest.mark.parametrize("how", [{"error": "REQUEST_TIMED_OUT"}, {"close": True}])
def test_what_was_done_and_not_answered_is_done_once(broker: kafkapy.Broker, how: dict[str, Any]) -> None:
    """The classic: the record is in the log and its acknowledgement is lost. An idempotent producer knows better."""
    broker.create_topic("t")
    rule = broker.faults.add("Produce", when="after", **how)
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "enable.idempotence": True})
    producer.produce("t", b"v")
    assert producer.flush(TIMEOUT) == 0
    assert rule.hits == 1
    assert values(broker, "t") == [b"v"]


def test_a_connection_that_is_closed_is_made_anew(broker: kafkapy.Broker, producer: Any) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Produce", close=True, skip=1)
    for value in (b"0", b"1", b"2"):
        producer.send("t", value).get(TIMEOUT)
    assert (rule.seen, rule.hits) == (2, 1)
    assert values(broker, "t") == [b"0", b"1", b"2"]


def test_one_partition_fails_and_the_rest_is_served(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", 3)
    broker.create_topic("u")
    broker.faults.add("ListOffsets", topic="t", partition=1, error="NOT_LEADER_OR_FOLLOWER", times=None)
    broker.faults.add("ListOffsets", topic="u", error="LEADER_NOT_AVAILABLE", times=None)
    with pytest.raises(KafkaError) as raised:
        broker.end_offsets("t")
    assert raised.value.error is Error.NOT_LEADER_OR_FOLLOWER
    with pytest.raises(KafkaError) as raised:
        broker.end_offsets("u")
    assert raised.value.error is Error.LEADER_NOT_AVAILABLE
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
    asked = [confluent_kafka.TopicPartition(topic, number, 0) for topic, number in (("t", 0), ("t", 1), ("t", 2))]
    with pytest.raises(confluent_kafka.KafkaException):
        consumer.offsets_for_times([asked[1]], timeout=1)
    assert [row.error for row in consumer.offsets_for_times([asked[0], asked[2]], timeout=TIMEOUT)] == [None, None]
    consumer.close()


@pytest.mark.parametrize("when", ["before", "after"])
def test_records_of_other_partitions_still_arrive(broker: kafkapy.Broker, when: str) -> None:
    broker.create_topic("t", 2)
    for partition in (0, 1):
        broker.produce("t", f"v{partition}", partition=partition)
    rule = broker.faults.add("Fetch", topic="t", partition=0, error="NOT_LEADER_OR_FOLLOWER", when=when, times=3)
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        retry_backoff_ms=10,
        consumer_timeout_ms=20_000,
    )
    assert {next(consumer).value for _ in range(2)} == {b"v0", b"v1"}
    assert rule.hits == 3
    consumer.close()


def test_a_group_goes_through_errors_of_its_coordinator(broker: kafkapy.Broker) -> None:
    broker.produce("t", "v")
    rules = [
        broker.faults.add("FindCoordinator", group="g", error="COORDINATOR_NOT_AVAILABLE"),
        broker.faults.add("JoinGroup", group="g", error="COORDINATOR_LOAD_IN_PROGRESS"),
        broker.faults.add("SyncGroup", group="g", error="REBALANCE_IN_PROGRESS"),
        broker.faults.add("OffsetCommit", group="g", topic="t", error="COORDINATOR_LOAD_IN_PROGRESS"),
    ]
    other = broker.faults.observe("JoinGroup", group="another")
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="g",
        auto_offset_reset="earliest",
        retry_backoff_ms=10,
        consumer_timeout_ms=20_000,
    )
    assert next(consumer).value == b"v"
    consumer.commit()
    assert [rule.hits for rule in rules] == [1, 1, 1, 1]
    assert other.seen == 0
    consumer.close()


def test_topics_within_groups_are_found(broker: kafkapy.Broker) -> None:
    for topic in ("t", "u"):
        broker.create_topic(topic, 2)
    both = [confluent_kafka.TopicPartition(topic, number, 5) for topic in ("t", "u") for number in (0, 1)]
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
    consumer.commit(offsets=both, asynchronous=False)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    rule = broker.faults.add("OffsetFetch", topic="t", partition=1, error="GROUP_AUTHORIZATION_FAILED")

    def fetched(*offsets: confluent_kafka.TopicPartition) -> list[int]:
        asked = [confluent_kafka.ConsumerGroupTopicPartitions("g", [without_offset(one) for one in offsets])]
        [future] = admin.list_consumer_group_offsets(asked, request_timeout=TIMEOUT).values()
        return [one.offset for one in future.result().topic_partitions]

    assert fetched(both[0], both[2]) == [5, 5]
    assert rule.hits == 0
    with pytest.raises(confluent_kafka.KafkaException) as raised:  # which this API has for a group only
        fetched(*both)
    assert raised.value.args[0].code() == Error.GROUP_AUTHORIZATION_FAILED
    assert rule.hits == 1
    assert fetched(*both) == [5, 5, 5, 5]
    consumer.close()


def without_offset(one: confluent_kafka.TopicPartition) -> confluent_kafka.TopicPartition:
    return confluent_kafka.TopicPartition(one.topic, one.partition)


def test_a_client_that_hears_nothing_gives_up(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    rule = broker.faults.add("Produce", drop=True, times=None)
    outcomes: list[Any] = []
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "message.timeout.ms": 500})
    producer.produce("t", b"lost", on_delivery=lambda error, message: outcomes.append(error.name()))
    assert producer.flush(TIMEOUT) == 0
    assert outcomes == ["_MSG_TIMED_OUT"]
    assert rule.hits == 1
    assert values(broker, "t") == []


def test_a_delay_is_of_the_brokers_time(broker: kafkapy.Broker, producer: Any) -> None:
    broker.create_topic("t")
    broker.clock.freeze()
    rule = broker.faults.add("Produce", delay=3600)
    sent = producer.send("t", b"v")
    rule.wait(timeout=TIMEOUT)
    assert not sent.is_done
    broker.clock.advance(3600)
    assert sent.get(TIMEOUT).offset == 0


def test_who_is_throttled_is_told_so(broker: kafkapy.Broker) -> None:
    throttled: list[int] = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "throttle_cb": lambda event: throttled.append(event)}
    )
    broker.create_topic("t")
    broker.faults.add("Produce", throttle_ms=100)
    producer.produce("t", b"v")
    assert producer.flush(TIMEOUT) == 0
    producer.poll(TIMEOUT if not throttled else 0)
    assert [round(event.throttle_time, 3) for event in throttled] == [0.1]


def test_a_request_is_held_until_the_test_lets_it_go(broker: kafkapy.Broker, producer: Any) -> None:
    broker.create_topic("t")
    with broker.faults.hold("Produce", topic="t") as held:
        sent = producer.send("t", b"v")
        held.wait(timeout=TIMEOUT)
        assert broker.end_offsets("t") == {0: 0}
    assert sent.get(TIMEOUT).offset == 0
    with broker.faults.hold("Produce", when="after") as held:
        sent = producer.send("t", b"w")
        held.wait(timeout=TIMEOUT)
        assert values(broker, "t") == [b"v", b"w"]
        assert not sent.is_done
    assert sent.get(TIMEOUT).offset == 1


def test_only_the_client_that_is_meant_is_hit(broker: kafkapy.Broker) -> None:
    rule = broker.faults.add("Metadata", client_id="unlucky", error="UNKNOWN_SERVER_ERROR", times=None)
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "client.id": "lucky"})
    assert admin.list_topics(timeout=TIMEOUT).topics == {}
    assert rule.hits == 0


def test_a_version_that_nobody_knows_is_answered_as_ever(broker: kafkapy.Broker) -> None:
    rule = broker.faults.observe("ApiVersions")
    connection = BlockingConnection(broker.host, broker.port)
    answer = driven(connection.exchange(struct.pack(">hhih", 18, 99, 7, -1) + b"\x00"))
    assert struct.unpack_from(">ih", answer) == (7, Error.UNSUPPORTED_VERSION)
    assert rule.seen == 0
    driven(connection.close())


def test_chance_has_a_seed(broker: kafkapy.Broker) -> None:
    def hits(seed: int) -> list[int]:
        rule = broker.faults.observe("ListGroups", probability=0.5, seed=seed)
        met = []
        for _ in range(20):
            broker.groups()
            met.append(rule.hits)
        broker.faults.remove(rule)
        return met

    first = hits(3)
    assert first == hits(3)
    assert 0 < first[-1] < 20


def test_rules_act_in_their_order_and_within_their_budget(broker: kafkapy.Broker) -> None:
    errors = ["COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "UNKNOWN_SERVER_ERROR"]
    for error in errors:
        broker.faults.add("ListGroups", error=error)
    met = []
    for _ in range(4):
        try:
            broker.groups()
        except KafkaError as problem:
            met.append(problem.error.name)
        else:
            met.append("served")
    assert met == [*errors, "served"]


def test_a_fault_that_must_be_met_and_was_not_is_told_of(broker: kafkapy.Broker) -> None:
    broker.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER", topic="t", must=True)
    broker.faults.add("Produce", close=True)
    with pytest.raises(AssertionError, match=r"never fired:\n  Produce topic=t: NOT_LEADER_OR_FOLLOWER, 0 of 0 req"):
        broker.faults.check()
    with pytest.raises(NotInTime):
        next(iter(broker.faults)).wait(timeout=0.01)
    broker.faults.clear()
    broker.faults.check()


@pytest.mark.parametrize(
    ("api", "rule", "why"),
    [
        ("Prduce", {"close": True}, "no API is called 'Prduce'"),
        ("Produce", {"error": "NO_SUCH"}, "Kafka has no error NO_SUCH"),
        ("SaslHandshake", {"throttle_ms": 5}, "no place for a throttle time"),
        ("Heartbeat", {"topic": "t"}, "names no topic"),
        ("JoinGroup", {"topic": "t"}, "names no topic"),
        ("AlterUserScramCredentials", {"topic": "t"}, "names no topic"),
        ("Metadata", {"group": "g"}, "names no group"),
        ("Produce", {"partition": 1}, "name that, too"),
        ("Produce", {"version": 99}, "versions 3 to 13"),
        ("Produce", {"close": True, "drop": True}, "one request gets one"),
    ],
)
def test_what_cannot_be_is_refused(broker: kafkapy.Broker, api: str, rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        broker.faults.add(api, **rule)
    assert [*broker.faults] == []


def test_a_broker_that_stops_lets_everything_go() -> None:
    with kafkapy.Broker() as broker, broker.faults.hold("ListGroups") as held:
        asking = threading.Thread(target=broker.groups)
        asking.start()
        held.wait(timeout=TIMEOUT)
        broker.faults.clear()
        asking.join(TIMEOUT)
        assert not asking.is_alive()
