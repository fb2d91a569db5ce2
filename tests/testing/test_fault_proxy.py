"""A Kafka of somebody else's, with faults: clients stay behind the proxy, and meet on the way what rules say."""

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import pytest
import trustme
from confluent_kafka.admin import AdminClient
from kafka.errors import TopicAuthorizationFailedError

import kafkapy
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers import ALL
from kafkapy.handlers.context import Session
from kafkapy.handlers.registry import Registry
from kafkapy.model import TopicPartition
from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages import request_class
from kafkapy.protocol.messages.alter_user_scram_credentials import AlterUserScramCredentialsRequest
from kafkapy.protocol.messages.describe_cluster import DescribeClusterRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.protocol.messages.sasl_handshake import SaslHandshakeRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.testing.client import CLIENT_ID, Client
from kafkapy.testing.connection import BlockingConnection, Disconnected, driven
from tests.security.scram_client import ScramClient

TIMEOUT = 20.0
LOGIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";'
SETTINGS = {"default.replication.factor": "3", "max.incremental.fetch.session.cache.slots": "1000"}


@pytest.fixture(scope="module")
def three() -> Iterator[kafkapy.Broker]:
    with kafkapy.Broker(SETTINGS, brokers=3) as broker:
        yield broker


@pytest.fixture(scope="module")
def standing(three: kafkapy.Broker) -> Iterator[kafkapy.FaultProxy]:
    with kafkapy.FaultProxy(three.bootstrap_servers.partition(",")[0]) as proxy:
        yield proxy


@pytest.fixture
def proxy(three: kafkapy.Broker, standing: kafkapy.FaultProxy) -> Iterator[kafkapy.FaultProxy]:
    yield standing
    standing.reset()
    three.reset()


def ports(servers: str) -> set[int]:
    return {int(address.rpartition(":")[2]) for address in servers.split(",")}


