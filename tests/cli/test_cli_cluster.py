"""`kafkapy cluster` as users run it: real processes over a real PostgreSQL, and stock clients."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import confluent_kafka
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient

from kafkapy.config.hosts import address_of
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.metadata import MetadataRequest
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, driven

COMMAND = [sys.executable, "-m", "kafkapy", "cluster"]
QUICK = ("-c", "kafkapy.database.lease.ms=1500")


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A cluster that has said that it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "--json-ready", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise AssertionError(process.communicate()[1])
        yield process, json.loads(line)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Not among pytest's own, which nobody but their owner may enter: as root PostgreSQL is another user's."""
    parent = Path(tempfile.mkdtemp(prefix="kafkapy-cluster-"))
    yield parent / "d"
    shutil.rmtree(parent)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Any, seconds: float = 120) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.05)


def partitions_of(bootstrap_servers: str, topic: str) -> list[Any]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap_servers)
    try:
        [told] = admin.describe_topics([topic])
        return list(told["partitions"])
    finally:
        admin.close()


def create(client: Client, name: str, partitions: int = 1, replicas: int = 3) -> None:
    """Whoever is asked, the controller decides; and who was asked knows at once what has come of it."""
    topic = CreateTopicsRequest.CreatableTopic(name=name, num_partitions=partitions, replication_factor=replicas)
    [created] = driven(client.ask(CreateTopicsRequest(topics=[topic], timeout_ms=30_000))).topics
    assert (created.error_code, created.num_partitions) == (0, partitions)
    asked = [MetadataRequest.MetadataRequestTopic(name=name)]
    [told] = driven(client.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=False))).topics
    assert (told.error_code, len(told.partitions)) == (0, partitions)


def send(bootstrap_servers: str, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap_servers.split(","), acks="all", enable_idempotence=True)
    try:
        for pending in [producer.send(topic, value, partition=n % 6) for n, value in enumerate(values)]:
            pending.get(timeout=60)
    finally:
        producer.close()


def read(bootstrap_servers: str, topic: str) -> list[bytes]:
    """All that is in the topic, once each of its partitions can be read to its end."""
    consumer = confluent_kafka.Consumer(
        {"bootstrap.servers": bootstrap_servers, "group.id": "none", "enable.partition.eof": True}
    )
    try:
        consumer.assign([confluent_kafka.TopicPartition(topic, index, 0) for index in range(6)])
        ended, found = set[int](), list[bytes]()
        while len(ended) < 6:
            for message in consumer.consume(100, 1.0):
                if message.error() is None:
                    found.append(message.value())
                elif message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        return found
    finally:
        consumer.close()


def test_three_brokers_are_one_cluster_and_one_that_is_killed_comes_back(directory: Path) -> None:
    with running("3", "--port", "0", "--restart", "--data-dir", str(directory), *QUICK) as (process, ready):
        servers: str = ready["bootstrap_servers"]
        addresses = servers.split(",")
        assert len(set(addresses)) == 3
        assert list(ready["brokers"]) == ["1", "2", "3"]
        for number, address in enumerate(addresses):
            client = Client(BlockingConnection(*address_of(address)))
            create(client, f"t{number}", partitions=6)
            for again in range(10):
                create(client, f"t{number}-{again}")
            driven(client.close())
        values = [b"%d" % number for number in range(60)]
        send(addresses[1], "t0", values)
        assert {one["leader_id"] for topic in ("t0", "t1", "t2") for one in partitions_of(servers, topic)} == {1, 2, 3}

        os.kill(ready["brokers"]["2"]["pid"], signal.SIGKILL)
        send(servers, "t0", values)
        assert sorted(read(servers, "t0")) == sorted(values * 2)
        host, _, port = addresses[1].rpartition(":")

        def answers() -> bool:
            try:
                socket.create_connection((host, int(port))).close()
            except ConnectionRefusedError:
                return False
            return True

        until(answers)  # at the address that it had
        assert sorted(read(addresses[1], "t0")) == sorted(values * 2)
        process.send_signal(signal.SIGINT)
        _, logged = process.communicate(timeout=60)
        assert process.returncode == 0
        assert re.search(r"broker 2 has ended \(SIGKILL\)", logged)
    assert not any(is_running(broker["pid"]) for broker in ready["brokers"].values())
    with running("2", "--port", "0", "--data-dir", str(directory)) as (_, ready):
        assert sorted(read(ready["bootstrap_servers"], "t0")) == sorted(values * 2)


def servers_of(directory: Path) -> list[str]:
    """The PostgreSQL that has this directory, as its process id."""
    file = directory / "postmaster.pid"
    return file.read_text().split()[:1] if file.exists() else []


def test_who_is_killed_leaves_nothing_running(directory: Path) -> None:
    """Nor does what comes next on the same directory find it in use, and that one ends as usual."""
    values = [b"%d" % number for number in range(6)]
    with running("2", "--port", "0", "--data-dir", str(directory), *QUICK) as (process, ready):
        client = Client(BlockingConnection(*address_of(ready["bootstrap_servers"].partition(",")[0])))
        create(client, "t", partitions=6, replicas=2)
        driven(client.close())
        send(ready["bootstrap_servers"], "t", values)
        [server] = servers_of(directory)
        process.kill()
        process.wait()
        with running("2", "--port", "0", "--data-dir", str(directory), *QUICK) as (_, again):
            pids = [broker["pid"] for broker in ready["brokers"].values()]
            assert not any(is_running(pid) for pid in [*pids, int(server)])
            assert sorted(read(again["bootstrap_servers"], "t")) == values
            [server] = servers_of(directory)
        until(lambda: not is_running(int(server)))


def test_what_was_for_now_goes_with_who_is_killed() -> None:
    with running("1", "--port", "0", *QUICK) as (process, ready):
        [directory] = parse_qs(urlsplit(ready["database"]).query)["host"]
        [server] = servers_of(Path(directory))
        process.kill()
        process.wait()
        until(lambda: not Path(directory).exists())
        until(lambda: not any(is_running(pid) for pid in (int(server), ready["brokers"]["1"]["pid"])))


def take_the_second_of_two(taken: socket.socket) -> int:
    """Listen at a port beyond a free one."""
    while True:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1] + 1
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            taken.listen()
            return port


def test_all_end_with_the_words_of_the_one_that_cannot_start() -> None:
    with socket.socket() as taken:
        port = take_the_second_of_two(taken)
        done = subprocess.run(
            [*COMMAND, "2", "--port", str(port - 1)], capture_output=True, text=True, timeout=120, check=False
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"[2] kafkapy: port {port} is in use" in done.stderr
    assert "kafkapy: broker 2 did not start" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("0",), "0 is less than one"),
        (("2", "--database", "sqlite://"), "is no URL of a PostgreSQL"),
        (("2", "-c", "no such"), "-c takes KEY=VALUE"),
        (("2", "--data-dir", "/dev/null/d"), "the database in /dev/null/d"),
    ],
)
def test_what_makes_no_sense_is_said(arguments: tuple[str, ...], says: str) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_addresses_are_one_line() -> None:
    process = subprocess.Popen([*COMMAND, "1", "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("", None)
    assert re.fullmatch(r"127\.0\.0\.1:[0-9]+\n", line)
    assert process.returncode == 0
