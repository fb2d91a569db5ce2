"""Apache Kafka's own performance tools (the classes behind bin/kafka-*-perf-test.sh), from the jars of the broker.

Their JVM warms up with the load, so the first part of a run does not count.
"""

import re
import subprocess
from dataclasses import dataclass
from datetime import datetime

from brokers import kafka_home

RECORD_BYTES = 1000
DEADLINE_S = 300


class ToolFailed(Exception):
    """A tool ended otherwise than it should; the text is the end of what it said."""


@dataclass(frozen=True)
class Throughput:
    mb_per_second: float
    """Without the warm-up."""
    gigabytes: float
    """All that went over the wire, the warm-up included."""


def produce(bootstrap: str, topic: str, megabytes: int) -> Throughput:
    """ProducerPerformance with its defaults (acks=all, idempotent, linger 5 ms, batches of 16 KB)."""
    count = megabytes * 1_000_000 // RECORD_BYTES
    warmup = count // 3
    said = _java(
        "ProducerPerformance",
        *("--topic", topic, "--num-records", str(count), "--record-size", str(RECORD_BYTES), "--throughput", "-1"),
        *("--warmup-records", str(warmup), "--bootstrap-server", bootstrap),
    )
    rates = re.findall(r"([\d.]+) records/sec \(", said)
    if not rates:
        raise ToolFailed(said[-500:])
    # the last line is the summary, of the steady state alone when there was a warm-up
    return Throughput(float(rates[-1]) * RECORD_BYTES / 1e6, count * RECORD_BYTES / 1e9)


def consume(bootstrap: str, topic: str, records: int) -> Throughput:
    """ConsumerPerformance over a whole topic; the rate of the second half of the time."""
    said = _java(
        "ConsumerPerformance",
        *("--topic", topic, "--num-records", str(records), "--bootstrap-server", bootstrap),
        *("--show-detailed-stats", "--reporting-interval", "100", "--timeout", "30000"),
    )
    points = []
    for line in said.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        try:
            when = datetime.strptime(cells[0], "%Y-%m-%d %H:%M:%S:%f")
        except ValueError:
            continue
        points.append((when.timestamp(), int(cells[4])))
    if len(points) < 2:
        raise ToolFailed(f"too few reports to tell a rate: {said[-500:]}")
    middle = min(range(len(points) - 1), key=lambda at: abs(points[at][1] - points[-1][1] / 2))
    (begin, before), (end, after) = points[middle], points[-1]
    return Throughput((after - before) * RECORD_BYTES / 1e6 / max(end - begin, 1e-3), records * RECORD_BYTES / 1e9)


def end_to_end(bootstrap: str, topic: str, records: int) -> float:
    """EndToEndLatency, one record of 100 B at a time with acks=all: the mean in ms (its percentiles are whole ms)."""
    said = _java(
        "EndToEndLatency",
        *("--bootstrap-server", bootstrap, "--topic", topic, "--num-records", str(records)),
        *("--producer-acks", "all", "--record-size", "100"),
    )
    found = re.search(r"Avg latency: ([\d.]+) ms", said)
    if found is None:
        raise ToolFailed(said[-500:])
    return float(found[1])


def _java(tool: str, *arguments: str) -> str:
    command = ["java", "-Xmx512m", "-cp", f"{kafka_home()}/libs/*", f"org.apache.kafka.tools.{tool}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise ToolFailed(f"{tool}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout
