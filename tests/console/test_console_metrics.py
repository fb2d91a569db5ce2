"""Metrics as whoever asks for them over HTTP gets them, of what clients did."""

from collections.abc import AsyncIterator

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from kafkapy.broker import Broker
from kafkapy.metrics import FAMILIES, Counter, Family
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.conftest import StartBroker, start_broker
from tests.broker.wire import Wire

__all__ = ["start_broker"]

Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture
async def broker(start_broker: StartBroker) -> AsyncIterator[Broker]:
    async with start_broker(memory=True, settings={"kafkapy.metrics.port": "0"}) as started:
        yield started


async def said(port: int | None, request: bytes) -> bytes:
    """All that comes for these bytes until the connection ends."""
    assert port is not None
    answer = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(request)
        with trio.fail_after(10):
            async for chunk in stream:
                answer += chunk
    return answer


async def samples(broker: Broker) -> Samples:
    answer = await said(broker.metrics_port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain")
    assert f"Content-Length: {len(body)}\r\n".encode() in head
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_what_clients_did_is_counted(broker: Broker) -> None:
    batch = build_batch([Record(offset=0, timestamp=1_700_000_000_000, key=None, value=bytes(1000), headers=[])])
    data = [
        ProduceRequest.TopicProduceData(
            name=name, partition_data=[ProduceRequest.PartitionProduceData(index=0, records=batch)]
        )
        for name in ("t", "there-is-none")
    ]
    wanted = [FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)]
    async with await Wire.connect(broker.port) as wire:
        topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=3, replication_factor=1)
        await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=10_000), 7)
        for _ in range(2):
            await wire.ask(ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=data), 9)
        await wire.send(ProduceRequest(acks=0, timeout_ms=10_000, topic_data=data[:1]), 9, answered=False)
        topics = [FetchRequest.FetchTopic(topic="t", partitions=wanted)]
        fetching = FetchRequest(max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_epoch=0, topics=topics)
        await wire.ask(fetching, 12)
        found = await samples(broker)
    requests, errors = "kafka_network_requestmetrics_requests_total", "kafka_network_requestmetrics_errors_total"
    assert found[requests, ("Produce", "9")] == 3
    assert found[requests, ("Fetch", "12")] == 1
    assert found[errors, ("NONE", "Produce")] == 3
    assert found[errors, ("UNKNOWN_TOPIC_OR_PARTITION", "Produce")] == 2
    assert found["kafka_server_brokertopicmetrics_bytesin_total", ("t",)] == 3 * len(batch)
    assert found["kafka_server_brokertopicmetrics_bytesout_total", ("t",)] == 3 * len(batch)
    assert found["kafka_network_requestmetrics_requestbytes_total", ("Produce",)] > 5 * len(batch)
    assert found["kafka_network_requestmetrics_responsebytes_total", ("Fetch",)] > 3 * len(batch)
    assert found["kafka_network_requestmetrics_totaltimems_count", ("Produce",)] == 3
    assert found["kafka_network_requestmetrics_totaltimems_bucket", ("+Inf", "Produce")] == 3
    assert found["kafka_controller_kafkacontroller_globaltopiccount", ()] == 1
    assert found["kafka_controller_kafkacontroller_globalpartitioncount", ()] == 3
    assert found["kafka_server_socketservermetrics_connection_count", ()] == 1
    assert found["kafka_server_fetchsessioncache_numincrementalfetchsessions", ()] == 1
    assert found["kafka_log_log_size", ("t",)] == 3 * len(batch)


async def test_every_metric_of_the_table_is_told(broker: Broker) -> None:
    answer = await said(broker.metrics_port, b"GET /metrics HTTP/1.1\r\n\r\n")
    for family in FAMILIES:
        assert f"# TYPE {family.name} {family.kind}\n".encode() in answer


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405 "),
        (b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 404 "),
        (b"GET /metrics?name=x HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 "),
        (b"\xff" * 9000, b""),
        (b"\r\n\r\n", b"HTTP/1.1 405 "),
    ],
)
async def test_what_is_no_question_is_refused_or_dropped(broker: Broker, request_bytes: bytes, status: bytes) -> None:
    try:
        answer = await said(broker.metrics_port, request_bytes)
    except trio.BrokenResourceError:
        answer = b""  # it was not read to its end
    assert answer.startswith(status) if status else answer == b""
    assert await samples(broker)


async def test_nothing_is_told_or_counted_unless_it_is_asked_for(start_broker: StartBroker) -> None:
    async with start_broker(memory=True) as broker:
        async with await Wire.connect(broker.port) as wire:
            await wire.ask(ApiVersionsRequest(), 0)
        assert broker.metrics_port is None
        assert broker.rooms.metrics is None


def test_combinations_of_labels_are_bounded() -> None:
    counter = Counter(Family("x", "counter", ("topic",), "", ""))
    for number in range(5000):
        counter.add((str(number),), 2)
    counter.add(("7",), 2)
    assert len(counter.values) == 2001
    assert counter.values[("7",)] == 4
    assert counter.values[("other",)] == 6000