def test_all_addresses_that_a_client_is_told_are_the_proxys(three: kafkapy.Broker, proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t", 3)
    client = Client(BlockingConnection(proxy.host, proxy.port))
    told = {(one.node_id, one.port) for one in driven(client.ask(MetadataRequest(topics=[]))).brokers}
    assert {node_id for node_id, _ in told} == {1, 2, 3}
    assert not {port for _, port in told} & ports(three.bootstrap_servers)
    assert {(one.broker_id, one.port) for one in driven(client.ask(DescribeClusterRequest())).brokers} == told
    for group in range(6):
        asked = FindCoordinatorRequest(coordinator_keys=[f"g{group}"])
        [found] = driven(client.ask(asked)).coordinators
        assert (found.node_id, found.port) in told
    [leader] = [one.leader_id for one in driven(client.ask(MetadataRequest(topics=None))).topics[0].partitions[:1]]
    other = next(port for node_id, port in told if node_id != leader)
    wrong = Client(BlockingConnection(proxy.host, other))
    [answer] = driven(wrong.ask(_produce("t"), most=12)).responses[0].partition_responses
    assert answer.error_code == Error.NOT_LEADER_OR_FOLLOWER
    driven(client.close())
    driven(wrong.close())


def test_who_is_told_of_another_leader_in_an_answer_is_told_the_proxys_address(
    three: kafkapy.Broker, proxy: kafkapy.FaultProxy
) -> None:
    proxy.create_topic("t")
    client = Client(BlockingConnection(proxy.host, proxy.port))
    metadata = driven(client.ask(MetadataRequest(topics=None)))
    leader = metadata.topics[0].partitions[0].leader_id
    at = {one.node_id: one.port for one in metadata.brokers}
    wrong = Client(BlockingConnection(proxy.host, next(port for node_id, port in at.items() if node_id != leader)))
    answer = driven(wrong.ask(_produce("t"), most=12))
    assert {one.node_id: one.port for one in answer.node_endpoints} == {leader: at[leader]}
    driven(client.close())
    driven(wrong.close())


def _produce(topic: str, acks: int = -1) -> ProduceRequest:
    data = ProduceRequest.PartitionProduceData(index=0, records=build_batch([Record(0, 1, None, b"v", [])]))
    return ProduceRequest(
        acks=acks, timeout_ms=1000, topic_data=[ProduceRequest.TopicProduceData(name=topic, partition_data=[data])]
    )


def test_one_partition_fails_and_a_producer_tries_again(proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t", 3)
    rule = proxy.faults.add("Produce", topic="t", partition=1, error="NOT_LEADER_OR_FOLLOWER", times=2)
    with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, retry_backoff_ms=10) as producer:
        sent = [producer.send("t", b"v", partition=number) for number in range(3)]
        assert [one.get(TIMEOUT).offset for one in sent] == [0, 0, 0]
    assert rule.hits == 2
    assert proxy.end_offsets("t") == {0: 1, 1: 1, 2: 1}


def test_an_error_that_does_not_pass_is_told(proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t")
    proxy.faults.add("Produce", error="TOPIC_AUTHORIZATION_FAILED")
    with (
        kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers) as producer,
        pytest.raises(TopicAuthorizationFailedError),
    ):
        producer.send("t", b"lost").get(TIMEOUT)
    assert proxy.records("t") == []


@pytest.mark.parametrize("how", [{"error": "REQUEST_TIMED_OUT"}, {"close": True}, {"truncate": 9}])
def test_what_was_done_and_not_answered_is_done_once(proxy: kafkapy.FaultProxy, how: dict[str, Any]) -> None:
    proxy.create_topic("t")
    rule = proxy.faults.add("Produce", when="after", **how)
    producer = confluent_kafka.Producer({"bootstrap.servers": proxy.bootstrap_servers, "enable.idempotence": True})
    producer.produce("t", b"v")
    assert producer.flush(TIMEOUT) == 0
    assert rule.hits == 1
    assert [record.value for record in proxy.records("t")] == [b"v"]


def test_a_group_and_its_transactions_go_through(proxy: kafkapy.FaultProxy) -> None:
    for number in range(3):
        proxy.produce("in", str(number))
    rules = [
        proxy.faults.add("FindCoordinator", group="g", error="COORDINATOR_NOT_AVAILABLE"),
        proxy.faults.add("JoinGroup", group="g", error="NOT_COORDINATOR"),
        proxy.faults.add("AddPartitionsToTxn", error="CONCURRENT_TRANSACTIONS"),
        proxy.faults.add("EndTxn", error="COORDINATOR_LOAD_IN_PROGRESS"),
    ]
    reading = {"group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": proxy.bootstrap_servers, **reading})
    producer = confluent_kafka.Producer({"bootstrap.servers": proxy.bootstrap_servers, "transactional.id": "p"})
    producer.init_transactions(TIMEOUT)
    consumer.subscribe(["in"])
    for _ in range(3):
        record = consumer.poll(TIMEOUT)
        assert record is not None
        producer.begin_transaction()
        producer.produce("out", record.value())
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), TIMEOUT)
        producer.commit_transaction(TIMEOUT)
    consumer.close()
    assert [rule.hits for rule in rules] == [1, 1, 1, 1]
    assert [record.value for record in proxy.records("out")] == [b"0", b"1", b"2"]
    assert proxy.committed("g") == {TopicPartition("in", 0): 3}


def test_every_fetch_names_its_topics(proxy: kafkapy.FaultProxy) -> None:
    """The Kafka behind has fetch sessions, in which a client would name what it wants only once."""
    proxy.produce("t", "v")
    rule = proxy.faults.observe("Fetch", topic="t", client_id="c")
    consumer = kafka.KafkaConsumer(
        "t",
        bootstrap_servers=proxy.bootstrap_servers,
        client_id="c",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=10,
    )
    with proxy.activity.follow() as asked:
        for _ in range(400):
            consumer.poll(timeout_ms=50)
            if sum(one.api == "Fetch" for one in asked) >= 5:
                break
    consumer.close()
    assert rule.hits >= 5
    assert {one.topics for one in asked if one.api == "Fetch"} == {("t",)}


