"""Fetches that wait, from the socket to the disk: what ends the waiting, and what it leaves behind."""

import select
import sys
from pathlib import Path
from threading import Event

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import append, end, sent

from kafkapy.broker import Broker
from kafkapy.clock import ManualClock
from kafkapy.protocol.messages.api_versions import ApiVersionsRequest
from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.fetch import FetchResponse
from kafkapy.records.batch import read_header, walk
from kafkapy.storage.embedded.files import Disk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, batch_of, delete_topic, fetch, make_topic, produce

BATCH = batch_of(1000)
NOW_MS = read_header(BATCH).max_timestamp
LONG_MS = 600_000
"""So long that who is answered was answered for another reason."""


def offsets(answer: FetchResponse, partition: int = 0) -> list[int]:
    """The base offsets of the batches that an answer brings of one partition."""
    [found] = [p for topic in answer.responses for p in topic.partitions if p.partition_index == partition]
    assert found.error_code == 0
    return [header.base_offset for _, header in walk(bytes(found.records or b""))]


async def receive(wire: Wire) -> FetchResponse:
    with trio.fail_after(20):
        answer: FetchResponse = await wire.receive()
    return answer


def is_answered(wire: Wire) -> bool:
    """Whether something has come that nobody has received."""
    return bool(select.select([wire.stream.socket.fileno()], [], [], 0)[0])


async def taken_up(broker: Broker) -> None:
    """Return when the broker has done what it can for all that was sent before."""
    async with await Wire.connect(broker.port) as wire:
        for _ in range(3):
            await wire.ask(ApiVersionsRequest(), 0)


