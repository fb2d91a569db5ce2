#!/usr/bin/env python3
"""The clients that load a broker, each in a process of its own; and how a scenario runs several of them at once.

A scenario calls `run_clients`. It starts this file once per client with the client's job as JSON; each client prepares
(connects, fills its buffers), says that it is ready, waits for the word to go, so that all begin together, and answers
with one line of JSON: what it did, in how many seconds, at what cost of CPU.

The work is done by C wherever Python would be the bottleneck: librdkafka (confluent-kafka) for records in batches,
with the records handed over a thousand at a time; for single requests a bare socket that replays one prepared frame,
and looks only at the length and at the error code of the answer.
"""

import contextlib
import itertools
import json
import os
import random
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

Job = dict[str, Any]
Result = dict[str, Any]

PATIENCE_S = 180.0
CHUNK = 1000  # records handed to librdkafka in one call
_ANY_PARTITION = -1


class ClientFailed(Exception):
    """A client did not do its job; the text is the end of what it said."""


# ---------------------------------------------------------------------------------------------- the scenario's side


class Clients:
    """Client processes, ready and waiting. `go` lets them run, `results` waits for them; `close` ends what is left."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        command = [sys.executable, __file__]
        self._processes = [
            subprocess.Popen(
                [*command, json.dumps(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            for job in jobs
        ]

    def wait_ready(self) -> None:
        for process in self._processes:
            self._line(process, "ready")

    def go(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()

    def results(self) -> list[Result]:
        answers = [json.loads(self._line(process, "a result")) for process in self._processes]
        self.close()
        return answers

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                # a finished client needs no goodbye, and one that hangs deserves none
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def _line(self, process: "subprocess.Popen[bytes]", awaited: str) -> str:
        assert process.stdout is not None and process.stderr is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
        line = process.stdout.readline() if ready else b""
        if not line:
            process.kill()
            said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()[-5:]
            raise ClientFailed(f"a client gave no sign of {awaited}: " + " / ".join(said or ["it said nothing"]))
        return line.decode()


@contextlib.contextmanager
def clients(jobs: Sequence[Job]) -> Iterator[Clients]:
    """Clients that are ready; all are gone when the block ends."""
    started = Clients(jobs)
    try:
        started.wait_ready()
        yield started
    finally:
        started.close()


# ---------------------------------------------------------------------------------------------- the client's side


def payloads(size: int, count: int = CHUNK) -> list[bytes]:
    """Records that compress to about half, the same in every run."""
    source = random.Random(size)
    return [(source.randbytes((size + 1) // 2) + b"abcdefgh" * (size // 16 + 1))[:size] for _ in range(count)]


class Meter:
    """Wall and CPU seconds of this process since it was told to go."""

    def __init__(self) -> None:
        print("ready", flush=True)
        if not sys.stdin.readline():
            sys.exit("whoever started this client is gone")
        self.begin = time.monotonic()
        self._cpu = self._cpu_now()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begin

    def result(self, **facts: Any) -> Result:
        """Facts with the times added; `seconds` in the facts wins."""
        return {"seconds": self.seconds, "cpu_s": self._cpu_now() - self._cpu} | facts

    @staticmethod
    def _cpu_now() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime


def produce(job: Job) -> Result:
    """Send records of `size` bytes for `seconds`, or until `bytes` are sent; done when all are acknowledged.

    With `evenly`, so many partitions get as much each; else librdkafka chooses.
    """
    from confluent_kafka import Producer

    errors: list[str] = []
    config = {
        "bootstrap.servers": job["bootstrap"],
        "acks": job.get("acks", "all"),
        "compression.type": job.get("compression", "none"),
        "enable.idempotence": job.get("idempotent", False),
        "delivery.report.only.error": True,
        "queue.buffering.max.kbytes": 64 * 1024,  # what is still queued when the time is over must not take long
        # keyless records stick to a partition for this long: short enough that many partitions all get some
        "sticky.partitioning.linger.ms": 10,
        **job.get("config", {}),
    }
    producer = Producer(config, on_delivery=lambda error, _: errors.append(str(error)))
    topic = job["topic"]
    messages = [{"value": value} for value in payloads(job["size"])]
    producer.list_topics(topic, timeout=30)
    wanted = job.get("bytes", 0) // job["size"]
    partitions = itertools.cycle(range(job["evenly"]) if "evenly" in job else [_ANY_PARTITION])
    count = 0
    meter = Meter()
    while count < wanted if wanted else meter.seconds < job["seconds"]:
        queued = producer.produce_batch(topic, messages, next(partitions))
        count += queued
        # a full queue gives no exception but takes fewer; a bad record would stay in the list with its error
        producer.poll(0 if queued == len(messages) else 0.005)
    left = producer.flush(60)
    if errors or left:
        raise ClientFailed(f"{len(errors)} records failed, {left} not acknowledged: {errors[:1]}")
    return meter.result(records=count, bytes=count * job["size"])


def transactions(job: Job) -> Result:
    """Transactions of `count` records of `size` bytes for `seconds`, one after the other; how long their commits take.

    That is from when all records are acknowledged. With `source`, the records are those of that topic, and how far it
    was read is committed with them.
    """
    from confluent_kafka import Consumer, Producer, TopicPartition

    common = {"bootstrap.servers": job["bootstrap"]}
    producer = Producer({**common, "transactional.id": job["topic"], "linger.ms": 5})
    producer.init_transactions(60)
    topic, size = job["topic"], job["size"]
    messages = [{"value": value} for value in payloads(size, job["count"])]
    consumer = None
    if source := job.get("source"):
        consumer = Consumer(
            {
                **common,
                "group.id": topic,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 5,
            }
        )
        partitions = sorted(consumer.list_topics(source, timeout=30).topics[source].partitions)
        assignment = [TopicPartition(source, partition, 0) for partition in partitions]
        consumer.assign(assignment)
        consumer.poll(30)
    commits: list[int] = []
    sent = 0
    meter = Meter()
    while meter.seconds < job["seconds"]:
        producer.begin_transaction()
        if consumer is not None:
            messages = [{"value": message.value()} for message in consumer.consume(job["count"], 1)]
            if len(messages) < job["count"]:
                consumer.assign(assignment)  # once more
        sent += sum(len(message["value"]) for message in messages)
        if producer.produce_batch(topic, messages) != len(messages):
            raise ClientFailed("the queue is too small for a transaction")
        if consumer is not None:
            positions = consumer.position(consumer.assignment())
            known = [place for place in positions if place.offset >= 0]
            producer.send_offsets_to_transaction(known, consumer.consumer_group_metadata(), 60)
        producer.flush(60)
        begin_ns = time.monotonic_ns()
        producer.commit_transaction(60)
        commits.append(time.monotonic_ns() - begin_ns)
    return meter.result(bytes=sent, **quantiles(commits))


def consume(job: Job) -> Result:
    """Read `records` records of a topic; with `tail`, its fetches already wait for them when it is told to go.

    With `seconds`, begins again until they have passed.
    """
    from confluent_kafka import Consumer, TopicPartition

    config = {
        "bootstrap.servers": job["bootstrap"],
        "group.id": "benchmark",
        "enable.auto.commit": False,
        "fetch.queue.backoff.ms": 5,  # the default lets it rest for a second when it has read ahead far enough
        # Else it would wait at the end, before it can begin again, half a second for records that nobody writes.
        **({} if job.get("tail") else {"fetch.wait.max.ms": 10}),
        **job.get("config", {}),
    }
    consumer = Consumer(config)
    topic = job["topic"]
    partitions = sorted(consumer.list_topics(topic, timeout=30).topics[topic].partitions)
    assignment = [TopicPartition(topic, partition, 0) for partition in partitions]
    if job.get("tail"):
        consumer.assign(assignment)
        consumer.poll(0.5)
    meter = Meter()
    if not job.get("tail"):
        consumer.assign(assignment)
    wanted, count, size, quiet_s = job["records"], 0, 0, 0.0
    while True:
        if count >= wanted:
            if meter.seconds >= job.get("seconds", 0):
                return meter.result(records=count, bytes=size)
            consumer.assign(assignment)  # once more: nothing that was fetched is left unread
            wanted += job["records"]
        messages = consumer.consume(CHUNK, 0.05)
        quiet_s = 0.0 if messages else quiet_s + 0.05
        for message in messages:
            if message.error():
                raise ClientFailed(str(message.error()))
        count += len(messages)
        size += sum(map(len, messages))
        if quiet_s > job.get("patience_s", 20):
            raise ClientFailed(f"{count} of {wanted} records came, then none for {quiet_s:.0f} s")


def share_consume(job: Job) -> Result:
    """Read what a share group is given of a topic, acknowledged implicitly, until `seconds` are over or no more comes.

    What a member is given first comes when the group has begun: it is timed from there to what came last.
    """
    from confluent_kafka import ShareConsumer

    consumer = ShareConsumer({"bootstrap.servers": job["bootstrap"], "group.id": job["group"], "log_level": 0})
    meter = Meter()
    consumer.subscribe([job["topic"]])
    count = size = 0
    began: float | None = None
    last = meter.seconds
    while True:
        if began is not None and last - began >= job["seconds"]:
            break
        if meter.seconds - last > (job.get("patience_s", 20) if began is None else 1):
            break  # there is no more, or others have it
        messages = consumer.poll(0.2)
        if not messages:
            continue
        for message in messages:
            if message.error():
                raise ClientFailed(str(message.error()))
        last = meter.seconds
        if began is None:
            began = last  # these came before
        else:
            count += len(messages)
            size += sum(map(len, messages))
    return meter.result(records=count, bytes=size, seconds=max(last - (began or 0.0), 1e-3))


def kafka_python_produce(job: Job) -> Result:
    """The same by kafka-python with its defaults."""
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=job["bootstrap"], api_version=(2, 8))
    topic, values = job["topic"], payloads(job["size"])
    producer.partitions_for(topic)
    errors: list[BaseException] = []
    count = 0
    meter = Meter()
    while meter.seconds < job["seconds"]:
        for value in values:
            producer.send(topic, value).add_errback(errors.append)
        count += len(values)
    producer.flush(60)
    if errors:
        raise ClientFailed(f"{len(errors)} records failed: {errors[0]}")
    return meter.result(records=count, bytes=count * job["size"])


def kafka_python_consume(job: Job) -> Result:
    """Read a topic from its beginning by kafka-python with its defaults, for `seconds` or until its end."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=job["bootstrap"], enable_auto_commit=False, api_version=(2, 8))
    topic = job["topic"]
    partitions = [TopicPartition(topic, partition) for partition in sorted(consumer.partitions_for_topic(topic))]
    consumer.assign(partitions)
    meter = Meter()
    consumer.seek_to_beginning(*partitions)
    count = size = 0
    while meter.seconds < job["seconds"] and count < job["records"]:
        found = consumer.poll(1000)
        if not found:
            raise ClientFailed(f"{count} of {job['records']} records came, then none for a second")
        for records in found.values():
            count += len(records)
            size += sum(len(record.value) for record in records)
    return meter.result(records=count, bytes=size)


def paced_produce(job: Job) -> Result:
    """Send `rate` records a second for `seconds`, each stamped with the moment at which it was due."""
    from confluent_kafka import Producer

    producer = Producer(
        {
            "bootstrap.servers": job["bootstrap"],
            "acks": "all",
            "linger.ms": 0,
            # as the Java producer: without a bound every record is a request, however late the answers come
            "max.in.flight.requests.per.connection": 5,
            "socket.nagle.disable": True,
            "delivery.report.only.error": True,
        }
    )
    topic, rate = job["topic"], job["rate"]
    producer.list_topics(topic, timeout=30)
    padding = bytes(job["size"] - 8)
    stamp = struct.Struct(">q")
    meter = Meter()
    count = int(rate * job["seconds"])
    step_ns, begin_ns = 1_000_000_000 // rate, time.monotonic_ns()
    for number in range(count):
        due_ns = begin_ns + number * step_ns
        wait_ns = due_ns - time.monotonic_ns()
        if wait_ns > 0:
            time.sleep(wait_ns / 1e9)
        producer.produce(topic, stamp.pack(due_ns) + padding, partition=0)
        if number % 100 == 0:
            producer.poll(0)
    producer.flush(30)
    return meter.result(records=count)


def latency(job: Job) -> Result:
    """Read what `paced_produce` sends, until `records` have come; milliseconds since each was due, by percentile."""
    from confluent_kafka import Consumer, TopicPartition

    config = {"bootstrap.servers": job["bootstrap"], "group.id": "benchmark", "enable.auto.commit": False}
    consumer = Consumer(config | {"socket.nagle.disable": True})
    consumer.assign([TopicPartition(job["topic"], 0, 0)])
    consumer.poll(1.0)  # its fetches wait at the end of the empty topic from here on
    unpack = struct.Struct(">q").unpack_from
    waits: list[int] = []
    meter = Meter()
    while len(waits) < job["records"]:
        message = consumer.poll(10)
        if message is None:
            raise ClientFailed(f"{len(waits)} of {job['records']} records came")
        if message.error():
            raise ClientFailed(str(message.error()))
        waits.append(time.monotonic_ns() - unpack(message.value() or b"")[0])
    return meter.result(**quantiles(waits[job["skip"] :]))  # the first records meet cold connections


