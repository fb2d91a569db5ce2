"""The two sides, each under given conditions: another tree, few descriptors, slow syncs or appends, a full disk."""

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from brokers import WORK, ApacheKafka, Broker, Kafkapy, Trouble
from sides import PYTHON

Settings = Mapping[str, str]
FAULTS = Path(__file__).with_name("faults.c")
SLOWED = Path(__file__).with_name("slowed.py")


class Running:
    """A broker that runs, and the files by which faults are told of and brought about."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.sync_log = folder / "syncs"
        self._mark = folder / "full"

    @property
    def port(self) -> int:
        return self.broker.port

    @property
    def pid(self) -> int:
        return self.broker.pid

    @contextmanager
    def full(self) -> Iterator[None]:
        """No write to the given paths succeeds while the block runs."""
        self._mark.touch()
        try:
            yield
        finally:
            self._mark.unlink()

    def restart(self) -> None:
        self.broker.stop()
        self.broker.start()


@dataclass(frozen=True)
class Side:
    """kafkapy of a tree, or Apache Kafka."""

    name: str
    make: Callable[..., Broker]

    @contextmanager
    def running(
        self,
        settings: Settings | None = None,
        *,
        descriptors: int | None = None,
        sync_ms: int | None = None,
        full_path: str | None = None,
        append_ms: int | None = None,
    ) -> Iterator[Running]:
        """A broker on an empty directory; both are gone when the block ends. Trouble when it cannot be had so."""
        folder = Path(tempfile.mkdtemp(prefix="many-"))
        broker = self.make(folder / "data", settings=settings or {})
        command, environment = broker.command, broker.environment
        running = Running(broker, folder)
        if descriptors is not None:
            limit = f"ulimit -n {descriptors}; exec "
            broker.command = lambda: ["sh", "-c", limit + shlex.join(command())]  # type: ignore[method-assign]
        if append_ms is not None:
            if not isinstance(broker, Kafkapy):
                raise Trouble(f"{self.name} has no store whose appends could be slowed")
            broker.command = lambda: _slowed(command(), append_ms)  # type: ignore[method-assign]
        if sync_ms is not None or full_path is not None:
            faults = {"LD_PRELOAD": str(_faults()), "FAULTS_SYNC_LOG": str(running.sync_log)}
            if sync_ms is not None:
                faults["FAULTS_SYNC_MS"] = str(sync_ms)
            if full_path is not None:
                faults |= {"FAULTS_FULL_PATH": full_path, "FAULTS_FULL_MARK": str(folder / "full")}
            broker.environment = lambda: environment() | faults  # type: ignore[method-assign]
        try:
            broker.start()
            yield running
        finally:
            broker.kill()
            shutil.rmtree(folder, ignore_errors=True)


def kafkapy(tree: Path) -> Side:
    def make(folder: Path, settings: Settings) -> Broker:
        return Kafkapy(folder, settings=settings, python=PYTHON, tree=tree)

    return Side("kafkapy", make)


APACHE_KAFKA = Side("Apache Kafka", ApacheKafka)


def _slowed(command: list[str], append_ms: int) -> list[str]:
    python, _, _, *arguments = command  # python -m kafkapy start …
    return [python, str(SLOWED), str(append_ms), *arguments]


def _faults() -> Path:
    """The library that brings faults about, compiled at the first use."""
    built = WORK / "faults.so"
    if not built.exists() or built.stat().st_mtime < FAULTS.stat().st_mtime:
        if (compiler := shutil.which("cc")) is None:
            raise Trouble("slow syncs and full disks need a C compiler: no `cc` on PATH")
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(built), str(FAULTS), "-ldl"], check=True)
    return built