class SlowDisk(Disk):
    """Finds nothing in memory while `slow`, and then reads only when it `may_read`."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.may_read = Event()

    def read_cached(self, path: str, position: int, size: int) -> memoryview | None:
        return None if self.slow else super().read_cached(path, position, size)

    def read_waiting(self, path: str, position: int, size: int) -> bytes:
        self.may_read.wait(20)  # not for ever: a test that fails must end
        return super().read_waiting(path, position, size)


@pytest.mark.parametrize("already_waiting", [False, True])
async def test_what_is_appended_while_a_fetch_reads_is_not_missed(
    start_broker: StartBroker, already_waiting: bool
) -> None:
    """Neither between its first read and its waiting, nor while it looks again because something came."""
    disk = SlowDisk()
    async with (
        start_broker(disk=disk) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as writer,
    ):
        await make_topic(writer, "t", 1)
        await writer.ask(produce("t", [0], BATCH), PRODUCE)
        request = fetch("t", {0: 0}, max_wait_ms=LONG_MS, min_bytes=3 * len(BATCH))
        if already_waiting:
            await reader.send(request, FETCH)
            await taken_up(broker)
            disk.slow = True
        else:
            disk.slow = True
            await reader.send(request, FETCH)
            await taken_up(broker)
        for _ in range(2):
            await writer.ask(produce("t", [0], BATCH), PRODUCE)
            await taken_up(broker)
        disk.may_read.set()
        assert offsets(await receive(reader)) == [0, 1, 2]


async def test_partitions_fill_up_one_answer_together(start_broker: StartBroker) -> None:
    async with (
        start_broker(memory=True) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as writer,
    ):
        await make_topic(writer, "t", 3)
        await reader.send(fetch("t", dict.fromkeys(range(3), 0), max_wait_ms=LONG_MS, min_bytes=2 * len(BATCH)), FETCH)
        await writer.ask(produce("t", [2], BATCH), PRODUCE)
        await writer.ask(produce("t", [0], BATCH), PRODUCE)
        answer = await receive(reader)
        assert [offsets(answer, partition) for partition in range(3)] == [[0], [], [0]]


async def test_a_fetch_waits_as_long_as_it_says(start_broker: StartBroker) -> None:
    """Neither shorter nor longer: then it gets what there is, be it too little."""
    clock = ManualClock()
    async with (
        start_broker(memory=True, clock=clock) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as writer,
    ):
        await make_topic(writer, "t", 1)
        await writer.ask(produce("t", [0], BATCH), PRODUCE)
        await reader.send(fetch("t", {0: 0}, max_wait_ms=5000, min_bytes=10 * len(BATCH)), FETCH)
        await taken_up(broker)
        clock.advance_ms(4999)
        await taken_up(broker)
        assert not is_answered(reader)
        await writer.ask(produce("t", [0], BATCH), PRODUCE)
        clock.advance_ms(1)
        assert offsets(await receive(reader)) == [0, 1]


UNKNOWN_TOPIC_OR_PARTITION = 3


@pytest.mark.parametrize("memory", [True, False])
@pytest.mark.parametrize("by_id", [True, False])
@pytest.mark.parametrize("made_again", [True, False])
async def test_the_end_of_a_topic_ends_the_waiting_for_it(
    start_broker: StartBroker, caplog: pytest.LogCaptureFixture, memory: bool, by_id: bool, made_again: bool
) -> None:
    """As with Kafka, which says so of the partition, however the topic was named; also to who tells of his epoch."""
    async with (
        start_broker(memory=memory) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as writer,
    ):
        await make_topic(writer, "t", 1)
        await writer.ask(produce("t", [0], BATCH), PRODUCE)
        request = fetch("t", {0: 1}, max_wait_ms=LONG_MS)
        request.topics[0].partitions[0].last_fetched_epoch = 0
        request.topics[0].topic_id = broker.rooms.cluster.image.topic("t").topic_id
        await reader.send(request, FETCH + by_id)
        await taken_up(broker)
        await delete_topic(writer, "t")
        if made_again:
            await make_topic(writer, "t", 1)
        answer = await receive(reader)
        assert answer.responses[0].partitions[0].error_code == UNKNOWN_TOPIC_OR_PARTITION
        assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_session_waits_for_all_that_it_fetches(start_broker: StartBroker) -> None:
    """What an incremental request names is a part of it; what the answer brings was counted over all."""
    async with (
        start_broker(memory=True) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as writer,
    ):
        await make_topic(writer, "t", 5)
        first = fetch("t", dict.fromkeys(range(5), 0))
        first.session_epoch = 0
        session_id = (await reader.ask(first, FETCH)).session_id
        later = fetch("t", {}, max_wait_ms=LONG_MS, min_bytes=3 * len(BATCH))
        later.topics, later.session_id, later.session_epoch = [], session_id, 1
        await reader.send(later, FETCH)
        for partition in (3, 1):
            await writer.ask(produce("t", [partition], BATCH), PRODUCE)
        await taken_up(broker)
        assert not is_answered(reader)
        await writer.ask(produce("t", [3], BATCH), PRODUCE)
        answer = await receive(reader)
        assert {p.partition_index for p in answer.responses[0].partitions} == {1, 3}
        assert (offsets(answer, 1), offsets(answer, 3)) == ([0], [0, 1])


async def test_what_is_not_there_is_said_at_once(start_broker: StartBroker) -> None:
    """Whatever else there is to wait for."""
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        await wire.send(fetch("t", {0: 0, 1: 0}, max_wait_ms=LONG_MS), FETCH)
        answer = await receive(wire)
        assert [p.error_code for p in answer.responses[0].partitions] == [0, UNKNOWN_TOPIC_OR_PARTITION]


async def test_who_waits_for_records_that_are_deleted_is_told(start_broker: StartBroker) -> None:
    async with start_broker() as broker, await Wire.connect(broker.port) as reader:
        await make_topic(reader, "t", 1)
        for _ in range(2):
            await reader.ask(produce("t", [0], BATCH), PRODUCE)
        await reader.send(fetch("t", {0: 1}, max_wait_ms=LONG_MS, min_bytes=1 << 20), FETCH)
        await taken_up(broker)
        async with await Wire.connect(broker.port) as other:
            await other.ask(deleting("t", 1), 2)
            await taken_up(broker)
            assert not is_answered(reader)
            await other.ask(deleting("t", 2), 2)
        answer = await receive(reader)
        assert answer.responses[0].partitions[0].error_code == OFFSET_OUT_OF_RANGE


OFFSET_OUT_OF_RANGE = 1


def deleting(topic: str, offset: int) -> DeleteRecordsRequest:
    partition = DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=offset)
    topics = [DeleteRecordsRequest.DeleteRecordsTopic(name=topic, partitions=[partition])]
    return DeleteRecordsRequest(topics=topics, timeout_ms=1000)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("memory", [True, False])
async def test_a_reader_of_what_is_committed_waits_for_the_end_of_the_transaction(
    start_broker: StartBroker, memory: bool, committed: bool
) -> None:
    async with start_broker(memory=memory) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1)
        logs, log = broker.rooms.logs, broker.rooms.cluster.image.topic("t").partitions[0].log
        await append(logs, log, sent(0, b"of a transaction", at=NOW_MS, transactional=True))
        await append(logs, log, BATCH)
        request = fetch("t", {0: 0}, max_wait_ms=LONG_MS)
        request.isolation_level = 1
        await wire.send(request, FETCH)
        await taken_up(broker)
        await append(logs, log, BATCH)  # nothing that this reader may see
        await taken_up(broker)
        assert not is_answered(wire)
        await end(logs, log, 7, committed=committed)
        answer = await receive(wire)
        assert offsets(answer) == [0, 1, 2, 3]
        [found] = answer.responses[0].partitions
        assert [(row.producer_id, row.first_offset) for row in found.aborted_transactions] == [(7, 0)] * (not committed)


async def calls_during(wire: Wire, request: object, version: int) -> int:
    """How many functions this thread, which is the broker's, calls until a request is answered."""
    count = 0

    def called(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        await wire.ask(request, version)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("ends_by", ["bytes", "time", "disconnect"])
async def test_a_fetch_that_is_over_costs_its_partitions_nothing(start_broker: StartBroker, ends_by: str) -> None:
    """However it ended: an append after a hundred of them does what it did after none."""
    count = 100
    async with start_broker(memory=True) as broker, await Wire.connect(broker.port) as writer:
        await make_topic(writer, "t", 1)

        async def least() -> int:
            return min([await calls_during(writer, produce("t", [0], BATCH), PRODUCE) for _ in range(5)])

        async def wait(number: int) -> None:
            async with await Wire.connect(broker.port) as reader:
                match ends_by:
                    case "bytes":
                        await reader.send(fetch("t", {0: number}, max_wait_ms=LONG_MS), FETCH)
                        await taken_up(broker)
                        await writer.ask(produce("t", [0], BATCH), PRODUCE)
                        await receive(reader)
                    case "time":
                        await reader.send(fetch("t", {0: number}, max_wait_ms=1), FETCH)
                        await receive(reader)
                    case "disconnect":
                        await reader.send(fetch("t", {0: number}, max_wait_ms=LONG_MS), FETCH)
                        await taken_up(broker)

        before = await least()
        end_offset = 5
        for _ in range(count):
            await wait(end_offset)
            end_offset += ends_by == "bytes"
        await taken_up(broker)
        assert await least() < before + count / 3
