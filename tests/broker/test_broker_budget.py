"""What a request may cost, in what can be counted on any machine: calls into the kernel, steps of the loop, copies.

The broker waits for all sockets at once, by an epoll of its own for which trio waits: one call that arms trio's, one
that waits, one that asks which sockets. A budget that grows is a decision, not an accident.
"""

import contextlib
import socket
import struct
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import trio

from kafkapy.protocol.header import encode_request_header
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.conftest import StartBroker

REQUESTS = 200
TOLERANCE = 1.1  # the turn that begins and ends the counting, and now and then one of the housekeeping
KERNEL = {
    "recv_into": "receive",
    "sendmsg": "send",
    "sendfile": "send from file",
    "pwritev": "write",
    "preadv": "read",
    "pread": "read",
    "open": "open",
    "poll": "wait",
    "register": "arm",
    "modify": "arm",
    "fsync": "sync",
    "fdatasync": "sync",
}


class Counting(trio.abc.Instrument):
    """Counts, while it is on, what this thread calls in the kernel and the steps of the loop's tasks."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def begin(self) -> None:
        trio.lowlevel.add_instrument(self)
        sys.setprofile(self._called)

    def end(self) -> None:
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.counts["hop"] += 1

    def _called(self, frame: FrameType, event: str, called: Any) -> None:
        if event != "c_call":
            return
        if name := KERNEL.get(called.__name__):
            self.counts[name] += 1
        elif called.__name__ == "send" and isinstance(called.__self__, socket.socket):  # a coroutine has one, too
            self.counts["send"] += 1


def frame_of(request: Any, version: int) -> bytes:
    out = bytearray()
    encode_request_header(request.API_KEY, version, 1, "budget", out)
    body = b"".join(bytes(part) for part in request.encode(version, out))
    return struct.pack(">i", len(body)) + body


def produce(topic: str, size: int) -> bytes:
    batch = build_batch([Record(offset=0, timestamp=1_700_000_000_000, key=None, value=b"x" * size, headers=[])])
    partition = ProduceRequest.PartitionProduceData(index=0, records=batch)
    data = [ProduceRequest.TopicProduceData(name=topic, partition_data=[partition])]
    return frame_of(ProduceRequest(acks=-1, timeout_ms=1000, topic_data=data), 9)


def fetch(topic: str, max_bytes: int) -> bytes:
    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=max_bytes)
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=[partition])]
    return frame_of(FetchRequest(max_wait_ms=500, min_bytes=1, max_bytes=max_bytes, topics=topics), 11)


def exchange(client: socket.socket, frame: bytes) -> bytes:
    client.sendall(frame)
    (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
    return client.recv(size, socket.MSG_WAITALL)


async def costs(port: int, frame: bytes) -> dict[str, float]:
    """What one such request costs on average, once everything is warm."""
    counting = Counting()

    def client() -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for _ in range(10):
                exchange(connection, frame)
            trio.from_thread.run_sync(counting.begin)
            for _ in range(REQUESTS):
                exchange(connection, frame)
            trio.from_thread.run_sync(counting.end)

    await trio.to_thread.run_sync(client)
    return {name: count / REQUESTS for name, count in counting.counts.items()}


async def budgeted(
    start_broker: StartBroker, make: Callable[[str], bytes], budget: dict[str, float], *, fill: bytes = b""
) -> None:
    async with start_broker() as broker:
        await trio.to_thread.run_sync(make_topic, broker.port)
        if fill:
            await trio.to_thread.run_sync(asked, broker.port, fill)
        found = await costs(broker.port, make("t"))
    over = {name: count for name, count in found.items() if count > budget.get(name, 0) * TOLERANCE + 0.1}
    assert not over, f"beyond the budget {budget}: {over}"
    assert found["receive"] >= 1, "nothing was counted"


async def test_a_small_produce(start_broker: StartBroker) -> None:
    budget = {"receive": 1, "write": 1, "send": 1, "wait": 2, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: produce(topic, 100), budget)


async def test_a_small_fetch(start_broker: StartBroker) -> None:
    budget = {"receive": 1, "read": 1, "send": 1, "wait": 2, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: fetch(topic, 1000), budget, fill=produce("t", 100))


async def test_a_fetch_of_a_larger_batch(start_broker: StartBroker) -> None:
    size = 30_000  # what a socket takes at once, whatever its buffers
    budget = {"receive": 1, "read": 1, "send": 1, "wait": 2, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: fetch(topic, 2 * size), budget, fill=produce("t", size))


async def test_a_fetch_from_the_file(start_broker: StartBroker) -> None:
    size = 200_000  # large enough to stay in the file; how often the socket is full is not ours to say
    budget = {"receive": 1, "read": 2, "send": 2} | dict.fromkeys(["send from file", "wait", "arm", "hop"], 50.0)
    await budgeted(start_broker, lambda topic: fetch(topic, 2 * size), budget, fill=produce("t", size))


async def test_many_small_produces_at_once(start_broker: StartBroker) -> None:
    """Who comes together shares the waiting."""
    connections, rounds = 20, 20
    counting = Counting()

    def client(port: int) -> None:
        frame = produce("t", 100)
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(connections)]

            def send() -> None:  # on the broker's own thread, so that it sees all or none of them
                for each in clients:
                    each.sendall(frame)

            for number in range(rounds + 2):
                if number == 2:
                    trio.from_thread.run_sync(counting.begin)
                trio.from_thread.run_sync(send)
                for each in clients:
                    (size,) = struct.unpack(">i", each.recv(4, socket.MSG_WAITALL))
                    each.recv(size, socket.MSG_WAITALL)
            trio.from_thread.run_sync(counting.end)

    async with start_broker() as broker:
        await trio.to_thread.run_sync(make_topic, broker.port)
        await trio.to_thread.run_sync(client, broker.port)
    found = {name: count / connections / rounds for name, count in counting.counts.items()}
    for once in ("receive", "write", "send"):
        assert found[once] <= TOLERANCE
    for shared in ("wait", "arm", "hop"):
        assert found[shared] <= 0.3, f"{shared}: {found[shared]}"


async def memory_of(port: int, frame: bytes, answer_size: int) -> int:
    """How much memory one such request takes at its peak, once everything is warm, in bytes."""
    peaks: list[int] = []

    def client() -> None:
        answer = bytearray(answer_size + 4)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for number in range(12):
                if number == 10:
                    trio.from_thread.run_sync(tracemalloc.start)
                if number == 11:
                    tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                connection.sendall(frame)
                assert connection.recv_into(answer, 0, socket.MSG_WAITALL) == len(answer)
                _, peak = tracemalloc.get_traced_memory()
                peaks.append(peak - before)
            trio.from_thread.run_sync(tracemalloc.stop)

    await trio.to_thread.run_sync(client)
    return peaks[-1]


@pytest.mark.parametrize(
    ("what", "size", "copies"), [("produce", 500_000, 0), ("fetch", 30_000, 1), ("fetch", 500_000, 0)]
)
async def test_records_are_copied_as_rarely_as_can_be(
    start_broker: StartBroker, what: str, size: int, copies: int
) -> None:
    """Between the socket and the page cache; the kernel's own copies aside."""
    async with start_broker() as broker:
        await trio.to_thread.run_sync(make_topic, broker.port)
        frame = produce("t", size)
        answer = await trio.to_thread.run_sync(asked, broker.port, frame)
        if what == "fetch":
            frame = fetch("t", size + 1000)
            answer = await trio.to_thread.run_sync(asked, broker.port, frame)
            assert len(answer) > size
        peak = await memory_of(broker.port, frame, len(answer))
    assert peak <= copies * size + 40_000


def make_topic(port: int) -> None:
    topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
    asked(port, frame_of(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 5))


def asked(port: int, frame: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as client:
        return exchange(client, frame)
