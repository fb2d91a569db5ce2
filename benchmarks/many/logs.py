"""Large logs: what cleaning one costs and who waits meanwhile; how soon a broker with many of them is there again."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

from brokers import Trouble
from client import PRODUCE, Client, batch_of, frame_of, probing, produce
from given import Running, Side

from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

Figures = dict[str, float]
ALTER_CONFIGS = 1
TOPIC_RESOURCE, SET = 2, 0
TOPIC = "t"
KEYS, VALUE_BYTES, BATCH_RECORDS = 2_000_000, 500, 1000
QUIET_S, PATIENCE_S = 20.0, 900.0


def compaction(side: Side) -> Figures:
    """2 GB under 2 million keys, each written twice: what cleaning them costs, and who waits meanwhile."""
    settings = {"log.cleaner.backoff.ms": "200", "log.segment.bytes": str(100 << 20)}
    with side.running(settings) as running, Client(running.port) as client:
        client.make_topic(TOPIC, 1)
        client.pipelined(_keyed_batches(), ahead=8)
        log = running.broker.directory / f"{TOPIC}-0"
        before = size_of(log)
        with probing(running.port) as probe:
            quiet = time.monotonic()
            time.sleep(QUIET_S)
            memory = _Memory(running.pid)
            cpu, begin = _cpu_s(running.pid), time.monotonic()
            _make_compacted(client)
            until_cleaned(running, log)
            end, cpu = time.monotonic(), _cpu_s(running.pid) - cpu
            more = memory.stop()
        left = size_of(log)
    return {
        "MB before": before / 1e6,
        "MB afterwards": left / 1e6,
        "MB/s": before / 1e6 / (end - begin),
        "s CPU of the broker": cpu,
        "MB more at the peak": more,
        "ms, another client's p99, quiet": probe.percentile_ms(quiet, begin, 99),
        "ms, another client's p99 meanwhile": probe.percentile_ms(begin, end, 99),
        "ms, another client's median, quiet": probe.median_ms(quiet, begin),
        "ms, another client's median meanwhile": probe.median_ms(begin, end),
    }


def starting(side: Side, partitions: int, megabytes: int) -> Figures:
    """So many partitions and megabytes, a clean stop, a start: until a request is answered, and a record is taken."""
    size = 100_000
    with side.running() as running:
        with Client(running.port) as client:
            for first in range(0, partitions, 1000):
                client.make_topic(f"t{first}", min(1000, partitions - first))
            batch = batch_of(size)
            for _ in range(max(1, megabytes * 1_000_000 // (size * partitions))):
                for first in range(0, partitions, 1000):
                    client.fill(f"t{first}", range(min(1000, partitions - first)), batch)
        begin = time.monotonic()
        running.broker.stop()
        stopped = time.monotonic()
        running.broker.start()
        ready = time.monotonic()
        cpu = _cpu_s(running.pid)
        with Client(running.port) as client:
            client.fill(f"t{1000 * ((partitions - 1) // 1000)}", [0], batch_of(10))
        taken = time.monotonic()
    return {
        "s to stop": stopped - begin,
        "s to start": ready - stopped,
        "s from start to a record taken": taken - stopped,
        "s CPU to start": cpu,
    }


def _keyed_batches() -> Iterator[bytes]:
    """Each key twice, the second time in another order; values that do not repeat."""
    now = int(time.time() * 1000)
    filler = bytes(VALUE_BYTES - 12)
    for step in (1, 7):  # 7 and the count of keys have no divisor in common
        for first in range(0, KEYS, BATCH_RECORDS):
            keys = ((step * index) % KEYS for index in range(first, first + BATCH_RECORDS))
            records = [Record(i, now, b"%010d" % key, b"%012d" % key + filler, []) for i, key in enumerate(keys)]
            yield frame_of(produce(TOPIC, [0], build_batch(records)), PRODUCE)


def _make_compacted(client: Client) -> None:
    config = IncrementalAlterConfigsRequest.AlterableConfig(
        name="cleanup.policy", config_operation=SET, value="compact"
    )
    resource = IncrementalAlterConfigsRequest.AlterConfigsResource(
        resource_type=TOPIC_RESOURCE, resource_name=TOPIC, configs=[config]
    )
    [answer] = client.ask(IncrementalAlterConfigsRequest(resources=[resource]), ALTER_CONFIGS).responses
    if answer.error_code:
        raise Trouble(f"{TOPIC} cannot be compacted: {answer.error_message}")


def until_cleaned(running: Running, log: Path) -> None:
    """All but the active segment, as the cleaner's own checkpoint tells."""
    active = max(int(path.stem) for path in log.glob("*.log"))
    checkpoint = running.broker.directory / "cleaner-offset-checkpoint"
    deadline = time.monotonic() + PATIENCE_S
    while _cleaned_up_to(checkpoint, log.name) < active:
        if time.monotonic() > deadline:
            raise Trouble(f"{log.name} is not cleaned up to {active}")
        time.sleep(0.1)


def _cleaned_up_to(checkpoint: Path, log: str) -> int:
    for line in checkpoint.read_text().splitlines() if checkpoint.exists() else ():
        topic, *numbers = line.split()
        if numbers and f"{topic}-{numbers[0]}" == log:
            return int(numbers[1])
    return 0


def size_of(folder: Path) -> int:
    """Bytes of the segments that are still the log's."""
    return sum(path.stat().st_size for path in folder.glob("*.log"))


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / 100


class _Memory:
    """By how much a process' own memory grows at most: without pages of files, which are the kernel's to take back."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._before = self._most = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _now(self) -> float:
        lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) / 1024

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            self._most = max(self._most, self._now())

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self._most - self._before
