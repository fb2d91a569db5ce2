"""Who asked what, as a test follows it."""

from typing import Any

import confluent_kafka
import kafka
import pytest

import kafkapy

TIMEOUT = 20.0


def test_requests_are_told_with_topics_errors_and_time(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    heard: list[Any] = []
    with (
        broker.activity.follow(heard.append) as asked,
        kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, client_id="shop", retry_backoff_ms=1) as one,
    ):
        broker.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER")
        one.send("t", b"v").get(TIMEOUT)
    assert asked == heard
    produced = [request for request in asked if request.api == "Produce"]
    assert [(one.client_id, one.topics, one.errors) for one in produced] == [
        ("shop", ("t",), ("NOT_LEADER_OR_FOLLOWER",)),
        ("shop", ("t",), ()),
    ]
    assert all(request.version > 0 and request.at_ms > 0 and request.milliseconds >= 0 for request in produced)
    assert str(produced[0]).startswith(f"shop Produce v{produced[0].version} t: NOT_LEADER_OR_FOLLOWER, ")
    before = len(asked)
    broker.topics()
    assert len(asked) == before


def test_what_waits_is_told_when_it_is_answered_and_ids_by_name(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
    consumer.assign([confluent_kafka.TopicPartition("t", 0, 0)])
    with broker.activity.follow() as asked:
        consumer.poll(0.1)
        broker.produce("t", "v")
        assert consumer.poll(TIMEOUT).value() == b"v"
        while not any(one.api == "Fetch" for one in asked):
            consumer.poll(0.05)
    assert {one.topics for one in asked if one.api == "Fetch"} == {("t",)}
    consumer.close()


def test_a_connection_that_is_closed_is_told_of(broker: kafkapy.Broker) -> None:
    rule = broker.faults.add("ListGroups", close=True)
    with broker.activity.follow() as asked:
        broker.groups()
    assert rule.hits == 1
    assert [one.errors for one in asked if one.api == "ListGroups"] == [("closed",), ()]


def test_the_last_requests_are_there_without_following(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, client_id="shop") as producer:
        producer.send("t", b"v").get(TIMEOUT)
    last = broker.activity.last(50)
    assert any(one.startswith("shop Produce v") for one in last)
    assert not any("CreateTopics" in one for one in last)
    assert len(broker.activity.last(1)) == 1
    broker.reset()
    assert broker.activity.last(50) == []


@pytest.mark.parametrize("size", [0, 100_000])
def test_answers_arrive_whole_while_somebody_follows(size: int, tmp_path: Any) -> None:
    with kafkapy.Broker(data_dir=tmp_path / "data") as broker, broker.activity.follow() as asked:
        broker.produce("t", b"x" * size)
        assert [record.value for record in broker.records("t")] == [b"x" * size]
        assert [one.errors for one in asked if one.api == "Fetch"] == [()]
