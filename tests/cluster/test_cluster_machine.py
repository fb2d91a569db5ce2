"""The cluster machine by commands and decisions; the journal by its bytes."""

import itertools

import pytest

from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.machine import (
    AllocateProducerIds,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    NewPartitions,
    NewTopic,
)
from kafkapy.coordination.shard import Entry
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.journal.cluster_metadata import PartitionChangeRecord
from kafkapy.records.batch import CorruptBatch
from tests.cluster.machines import Driver

ID = b"0123456789abcdef"


@pytest.fixture
def driver() -> Driver:
    return Driver()


def create(driver: Driver, name: str, topic_id: bytes = ID, validate_only: bool = False, **fields: object) -> object:
    [result] = driver.do(CreateTopics([NewTopic(name, **fields)], [topic_id], validate_only))
    return result


def error_of(result: object) -> Error:
    assert isinstance(result, KafkaError)
    return result.error


def test_a_topic_is_created_with_the_defaults(driver: Driver) -> None:
    create(driver, "t", overrides={"retention.ms": "1000"})
    topic = driver.machine.state.advance().new.topic("t")
    assert topic is not None
    assert (topic.topic_id, len(topic.partitions), topic.replication_factor) == (ID, 1, 1)
    assert topic.config["retention.ms"] == 1000
    assert driver.machine.state.advance().new.topic_by_id(ID) is topic


def test_an_image_does_not_change(driver: Driver) -> None:
    create(driver, "t")
    before = driver.machine.state.advance().new
    driver.do(CreatePartitions([NewPartitions("t", 3)]))
    create(driver, "u", b"x" * 16)
    after = driver.machine.state.advance().new
    assert len(before.topics) == 1
    assert len(before.topics["t"].partitions) == 1
    assert len(after.topics["t"].partitions) == 3


def test_images_share_what_no_fact_has_touched(driver: Driver) -> None:
    create(driver, "t")
    before = driver.machine.state.advance().new
    create(driver, "u", b"x" * 16)
    after = driver.machine.state.advance().new
    assert after.topics["t"] is before.topics["t"]
    driver.do(AllocateProducerIds())
    assert driver.machine.state.advance().new is after


def test_an_image_lists_topics_in_the_order_they_were_made(driver: Driver) -> None:
    names = [f"t{number}" for number in range(20)]
    driver.do(CreateTopics([NewTopic(name) for name in names], [bytes([number]) * 16 for number in range(1, 21)]))
    assert list(driver.machine.state.advance().new.topics) == names
    assert list(driver.replayed().state.advance().new.topics) == names


def test_each_partition_keeps_where_its_epochs_begin(driver: Driver) -> None:
    """Be it of a topic that grows, through whatever its records go through."""
    epochs_of_lanes = itertools.count(5)

    def now(log: LogId) -> int:
        return next(epochs_of_lanes)

    driver.do(CreateTopics([NewTopic("t", 2)], [ID], epoch_origin=now))
    driver.do(CreatePartitions([NewPartitions("t", 3)], epoch_origin=now))
    change = PartitionChangeRecord(partition_id=1, topic_id=ID, leader=1)
    [entry] = MetadataJournal().encode(change)
    driver.machine.apply(MetadataJournal().decode(entry))
    driver.log.append(entry)
    restored = driver.fresh()
    for fact in driver.machine.snapshot():
        [entry] = MetadataJournal().encode(fact)
        restored.apply(MetadataJournal().decode(entry))
    for machine in (driver.machine, driver.machine.copy(), driver.replayed(), restored):
        topic = machine.state.advance().new.topics["t"]
        assert [partition.epoch_origin for partition in topic.partitions] == [5, 6, 7]


def test_validating_leaves_nothing(driver: Driver) -> None:
    create(driver, "t", validate_only=True)
    assert driver.machine.state.advance().new.topic("t") is None
    assert driver.log == []


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"partition_count": 0}, Error.INVALID_PARTITIONS),
        ({"replication_factor": 0}, Error.INVALID_REPLICATION_FACTOR),
        ({"replication_factor": 2}, Error.INVALID_REPLICATION_FACTOR),
        ({"assignments": [(0, [1])], "partition_count": 1}, Error.INVALID_REQUEST),
        ({"assignments": [(0, [2])]}, Error.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": [(1, [1])]}, Error.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": [(0, [1]), (0, [1])]}, Error.INVALID_REPLICA_ASSIGNMENT),
        ({"assignments": [(0, [])]}, Error.INVALID_REPLICA_ASSIGNMENT),
        ({"overrides": {"no.such": "1"}}, Error.INVALID_CONFIG),
        ({"overrides": {"retention.ms": None}}, Error.INVALID_CONFIG),
        ({"overrides": {"cleanup.policy": "burn"}}, Error.INVALID_CONFIG),
    ],
)
def test_what_cannot_be_created_is_refused(driver: Driver, fields: dict[str, object], error: Error) -> None:
    assert error_of(create(driver, "t", **fields)) is error
    assert driver.log == []


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "x" * 250])
def test_names_must_be_legal(driver: Driver, name: str) -> None:
    assert error_of(create(driver, name)) is Error.INVALID_TOPIC_EXCEPTION


