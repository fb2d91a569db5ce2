"""A cluster of Kafka Connect workers, each a process, and its REST API in a few words."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from brokers import free_port, kafka_home, resolve
from harness import alone
from scenarios import fresh

RUN = Path(os.environ["COMPAT_RUN"])
WORK = Path(os.environ["COMPAT_WORK"])
# The newest that Maven Central has, and the one class that they miss in a worker of 4.4.0.
CONNECTORS = "connect-file-4.3.1"
MISSED = Path(__file__).with_name("AppInfoParser.java")
JARS = ("org.apache.kafka:connect-file:4.3.1", "org.slf4j:slf4j-simple:1.7.36")
SECONDS = 300  # enough for whatever a cluster is waited for, on a busy machine
FILE = "org.apache.kafka.connect.file.FileStream"
MOMENTARILY = ("rebalance", "momentarily", "stale configuration")  # the caller shall ask again, says the API


class Refused(Exception):
    """The API refused; `status` as HTTP has it, the text is what it said."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


def jars() -> Path:
    """The folder with the connectors, something that writes a worker's log, and `classes`."""
    folder = WORK / "jars"
    with alone(WORK):
        if not (folder / f"{CONNECTORS}.jar").exists():
            resolve(folder, JARS)
        if not (folder / "classes").exists():
            compiler = ["javac", "-cp", f"{kafka_home()}/libs/*", "-d", str(folder / "classes"), str(MISSED)]
            subprocess.run(compiler, check=True, timeout=300)
    return folder


def until(what: str, true: Callable[[], object]) -> None:
    """Wait for something that no call waits for."""
    deadline = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < deadline, f"not so within {SECONDS} s: {what}"
        time.sleep(0.1)


class Worker:
    """One process, on a port of its own; what it says is kept beside its settings."""

    def __init__(self, settings: dict[str, str], folder: Path, number: int) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = folder / f"worker-{number}.log"
        self._properties = folder / f"worker-{number}.properties"
        own = {**settings, "listeners": f"http://{self.address}"}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in own.items()))

    def launch(self) -> None:
        libraries = f"{jars()}/slf4j-simple-1.7.36.jar:{kafka_home()}/libs/*:{jars()}/classes"
        java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m"]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", libraries]
        command = [*java, "org.apache.kafka.connect.cli.ConnectDistributed", str(self._properties)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        until(f"the worker is ready; {self.log}", self._ready)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _ready(self) -> bool:
        assert self.alive, f"the worker ended: {self.log.read_text('utf-8', 'replace')[-400:]}"
        try:
            with urllib.request.urlopen(f"http://{self.address}/health", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(120)


class Cluster:
    """So many workers, and the topics in which they keep what they know."""

    def __init__(self, bootstrap: str, worker_count: int, **others: str) -> None:
        self.id = fresh("connect")
        self.folder = RUN / "clusters" / self.id
        self.folder.mkdir(parents=True)
        settings = {
            "bootstrap.servers": bootstrap,
            "group.id": self.id,
            **{f"{what}.storage.topic": f"{self.id}-{what}" for what in ("config", "offset", "status")},
            **{f"{what}.storage.replication.factor": "1" for what in ("config", "offset", "status")},
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "exactly.once.source.support": "enabled",
            "offset.flush.interval.ms": "1000",
            "plugin.path": f"{jars()}/{CONNECTORS}.jar",
            "plugin.discovery": "service_load",
            # how long a worker that was killed is missed
            "session.timeout.ms": "6000",
            "heartbeat.interval.ms": "1000",
            "scheduled.rebalance.max.delay.ms": "0",
            "consumer.isolation.level": "read_committed",
            "consumer.session.timeout.ms": "6000",
            **others,
        }
        self.workers = [Worker(settings, self.folder, number) for number in range(1, worker_count + 1)]

    def start(self) -> None:
        for worker in self.workers:
            worker.launch()
        for worker in self.workers:
            worker.wait_ready()

    def stop(self) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.stop()

    def ask(self, method: str, path: str, said: object = None) -> Any:
        """What the API answers, asked again while it wants to be; raises `Refused`."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                return self._ask(method, path, said)
            except Refused as refused:
                again = refused.status in (409, 503) and any(text in refused.text for text in MOMENTARILY)
                if not again or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def source(self, topic: str, file: Path, **others: str) -> str:
        """Have lines of a file written to a topic; the connector's name."""
        config = {"connector.class": f"{FILE}SourceConnector", "tasks.max": "1", "topic": topic, "file": str(file)}
        config |= {"topic.creation.default.partitions": "1", "topic.creation.default.replication.factor": "1"}
        return self.create({**config, "exactly.once.support": "required", **others})

    def sink(self, topic: str, file: Path, **others: str) -> str:
        """Have records of a topic written to a file; the connector's name."""
        config = {"connector.class": f"{FILE}SinkConnector", "tasks.max": "1", "topics": topic, "file": str(file)}
        return self.create({**config, **others})

    def create(self, config: dict[str, str]) -> str:
        name = fresh("source" if "Source" in config["connector.class"] else "sink")
        self.ask("POST", "/connectors", {"name": name, "config": config})
        return name

    def states(self, connector: str) -> list[str]:
        """Of the connector and of its tasks."""
        try:
            status = self.ask("GET", f"/connectors/{connector}/status")
        except Refused as refused:
            assert refused.status == 404, refused  # it is not started yet
            return []
        return [part["state"] for part in (status["connector"], *status["tasks"])]

    def until_state(self, connector: str, *wanted: str) -> None:
        until(f"{connector} is {wanted}", lambda: self.states(connector) == list(wanted))

    def worker_of(self, connector: str) -> Worker:
        """The one that has its task."""
        (task,) = self.ask("GET", f"/connectors/{connector}/status")["tasks"]
        (worker,) = [worker for worker in self.workers if worker.address == task["worker_id"]]
        return worker

    def _ask(self, method: str, path: str, said: object) -> Any:
        address = next(worker.address for worker in self.workers if worker.alive)
        body = None if said is None else json.dumps(said).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{address}{path}", body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            try:
                text = json.loads(text)["message"]
            except (ValueError, KeyError):
                pass
            raise Refused(error.code, text) from None
        return json.loads(text) if text else None
