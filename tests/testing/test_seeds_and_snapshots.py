"""What is in a broker, written down and put back."""

import json
from pathlib import Path

import confluent_kafka
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

import kafkapy
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.testing.entries import BadEntry, parsed, written
from kafkapy.testing.nouns import ConsumedRecord

TIMEOUT = 20.0


def told(records: list[ConsumedRecord]) -> list[tuple[object, ...]]:
    return [(one.partition, one.key, one.value, one.headers) for one in records]


def commit(broker: kafkapy.Broker, group: str, *offsets: confluent_kafka.TopicPartition) -> None:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": group})
    consumer.commit(offsets=[*offsets], asynchronous=False)
    consumer.close()


def test_a_seed_is_written(broker: kafkapy.Broker, tmp_path: Path) -> None:
    seed = tmp_path / "seed.jsonl"
    lines = [
        {"topic": "orders", "partitions": 3, "config": {"retention.ms": "123456789"}},
        {"topic": "orders", "key": "k", "value": "v", "headers": {"h": "1"}, "timestamp": 5},
        {"topic": "orders", "key": "k", "value": None, "headers": [["h", "1"], ["h", {"base64": "/w=="}]]},
        {"topic": "orders", "value": {"paid": True}, "partition": 2},
        {"topic": "elsewhere", "value": {"base64": "/w=="}},
        {"group": "g", "topic": "orders", "partition": 2, "offset": 1},
    ]
    seed.write_text("\n\n".join(map(json.dumps, lines)))
    broker.seed(seed)
    first, second, third = broker.records("orders")
    assert (first.key, first.value, first.headers, first.timestamp) == (b"k", b"v", [("h", b"1")], 5)
    assert (second.value, second.headers) == (None, [("h", b"1"), ("h", b"\xff")])
    assert first.partition == second.partition
    assert (third.partition, third.value) == (2, b'{"paid":true}')
    assert [record.value for record in broker.records("elsewhere")] == [b"\xff"]
    assert broker.committed("g") == {TopicPartition("orders", 2): 1}
    broker.seed([{"topic": "orders", "value": b"more", "partition": 0}])
    assert len(broker.records("orders")) == 4


def test_much_is_seeded_in_order(broker: kafkapy.Broker) -> None:
    broker.seed({"topic": f"t{i % 3}", "value": f"{i}" + "." * 2000} for i in range(900))
    for topic in range(3):
        values = [record.value or b"" for record in broker.records(f"t{topic}")]
        assert [int(value.rstrip(b".")) for value in values] == [*range(topic, 900, 3)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"topic": "t", "vlaue": "v"}', "entry 2: a topic has no vlaue"),
        ('{"topic": "t", "value": "v", "offset": 1}', "a record has no offset"),
        ('{"value": "v"}', "a record without topic"),
        ('{"group": "g", "topic": "t"}', "a group without offset"),
        ('{"topic": 5, "value": "v"}', "a topic's name is text"),
        ('{"topic": "t", "value": "v", "timestamp": "today"}', "timestamp is a whole number"),
        ('{"topic": "t", "value": {"base64": "?"}}', "not base64"),
        ('{"topic": "t", "value": "v", "headers": 5}', "headers are an object"),
        ("[]", "is no object"),
        ("{", "line 2 is no JSON"),
    ],
)
def test_what_makes_no_sense_is_refused(broker: kafkapy.Broker, tmp_path: Path, line: str, why: str) -> None:
    seed = tmp_path / "seed.jsonl"
    seed.write_text(f'{{"topic": "ok"}}\n{line}\n')
    with pytest.raises(BadEntry, match=why):
        broker.seed(seed)


def test_a_refusal_of_the_brokers_is_raised(broker: kafkapy.Broker) -> None:
    with pytest.raises(KafkaError) as raised:
        broker.seed([{"topic": "not a name", "value": "v"}])
    assert raised.value.error is Error.INVALID_TOPIC_EXCEPTION


def test_what_was_there_is_put_back(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", 2, config={"retention.ms": "123456789"})
    broker.create_topic("empty")
    for value in (b"a", b"\xff", None):
        broker.produce("t", value, key="k", headers=[("h", b"1"), ("h", None)], timestamp=1_600_000_000_000)
    broker.produce("t", "b", partition=1)
    commit(broker, "g", confluent_kafka.TopicPartition("t", 1, 1, metadata="note"))
    before, groups, kept = told(broker.records("t")), broker.groups(), broker.snapshot()
    broker.produce("t", "c")
    broker.create_topic("later")
    commit(broker, "other", confluent_kafka.TopicPartition("t", 0, 1))
    for snapshot in (kept, [*parsed(written(kept))]):  # as it is, and by way of a file
        broker.restore(snapshot)
        assert told(broker.records("t")) == before
        assert [topic.name for topic in broker.topics()] == ["empty", "t"]
        assert broker.groups() == groups
        assert broker.snapshot() == kept


def test_gaps_of_transactions_close_and_offsets_move_along(broker: kafkapy.Broker) -> None:
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "x"})
    producer.init_transactions(TIMEOUT)
    for value, end in ((b"1", producer.abort_transaction), (b"2", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce("t", value)
        producer.flush(TIMEOUT)
        end(TIMEOUT)
    broker.produce("t", "3")
    commit(broker, "g", confluent_kafka.TopicPartition("t", 0, 4))
    assert broker.records("t")[1].offset == 4
    broker.restore(broker.snapshot())
    assert [(record.offset, record.value) for record in broker.records("t")] == [(0, b"2"), (1, b"3")]
    assert broker.committed("g") == {TopicPartition("t", 0): 1}


def test_rights_limits_and_settings_are_put_back() -> None:
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    with kafkapy.Broker({"authorizer.class.name": authorizer, "super.users": "User:ANONYMOUS"}) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        topic = ResourceType.TOPIC, "t", ResourcePatternType.LITERAL, "User:a", "*"
        acl = AclBinding(*topic, AclOperation.READ, AclPermissionType.ALLOW)
        change = ConfigEntry("log.retention.ms", "12345", incremental_operation=AlterConfigOpType.SET)
        of_one = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[change])
        for future in [*admin.create_acls([acl]).values(), *admin.incremental_alter_configs([of_one]).values()]:
            future.result(TIMEOUT)
        limit = {"limit": {"user": None, "client-id": "c"}, "values": {"producer_byte_rate": 1e6}}
        broker.seed(
            [limit, {"setting": "broker", "name": "", "config": {"log.retention.ms": 54321, "min.insync.replicas": 3}}]
        )
        kept = broker.snapshot()
        assert len(kept) == 4
        broker.reset()
        assert broker.snapshot() == []
        broker.restore(kept)
        assert broker.snapshot() == kept
        any_acl = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        assert admin.describe_acls(any_acl).result(TIMEOUT) == [acl]


def test_a_group_at_work_is_told_to_be_so(broker: kafkapy.Broker) -> None:
    broker.produce("t", "v")
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, "group.id": "g"})
    consumer.subscribe(["t"])
    while not consumer.assignment():
        consumer.poll(0.05)
    with pytest.raises(KafkaError, match="group g has members"):
        broker.seed([{"group": "g", "topic": "t", "offset": 1}])
    consumer.close()


async def test_the_same_in_trio() -> None:
    async with kafkapy.open_broker() as broker:
        await broker.produce("t", "v")
        kept = await broker.snapshot()
        await broker.reset()
        await broker.restore(kept)
        assert [record.value for record in await broker.records("t")] == [b"v"]
