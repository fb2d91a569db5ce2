"""Raw clients: one that asks and waits, and a probe, a process that notes how long its small requests wait.

Requests are our generated messages, in versions that both brokers serve.
"""

import multiprocessing
import os
import socket
import statistics
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from brokers import Trouble

from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages import response_class
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.list_offsets import ListOffsetsRequest
from kafkapy.protocol.messages.produce import ProduceRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

CREATE, DELETE, PRODUCE, FETCH, LIST_OFFSETS = 7, 5, 9, 12, 7
PATIENCE_S = 300.0
REQUEST_BYTES = 16 << 20
"""As much is filled at once."""

_fork = multiprocessing.get_context("fork")


def frame_of(request: Any, version: int) -> bytes:
    out = bytearray(4)
    encode_request_header(request.API_KEY, version, 1, "many", out)
    frame = b"".join(bytes(part) for part in request.encode(version, out))
    return struct.pack(">i", len(frame) - 4) + frame[4:]


class Client:
    """One connection; `receive_bytes` is how much the kernel takes for it while it does not read."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, frame: bytes) -> None:
        self.socket.sendall(frame)

    def receive(self) -> memoryview:
        (size,) = struct.unpack(">i", self._exactly(4))
        return self._exactly(size)

    def exchange(self, frame: bytes) -> memoryview:
        self.send(frame)
        return self.receive()

    def ask(self, request: Any, version: int) -> Any:
        frame = self.exchange(frame_of(request, version))
        _, offset = decode_response_header(request.API_KEY, version, frame)
        return response_class(request.API_KEY).decode(version, frame, offset)[0]

    def pipelined(self, frames: Iterable[bytes], *, ahead: int = 100) -> None:
        """Send each frame and take its answer, with so many under way."""
        waiting = 0
        for frame in frames:
            self.send(frame)
            waiting += 1
            if waiting == ahead:
                self.receive()
                waiting -= 1
        for _ in range(waiting):
            self.receive()

    def _exactly(self, size: int) -> memoryview:
        data = memoryview(bytearray(size))
        done = 0
        while done < size:
            count = self.socket.recv_into(data[done:])
            if not count:
                raise Trouble("the broker closed the connection")
            done += count
        return data

    # -- topics

    def make_topic(self, name: str, partition_count: int, config: Mapping[str, str] | None = None) -> None:
        """Return when all its partitions serve."""
        configs = [CreateTopicsRequest.CreatableTopicConfig(name=n, value=v) for n, v in (config or {}).items()]
        topic = CreateTopicsRequest.CreatableTopic(
            name=name, num_partitions=partition_count, replication_factor=1, configs=configs
        )
        [made] = self.ask(CreateTopicsRequest(topics=[topic], timeout_ms=60_000), CREATE).topics
        if made.error_code:
            raise Trouble(f"no topic {name}: error {made.error_code} {made.error_message}")
        deadline = time.monotonic() + PATIENCE_S
        while any(code for code, _ in self.offsets(name, range(partition_count), -1)):
            if time.monotonic() > deadline:
                raise Trouble(f"{name} does not serve all its partitions")
            time.sleep(0.01)

    def offsets(self, topic: str, partitions: Iterable[int], timestamp: int) -> list[tuple[int, int]]:
        """Error code and offset for this timestamp, or mark, of each partition."""
        asked = [
            ListOffsetsRequest.ListOffsetsPartition(partition_index=index, timestamp=timestamp) for index in partitions
        ]
        topics = [ListOffsetsRequest.ListOffsetsTopic(name=topic, partitions=asked)]
        [answer] = self.ask(ListOffsetsRequest(replica_id=-1, topics=topics), LIST_OFFSETS).topics
        return [(one.error_code, one.offset) for one in sorted(answer.partitions, key=lambda p: p.partition_index)]

    def delete_topic(self, name: str) -> None:
        [answer] = self.ask(DeleteTopicsRequest(topic_names=[name], timeout_ms=120_000), DELETE).responses
        if answer.error_code:
            raise Trouble(f"{name} is not deleted: error {answer.error_code}")

    def fill(self, topic: str, partitions: Iterable[int], batch: bytes) -> None:
        """Append the batch to each partition."""
        left = list(partitions)
        at_once = max(1, min(500, REQUEST_BYTES // len(batch)))
        while left:
            answer = self.ask(produce(topic, left[:at_once], batch), PRODUCE)
            errors = {one.error_code for one in answer.responses[0].partition_responses} - {0}
            if errors:
                raise Trouble(f"{topic} could not be filled: errors {errors}")
            del left[:at_once]


def batch_of(size: int, *, timestamp: int | None = None) -> bytes:
    """A batch of one record with random bytes."""
    at = int(time.time() * 1000) if timestamp is None else timestamp
    return build_batch([Record(0, at, b"k", os.urandom(size), [])])


def produce(topic: str, partitions: Iterable[int], batch: bytes) -> ProduceRequest:
    data = [ProduceRequest.PartitionProduceData(index=index, records=batch) for index in partitions]
    topics = [ProduceRequest.TopicProduceData(name=topic, partition_data=data)]
    return ProduceRequest(acks=-1, timeout_ms=60_000, topic_data=topics)


def fetch(
    topic: str, offsets: Mapping[int, int], *, max_wait_ms: int = 500, min_bytes: int = 1, max_bytes: int = 50 << 20
) -> FetchRequest:
    partitions = [
        FetchRequest.FetchPartition(partition=index, fetch_offset=offset, partition_max_bytes=10 << 20)
        for index, offset in offsets.items()
    ]
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=partitions)]
    return FetchRequest(max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes, topics=topics)


class Probe:
    """Sends one small record at a time to a topic of its own, and notes when each was sent and how long it took."""

    TOPIC = "probe"
    WARM_UP_S = 3.0

    def __init__(self, port: int) -> None:
        with Client(port) as client:
            client.make_topic(self.TOPIC, 1)
        self._stop = _fork.Event()
        self._found: Any
        self._found, theirs = _fork.Pipe(duplex=False)
        self._process = _fork.Process(target=self._run, args=(port, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.waits: list[tuple[float, float]] = []
        time.sleep(self.WARM_UP_S)

    def _run(self, port: int, out: Any) -> None:
        frame = frame_of(produce(self.TOPIC, [0], batch_of(100)), PRODUCE)
        waits = []
        with Client(port) as client:
            while not self._stop.is_set():
                begin = time.monotonic()
                client.exchange(frame)
                waits.append((begin, time.monotonic() - begin))
                time.sleep(0.0005)  # leaves the machine to those who are measured
        out.send(waits)

    def stop(self) -> None:
        self._stop.set()
        self.waits = self._found.recv()
        self._process.join()

    def worst_ms(self, begin: float, end: float) -> float:
        """The longest wait of a request that was under way between these moments."""
        return 1000 * max((wait for at, wait in self.waits if at + wait >= begin and at <= end), default=0.0)

    def median_ms(self, begin: float, end: float) -> float:
        return self.percentile_ms(begin, end, 50)

    def percentile_ms(self, begin: float, end: float, percent: int) -> float:
        waits = [wait for at, wait in self.waits if begin <= at <= end]
        return 1000 * statistics.quantiles(waits, n=100)[percent - 1]


@contextmanager
def probing(port: int) -> Iterator[Probe]:
    """A probe for the length of the block; its waits are there afterwards."""
    probe = Probe(port)
    try:
        yield probe
    finally:
        probe.stop()
