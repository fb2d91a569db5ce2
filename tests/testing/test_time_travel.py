"""A broker's time, moved by a test: what waits for hours comes at once, and not before."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import confluent_kafka
import kafka
import pytest

import kafkapy
from kafkapy.errors import KafkaError
from kafkapy.testing.settings import FAST_GROUPS

TIMEOUT = 20.0


@pytest.fixture
def broker() -> Iterator[kafkapy.Broker]:
    with kafkapy.Broker() as broker:
        yield broker


def test_records_are_stamped_with_the_brokers_time(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", config={"message.timestamp.type": "LogAppendTime"})
    broker.clock.freeze()
    now_ms = broker.clock.now_ms()
    broker.produce("t", "a")
    broker.clock.advance(24 * 3600)
    broker.produce("t", "b")
    assert [record.timestamp - now_ms for record in broker.records("t")] == [0, 24 * 3_600_000]


def test_a_member_that_says_nothing_is_out_when_its_session_is_over(broker: kafkapy.Broker) -> None:
    broker.produce("t", "v")
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="g",
        heartbeat_interval_ms=600_000,
        session_timeout_ms=1_200_000,
        max_poll_interval_ms=1_300_000,
        request_timeout_ms=1_400_000,
        connections_max_idle_ms=1_500_000,
        auto_offset_reset="earliest",
    )
    with broker.faults.hold("Heartbeat", times=None):
        # In one go: a poll whose time is over while it joins may leave it waiting for its next heartbeat.
        assert consumer.poll(timeout_ms=round(TIMEOUT * 1000))
        broker.wait_group("g", members=1, timeout=TIMEOUT)
        broker.clock.advance(1100)
        assert broker.group("g").members == 1
        broker.clock.advance(200)
        assert broker.wait_group("g", state="Empty", timeout=TIMEOUT).members == 0
    consumer.close()


def test_groups_in_a_hurry_take_short_sessions_and_miss_members_soon() -> None:
    with kafkapy.Broker(FAST_GROUPS) as broker:
        broker.create_topic("t")
        settings = {"bootstrap.servers": broker.bootstrap_servers, "topic.metadata.refresh.interval.ms": -1}
        classic = confluent_kafka.Consumer(
            {**settings, "group.id": "classic", "session.timeout.ms": 500, "heartbeat.interval.ms": 100}
        )
        modern = confluent_kafka.Consumer({**settings, "group.id": "modern", "group.protocol": "consumer"})
        broker.clock.freeze()
        for consumer in (classic, modern):
            consumer.subscribe(["t"])
            while not consumer.assignment():
                consumer.poll(0.05)
        with broker.faults.hold("Heartbeat", times=None), broker.faults.hold("ConsumerGroupHeartbeat", times=None):
            broker.clock.advance(1.1)
            for group in ("classic", "modern"):
                assert broker.wait_group(group, state="Empty", timeout=TIMEOUT).members == 0
        classic.close()
        modern.close()


def test_a_transaction_that_takes_too_long_is_aborted(broker: kafkapy.Broker) -> None:
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "x", "transaction.timeout.ms": 60_000}
    )
    producer.init_transactions(TIMEOUT)
    producer.begin_transaction()
    producer.produce("t", b"v")
    producer.flush(TIMEOUT)
    broker.clock.advance(90)
    broker.produce("t", "w")
    [record] = broker.wait_records("t", timeout=TIMEOUT)
    assert record.value == b"w"
    with pytest.raises(confluent_kafka.KafkaException):
        producer.commit_transaction(TIMEOUT)


def test_records_go_when_they_are_kept_no_longer(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", config={"retention.ms": "3600000", "segment.ms": "60000"})
    broker.produce("t", "old")
    broker.clock.advance(1800)
    broker.produce("t", "new")
    broker.clock.advance(2400)
    while [record.value for record in broker.records("t")] != [b"new"]:
        broker.clock.advance(300)  # the next look at what is kept


def test_a_date_is_set_and_never_back(broker: kafkapy.Broker) -> None:
    broker.clock.freeze()
    moment = datetime.now(UTC) + timedelta(days=400)
    broker.clock.set(moment)
    assert broker.clock.now_ms() == round(moment.timestamp() * 1000)
    with pytest.raises(ValueError, match="backwards"):
        broker.clock.set(moment - timedelta(seconds=1))
    with pytest.raises(ValueError, match="backwards"):
        broker.clock.advance(-1)
    broker.clock.thaw()
    broker.clock.advance(1)


def test_a_frozen_broker_still_answers(broker: kafkapy.Broker) -> None:
    broker.clock.freeze()
    broker.produce("t", "v")
    assert [record.value for record in broker.records("t")] == [b"v"]
    with pytest.raises(KafkaError):
        broker.group("not there")