def acknowledged(job: Job) -> Result:
    """Send `rate` records a second for `seconds`, over so many `partitions` in turn; how long each waits to be
    acknowledged, in milliseconds, by percentile.
    """
    from confluent_kafka import Message, Producer

    waits: list[int] = []

    def told(error: object, message: Message) -> None:
        if error is not None:
            raise ClientFailed(str(error))
        waits.append(int(message.latency() * 1e9))

    config = {"bootstrap.servers": job["bootstrap"], "acks": "all", "linger.ms": 0, "socket.nagle.disable": True}
    producer = Producer(config, on_delivery=told)
    producer.list_topics(job["topic"], timeout=30)
    for partition in range(job["partitions"]):  # connections and leaders are known before it counts
        producer.produce(job["topic"], b"", partition=partition)
    producer.flush(30)
    waits.clear()
    meter = Meter()
    for number in range(int(job["rate"] * job["seconds"])):
        due = meter.begin + number / job["rate"]
        while (left := due - time.monotonic()) > 0:
            producer.poll(left)
        producer.produce(job["topic"], bytes(job["size"]), partition=number % job["partitions"])
    producer.flush(30)
    return meter.result(**quantiles(waits))


def quantiles(waits_ns: Sequence[int]) -> dict[str, float]:
    """Half of them, 99 and 99.9 % take no longer than so many milliseconds."""
    waits = sorted(waits_ns)
    return {f"p{p}": waits[min(len(waits) - 1, int(len(waits) * p / 100))] / 1e6 for p in (50, 99, 99.9)}


