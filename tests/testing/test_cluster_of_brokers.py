"""Several brokers in a test: what can be done with one can be done with all, and they come and go as they are told."""

import pytest

import kafkapy
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition

SETTINGS = {"default.replication.factor": "3", "num.partitions": "3"}


def test_three_brokers_are_written_to_read_and_asked_as_one() -> None:
    with kafkapy.Broker(SETTINGS, brokers=3, racks=("a", "b")) as broker:
        assert broker.node_ids == [1, 2, 3]
        assert len(broker.bootstrap_servers.split(",")) == 3
        broker.create_topic("t", 3)
        for number in range(9):
            broker.produce("t", f"v{number}", partition=number % 3)
        assert sorted(record.value for record in broker.records("t")) == [b"v%d" % number for number in range(9)]
        assert broker.end_offsets("t") == {0: 3, 1: 3, 2: 3}
        with broker.assert_produced("t", "more"):
            broker.produce("t", "more", partition=1)
        broker.reset()
        assert broker.topics() == []


@pytest.mark.parametrize("way", ["stop_broker", "kill_broker"])
def test_a_broker_goes_and_comes_back(way: str) -> None:
    with kafkapy.Broker(SETTINGS, brokers=3) as broker:
        broker.create_topic("t", 3)
        addresses = broker.bootstrap_servers
        getattr(broker, way)(1)
        assert broker.node_ids == [2, 3]
        for number in range(3):
            broker.produce("t", "v", partition=number)
        broker.start_broker(1)
        assert sorted(broker.bootstrap_servers.split(",")) == sorted(addresses.split(","))
        assert len(broker.records("t")) == 3
        assert broker.add_broker() == 4
        assert broker.node_ids == [1, 2, 3, 4]
        with pytest.raises(KeyError):
            broker.stop_broker(9)


def test_groups_of_all_coordinators_are_found() -> None:
    kafka = pytest.importorskip("kafka")
    with kafkapy.Broker(SETTINGS, brokers=3) as broker:
        broker.create_topic("t", 3)
        for number in range(6):
            consumer = kafka.KafkaConsumer(
                bootstrap_servers=broker.bootstrap_servers.split(","), group_id=f"g{number}", enable_auto_commit=False
            )
            consumer.assign([kafka.TopicPartition("t", 0)])
            consumer.commit({kafka.TopicPartition("t", 0): kafka.OffsetAndMetadata(number, "", -1)})
            consumer.close()
        assert {group.group_id for group in broker.groups()} == {f"g{number}" for number in range(6)}
        assert broker.committed("g5") == {TopicPartition("t", 0): 5}
        with pytest.raises(KafkaError) as missing:
            broker.group("nobody")
        assert missing.value.error is Error.GROUP_ID_NOT_FOUND


async def test_the_same_in_trio() -> None:
    async with kafkapy.open_broker(SETTINGS, brokers=3) as broker:
        await broker.create_topic("t", 3)
        for number in range(3):
            await broker.produce("t", "v", partition=number)
        await broker.fleet.kill(2)
        assert len(await broker.records("t")) == 3
