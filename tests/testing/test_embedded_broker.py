"""The broker in a test: in a thread, in the caller's trio, in a process; and what a test does with it."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import kafka
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
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import kafkapy
from kafkapy.errors import Error, KafkaError
from kafkapy.model import TopicPartition
from kafkapy.network.listening import CannotListen
from kafkapy.protocol.messages.alter_client_quotas import AlterClientQuotasRequest
from kafkapy.protocol.messages.describe_client_quotas import DescribeClientQuotasRequest
from kafkapy.testing.client import CLIENT_ID, Client
from kafkapy.testing.connection import BlockingConnection, Disconnected, driven
from kafkapy.testing.handle import BrokerHandle
from kafkapy.testing.in_thread import STOP_TIMEOUT_SECONDS
from kafkapy.testing.nouns import NotInTime
from kafkapy.testing.operations import Operations
from kafkapy.testing.partitioner import partition_of

TIMEOUT = 20.0


def values(broker: kafkapy.Broker, topic: str) -> list[bytes | None]:
    return [record.value for record in broker.records(topic)]


def test_what_is_written_is_read(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", 3, config={"retention.ms": "1000000"})
    assert broker.produce("t", "v", key="k", headers=[("h", b"1")], timestamp=5) == 0
    at = partition_of(b"k", 3)
    assert broker.produce("t", None, partition=(at + 1) % 3) == 0
    [record] = broker.records("t", at)
    assert (record.key, record.value, record.headers, record.timestamp) == (b"k", b"v", [("h", b"1")], 5)
    assert broker.end_offsets("t") == {at: 1, (at + 1) % 3: 1, (at + 2) % 3: 0}
    assert [topic.name for topic in broker.topics()] == ["t"]


def test_a_key_goes_where_every_client_sends_it(broker: kafkapy.Broker) -> None:
    broker.create_topic("t", 7)
    keys = [bytes([i]) * i for i in range(20)]
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        theirs = [producer.send("t", b"v", key=key).get(TIMEOUT).partition for key in keys]
    assert [partition_of(key, 7) for key in keys] == theirs


def test_a_refusal_is_raised(broker: kafkapy.Broker) -> None:
    broker.create_topic("t")
    with pytest.raises(KafkaError, match="already exists") as raised:
        broker.create_topic("t")
    assert raised.value.error is Error.TOPIC_ALREADY_EXISTS
    with pytest.raises(KafkaError) as raised:
        broker.records("not there")
    assert raised.value.error is Error.INVALID_TOPIC_EXCEPTION


def test_records_are_waited_for(broker: kafkapy.Broker) -> None:
    writing = threading.Thread(target=lambda: [broker.produce("t", str(i)) for i in range(3)])
    writing.start()
    assert [record.value for record in broker.wait_records("t", 3, timeout=TIMEOUT)] == [b"0", b"1", b"2"]
    writing.join()
    with pytest.raises(NotInTime, match="t has 3 records"):
        broker.wait_records("t", 4, timeout=0.01)


def test_groups_are_waited_for(broker: kafkapy.Broker) -> None:
    broker.produce("t", "v")
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="g",
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    reading = threading.Thread(target=lambda: (next(consumer), consumer.commit()))
    reading.start()
    view = broker.wait_group("g", members=1, timeout=TIMEOUT)
    assert (view.group_type, view.state, view.members) == ("classic", "Stable", 1)
    assert broker.wait_committed("g", "t", 1, timeout=TIMEOUT) == 1
    reading.join()
    assert [group.committed for group in broker.groups()] == [{TopicPartition("t", 0): 1}]
    consumer.close()
    assert broker.wait_group("g", state="Empty", members=0, timeout=TIMEOUT).state == "Empty"
    with pytest.raises(NotInTime, match="it is Empty, with 0 members"):
        broker.wait_group("g", timeout=0.01)


def test_a_reset_forgets_everything_and_clients_stay(broker: kafkapy.Broker) -> None:
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="g",
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for value in (b"before", b"after"):
            assert producer.send("t", value).get(TIMEOUT).offset == 0
            assert next(consumer).value == value
            consumer.commit()
            broker.reset()
            assert broker.topics(internal=True) == []
            assert broker.groups() == []
    consumer.close()


def test_a_reset_forgets_rights_users_limits_and_settings() -> None:
    authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
    settings = {"authorizer.class.name": authorizer, "super.users": "User:ANONYMOUS"}
    with kafkapy.Broker(settings) as broker:
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        credentials = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096)
        resource = ConfigResource(ConfigResource.Type.BROKER, "1")

        def told() -> tuple[list[AclBinding], list[str], str]:
            config = admin.describe_configs([resource])[resource].result(TIMEOUT)
            users = admin.describe_user_scram_credentials().result(TIMEOUT)
            return admin.describe_acls(everything).result(TIMEOUT), [*users], config["log.retention.ms"].value

        before = told()
        acl = AclBinding(
            ResourceType.TOPIC,
            "t",
            ResourcePatternType.LITERAL,
            "User:a",
            "*",
            AclOperation.READ,
            AclPermissionType.ALLOW,
        )
        change = ConfigEntry("log.retention.ms", "12345", incremental_operation=AlterConfigOpType.SET)
        changed = ConfigResource(resource.restype, resource.name, incremental_configs=[change])
        futures = [
            *admin.create_acls([acl]).values(),
            *admin.alter_user_scram_credentials([UserScramCredentialUpsertion("a", credentials, b"p")]).values(),
            *admin.incremental_alter_configs([changed]).values(),
        ]
        for future in futures:
            future.result(TIMEOUT)
        assert told() == ([acl], ["a"], "12345")
        broker.reset()
        assert told() == before


def test_a_reset_asks_for_nothing_and_says_only_what_is_to_go(broker: kafkapy.Broker) -> None:
    """A suite resets its broker with each test: nothing may be sent that changes nothing."""
    for number in range(10):
        broker.produce(f"t{number}", "v")
    with broker.activity.follow() as asked:
        broker.reset()
        broker.reset()
    assert [one.api for one in asked] == ["DeleteTopics"]
    assert broker.topics(internal=True) == []


def test_a_reset_forgets_limits(broker: kafkapy.Broker) -> None:
    client = Client(BlockingConnection(broker.host, broker.port))
    entity = [AlterClientQuotasRequest.EntityData(entity_type="user", entity_name="a")]
    limit = [AlterClientQuotasRequest.OpData(key="producer_byte_rate", value=1.0)]
    entry = AlterClientQuotasRequest.EntryData(entity=entity, ops=limit)
    driven(client.ask(AlterClientQuotasRequest(entries=[entry])))
    assert len(driven(client.ask(DescribeClientQuotasRequest())).entries) == 1
    broker.reset()
    assert driven(client.ask(DescribeClientQuotasRequest())).entries == []
    driven(client.close())


def test_records_of_aborted_transactions_are_not_shown(broker: kafkapy.Broker) -> None:
    producer = kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers, transactional_id="x")
    producer.init_transactions()
    for value, end in ((b"1", producer.abort_transaction), (b"2", producer.commit_transaction)):
        producer.begin_transaction()
        producer.send("t", value).get(TIMEOUT)
        end()
    producer.close()
    assert values(broker, "t") == [b"2"]
    assert [record.value for record in broker.wait_records("t", timeout=TIMEOUT)] == [b"2"]


def test_a_block_says_what_it_adds(broker: kafkapy.Broker) -> None:
    broker.produce("t", "before")
    with broker.assert_produced("t", "a", {"key": "k", "value": b"b"}):
        broker.produce("t", "b", key="k")
        broker.produce("t", "a")
    with broker.assert_produced("new", None):
        broker.produce("new")
    other = pytest.raises(AssertionError, match=r"missing: value=b'a'\n  not expected: t-0@3 key=None value=b'b'")
    with other, broker.assert_produced("t", "a", timeout=0.01):
        broker.produce("t", "b")


def test_several_brokers_and_threads_do_not_meet(broker: kafkapy.Broker) -> None:
    with kafkapy.Broker() as other:
        assert other.port != broker.port
        assert other.cluster_id != broker.cluster_id
        threads = [
            threading.Thread(target=lambda b=b: [b.produce("t", "v") for _ in range(10)])
            for b in (broker, other)
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(broker.records("t")) == len(other.records("t")) == 30


def test_it_serves_beside_an_event_loop_of_the_test(broker: kafkapy.Broker) -> None:
    import aiokafka

    async def run() -> None:
        async with aiokafka.AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            await producer.send_and_wait("t", b"v")

    asyncio.run(run())
    assert values(broker, "t") == [b"v"]


def test_data_outlives_the_broker_where_it_has_a_directory(tmp_path: Path) -> None:
    with kafkapy.Broker(data_dir=tmp_path / "data") as broker:
        broker.produce("t", "v")
    with kafkapy.Broker(data_dir=tmp_path / "data", port=broker.port) as again:
        assert (again.port, values(again, "t")) == (broker.port, [b"v"])
        assert again.cluster_id == broker.cluster_id


def test_what_kept_it_from_starting_is_raised(broker: kafkapy.Broker) -> None:
    with pytest.raises(CannotListen):
        kafkapy.Broker(port=broker.port).start()
    with pytest.raises(Exception, match=r"num\.partitions"):
        kafkapy.Broker({"num.partitions": "many"}).start()


def test_what_does_not_run_says_so() -> None:
    broker = kafkapy.Broker()
    with pytest.raises(RuntimeError, match="was not started"):
        broker.topics()
    broker.start()
    with pytest.raises(RuntimeError, match="started already"):
        broker.start()
    broker.stop()
    broker.stop()
    with pytest.raises(RuntimeError, match="has stopped"):
        broker.topics()


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_an_interpreter_that_ends_stops_it(tmp_path: Path) -> None:
    code = f"import kafkapy; b = kafkapy.Broker(data_dir={str(tmp_path / 'data')!r}).start(); b.produce('t', 'v')"
    ended = run_python(code)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "data" / ".kafka_cleanshutdown").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_is_told_so() -> None:
    ended = run_python(
        """
