#!/usr/bin/env python3
"""kafkapy with counters inside, for `profile`: requests, and with `hops` or `allocations` what they take.

    instrumented.py hops|allocations|none FILE start …      the rest is kafkapy's command line

Each SIGUSR1 appends a line of JSON to FILE: what was counted since the one before. The counting costs time, so nothing
is timed here, and the product knows nothing of it: dispatch is wrapped, and trio runs with an instrument.
"""

import gc
import json
import signal
import sys
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import trio

from kafkapy.cli.main import main
from kafkapy.handlers.context import Session
from kafkapy.handlers.registry import Registry
from kafkapy.protocol.messages import request_class

LINES = 15


class Hops(trio.abc.Instrument):
    """Counts how often a task is resumed, by the task's function, and how often the loop waits for I/O."""

    def __init__(self) -> None:
        self.steps: Counter[str] = Counter()
        self.waits = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps[task.name] += 1

    def before_io_wait(self, timeout: float) -> None:
        self.waits += 1


class Counting:
    """What SIGUSR1 writes."""

    def __init__(self, mode: str, path: Path) -> None:
        self.requests: Counter[int] = Counter()
        self.hops = Hops()
        self._mode = mode
        self._path = path
        self._collections = 0

    def report(self, number: int, frame: FrameType | None) -> None:
        collections = sum(generation["collections"] for generation in gc.get_stats())
        found: dict[str, Any] = {
            "requests": {request_class(key).__name__: count for key, count in self.requests.items()},
            "steps": dict(self.hops.steps),
            "io_waits": self.hops.waits,
            "collections": collections - self._collections,
        }
        if self._mode == "allocations":
            if tracemalloc.is_tracing():
                found["peak_kb"] = tracemalloc.get_traced_memory()[1] / 1024
                top = tracemalloc.take_snapshot().statistics("lineno")[:LINES]
                found["alive"] = [[str(line.traceback), line.size / 1024, line.count] for line in top]
                tracemalloc.stop()
            else:
                tracemalloc.start()
        with self._path.open("a") as out:
            out.write(json.dumps(found) + "\n")
        self.requests.clear()
        self.hops.steps.clear()
        self.hops.waits = 0
        self._collections = collections


def run(mode: str, path: Path) -> int:
    counting = Counting(mode, path)
    dispatch = Registry.dispatch

    async def counted(self: Registry, frame: memoryview, session: Session) -> Sequence[Any] | None:
        counting.requests[int.from_bytes(frame[:2], "big")] += 1
        return await dispatch(self, frame, session)

    Registry.dispatch = counted  # type: ignore[method-assign]
    if mode == "hops":
        trio.run = partial(trio.run, instruments=[counting.hops])
    signal.signal(signal.SIGUSR1, counting.report)
    return main(sys.argv[3:])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], Path(sys.argv[2])))
