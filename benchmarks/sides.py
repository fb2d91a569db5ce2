"""The brokers that are compared, and how long they have run when they are measured.

A *warm* side is one process that lives as long as the run and has served a minute of load first; while another side is
measured it only idles. A *cold* side is started on an empty directory for every sample. kafkapy stands on both, so that
each comparison is between equals: `PAIRS`. Warm sides have a listener with TLS besides.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "compat" / "security"))

from brokers import ApacheKafka, Broker, Kafkapy, Trouble, free_port
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from guarded import GuardedKafkapy
from users import write_certificates

Settings = Mapping[str, str]
DEADLINE_S = 120
PARTITIONS_AT_ONCE = 5000
"""Apache Kafka refuses requests that would write more than 10,000 facts."""


@dataclass(frozen=True)
class Side:
    """One column of what is measured."""

    name: str
    make: Callable[[Path, int], Broker]
    warm: bool


# what Kafka's start script passes beside the heap
_JVM = ("-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
DEFAULT_HEAP = ("-Xmx1G", "-Xms1G", *_JVM, "-XX:+ExplicitGCInvokesConcurrent")
SMALL_HEAP = ("-Xms64m", "-Xmx256m", *_JVM)
SETTINGS = {"log.segment.delete.delay.ms": "100"}
"""Of all sides: what one sample wrote is gone before the next. Else each writes to memory that the machine has not
touched for a minute, which on a virtual one costs several times what the broker does."""
PYTHON = os.environ.get("KAFKAPY_PYTHON", sys.executable)
"""The interpreter that kafkapy runs on."""
OWN_SETTINGS = dict(pair.split("=", 1) for pair in os.environ.get("KAFKAPY_SETTINGS", "").split())
"""What kafkapy is started with beyond that: KAFKAPY_SETTINGS="kafkapy.record.validation=headers"."""
KAFKA_DEFAULTS = {"socket.receive.buffer.bytes": "102400", "socket.send.buffer.bytes": "102400"}
"""Where the compatibility runs give Apache Kafka the values of kafkapy's development profile."""
KAFKA_SWEEPS = {"log.initial.task.delay.ms": "100"}
"""A cold Apache Kafka removes nothing in its first 30 s: as long would a cold sample wait at its end."""


def _kafkapy(folder: Path, port: int) -> Broker:
    return Kafkapy(folder, port=port, settings=SETTINGS | OWN_SETTINGS, python=PYTHON)


def _warm_kafkapy(folder: Path, port: int) -> Broker:
    settings = _with_tls(folder, port) | SETTINGS | OWN_SETTINGS
    return GuardedKafkapy(folder, port=port, settings=settings, python=PYTHON)


def _warm_kafka(folder: Path, port: int, heap: tuple[str, ...]) -> Broker:
    settings = SETTINGS | KAFKA_DEFAULTS | KAFKA_SWEEPS
    broker = ApacheKafka(folder, port=port, settings=settings, heap=heap)
    broker.settings |= _with_tls(folder, port, f",CONTROLLER://127.0.0.1:{broker.controller_port}")
    return broker


