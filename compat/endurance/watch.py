"""What a broker's process needs while somebody works at it: memory and connections, once a second."""

import contextlib
import os
import statistics
import threading
import time
from pathlib import Path

from brokers import memory_kb


class Watch(threading.Thread):
    """The broker's memory and connections, once a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.stopping = threading.Event()
        self.samples: list[tuple[float, float]] = []
        self.most_connections = 0

    def run(self) -> None:
        begin = time.monotonic()
        while not self.stopping.wait(1):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.samples.append((time.monotonic() - begin, memory_kb(self.pid)["rss"] / 1024))
                self.most_connections = max(self.most_connections, connection_count(self.pid))

    @property
    def most_mb(self) -> float:
        return max(mb for _, mb in self.samples)

    def growth_mb_per_minute(self) -> float:
        """The slope of the second half."""
        half = self.samples[len(self.samples) // 2 :]
        return statistics.linear_regression(*zip(*half, strict=True)).slope * 60


def connection_count(pid: int) -> int:
    """Its open sockets."""
    count = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += os.readlink(descriptor).startswith("socket:")
    return count
