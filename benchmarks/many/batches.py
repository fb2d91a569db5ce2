"""Work on whole batches, and who waits meanwhile: records checked, looked up by time, inflated."""

import functools
import time
from pathlib import Path

from client import PRODUCE, Client, Probe, batch_of, frame_of, probing, produce
from given import Side

from kafkapy.records.batch import Compression
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record

Figures = dict[str, float]
EPOCH_MS = 1_700_000_000_000
MAX_TIMESTAMP = -3
RECORDS, SMALL_BATCHES, INFLATED_BYTES = 200_000, 150_000, 200_000_000
_PAUSE_S = 0.3


class _Timed:
    """A request, done three times beside a probe: its median seconds, and the probe's worst wait."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._spans: dict[str, list[tuple[float, float]]] = {}

    def do(self, name: str, work: "functools.partial[object]", times: int = 3) -> None:
        for _ in range(times):
            begin = time.monotonic()
            work()
            self._spans.setdefault(name, []).append((begin, time.monotonic()))
            time.sleep(_PAUSE_S)

    def figures(self) -> Figures:
        """To be asked when the probe has stopped."""
        found = {}
        for name, spans in self._spans.items():
            found[f"ms, {name}"] = 1000 * sorted(end - begin for begin, end in spans)[len(spans) // 2]
            worst = sorted(self._probe.worst_ms(begin, end + 0.05) for begin, end in spans)
            found[f"ms, another client during {name}"] = worst[len(worst) // 2]
        return found


@functools.cache
def _large() -> bytes:
    records = [Record(i, EPOCH_MS + i, b"%d" % i, b"v%d" % (i * 7919 % 1000), []) for i in range(RECORDS)]
    return build_batch(records, compression=Compression.ZSTD)


def large_batch(side: Side) -> Figures:
    """A zstd batch of 200,000 records to a compacted topic, and lookups by time in it."""
    batch = _large()
    frame = frame_of(produce("t", [0], batch), PRODUCE)
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", 1, {"cleanup.policy": "compact", "message.timestamp.before.max.ms": str(2**63 - 1)})
        client.fill("t", [0], batch)
        with probing(running.port) as probe:
            timed = _Timed(probe)
            timed.do("produce", functools.partial(client.exchange, frame))
            timed.do("by time", functools.partial(client.offsets, "t", [0], EPOCH_MS + RECORDS - 10))
            timed.do("max timestamp", functools.partial(client.offsets, "t", [0], MAX_TIMESTAMP))
    return {"MB of the batch": len(batch) / 1e6} | timed.figures()


def small_batches(side: Side) -> Figures:
    """A log of 150,000 batches of one record each, and lookups by time in it."""
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", 1)
        client.pipelined(
            frame_of(produce("t", [0], batch_of(20, timestamp=EPOCH_MS + number)), PRODUCE)
            for number in range(SMALL_BATCHES)
        )
        with probing(running.port) as probe:
            timed = _Timed(probe)
            timed.do("by time", functools.partial(client.offsets, "t", [0], EPOCH_MS + SMALL_BATCHES - 10))
            timed.do("max timestamp", functools.partial(client.offsets, "t", [0], MAX_TIMESTAMP))
    return timed.figures()


def inflating_batch(side: Side) -> Figures:
    """A batch of 6 kB that inflates to 200 MB, to a compacted topic: memory, and who waits meanwhile."""
    batch = build_batch([Record(0, EPOCH_MS, b"k", bytes(INFLATED_BYTES), [])], compression=Compression.ZSTD)
    frame = frame_of(produce("t", [0], batch), PRODUCE)
    with side.running() as running, Client(running.port) as client:
        client.make_topic("t", 1, {"cleanup.policy": "compact"})
        with probing(running.port) as probe:
            before = _peak_mb(running.pid)
            timed = _Timed(probe)
            timed.do("produce", functools.partial(client.exchange, frame), times=1)
            after = _peak_mb(running.pid)
    return {"kB of the batch": len(batch) / 1e3, "MB more at the peak": after - before} | timed.figures()


def _peak_mb(pid: int) -> float:
    """The most resident memory that the process ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)