def test_the_metadata_log_is_not_a_topic(driver: Driver) -> None:
    assert error_of(create(driver, "__cluster_metadata")) is Error.INVALID_REQUEST


def test_names_must_not_collide_and_a_deleted_name_is_free_again(driver: Driver) -> None:
    create(driver, "x_y", b"z" * 16)
    assert error_of(create(driver, "x.y", b"y" * 16)) is Error.INVALID_TOPIC_EXCEPTION
    create(driver, "a.b")
    assert error_of(create(driver, "a.b", b"y" * 16)) is Error.TOPIC_ALREADY_EXISTS
    assert error_of(create(driver, "a_b", b"y" * 16)) is Error.INVALID_TOPIC_EXCEPTION
    driver.do(DeleteTopics([ID]))
    assert not isinstance(create(driver, "a_b", b"y" * 16), KafkaError)
    assert error_of(driver.do(DeleteTopics([ID]))[0]) is Error.UNKNOWN_TOPIC_ID


def test_partitions_only_grow(driver: Driver) -> None:
    create(driver, "t", partition_count=2)
    assert error_of(driver.do(CreatePartitions([NewPartitions("t", 2)]))[0]) is Error.INVALID_PARTITIONS
    assert error_of(driver.do(CreatePartitions([NewPartitions("t", 1)]))[0]) is Error.INVALID_PARTITIONS
    missing = driver.do(CreatePartitions([NewPartitions("u", 1)]))[0]
    assert error_of(missing) is Error.UNKNOWN_TOPIC_OR_PARTITION
    driver.do(CreatePartitions([NewPartitions("t", 4, [[1], [1]])]))
    assert [p.log.partition for p in driver.machine.state.advance().new.topics["t"].partitions] == [0, 1, 2, 3]


def test_producer_ids_never_come_twice(driver: Driver) -> None:
    first, second = driver.do(AllocateProducerIds()), driver.do(AllocateProducerIds())
    driver.machine = driver.replayed()
    third = driver.do(AllocateProducerIds())
    assert [next(iter(block)) for block in (first, second, third)] == [0, 1000, 2000]


def test_replaying_the_log_gives_the_same_cluster(driver: Driver) -> None:
    create(driver, "t", partition_count=3, overrides={"cleanup.policy": "compact"})
    create(driver, "u", b"u" * 16)
    driver.do(DeleteTopics([b"u" * 16]))
    driver.do(CreatePartitions([NewPartitions("t", 5)]))
    live, again = driver.machine.state.advance().new, driver.replayed().state.advance().new
    assert {n: (t.topic_id, t.partitions, dict(t.overrides)) for n, t in live.topics.items()} == {
        n: (t.topic_id, t.partitions, dict(t.overrides)) for n, t in again.topics.items()
    }


def test_facts_lie_in_the_log_as_kafka_writes_them(driver: Driver) -> None:
    create(driver, "t", overrides={"retention.ms": "9"})
    driver.do(AllocateProducerIds())
    driver.do(DeleteTopics([ID]))
    topic, config, partition, producer_ids, removal = [entry.value for entry in driver.log]
    # frame version, API key and record version as varints, then the compact message
    assert topic == b"\x01\x02\x00\x02t" + ID + b"\x00"
    assert config == b"\x01\x04\x00\x02\x02t\x0dretention.ms\x029\x00"
    assert partition is not None
    assert partition[:3] == b"\x01\x03\x02"
    assert partition[3:23] == bytes(4) + ID
    assert (
        producer_ids == b"\x01\x0f\x00" + (1).to_bytes(4) + (-1).to_bytes(8, signed=True) + (1000).to_bytes(8) + b"\0"
    )
    assert removal == b"\x01\x09\x00" + ID + b"\x00"
    assert all(entry.key is None for entry in driver.log)


@pytest.mark.parametrize("value", [None, b"", b"\x01\x02", b"\x00\x02\x00", b"\x01\x02\x00\xff\xff"])
def test_records_that_are_none_are_refused(value: bytes | None) -> None:
    with pytest.raises(CorruptBatch):
        MetadataJournal().decode(Entry(None, value))


def test_records_of_other_kinds_are_passed_over() -> None:
    assert MetadataJournal().decode(Entry(None, b"\x01\x14\x00\x00")) is None