def requests(job: Job) -> Result:
    """One record a request, one request at a time on each of `connections` connections, for `seconds`."""
    frame, error_at = _produce_frame(job["topic"], job.get("partition", 0), job.get("size", 100))
    return _replay(job, frame, error_at)


def echoes(job: Job) -> Result:
    """The same frames as `requests` to a server that sends as many bytes back as Kafka would; see limits.py."""
    frame, _ = _produce_frame("echo", 0, job.get("size", 100))
    return _replay(job, frame, None)


def idle(job: Job) -> Result:
    """Hold `connections` connections, each having asked once; with `fetch`, each waits in long polls at a log's end."""
    from kafkapy.protocol.messages.api_versions import ApiVersionsRequest

    connections = [connection for connection, _ in _connect(job, _frame(ApiVersionsRequest(), 0))]
    frame = _fetch_frame(job["topic"], job["max_wait_ms"]) if job.get("fetch") else b""
    poller = select.epoll()
    for connection in connections:
        connection.sendall(frame)
        poller.register(connection.fileno(), select.EPOLLIN)
    by_descriptor = {connection.fileno(): connection for connection in connections}
    meter = Meter()
    count = 0
    while (left_s := job["seconds"] - meter.seconds) > 0:
        for descriptor, _ in poller.poll(left_s, 256):
            _answer(by_descriptor[descriptor])
            by_descriptor[descriptor].sendall(frame)
            count += 1
    return meter.result(requests=count)


def group(job: Job) -> Result:
    """`members` consumers join a group at once; done when each has its partition."""
    from confluent_kafka import Consumer

    members = [
        Consumer(
            {
                "bootstrap.servers": job["bootstrap"],
                "group.id": job["group"],
                "enable.auto.commit": False,
                "session.timeout.ms": 30000,
            }
        )
        for _ in range(job["members"])
    ]
    meter = Meter()
    for member in members:
        member.subscribe([job["topic"]])
    while True:
        for member in members:
            member.poll(0)
        owned = [{(part.topic, part.partition) for part in member.assignment()} for member in members]
        if all(owned) and len(set().union(*owned)) == sum(map(len, owned)) == job["partitions"]:
            break
        if meter.seconds > 120:
            raise ClientFailed(f"after two minutes {sum(map(bool, owned))} members have partitions")
        time.sleep(0.005)
    return meter.result()


def metadata(job: Job) -> Result:
    """Ask for everything about a topic, or with none about all, over and over for `seconds`; `warm_up_s` before."""
    from kafkapy.protocol.messages.metadata import MetadataRequest

    topics = [MetadataRequest.MetadataRequestTopic(name=job["topic"])] if job["topic"] else None
    frame = _frame(MetadataRequest(topics=topics), 8)
    ((connection, _),) = _connect(job | {"connections": 1}, frame)
    warm_at = time.monotonic() + job.get("warm_up_s", 0)
    while time.monotonic() < warm_at:
        connection.sendall(frame)
        _answer(connection)
    meter = Meter()
    count = 0
    while meter.seconds < job["seconds"]:
        connection.sendall(frame)
        _answer(connection)
        count += 1
    return meter.result(requests=count)