def test_who_wants_no_answer_gets_none(proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t")
    with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, acks=0, enable_idempotence=False) as producer:
        for number in range(3):
            producer.send("t", str(number).encode()).get(TIMEOUT)
    assert [record.value for record in proxy.wait_records("t", 3)] == [b"0", b"1", b"2"]


def test_the_wrong_node_is_one_of_the_proxys(three: kafkapy.Broker, proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t")
    listed = AdminClient({"bootstrap.servers": proxy.bootstrap_servers}).list_topics("t", timeout=TIMEOUT)
    leader = listed.topics["t"].partitions[0].leader
    rule = proxy.faults.add("Metadata", topic="t", node=leader % 3 + 1)
    with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, retry_backoff_ms=10) as producer:
        assert producer.send("t", b"v").get(TIMEOUT).offset == 0
    assert rule.hits == 1


def test_a_request_is_held_on_its_way(three: kafkapy.Broker, proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t")
    with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers) as producer:
        with proxy.faults.hold("Produce", topic="t", when="after") as held:
            sent = producer.send("t", b"v")
            held.wait(timeout=TIMEOUT)
            assert three.end_offsets("t") == {0: 1}
            assert not sent.is_done
        assert sent.get(TIMEOUT).offset == 0


def test_clients_go_on_when_a_broker_behind_is_killed(three: kafkapy.Broker, proxy: kafkapy.FaultProxy) -> None:
    proxy.create_topic("t", 3)
    with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, acks="all", retry_backoff_ms=10) as producer:
        for kill in (None, 2, 3):
            if kill is not None:
                three.kill_broker(kill)
            for partition in range(3):
                producer.send("t", b"v", partition=partition).get(TIMEOUT)
            if kill is not None:
                three.start_broker(kill)
    assert proxy.end_offsets("t") == {0: 3, 1: 3, 2: 3}


def test_passwords_pass_through() -> None:
    settings = {
        "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": LOGIN,
    }
    with kafkapy.Broker(settings) as broker, kafkapy.FaultProxy(f"127.0.0.1:{broker.bound_port}") as proxy:
        rule = proxy.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER")
        with kafka.KafkaProducer(
            bootstrap_servers=proxy.bootstrap_servers,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="PLAIN",
            sasl_plain_username="alice",
            sasl_plain_password="secret",
            retry_backoff_ms=10,
        ) as producer:
            assert producer.send("t", b"v").get(TIMEOUT).offset == 0
        assert rule.hits == 1


def test_a_kafka_with_tls_is_met_with_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    settings = {
        "listeners": "SSL://127.0.0.1:0",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.key": certificate.private_key_pem.bytes().decode(),
        "ssl.keystore.certificate.chain": "".join(blob.bytes().decode() for blob in certificate.cert_chain_pems),
    }
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(trusted)
    with kafkapy.Broker(settings) as broker:
        address = f"127.0.0.1:{broker.bound_port}"
        with kafkapy.FaultProxy(address, tls=ssl.create_default_context(cafile=trusted)) as proxy:
            rule = proxy.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER")
            with kafka.KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, retry_backoff_ms=10) as producer:
                assert producer.send("t", b"v" * 100_000).get(TIMEOUT).offset == 0
            assert rule.hits == 1
            assert [len(record.value or b"") for record in proxy.records("t")] == [100_000]
        with pytest.raises(Disconnected, match=r"is no Kafka with TLS.*certificate verify failed"):
            kafkapy.FaultProxy(address, tls=ssl.create_default_context()).start()
        with pytest.raises(Disconnected, match="is no Kafka without TLS"):
            kafkapy.FaultProxy(address).start()


