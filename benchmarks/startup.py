#!/usr/bin/env python3
"""Start-up and memory beside Apache Kafka, in one run, interleaved.

    benchmarks/startup.py --rounds 5

Runs in the project's environment (kafkapy and its dependencies); Apache Kafka needs Java 17 and Maven. In every round
each broker starts twice on an empty data directory (Apache Kafka's is formatted before the clock runs):

- once to be used at once: from the start of the process until a record sent with acks=all is acknowledged. The client
  is the same for all, a bare socket that tries again every millisecond: connect, Metadata (which creates the topic),
  Produce. Then its memory, two seconds later;
- once to be left alone: its memory two seconds after it first answers.

Memory is Rss and Pss from /proc (Linux). One round before the counted ones warms the page cache and Python's bytecode.
"""

import argparse
import os
import platform
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "compat"))

from brokers import ApacheKafka, Broker, Kafkapy, Trouble, answers, free_port, memory_kb

from kafkapy.protocol.header import decode_response_header, encode_request_header
from kafkapy.protocol.messages.metadata import MetadataRequest, MetadataResponse
from kafkapy.protocol.messages.produce import ProduceRequest, ProduceResponse
from kafkapy.protocol.primitives import Message
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

Answer = TypeVar("Answer", bound=Message)

SETTLE_S = 2.0
DEADLINE_S = 60.0
METADATA_VERSION, PRODUCE_VERSION = 8, 8
KINDS: dict[str, Callable[[Path, int], Broker]] = {
    "kafkapy": lambda folder, port: Kafkapy(folder, port=port),
    "Apache Kafka": lambda folder, port: ApacheKafka(folder, port=port),
    "Apache Kafka, small heap": lambda folder, port: ApacheKafka(folder, port=port, heap=("-Xms64m", "-Xmx256m")),
}
FIGURES = {
    "first_record": ("first acknowledged record", "s"),
    "start_rss": ("Rss after start", "MB"),
    "start_pss": ("Pss after start", "MB"),
    "record_rss": ("Rss after the first record", "MB"),
    "record_pss": ("Pss after the first record", "MB"),
}


class Client:
    """A connection, made as soon as the broker accepts one."""

    def __init__(self, port: int) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                self.connection = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
                break
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise Trouble("the broker does not accept") from None
                time.sleep(0.001)

    def ask(self, request: Message, version: int, answer: type[Answer]) -> Answer:
        out = bytearray(4)
        encode_request_header(request.API_KEY, version, 1, "startup", out)
        body = b"".join(request.encode(version, out))
        self.connection.sendall(struct.pack(">i", len(body) - 4) + body[4:])
        (size,) = struct.unpack(">i", self._exactly(4))
        frame = self._exactly(size)
        _, offset = decode_response_header(request.API_KEY, version, frame)
        return answer.decode(version, frame, offset)[0]

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            chunk = self.connection.recv(count - len(data))
            if not chunk:
                raise Trouble("the broker closed the connection")
            data += chunk
        return bytes(data)


def first_record(port: int) -> None:
    """Return when one record is acknowledged."""
    client = Client(port)
    metadata = MetadataRequest(topics=[MetadataRequest.MetadataRequestTopic(name="first")])
    while True:
        (topic,) = client.ask(metadata, METADATA_VERSION, MetadataResponse).topics
        if topic.error_code == 0 and all(partition.leader_id >= 0 for partition in topic.partitions):
            break
        time.sleep(0.001)
    batch = build_batch([Record(0, int(time.time() * 1000), b"key", b"value", [])])
    partition = ProduceRequest.PartitionProduceData(index=0, records=batch)
    data = ProduceRequest.TopicProduceData(name="first", partition_data=[partition])
    produce = ProduceRequest(acks=-1, timeout_ms=10_000, topic_data=[data])
    while True:
        (topic_answer,) = client.ask(produce, PRODUCE_VERSION, ProduceResponse).responses
        if topic_answer.partition_responses[0].error_code == 0:
            return
        time.sleep(0.001)


def measure(make: Callable[[Path, int], Broker]) -> dict[str, float]:
    """One round of one broker."""
    figures = {}
    with started(make) as (broker, begin):
        first_record(broker.port)
        figures["first_record"] = time.monotonic() - begin
        time.sleep(SETTLE_S)
        memory = memory_kb(broker.pid)
        figures |= {f"record_{kind}": kb / 1024 for kind, kb in memory.items()}
    with started(make) as (broker, begin):
        while not answers(broker.port, 5):
            if not broker.alive or time.monotonic() - begin > DEADLINE_S:
                raise Trouble(f"{broker.name} does not answer:\n{broker.log_tail()}")
            time.sleep(0.001)
        time.sleep(SETTLE_S)
        memory = memory_kb(broker.pid)
        figures |= {f"start_{kind}": kb / 1024 for kind, kb in memory.items()}
    return figures


class started:
    """A broker on an empty directory, launched as the block begins, and the time of that; gone when it ends."""

    def __init__(self, make: Callable[[Path, int], Broker]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="startup-"))
        self.broker = make(self.folder / "data", free_port())

    def __enter__(self) -> tuple[Broker, float]:
        self.broker.prepare()
        begin = time.monotonic()
        self.broker.launch()
        return self.broker, begin

    def __exit__(self, *_: object) -> None:
        self.broker.stop()
        shutil.rmtree(self.folder)


def bare_trio_mb() -> float:
    """Rss of a process that only runs trio: the floor under kafkapy."""
    script = "import sys, trio\nasync def main():\n print(flush=True)\n await trio.sleep(60)\ntrio.run(main)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return memory_kb(process.pid)["rss"] / 1024
    finally:
        process.kill()
        process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rounds: list[dict[str, dict[str, float]]] = []
    for number in range(options.rounds + 1):
        measured = {}
        for kind, make in KINDS.items():
            print(f"\rround {number} of {options.rounds}: {kind:<30}", end="", file=sys.stderr, flush=True)
            measured[kind] = measure(make)
        if number:
            rounds.append(measured)
    print(file=sys.stderr)
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.splitlines()[0]
    print(
        f"{options.rounds} rounds; {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"{platform.python_implementation()} {platform.python_version()}; {java}; bare trio {bare_trio_mb():.0f} MB\n"
    )
    print(f"| median of {options.rounds} | {' | '.join(KINDS)} | ratio | ratio to small heap |")
    print(f"| --- |{' ---: |' * (len(KINDS) + 2)}")
    for figure, (name, unit) in FIGURES.items():
        digits = 2 if unit == "s" else 0
        cells = [f"{statistics.median(r[kind][figure] for r in rounds):.{digits}f} {unit}" for kind in KINDS]
        ours, *others = KINDS
        cells += [f"{statistics.median(r[kind][figure] / r[ours][figure] for r in rounds):.1f}" for kind in others]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Trouble as trouble:
        sys.exit(f"startup.py: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