def _frame(request: Any, version: int) -> bytes:
    from kafkapy.protocol.header import encode_request_header

    out = bytearray()
    encode_request_header(request.API_KEY, version, 1, "benchmark", out)
    body = b"".join(request.encode(version, out))
    return struct.pack(">i", len(body)) + body


def _produce_frame(topic: str, partition: int, size: int) -> tuple[bytes, int]:
    """A Produce request of one record, and where in the answer's frame the partition's error code stands."""
    from kafkapy.protocol.messages.produce import ProduceRequest
    from kafkapy.records.builder import build_batch
    from kafkapy.records.record import Record

    batch = build_batch([Record(0, int(time.time() * 1000), None, payloads(size, 1)[0], [])])
    data = ProduceRequest.PartitionProduceData(index=partition, records=batch)
    topic_data = [ProduceRequest.TopicProduceData(name=topic, partition_data=[data])]
    # length, correlation id, count of topics, the name with its length, count of partitions, index
    error_at = 4 + 4 + 4 + 2 + len(topic) + 4 + 4
    return _frame(ProduceRequest(acks=1, timeout_ms=30_000, topic_data=topic_data), 8), error_at


def _fetch_frame(topic: str, max_wait_ms: int) -> bytes:
    from kafkapy.protocol.messages.fetch import FetchRequest

    partition = FetchRequest.FetchPartition(partition=0, fetch_offset=0, partition_max_bytes=1 << 20)
    topics = [FetchRequest.FetchTopic(topic=topic, partitions=[partition])]
    return _frame(FetchRequest(max_wait_ms=max_wait_ms, min_bytes=1, max_bytes=50 << 20, topics=topics), 11)


def _connect(job: Job, frame: bytes) -> list[tuple[socket.socket, bytes]]:
    """Connections that have each asked `frame` once, with the answers.

    One after the other: Kafka's default backlog is 50, and what does not fit waits a second for its next SYN.
    """
    host, port = job["bootstrap"].rsplit(":", 1)
    connections = []
    for _ in range(job["connections"]):
        connection = socket.create_connection((host, int(port)), 30)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(frame)
        connections.append((connection, _answer(connection)))
    return connections


def _answer(connection: socket.socket) -> bytes:
    """One whole frame, its length first."""
    data = bytearray(connection.recv(65536))
    while len(data) < 4 or len(data) < 4 + struct.unpack_from(">i", data)[0]:
        more = connection.recv(1 << 20)
        if not more:
            raise ClientFailed("the broker closed the connection")
        data += more
    return bytes(data)


def _replay(job: Job, frame: bytes, error_at: int | None) -> Result:
    def accepted(answer: bytes) -> bool:
        return error_at is None or answer[error_at : error_at + 2] == b"\0\0"

    deadline = time.monotonic() + 10
    while not accepted(answer := _connect(job | {"connections": 1}, frame)[0][1]):
        # a new topic's leader may need a moment after the metadata names it
        if time.monotonic() > deadline:
            raise ClientFailed(f"records are not accepted: {answer.hex()}")
        time.sleep(0.01)
    connections = [connection for connection, _ in _connect(job, frame)]
    size = len(answer)

    def check(answer: bytes) -> None:
        if len(answer) != size or not accepted(answer):
            raise ClientFailed(f"not the answer of an accepted record: {answer.hex()}")

    meter = Meter()
    end = meter.begin + job["seconds"]
    count = 0
    if len(connections) == 1:
        send, receive = connections[0].send, connections[0].recv
        while time.monotonic() < end:
            send(frame)
            check(receive(4096))
            count += 1
        return meter.result(requests=count)
    poller = select.epoll()
    by_descriptor = {connection.fileno(): connection for connection in connections}
    for connection in connections:
        poller.register(connection.fileno(), select.EPOLLIN)
        connection.send(frame)
    while time.monotonic() < end:
        for descriptor, _ in poller.poll(10):
            connection = by_descriptor[descriptor]
            check(connection.recv(4096))
            connection.send(frame)
            count += 1
    return meter.result(requests=count)


JOBS: dict[str, Callable[[Job], Result]] = {
    job.__name__: job
    for job in (
        produce,
        transactions,
        consume,
        share_consume,
        kafka_python_produce,
        kafka_python_consume,
        paced_produce,
        latency,
        acknowledged,
        requests,
        echoes,
        idle,
        group,
        metadata,
    )
}


def main() -> None:
    job = json.loads(sys.argv[1])
    result = JOBS[job["job"]](job)
    print(json.dumps(result), flush=True)
    # consumers and producers have nothing to save, and their goodbyes would load the broker into the next measurement
    os._exit(0)


if __name__ == "__main__":
    main()
