"""A broker that is an older Kafka to its clients, who fall back to what that one knows."""

from collections.abc import Iterator
from typing import Any

import confluent_kafka
import kafka
import pytest

import kafkapy
from kafkapy.config.setting import ConfigError
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers import ALL
from kafkapy.model import TopicPartition
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import APIS
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from kafkapy.protocol.messages.consumer_group_heartbeat import ConsumerGroupHeartbeatRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.protocol.messages.streams_group_topology_description_update import (
    StreamsGroupTopologyDescriptionUpdateRequest as UpdateTopologyRequest,
)
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, Disconnected, driven
from kafkapy.testing.releases import RELEASES

TIMEOUT = 20.0


@pytest.fixture(scope="module", params=RELEASES)
def running(request: pytest.FixtureRequest) -> Iterator[tuple[str, kafkapy.Broker]]:
    with kafkapy.Broker(as_version=request.param) as broker:
        yield request.param, broker


@pytest.fixture
def old(running: tuple[str, kafkapy.Broker]) -> Iterator[tuple[str, kafkapy.Broker]]:
    yield running
    running[1].reset()


def asked(broker: kafkapy.Broker | kafkapy.BrokerProcess, request: Any, version: int) -> bytes:
    """The bytes that answer a request in that version, whether or not the broker tells of it."""
    connection = BlockingConnection(broker.host, broker.port)
    out = bytearray()
    encode_request_header(request.API_KEY, version, 7, "test", out)
    try:
        return driven(connection.exchange(b"".join(request.encode(version, out))))
    finally:
        driven(connection.close())


def versions(broker: kafkapy.Broker | kafkapy.BrokerProcess, version: int) -> ApiVersionsResponse:
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    frame = asked(broker, request, version)
    _, offset = decode_response_header(18, version, frame)
    return ApiVersionsResponse.decode(version, frame, offset)[0]


def test_it_tells_of_no_more_than_that_kafka_does(old: tuple[str, kafkapy.Broker]) -> None:
    name, broker = old
    told = {one.api_key: (one.min_version, one.max_version) for one in versions(broker, 3).api_keys}
    release = RELEASES[name]
    served = {route.key: route for route in ALL}
    telemetry = {71, 72}  # of which nobody tells who keeps no metrics
    assert told.keys() | telemetry == release.versions.keys() & served.keys()
    for key, (low, high) in told.items():
        assert high == release.versions[key].stop - 1, APIS[key].name
        assert low >= release.versions[key].start
    missing = release.versions.keys() - served.keys()
    assert missing == set(), [APIS[key].name for key in missing]


def test_a_version_beyond_it_is_answered_as_that_kafka_would(old: tuple[str, kafkapy.Broker]) -> None:
    name, broker = old
    newest = RELEASES[name].versions[18].stop - 1
    request = ApiVersionsRequest(client_software_name="test", client_software_version="1")
    frame = asked(broker, request, newest + 1)
    refused, _ = ApiVersionsResponse.decode(0, frame, 4)
    assert refused.error_code == Error.UNSUPPORTED_VERSION
    assert [(one.api_key, one.max_version) for one in refused.api_keys] == [(18, newest)]
    last = RELEASES[name].versions[3].stop - 1
    asked(broker, MetadataRequest(topics=[]), last)
    if last < APIS[3].max_version:
        with pytest.raises(Disconnected):
            asked(broker, MetadataRequest(topics=[]), last + 1)
    with pytest.raises(Disconnected):  # an API that came later
        asked(broker, UpdateTopologyRequest(group_id="g"), 0)


@pytest.mark.parametrize(
    ("name", "supported", "finalized"),
    [
        ("3.7", {"metadata.version": (1, 19)}, {"metadata.version": 19}),
        ("3.9", {"metadata.version": (1, 21)}, {"metadata.version": 21}),
        (
            "4.0",
            {
                "metadata.version": (7, 25),
                "transaction.version": (0, 2),
                "group.version": (0, 1),
                "eligible.leader.replicas.version": (0, 1),
            },
            {"metadata.version": 25, "transaction.version": 2, "group.version": 1},
        ),
    ],
)
def test_features_are_that_kafkas(name: str, supported: dict[str, Any], finalized: dict[str, int]) -> None:
    with kafkapy.Broker(as_version=name) as broker:
        newest = RELEASES[name].versions[18].stop - 1
        response = versions(broker, newest)
        assert {one.name: (one.min_version, one.max_version) for one in response.supported_features} == supported
        assert {one.name: one.max_version_level for one in response.finalized_features} == finalized
        least = {one.name for one in versions(broker, 3).supported_features}
        assert least == {name for name, (low, _) in supported.items() if low}


def test_stock_clients_work_with_it(old: tuple[str, kafkapy.Broker]) -> None:
    _, broker = old
    broker.create_topic("in")
    with kafka.KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number in range(3):
            producer.send("in", str(number).encode()).get(TIMEOUT)
    reading = {"group.id": "g", "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap_servers, **reading})
    transactional = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap_servers, "transactional.id": "p"})
    transactional.init_transactions(TIMEOUT)
    consumer.subscribe(["in"])
    for _ in range(3):
        record = consumer.poll(TIMEOUT)
        assert record is not None
        transactional.begin_transaction()
        transactional.produce("out", record.value())
        positions = consumer.position(consumer.assignment())
        transactional.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), TIMEOUT)
        transactional.commit_transaction(TIMEOUT)
    consumer.close()
    assert [record.value for record in broker.records("out")] == [b"0", b"1", b"2"]
    assert broker.committed("g") == {TopicPartition("in", 0): 3}
    assert [group.state for group in broker.groups()] == ["Empty"]


def test_the_newer_protocol_is_refused_where_it_is_not_on_by_default() -> None:
    """A consumer that asks for group.protocol=consumer hears so, as from Kafka 3.9."""
    with kafkapy.Broker(as_version="3.9.1") as broker:
        broker.create_topic("t")
        client = Client(BlockingConnection(broker.host, broker.port))
        with pytest.raises(KafkaError) as refused:
            driven(client.ask(ConsumerGroupHeartbeatRequest(group_id="g", member_id="m", member_epoch=0)))
        assert refused.value.error is Error.UNSUPPORTED_VERSION
        driven(client.close())


async def test_the_same_in_trio() -> None:
    async with kafkapy.open_broker(as_version="3.7") as broker:
        await broker.produce("t", "v")
        assert [record.value for record in await broker.records("t")] == [b"v"]


def test_a_process_is_told_so_too() -> None:
    with kafkapy.BrokerProcess(as_version="3.7") as broker:
        assert [one.max_version for one in versions(broker, 3).api_keys if one.api_key == 18] == [3]
    with pytest.raises(RuntimeError, match=r"as Kafka 2\.8; there is as 3\.7, 3\.8, 3\.9, 4\.0, 4\.1, 4\.2, 4\.3"):
        kafkapy.BrokerProcess(as_version="2.8").start()


def test_a_version_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"as Kafka 2\.8"):
        kafkapy.Broker(as_version="2.8")
