"""What a request may cost, in things that can be counted on any machine: calls into the kernel, and turns of the loop.

Trio waits for a socket by one call that arms it and one that waits for all. A budget that grows is a decision, not an
accident.
"""

import socket
import struct
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

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
        if event == "c_call" and (name := KERNEL.get(called.__name__)):
            self.counts[name] += 1


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
    topic = CreateTopicsRequest.CreatableTopic(name="t", num_partitions=1, replication_factor=1)
    async with start_broker() as broker:

        def prepare() -> None:
            with socket.create_connection(("127.0.0.1", broker.port)) as client:
                exchange(client, frame_of(CreateTopicsRequest(topics=[topic], timeout_ms=5000), 5))
                if fill:
                    exchange(client, fill)

        await trio.to_thread.run_sync(prepare)
        found = await costs(broker.port, make("t"))
    over = {name: count for name, count in found.items() if count > budget.get(name, 0) * TOLERANCE + 0.1}
    assert not over, f"beyond the budget {budget}: {over}"
    assert found["receive"] >= 1, "nothing was counted"


async def test_a_small_produce(start_broker: StartBroker) -> None:
    budget = {"receive": 1, "write": 1, "send": 1, "wait": 1, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: produce(topic, 100), budget)


async def test_a_small_fetch(start_broker: StartBroker) -> None:
    budget = {"receive": 1, "read": 1, "send": 1, "wait": 1, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: fetch(topic, 1000), budget, fill=produce("t", 100))


async def test_a_fetch_of_a_larger_batch(start_broker: StartBroker) -> None:
    size = 30_000  # what a socket takes at once, whatever its buffers
    budget = {"receive": 1, "read": 1, "send": 1, "wait": 1, "arm": 1, "hop": 1}
    await budgeted(start_broker, lambda topic: fetch(topic, 2 * size), budget, fill=produce("t", size))