def test_tokens_that_are_no_requests_pass_through() -> None:
    """SaslHandshake version 0, by which clients from before Kafka 1.0 say who they are."""
    settings = {
        "listeners": "SASL_PLAINTEXT://127.0.0.1:0",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": LOGIN,
    }
    with (
        kafkapy.Broker(settings) as broker,
        kafkapy.FaultProxy(f"127.0.0.1:{broker.bound_port}") as proxy,
        proxy.activity.follow() as asked,
    ):
        salt, salted = b"salt", hashlib.pbkdf2_hmac("sha256", b"pencil", b"salt", 4096)
        cls = AlterUserScramCredentialsRequest
        bob = cls.ScramCredentialUpsertion(name="bob", mechanism=1, iterations=4096, salt=salt, salted_password=salted)
        with greeted(proxy, "PLAIN") as connection:
            assert driven(connection.exchange(b"\0alice\0secret")) == b""
            client = Client(connection)
            assert driven(client.ask(cls(upsertions=[bob]))).results[0].error_code == 0
            assert driven(client.ask(MetadataRequest(topics=[]))).brokers
        scram = ScramClient("sha256", "bob", "pencil")
        with greeted(proxy, "SCRAM-SHA-256") as connection:
            final = scram.final(driven(connection.exchange(scram.first())))
            assert driven(connection.exchange(final)) == scram.server_signature
            assert driven(Client(connection).ask(MetadataRequest(topics=[]))).brokers
        with greeted(proxy, "PLAIN") as connection, pytest.raises(Disconnected):
            driven(connection.exchange(b"\0alice\0guess"))
        with greeted(proxy, "GSSAPI", Error.UNSUPPORTED_SASL_MECHANISM):
            pass
    requests = [one.api for one in asked if one.client_id == CLIENT_ID or one.api == "SaslHandshake"]
    about_bob = ["SaslHandshake", "ApiVersions", "AlterUserScramCredentials", "Metadata"]
    assert requests == [*about_bob, "SaslHandshake", "ApiVersions", "Metadata", "SaslHandshake", "SaslHandshake"]


@contextmanager
def greeted(proxy: kafkapy.FaultProxy, mechanism: str, error: Error = Error.NONE) -> Iterator[BlockingConnection]:
    """A connection that has asked for a mechanism, in version 0, and been answered so."""
    connection = BlockingConnection(proxy.host, proxy.port)
    out = bytearray()
    encode_request_header(SaslHandshakeRequest.API_KEY, 0, 7, "old", out)
    answer = driven(connection.exchange(b"".join(SaslHandshakeRequest(mechanism=mechanism).encode(0, out))))
    assert int.from_bytes(answer[4:6]) == error
    yield connection
    driven(connection.close())


def test_what_cannot_be_done_from_here_is_refused(proxy: kafkapy.FaultProxy) -> None:
    with pytest.raises(ValueError, match="the disk of a Kafka behind a proxy is its own"):
        proxy.faults.add("DiskWrite", error="EIO")
    with pytest.raises(RuntimeError, match="the clock of a Kafka behind a proxy is its own"):
        proxy.clock.freeze()


def test_a_proxy_before_nothing_does_not_start() -> None:
    with kafkapy.Broker() as broker:
        pass
    with pytest.raises(Disconnected, match="is no Kafka"):
        kafkapy.FaultProxy(broker.bootstrap_servers).start()
    with pytest.raises(ConfigError):
        kafkapy.FaultProxy("kafka:port")


@pytest.mark.parametrize("route", ALL, ids=lambda route: route.module)
def test_every_error_is_made_without_a_broker(route: Any) -> None:
    """What a proxy answers for a broker, it makes without asking one."""
    out = bytearray()
    encode_request_header(route.key, route.max_version, 7, "c", out)
    request = request_class(route.key)()
    if isinstance(request, ProduceRequest):
        request.acks = 1  # or it would be answered by nothing
    frame = memoryview(b"".join(request.encode(route.max_version, out)))
    registry = Registry(None)  # type: ignore[arg-type]
    answer = registry.refusal(frame, KafkaError(Error.UNKNOWN_SERVER_ERROR), Session("", "", "", 0, "", 0))
    assert b"".join(answer)
