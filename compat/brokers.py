"""The two brokers that every harness starts: kafkapy and Apache Kafka, in processes of their own.

Both answer to the same few words (`start`, `kill`, `stop`), keep their port and their data from one start to the next,
and write what they say into a file beside their data. Called by `compat/run`, `compat/endurance/` and `benchmarks/`.
"""

import base64
import functools
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "compat" / ".work"
_CHECK_SECONDS = 900
KAFKA_VERSION = "4.4.0"
"""The release that kafkapy follows: docs/following_kafka.md."""


class Trouble(Exception):
    """Something that whoever runs the harness has to put right; the text says what."""


class Broker:
    """One broker process with one data directory. `port` 0 means: the first start picks a free one, and keeps it."""

    name: str
    start_deadline_s: float
    tree: Path = ROOT

    def __init__(self, directory: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.port = port
        self.settings = dict(settings or {})
        self.log_path = directory.with_name(directory.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def given(self) -> dict[str, str]:
        """The settings; `{port}` and `{node}` in a value are its port, where one was given, and its node id."""
        node_id = self.settings.get("node.id", "1")
        return {
            name: value.replace("{port}", str(self.port)).replace("{node}", node_id)
            for name, value in self.settings.items()
        }

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def prepare(self) -> None:
        """What must be done once before the first start; `launch` does it too."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        """What to execute."""
        raise NotImplementedError

    def launch(self) -> None:
        """Start the process and return at once, before it accepts anything."""
        self.prepare()
        command = self.command()
        with self.log_path.open("ab") as log:
            # a session of its own: the terminal's ^C is for the harness, which then stops its broker
            self.process = subprocess.Popen(
                command,
                cwd=self.tree,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=self.standard_output(log),
                stderr=log,
                start_new_session=True,
            )

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def standard_output(self, log: object) -> object:
        return log

    def wait_ready(self) -> None:
        """Return once the broker answers requests."""
        raise NotImplementedError

    def start(self) -> None:
        self.launch()
        self.wait_ready()

    def kill(self) -> None:
        """SIGKILL: no goodbye, no flush."""
        self._signal(signal.SIGKILL)

    def restart(self) -> None:
        """kill -9, and start again."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """Ask it to stop, insist after half a minute; the exit code."""
        self._signal(signal.SIGTERM, patience_s=30)
        assert self.process is not None
        return self.process.returncode

    def _signal(self, number: signal.Signals, patience_s: float = 10) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
            try:
                self.process.wait(patience_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def log_tail(self, line_count: int = 15) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text("utf-8", "replace").splitlines()[-line_count:])

    def _died(self) -> Trouble:
        return Trouble(f"{self.name} did not start; the end of {self.log_path}:\n{self.log_tail()}")

    def _until_answering(self) -> None:
        deadline = time.monotonic() + self.start_deadline_s
        while not answers(self.port, timeout_s=2):
            if not self.alive or time.monotonic() > deadline:
                raise self._died()
            time.sleep(0.005)


class Kafkapy(Broker):
    """`kafkapy start` of this working tree, or of another. Its ready line on stdout tells the port."""

    name = "kafkapy"
    start_deadline_s = 20.0

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        python: str = sys.executable,
        log_format: str = "text",
        tree: Path = ROOT,
    ) -> None:
        super().__init__(directory, port=port, settings=settings)
        self.tree = tree
        self.python = python
        self.log_format = log_format

    def command(self) -> list[str]:
        settings = [f"{name}={value}" for name, value in self.given().items()]
        return [
            *(self.python, "-m", "kafkapy", "start", "--port", str(self.port), *self.where(), "--json-ready"),
            *("--log-format", self.log_format, *(word for setting in settings for word in ("-c", setting))),
        ]

    def where(self) -> list[str]:
        """Where it keeps its data."""
        return ["--data-dir", str(self.directory)]

    def environment(self) -> dict[str, str]:
        # settings come from the command line alone, whatever KAFKA_* the caller's shell holds
        kept = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        kept["PYTHONPATH"] = str(self.tree)
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        return kept

    def standard_output(self, log: object) -> object:
        return subprocess.PIPE

    def wait_ready(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        line = read_line(self.process.stdout.fileno(), self.start_deadline_s)
        if not line:
            self.kill()
            raise self._died()
        ready = json.loads(line)
        self.port = ready["port"]
        self.took_ready(ready)

    def took_ready(self, ready: Mapping[str, str]) -> None:
        """What else is to be had of what it says when it is ready."""

    def complaints(self) -> list[str]:
        """The errors in its log; needs `log_format` json."""
        complaints = []
        for line in self.log_path.read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                complaints.append(line)  # a traceback, a warning of the interpreter: nothing that belongs there
                continue
            if entry["level"] in ("ERROR", "CRITICAL"):
                complaints.append(entry["message"])
        return complaints

    def check(self) -> str:
        """What `kafkapy check` finds wrong in the data directory, while no broker uses it; empty when it is sound."""
        command = [self.python, "-m", "kafkapy", "check", *self.what_to_check()]
        try:
            done = subprocess.run(
                command,
                cwd=self.tree,
                env=self.environment(),
                capture_output=True,
                text=True,
                check=False,
                timeout=_CHECK_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"`kafkapy check` did not end within {_CHECK_SECONDS} s"
        return "" if done.returncode == 0 else f"exit code {done.returncode}: {done.stdout}{done.stderr}"

    def what_to_check(self) -> list[str]:
        return [str(self.directory)]

    @staticmethod
    @functools.cache
    def version() -> str:
        """The commit of this working tree; dirty when the broker's own code is not what was committed."""

        def git(*arguments: str) -> str:
            done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
            return done.stdout.strip()

        changed = git("status", "--porcelain", "--", "kafkapy")
        return git("describe", "--always") + ("-dirty" if changed else "")


class ApacheKafka(Broker):
    """One combined KRaft node of Apache Kafka, its jars resolved from Maven Central at the first use.

    `KAFKA_HOME` may name a folder that has them already (in `libs`). `heap` is what the JVM gets as heap options;
    the default is what Kafka's own start script passes.
    """

    name = "Apache Kafka"
    start_deadline_s = 300.0  # on a busy machine
    ARTIFACTS = ("kafka_2.13", "kafka-tools", "kafka-streams", "connect-runtime")

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        settings: Mapping[str, str] | None = None,
        heap: tuple[str, ...] = ("-Xmx1G", "-Xms1G"),
        release: str = KAFKA_VERSION,
        cluster_id: str | None = None,
    ) -> None:
        super().__init__(directory, port=port or free_port(), settings=settings)
        self.cluster_id = cluster_id or base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.heap = heap
        self.release = release
        self.properties_path = directory.with_name(directory.name + ".properties")
        self.controller_port = free_port()

    def prepare(self) -> None:
        super().prepare()
        node_id = self.settings.get("node.id", "1")
        properties = {
            "process.roles": "broker,controller",
            "node.id": node_id,
            "controller.quorum.voters": f"{node_id}@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory),
            # what kafkapy's development profile sets too, so that both do the same with one node
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "socket.receive.buffer.bytes": "-1",
            "socket.send.buffer.bytes": "-1",
            **self.given(),
        }
        self.properties_path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        if not (self.directory / "meta.properties").exists():
            storage_tool = ["java", "-cp", f"{kafka_home(self.release)}/libs/*", "kafka.tools.StorageTool"]
            subprocess.run(
                [*storage_tool, "format", f"--cluster-id={self.cluster_id}", "-c", str(self.properties_path)],
                stdout=subprocess.DEVNULL,
                check=True,
            )

    def command(self) -> list[str]:
        libraries = f"{kafka_home(self.release)}/libs/*"
        return ["java", *self.heap, "-cp", libraries, "kafka.Kafka", str(self.properties_path)]

    def wait_ready(self) -> None:
        self._until_answering()

    @staticmethod
    def version() -> str:
        return KAFKA_VERSION


def kafka_home(release: str = KAFKA_VERSION) -> Path:
    """The folder whose `libs` holds the jars of a release of Apache Kafka: resolved with Maven when not there yet.

    `KAFKA_HOME` names one that is there, if it is of this release.
    """
    given = Path(os.environ.get("KAFKA_HOME") or WORK)
    home = given if has_jars(given, release) else WORK / f"apache-kafka-{release}"
    if shutil.which("java") is None:
        raise Trouble("Apache Kafka needs Java 17 or newer: no `java` on PATH")
    if has_jars(home, release):
        return home
    if shutil.which("mvn") is None:
        raise Trouble(
            "resolving Apache Kafka's jars needs Maven: no `mvn` on PATH "
            f"(or set KAFKA_HOME to an install of {release})"
        )
    print(f"resolving Apache Kafka {release} …", file=sys.stderr)
    wanted = [f"org.apache.kafka:{artifact}:{release}" for artifact in ApacheKafka.ARTIFACTS]
    resolve(home / "libs", [*wanted, "org.slf4j:slf4j-nop:1.7.36"])
    return home


def has_jars(home: Path, release: str) -> bool:
    """Whether a folder holds the jars of that release."""
    return all((home / "libs" / f"{artifact}-{release}.jar").exists() for artifact in ApacheKafka.ARTIFACTS)


def resolve(folder: Path, artifacts: Sequence[str]) -> None:
    """Fill a folder anew with the jars of artifacts of Maven Central (`group:name:version`) and of what they need."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in (artifact.split(":") for artifact in artifacts)
    )
    project = folder.with_name(f"{folder.name}.pom.xml")
    project.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>jars</groupId>'
        f"<artifactId>jars</artifactId><version>1</version><dependencies>{dependencies}</dependencies></project>"
    )
    partial = folder.with_name(f"{folder.name}.part")
    maven = ["mvn", "-q", "-B", "-f", str(project), "dependency:copy-dependencies", f"-DoutputDirectory={partial}"]
    # a suite that runs this speaks with compat/run on its standard output
    subprocess.run(maven, check=True, stdout=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, timeout_s: float) -> bool:
    """Whether a broker there answers an ApiVersions request (version 0: the smallest question there is)."""
    request = struct.pack(">hhihs", 18, 0, 1, 1, b"x")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(4)) == 4
    except OSError:
        return False


def read_line(descriptor: int, timeout_s: float) -> str:
    """One line from a pipe, or what there is of it when the time is over or the other end closed."""
    line = b""
    deadline = time.monotonic() + timeout_s
    poller = select.poll()  # select() knows no descriptor above 1023
    poller.register(descriptor, select.POLLIN)
    while not line.endswith(b"\n"):
        if not poller.poll(1000 * max(0, deadline - time.monotonic())):
            return ""
        byte = os.read(descriptor, 1)
        if not byte:
            return ""
        line += byte
    return line.decode()


def memory_kb(pid: int) -> dict[str, int]:
    """Rss and Pss of a process in KiB, as Linux counts them."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":", 1)
        fields[name] = int(value.split()[0])
    return {"rss": fields["Rss"], "pss": fields["Pss"]}
