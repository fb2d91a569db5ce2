"""What a broker's process costs, read from /proc (Linux): CPU seconds and memory."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all the process's threads so far, those that ended included. Steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def machine_cpu_seconds() -> float:
    """What all processes used since boot, and what the hypervisor gave to other machines (steal)."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_SECOND


def rss_mb(pid: int) -> float:
    """Resident memory in MiB. A JVM's heap counts once touched, also what it no longer uses."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


@dataclass(frozen=True)
class Cost:
    """What a process, and the machine, used between two moments."""

    seconds: float
    cpu_s: float
    machine_cpu_s: float

    @property
    def busy(self) -> float:
        """Cores kept busy."""
        return self.cpu_s / self.seconds

    @property
    def machine_busy(self) -> float:
        """The same of all processes together."""
        return self.machine_cpu_s / self.seconds


class Costing:
    """Starts counting when made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s = cpu_seconds(pid)
        self._machine_cpu_s = machine_cpu_seconds()
        self._begin = time.monotonic()

    def so_far(self) -> Cost:
        return Cost(
            time.monotonic() - self._begin,
            cpu_seconds(self._pid) - self._cpu_s,
            machine_cpu_seconds() - self._machine_cpu_s,
        )
