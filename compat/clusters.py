"""Clusters of several brokers, where `brokers.py` has one: in the same words, and each broker can be killed by itself.

kafkapy's brokers are in one process, or each a process of its own over a PostgreSQL that is brought along; Apache
Kafka's are combined KRaft nodes, a JVM each. `kill` and `stop` end all of them. `restart` is what a check means that
has "the broker" killed: one after the other goes and comes back, so that whoever led or coordinated has been lost
once, and there were always others. Called by `compat/run`, `compat/endurance/` and `benchmarks/`.
"""

import contextlib
import random
import socket
import subprocess
import sys
import urllib.request
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from brokers import ROOT, ApacheKafka, Broker, Kafkapy, Trouble, free_port, read_line

COUNT = 3
_REPLICATED = {
    "default.replication.factor": str(COUNT),
    "offsets.topic.replication.factor": str(COUNT),
    "transaction.state.log.replication.factor": str(COUNT),
    "share.coordinator.state.topic.replication.factor": str(COUNT),
}
_DATABASE_SECONDS = 60


class OneProcess(Kafkapy):
    """kafkapy with several brokers in one process, over one data directory."""

    name = f"kafkapy, {COUNT} brokers"

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        python: str = sys.executable,
        log_format: str = "text",
        tree: Path = ROOT,
    ) -> None:
        # a broker that is started with --control would have no fetch sessions: these are to be as they are
        common = {**_REPLICATED, "max.incremental.fetch.session.cache.slots": "1000", **(settings or {})}
        # the brokers after the first listen at the ports after its own
        port = free_ports(COUNT)
        self._first = int(common.get("node.id", "1"))
        rack = common.pop("broker.rack", "")
        self._racks = ",".join(rack.replace("{node}", str(self._first + number)) for number in range(COUNT))
        super().__init__(directory, port=port, settings=common, python=python, log_format=log_format, tree=tree)
        self._control = ""

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{self.port + number}" for number in range(COUNT))

    @property
    def pids(self) -> list[int]:
        return [self.pid]

    def command(self) -> list[str]:
        return [*super().command(), "--brokers", str(COUNT), "--racks", self._racks, "--control", "0"]

    def took_ready(self, ready: Mapping[str, str]) -> None:
        self._control = ready["control"]

    def kill_one(self, number: int) -> None:
        self._move(number, "kill")

    def start_one(self, number: int) -> None:
        self._move(number, "start")

    def restart(self) -> None:
        for number in range(COUNT):
            self.kill_one(number)
            self.start_one(number)

    def _move(self, number: int, how: str) -> None:
        address = f"http://{self._control}/brokers/{self._first + number}/{how}"
        with urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60):
            pass


class Several:
    """Brokers in processes of their own; how they find each other is for who makes them."""

    name: str

    def __init__(self, directory: Path, nodes: Sequence[Broker]) -> None:
        self.directory = directory
        self.nodes = nodes

    @property
    def bootstrap(self) -> str:
        return ",".join(node.bootstrap for node in self.nodes)

    @property
    def port(self) -> int:
        return self.nodes[0].port

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in self.nodes]

    def start(self) -> None:
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_ready()

    def kill_one(self, number: int) -> None:
        self.nodes[number].kill()

    def start_one(self, number: int) -> None:
        self.nodes[number].start()

    def restart(self) -> None:
        for node in self.nodes:
            node.restart()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def stop(self) -> int:
        """Ask one after the other to stop; 0, or the first exit code that is not."""
        codes = [node.stop() for node in self.nodes]
        return next((code for code in codes if code), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Processes(Several):
    """`kafkapy start --database` several times. The PostgreSQL lies in the directory, and ends when the block does."""

    name = f"kafkapy, {COUNT} processes"

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        python: str = sys.executable,
        log_format: str = "text",
        tree: Path = ROOT,
        count: int = COUNT,
    ) -> None:
        common = {**(_REPLICATED if count == COUNT else {}), **(settings or {})}
        first = int(common.get("node.id", "1"))
        nodes = [
            _Process(
                directory.with_name(f"{directory.name}-{first + number}"),
                port=free_port(),
                settings={**common, "node.id": str(first + number)},
                python=python,
                log_format=log_format,
                tree=tree,
            )
            for number in range(count)
        ]
        super().__init__(directory, nodes)
        self.name = f"kafkapy, {count} process{'es' if count > 1 else ''}"
        self.processes = nodes
        self._database: subprocess.Popen[bytes] | None = None

    @property
    def database_pid(self) -> int:
        """Of the PostgreSQL's first process."""
        return int((self.directory / "postmaster.pid").read_text().split("\n", 1)[0])

    def start(self) -> None:
        if self._database is None:
            self._start_database()
        super().start()

    def _start_database(self) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        node = self.processes[0]
        self._database = subprocess.Popen(
            [node.python, str(ROOT / "compat" / "database.py"), str(self.directory)],
            env=node.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._database.stdout is not None
        url = read_line(self._database.stdout.fileno(), _DATABASE_SECONDS).strip()
        if not url:
            raise Trouble(f"the PostgreSQL in {self.directory} did not start")
        for process in self.processes:
            process.database = url

    def complaints(self) -> list[str]:
        return [complaint for process in self.processes for complaint in process.complaints()]

    def check(self) -> str:
        return self.processes[0].check()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._database is not None:
            self._database.communicate()


class _Process(Kafkapy):
    """One of them."""

    start_deadline_s = 60.0  # on a busy machine: a connection after the other, and who else is there is waited for
    database = ""

    def where(self) -> list[str]:
        return ["--database", self.database]

    def what_to_check(self) -> list[str]:
        return self.where()


class KafkaNodes(Several):
    """Apache Kafka."""

    name = f"Apache Kafka, {COUNT} nodes"

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        heap: tuple[str, ...] = ("-Xmx512m", "-Xms256m"),
    ) -> None:
        common = {**_REPLICATED, **(settings or {})}
        first = int(common.get("node.id", "1"))
        controllers = [free_port() for _ in range(COUNT)]
        voters = ",".join(f"{first + number}@127.0.0.1:{port}" for number, port in enumerate(controllers))
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        nodes = []
        for number, controller in enumerate(controllers):
            own = {"node.id": str(first + number), "controller.quorum.voters": voters}
            folder = directory.with_name(f"{directory.name}-{first + number}")
            node = ApacheKafka(folder, settings={**common, **own}, heap=heap, cluster_id=cluster_id)
            node.controller_port = controller
            nodes.append(node)
        super().__init__(directory, nodes)


def free_ports(count: int) -> int:
    """The first of so many in a row, below those that the system gives to whoever asks for one."""
    while True:
        port = random.randrange(15_000, 32_000, count)
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for number in range(count):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port + number))
            return port
