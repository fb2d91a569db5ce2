"""What a connection may do to a broker, and what it may not."""

import logging
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from wire import Wire

from kafkapy.errors import Error
from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.metadata import MetadataRequest, MetadataResponse
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.batch import Compression, crc_matches, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records


def produce(*values: bytes, acks: int = -1, topic: str = "t") -> ProduceRequest:
    records = build_batch([Record(i, 1000 + i, b"k", value, []) for i, value in enumerate(values)])
    partition = ProduceRequest.PartitionProduceData(index=0, records=records)
    data = ProduceRequest.TopicProduceData(name=topic, partition_data=[partition])
    return ProduceRequest(acks=acks, timeout_ms=1000, topic_data=[data])


def fetch(offset: int = 0, *, max_wait_ms: int = 0, max_bytes: int = 1 << 20) -> FetchRequest:
    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=offset, partition_max_bytes=max_bytes)
    topic = FetchRequest.FetchTopic(topic="t", partitions=[partition])
    return FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=max_bytes, topics=[topic])


async def create(wire: Wire, name: str = "t") -> None:
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=1, replication_factor=1)
    answer = await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
    assert answer.topics[0].error_code == 0


async def test_pipelined_requests_are_answered_in_order(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        for number in range(50):
            await wire.send(produce(b"%d" % number), 9)
        offsets = [(await wire.receive()).responses[0].partition_responses[0].base_offset for _ in range(50)]
        assert offsets == list(range(50))


async def test_an_answer_leaves_before_the_next_request_blocks(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        await wire.send(produce(b"x"), 9)
        await wire.send(fetch(1, max_wait_ms=60_000), 12)
        with trio.fail_after(5):
            assert (await wire.receive()).responses[0].partition_responses[0].error_code == 0


async def test_acks_0_is_not_answered_and_does_not_block_what_follows(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        await wire.send(produce(b"silent", acks=0), 9, answered=False)
        answer = await wire.ask(produce(b"loud"), 9)
        assert answer.responses[0].partition_responses[0].base_offset == 1


async def test_acks_0_with_an_error_closes_the_connection(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await wire.send(produce(b"x", acks=0, topic="missing"), 9, answered=False)
        assert await wire.is_closed()


async def test_a_waiting_fetch_is_woken_by_a_produce(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as reader:
        await create(reader)
        async with await Wire.connect(broker.port) as writer:
            await reader.send(fetch(max_wait_ms=600_000), 12)
            await writer.ask(produce(b"news"), 9)
            with trio.fail_after(5):
                answer = await reader.receive()
            assert b"news" in bytes(answer.responses[0].partitions[0].records)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00",
        struct.pack(">hhih", 3, 1, 1, -1) + b"\x7f\xff\xff\xff",
        struct.pack(">hhih", 3, 99, 1, -1),
        struct.pack(">hhih", 999, 0, 1, -1),
        struct.pack(">hhih", 1, 3, 1, -1),
        struct.pack(">hhih", 0, 9, 1, 30000),
    ],
)
async def test_what_does_not_parse_closes_that_connection_only(
    start_broker: Any, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as good:
        async with await Wire.connect(broker.port) as bad:
            peer = bad.stream.socket.getsockname()
            await bad.send_frame(body)
            assert await bad.is_closed()
        lines = [line for line in caplog.messages if f"{peer[0]}:{peer[1]}" in line]
        assert len(lines) == 1
        assert (await good.ask(ApiVersionsRequest(), 0)).error_code == 0


@pytest.mark.parametrize("length", [-1, -(2**31), 2**31 - 1, 104_857_601])
async def test_absurd_lengths_close_the_connection(start_broker: Any, length: int) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await wire.stream.send_all(struct.pack(">i", length))
        assert await wire.is_closed()


async def test_a_request_may_be_as_large_as_the_limit(start_broker: Any) -> None:
    settings = {"socket.request.max.bytes": "3000", "message.max.bytes": "100000"}
    async with start_broker(memory=True, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        answer = await wire.ask(produce(b"x" * 2500), 9)
        assert answer.responses[0].partition_responses[0].error_code == 0
        await wire.send(produce(b"x" * 3000), 9)
        assert await wire.is_closed()


async def test_a_request_that_trickles_in_is_served(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        body = struct.pack(">hhih", 18, 0, 7, -1)
        for byte in struct.pack(">i", len(body)) + body:
            await wire.stream.send_all(bytes([byte]))
        frame = await wire.receive_frame()
        assert frame is not None
        assert frame[:6] == struct.pack(">ih", 7, 0)


async def test_api_versions_beyond_ours_is_answered_in_version_0(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await wire.send_frame(struct.pack(">hhih", 18, 50, 1, -1) + b"\x00garbage")
        frame = await wire.receive_frame()
        assert frame == struct.pack(">ihi", 1, 35, 1) + struct.pack(">hhh", 18, 0, 5)
        assert len((await wire.ask(ApiVersionsRequest(), 2)).api_keys) > 20


async def test_too_many_connections_of_one_address_are_closed(start_broker: Any) -> None:
    async with start_broker(memory=True, settings={"max.connections.per.ip": "2"}) as broker:
        async with await Wire.connect(broker.port) as first, await Wire.connect(broker.port) as second:
            await first.ask(ApiVersionsRequest(), 0)
            await second.ask(ApiVersionsRequest(), 0)
            async with await Wire.connect(broker.port) as third:
                assert await third.is_closed()
        async with await Wire.connect(broker.port) as again:
            await again.ask(ApiVersionsRequest(), 0)


async def test_beyond_max_connections_one_waits_for_a_place(start_broker: Any) -> None:
    async with start_broker(memory=True, settings={"max.connections": "1"}) as broker:
        async with await Wire.connect(broker.port) as first:
            await first.ask(ApiVersionsRequest(), 0)
            second = await Wire.connect(broker.port)
            await second.send(ApiVersionsRequest(), 0)
        with trio.fail_after(5):
            assert (await second.receive()).error_code == 0
        await second.stream.aclose()


async def test_idle_connections_are_closed(start_broker: Any) -> None:
    async with start_broker(memory=True, settings={"connections.max.idle.ms": "200"}) as broker:
        wire = await Wire.connect(broker.port)
        await wire.ask(ApiVersionsRequest(), 0)
        assert await wire.is_closed()
        await wire.stream.aclose()


@pytest.mark.parametrize("memory", [True, False])
async def test_a_reader_that_does_not_read_costs_one_answer(start_broker: Any, memory: bool) -> None:
    async with start_broker(memory=memory) as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        await wire.ask(produce(b"x" * 900_000), 9)
        for _ in range(200):
            await wire.send(fetch(), 12)
        async with await Wire.connect(broker.port) as other:
            with trio.fail_after(5):
                assert (await other.ask(MetadataRequest(topics=[]), 9)).cluster_id == broker.cluster_id
        for _ in range(200):
            answer = await wire.receive()
            assert bytes(answer.responses[0].partitions[0].records).endswith(b"x" * 900_000 + b"\x00")


async def test_clients_hear_the_address_they_connected_to(start_broker: Any) -> None:
    settings = {"listeners": "PLAINTEXT://0.0.0.0:0"}
    async with start_broker(memory=True, settings=settings) as broker:
        for host in ("127.0.0.1", "127.0.0.2"):
            stream = await trio.open_tcp_stream(host, broker.port)
            async with Wire(stream) as wire:
                answer = await wire.ask(MetadataRequest(topics=[]), 9)
                assert [(b.host, b.port) for b in answer.brokers] == [(host, broker.port)]


async def test_an_advertised_address_is_told_instead(start_broker: Any) -> None:
    settings = {"advertised.listeners": "PLAINTEXT://kafka.example:1234"}
    async with start_broker(memory=True, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        answer = await wire.ask(MetadataRequest(topics=[]), 9)
        assert [(b.host, b.port) for b in answer.brokers] == [("kafka.example", 1234)]


async def test_a_stop_does_not_wait_for_idle_clients(start_broker: Any) -> None:
    with trio.fail_after(5):
        async with start_broker(memory=True) as broker:
            wire = await Wire.connect(broker.port)
            await wire.ask(ApiVersionsRequest(), 0)
        assert await wire.is_closed()


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_produce_versions_that_are_only_advertised_are_refused_with_an_answer(
    start_broker: Any, version: int
) -> None:
    body = struct.pack(">hhih", 0, version, 7, -1) + struct.pack(">hii", 1, 1000, 1)
    body += struct.pack(">h1si", 1, b"t", 2) + struct.pack(">ii3s", 4, 3, b"abc") + struct.pack(">ii", 5, 0)
    results = [
        struct.pack(">ihq", index, 35, -1) + (struct.pack(">q", -1) if version == 2 else b"") for index in (4, 5)
    ]
    expected = struct.pack(">ii", 7, 1) + struct.pack(">h1si", 1, b"t", 2) + b"".join(results)
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await wire.send_frame(body)
        assert await wire.receive_frame() == expected + (struct.pack(">i", 0) if version else b"")
        await wire.send_frame(body[:-5])
        assert await wire.is_closed()


async def test_a_handler_that_fails_costs_one_request(
    start_broker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        monkeypatch.setattr(type(broker.rooms.cluster), "create_in_passing", None)
        asked = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")])
        answer = await wire.ask(asked, 9)
        assert [topic.error_code for topic in answer.topics] == [-1]
        assert "failed" in caplog.text
        monkeypatch.undo()
        assert (await wire.ask(asked, 9)).topics[0].error_code == Error.UNKNOWN_TOPIC_OR_PARTITION


async def test_a_topic_made_again_is_another_topic(start_broker: Any) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await create(wire)
        old = (await wire.ask(MetadataRequest(topics=None), 12)).topics[0].topic_id
        await wire.ask(produce(b"old"), 9)
        await wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=1000), 5)
        await create(wire)
        new = (await wire.ask(MetadataRequest(topics=None), 12)).topics[0].topic_id
        assert new != old
        partition = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1000)
        for topic_id, error, size in ((old, 100, 0), (new, 0, 0)):
            topic = FetchRequest.FetchTopic(topic_id=topic_id, partitions=[partition])
            answer = await wire.ask(FetchRequest(max_wait_ms=0, topics=[topic]), 13)
            found = answer.responses[0].partitions[0]
            assert (found.error_code, len(found.records)) == (error, size)


async def test_a_topics_own_compression_is_applied(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        config = CreateTopicsRequest.CreatableTopicConfig(name="compression.type", value="gzip")
        topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1, configs=[config])
        await wire.ask(CreateTopicsRequest(topics=[topic], timeout_ms=1000), 7)
        await wire.ask(produce(b"a" * 1000, b"b"), 9)
        stored = (await wire.ask(fetch(), 12)).responses[0].partitions[0].records
        header = read_header(stored)
        assert (header.compression, crc_matches(stored, 0, header)) == (Compression.GZIP, True)
        assert [record.value for record in read_records(stored)] == [b"a" * 1000, b"b"]


async def test_topics_are_not_created_where_that_is_off(start_broker: Any) -> None:
    settings = {"auto.create.topics.enable": "false", "delete.topic.enable": "false"}
    async with start_broker(memory=True, settings=settings) as broker, await Wire.connect(broker.port) as wire:
        asked = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t")])
        assert (await wire.ask(asked, 9)).topics[0].error_code == 3
        answer = await wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=1000), 5)
        assert answer.responses[0].error_code == 73


@pytest.mark.parametrize("version", [1, 9])
async def test_text_that_is_no_utf_8_is_answered_not_hung_up_on(start_broker: Any, version: int) -> None:
    """As by Kafka: a client id may be anything, a topic's name may not, and whoever asks hears that."""
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        out = bytearray()
        encode_request_header(MetadataRequest.API_KEY, version, 0, "caf#", out)
        request = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="t#pic")])
        frame = b"".join(request.encode(version, out))
        await wire.send_frame(frame.replace(b"caf#", b"caf\xe9").replace(b"t#pic", b"t\xffpic"))
        answer = await wire.receive_frame()
        assert answer is not None
        _, offset = decode_response_header(MetadataRequest.API_KEY, version, answer)
        [topic] = MetadataResponse.decode(version, answer, offset)[0].topics
        assert (topic.name, topic.error_code) == ("t\ufffdpic", Error.INVALID_TOPIC_EXCEPTION)


async def test_a_software_name_that_is_no_utf_8_is_refused_with_its_error(start_broker: Any) -> None:
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        out = bytearray()
        encode_request_header(ApiVersionsRequest.API_KEY, 3, 0, "me", out)
        request = ApiVersionsRequest(client_software_name="caf#", client_software_version="1")
        await wire.send_frame(b"".join(request.encode(3, out)).replace(b"caf#", b"caf\xe9"))
        answer = await wire.receive_frame()
        assert answer is not None
        assert struct.unpack_from(">ih", answer) == (0, Error.INVALID_REQUEST)