def _with_tls(folder: Path, port: int, more: str = "") -> dict[str, str]:
    """Settings of a broker with a second listener, and beside its folder the certificates for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_certificates(folder.parent)
    listeners = f"PLAINTEXT://127.0.0.1:{port},SSL://127.0.0.1:{free_port()}"
    return {
        "listeners": listeners + more,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder.parent / "broker.pem"),
    }


def _kafka(folder: Path, port: int) -> Broker:
    return ApacheKafka(folder, port=port, settings=SETTINGS | KAFKA_DEFAULTS | KAFKA_SWEEPS, heap=DEFAULT_HEAP)


def _small_kafka(folder: Path, port: int) -> Broker:
    return ApacheKafka(folder, port=port, settings=SETTINGS | KAFKA_DEFAULTS | KAFKA_SWEEPS, heap=SMALL_HEAP)


SIDES = {
    side.name: side
    for side in (
        Side("kafkapy", _warm_kafkapy, warm=True),
        Side("Apache Kafka", partial(_warm_kafka, heap=DEFAULT_HEAP), warm=True),
        Side("kafkapy, cold", _kafkapy, warm=False),
        Side("Apache Kafka, cold", _kafka, warm=False),
        Side("Apache Kafka, small heap", partial(_warm_kafka, heap=SMALL_HEAP), warm=True),
        Side("Apache Kafka, small heap, cold", _small_kafka, warm=False),
    )
}

PAIRS = {
    "warm": ("kafkapy", "Apache Kafka"),
    "cold": ("kafkapy, cold", "Apache Kafka, cold"),
    "small heap": ("kafkapy", "Apache Kafka, small heap"),
}
WARM_PAIRS = {name: pair for name, pair in PAIRS.items() if name != "cold"}
"""For scenarios over TLS."""
FRESH_PAIRS = {
    "cold": PAIRS["cold"],
    "small heap": ("kafkapy, cold", "Apache Kafka, small heap, cold"),
}
"""For scenarios that start the broker themselves: there is no warm side."""


@dataclass
class Target:
    """A broker to measure. Topics that scenarios fill once are kept for their next round in `filled`."""

    side: Side
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="benchmark-")))
    filled: dict[Any, Any] = field(default_factory=dict)
    measuring: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext
    """Entered while the clients of a scenario run: where `profile` attaches its tools."""
    _topics: int = 0
    _groups: int = 0

    def __post_init__(self) -> None:
        self.broker = self.side.make(self.folder / "data", free_port())

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.broker.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def bootstrap(self) -> str:
        return self.broker.bootstrap

    @property
    def tls(self) -> dict[str, str]:
        """What librdkafka is told to come in over TLS."""
        _, address = self.broker.settings["advertised.listeners"].split(",SSL://")
        return {
            "bootstrap.servers": address,
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.folder / "ca.pem"),
        }

    @property
    def pid(self) -> int:
        return self.broker.pid

    def topics(self, count: int, partitions: int) -> list[str]:
        """So many new topics, all of which the broker tells of with their leaders."""
        names = [f"many-{number:05}" for number in range(count)]
        admin = self._admin()
        at_once = PARTITIONS_AT_ONCE // 5 // partitions
        for begin in range(0, count, at_once):
            new = [NewTopic(name, partitions, 1) for name in names[begin : begin + at_once]]
            for made in admin.create_topics(new, request_timeout=DEADLINE_S).values():
                made.result()
        deadline = time.monotonic() + DEADLINE_S * 10
        while True:
            told = admin.list_topics(timeout=DEADLINE_S).topics
            if all(name in told and len(told[name].partitions) == partitions for name in names):
                return names
            if time.monotonic() > deadline:
                raise Trouble(f"{self.side.name} tells of {len(told)} of {count} topics")
            time.sleep(1)

    def share_group(self) -> str:
        """A share group that is yet to begin, at the beginning of what it will read."""
        self._groups += 1
        name = f"share-{self._groups:04}"
        earliest = ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.GROUP, name, incremental_configs=[earliest])
        admin = self._admin()
        admin.incremental_alter_configs([resource])[resource].result()
        return name

    def topic(self, partitions: int, config: Settings | None = None) -> str:
        """A new topic, all of its partitions serving (which Apache Kafka's metadata says before it is so)."""
        self._topics += 1
        name = f"bench-{self._topics:04}"
        admin = self._admin()
        new = NewTopic(name, min(partitions, PARTITIONS_AT_ONCE), 1, config=dict(config or {}))
        wanted = {TopicPartition(name, partition) for partition in range(partitions)}
        deadline = time.monotonic() + DEADLINE_S
        try:
            admin.create_topics([new], request_timeout=DEADLINE_S)[name].result()
            for count in range(2 * PARTITIONS_AT_ONCE, partitions + PARTITIONS_AT_ONCE, PARTITIONS_AT_ONCE):
                more = NewPartitions(name, min(count, partitions))
                admin.create_partitions([more], request_timeout=DEADLINE_S)[name].result()
        except KafkaException as refused:
            raise Trouble(f"{self.side.name} refused a topic of {partitions} partitions: {refused}") from refused
        while wanted:
            asked = admin.list_offsets({part: OffsetSpec.latest() for part in wanted}, request_timeout=DEADLINE_S)
            for part, answer in asked.items():
                with contextlib.suppress(KafkaException):
                    answer.result()
                    wanted.discard(part)
            if time.monotonic() > deadline:
                raise Trouble(f"{self.side.name} does not serve {len(wanted)} of {partitions} partitions")
        return name

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2})

    def drop(self, topic: str) -> None:
        """Delete the topic, and return when its files are gone."""
        admin = self._admin()  # must outlive its answer
        admin.delete_topics([topic], request_timeout=DEADLINE_S)[topic].result()
        deadline = time.monotonic() + DEADLINE_S
        while any(True for _ in self.folder.glob(f"data/{topic}-*")):
            if time.monotonic() > deadline:
                raise Trouble(f"{self.side.name} keeps the files of a deleted topic")
            time.sleep(0.05)