import os, kafkapy
with kafkapy.Broker() as broker:
    child = os.fork()
    if child == 0:
        for work in (broker.topics, broker.clock.freeze, broker.reset, lambda: broker.faults.add("Fetch")):
            try:
                work()
                os._exit(1)
            except RuntimeError as refusal:
                if "forked" not in str(refusal):
                    os._exit(2)
        os._exit(7)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), broker.topics())
"""
    )
    assert ended.stdout == "7 []\n", ended.stderr


async def test_it_runs_in_the_callers_trio() -> None:
    async with kafkapy.open_broker() as broker:
        assert await broker.produce("t", "v", key="k") == 0
        assert [record.value for record in await broker.wait_records("t")] == [b"v"]
        await broker.reset()
        assert await broker.topics() == []


def test_a_process_of_its_own_is_killed_and_comes_back(tmp_path: Path) -> None:
    with kafkapy.BrokerProcess(data_dir=tmp_path / "data") as broker:
        broker.produce("t", "v")
        port = broker.port
        broker.kill()
        broker.start()
        assert (broker.port, [record.value for record in broker.records("t")]) == (port, [b"v"])
        assert broker.cluster_id


def test_a_process_that_does_not_start_says_why(broker: kafkapy.Broker) -> None:
    with pytest.raises(RuntimeError, match=str(broker.port)):
        kafkapy.BrokerProcess(port=broker.port).start()


def test_a_process_that_takes_too_long_to_start_is_ended() -> None:
    with pytest.raises(TimeoutError, match=r"did not start within 0\.01 s"):
        kafkapy.BrokerProcess().start(timeout=0.01)


def test_a_block_that_adds_nothing_adds_nothing(broker: kafkapy.Broker, topic: str = "quiet") -> None:
    with broker.assert_produced(topic):
        pass
    with pytest.raises(AssertionError, match="not expected"), broker.assert_produced(topic):
        broker.produce(topic, "not a word")


def test_a_topic_is_read_to_its_end_while_others_write(broker: kafkapy.Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    broker.produce("busy", "first")
    fetch = Operations._fetch

    async def write_and_fetch(operations: Operations, *args: Any, **options: Any) -> bool:
        await operations.produce("busy", "another")
        return await fetch(operations, *args, **options)

    monkeypatch.setattr(Operations, "_fetch", write_and_fetch)
    assert values(broker, "busy") == [b"first", b"another"]


def test_a_broker_that_did_not_start_starts_later() -> None:
    with kafkapy.Broker() as first:
        second = kafkapy.Broker(port=first.port)
        with pytest.raises(CannotListen):
            second.start()
    with second:
        assert second.topics() == []


def test_it_stops_though_its_time_stands_still_and_somebody_waits() -> None:
    broker = kafkapy.Broker().start()
    delayed = broker.faults.add("ListGroups", delay=60)

    def ask() -> None:
        with pytest.raises(Disconnected):
            broker.groups()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kafkapy.node.GRACE_SECONDS", 0.1)
        broker.clock.freeze()
        waiting = threading.Thread(target=ask)
        waiting.start()
        delayed.wait()
        began, thread = time.monotonic(), broker._thread
        broker.stop()
        assert time.monotonic() - began < STOP_TIMEOUT_SECONDS
    waiting.join(TIMEOUT)
    assert thread is not None
    assert not thread.is_alive()


def test_the_time_of_a_broker_that_does_not_run_is_not_moved() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        kafkapy.Broker().clock.freeze()


def test_a_reset_bears_with_others_who_delete(broker: kafkapy.Broker) -> None:
    broker.create_topic("gone")
    broker.create_topic("here")
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    with broker.faults.hold("DeleteTopics", client_id=CLIENT_ID) as held:
        resetting = threading.Thread(target=lambda: driven(broker.operations.reset()))
        resetting.start()
        held.wait(timeout=TIMEOUT)
        admin.delete_topics(["gone"])["gone"].result(TIMEOUT)
    resetting.join(TIMEOUT)
    assert broker.topics() == []


def test_a_process_that_is_forgotten_ends_with_the_interpreter() -> None:
    ended = run_python("import kafkapy; broker = kafkapy.BrokerProcess().start(); print(broker.port)")
    with pytest.raises(Disconnected):
        BrokerHandle("127.0.0.1", int(ended.stdout)).topics()
