"""Several brokers in one process of their own, which come and go as they do in this one."""

from collections.abc import Iterator
from pathlib import Path

import kafka
import pytest

import kafkapy

SETTINGS = {"default.replication.factor": "3"}
TIMEOUT = 20.0


@pytest.fixture(scope="module")
def running() -> Iterator[kafkapy.BrokerProcess]:
    with kafkapy.BrokerProcess(SETTINGS, brokers=3, racks=["a", "b", "c"]) as broker:
        yield broker


@pytest.fixture
def broker(running: kafkapy.BrokerProcess) -> Iterator[kafkapy.BrokerProcess]:
    yield running
    running.reset()


def test_a_producer_goes_on_while_brokers_are_killed_stopped_and_started(broker: kafkapy.BrokerProcess) -> None:
    assert broker.node_ids == [1, 2, 3]
    assert len(broker.bootstrap_servers.split(",")) == 3
    broker.create_topic("t", 3)
    servers = broker.bootstrap_servers.split(",")
    with kafka.KafkaProducer(bootstrap_servers=servers, acks="all", retry_backoff_ms=10) as producer:
        for move, node_id, left in (
            (broker.kill_broker, 1, [2, 3]),
            (broker.start_broker, 1, [1, 2, 3]),
            (broker.stop_broker, 2, [1, 3]),
            (broker.start_broker, 2, [1, 2, 3]),
        ):
            move(node_id)
            assert broker.node_ids == left
            for partition in range(3):
                producer.send("t", str(node_id).encode(), partition=partition).get(TIMEOUT)
    assert servers == broker.bootstrap_servers.split(",")
    assert [record.value for record in broker.records("t", 0)] == [b"1", b"1", b"2", b"2"]


def test_a_snapshot_of_a_cluster_comes_back(broker: kafkapy.BrokerProcess) -> None:
    broker.create_topic("t", 3)
    for partition in range(3):
        broker.produce("t", "v", partition=partition)
    snapshot = broker.snapshot()
    broker.reset()
    assert broker.topics() == []
    broker.restore(snapshot)
    assert [(record.partition, record.value) for record in broker.records("t")] == [(n, b"v") for n in range(3)]


def test_one_more_broker_comes(tmp_path: Path) -> None:
    with kafkapy.BrokerProcess(brokers=2, data_dir=tmp_path) as broker:
        assert broker.add_broker(rack="b") == 3
        assert broker.node_ids == [1, 2, 3]
        broker.create_topic("t", replication_factor=3)
        broker.kill_broker(2)
        broker.kill_broker(1)
        broker.produce("t", "v")
        assert [record.value for record in broker.records("t")] == [b"v"]


def test_a_broker_that_is_not_there_is_not_stopped(broker: kafkapy.BrokerProcess) -> None:
    for node_id in (0, 99, -1):
        with pytest.raises(ValueError, match="there is no broker"):
            broker.stop_broker(node_id)
    assert broker.node_ids == [1, 2, 3]
