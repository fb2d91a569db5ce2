"""Batches of very many records: whoever looks at each of them lets everybody else through in between."""

import pytest

from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.records import passing, walking
from kafkapy.records.batch import HEADER_SIZE, Compression, assemble, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.compression import compress
from kafkapy.records.passing import RECORDS_A_STEP
from kafkapy.records.record import Record
from tests.broker.wire import Wire
from tests.scale.asking import PRODUCE, make_topic, produce
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk, meanwhile

RECORDS = 40_000 * SCALE
FEW = RECORDS // RECORDS_A_STEP // 4
"""Of the steps that the records take, so many at least have another's request in between."""

NOW_MS = 1_700_000_000_000


@pytest.fixture(autouse=True)
def as_python_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is built in C takes steps that are as short, of far more records than fit into a batch here."""
    for module in (passing, walking):
        monkeypatch.setattr(module, "most_at_once", RECORDS_A_STEP)


def many_records(**options) -> bytes:
    return build_batch([Record(i, NOW_MS + i, b"k", b"v", []) for i in range(RECORDS)], **options)


def at(topic: str, timestamp: int) -> ListOffsetsRequest:
    partition = ListOffsetsRequest.ListOffsetsPartition(partition_index=0, timestamp=timestamp)
    return ListOffsetsRequest(
        replica_id=-1, topics=[ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=[partition])]
    )


async def test_others_are_answered_while_a_large_batch_is_checked(start_broker: StartBroker) -> None:
    """Also where a topic asks for keys, for times within bounds, for another codec."""
    settings = {
        "plain": {},
        "keyed": {"cleanup_policy": "compact"},
        "timely": {"message_timestamp_before_max_ms": "1000000000000"},
        "packed": {"compression_type": "gzip"},
    }
    async with (
        start_broker() as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as other,
    ):
        for topic, config in settings.items():
            await make_topic(wire, topic, 1, **config)
            for codec in (Compression.NONE, Compression.ZSTD):
                request = produce(topic, [0], many_records(compression=codec))
                answer, answered = await meanwhile(
                    lambda request=request: wire.ask(request, PRODUCE),
                    lambda: other.ask(MetadataRequest(topics=[]), 8),
                )
                assert answer.responses[0].partition_responses[0].error_code == 0
                assert answered > FEW, (topic, codec)


async def test_others_are_answered_while_a_time_is_looked_up_in_a_large_batch(start_broker: StartBroker) -> None:
    async with (
        start_broker() as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as other,
    ):
        await make_topic(wire, "t", 1)
        await wire.ask(produce("t", [0], many_records(compression=Compression.ZSTD)), PRODUCE)
        for timestamp in (NOW_MS + RECORDS - 1, -3):
            answer, answered = await meanwhile(
                lambda timestamp=timestamp: wire.ask(at("t", timestamp), 7),
                lambda: other.ask(MetadataRequest(topics=[]), 8),
            )
            assert answer.topics[0].partitions[0].offset == RECORDS - 1
            assert answered > FEW


async def test_a_few_bytes_that_inflate_without_end_stop_nobody(start_broker: StartBroker) -> None:
    """32 MB of zeros in one record: read piece by piece, refused where they would be too large."""
    record = build_batch([Record(0, NOW_MS, b"k", bytes(32 << 20), [])])
    header = read_header(record)._replace(attributes=Compression.ZSTD)
    bomb = assemble(header, compress(Compression.ZSTD, record[HEADER_SIZE:]))
    async with (
        start_broker() as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as other,
    ):
        for topic, error in (("compact", 0), ("uncompressed", 10)):
            config = {"cleanup_policy": "compact"} if topic == "compact" else {"compression_type": topic}
            await make_topic(wire, topic, 1, **config)
            answer, answered = await meanwhile(
                lambda topic=topic: wire.ask(produce(topic, [0], bomb), PRODUCE),
                lambda: other.ask(MetadataRequest(topics=[]), 8),
            )
            assert answer.responses[0].partition_responses[0].error_code == error
            assert answered > 100


async def test_a_time_is_found_by_the_index_however_many_batches_there_are(start_broker: StartBroker) -> None:
    """The first is the latest, all others are earlier: no row of the time index tells them apart."""
    count, disk = 1000 * SCALE, CountingDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        times = [5000, *[1000] * count, 9000]
        for time in times:
            batch = build_batch([Record(0, NOW_MS + time, b"k", b"x" * 300, [])])
            await wire.ask(produce("t", [0], batch), PRODUCE)
        for timestamp, offset in ((NOW_MS + 6000, count + 1), (-3, count + 1), (NOW_MS, 0)):
            disk.reset()
            answer = await wire.ask(at("t", timestamp), 7)
            assert answer.topics[0].partitions[0].offset == offset
            assert disk.read_bytes < 200_000, disk.calls


async def test_headers_are_looked_at_in_steps_where_the_index_cannot_help(start_broker: StartBroker) -> None:
    """The latest record is deleted, and what is left of its segment says nothing about times."""

    count = 5000 * SCALE
    async with (
        start_broker() as broker,
        await Wire.connect(broker.port) as wire,
        await Wire.connect(broker.port) as other,
    ):
        await make_topic(wire, "t", 1)
        for number in range(count):
            time = number or 9000
            batch = build_batch([Record(0, NOW_MS + time, b"k", b"", [])])
            await wire.ask(produce("t", [0], batch), PRODUCE)
        partition = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=1)
        topic = DeleteRecordsRequest.DeleteRecordsTopic(name="t", partitions=[partition])
        await wire.ask(DeleteRecordsRequest(topics=[topic], timeout_ms=1000), 2)
        answer, answered = await meanwhile(
            lambda: wire.ask(at("t", -3), 7), lambda: other.ask(MetadataRequest(topics=[]), 8)
        )
        assert answer.topics[0].partitions[0].offset == count - 1
        assert answered > count // 512 // 2
