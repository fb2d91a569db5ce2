"""A broker as a process whose disk takes nothing for a while: it says so, loses nothing, and goes on by itself."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from confluent_kafka import KafkaError, Producer
from test_cli_start import COMMAND, running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
FULL = (0, resource.RLIM_INFINITY)
"""No file may grow: the write fails that would."""


class Topic:
    """What was sent to a topic, and what became of it."""

    def __init__(self, bootstrap: object) -> None:
        settings = {"bootstrap.servers": str(bootstrap), "enable.idempotence": True, "message.timeout.ms": 1500}
        self._producer = Producer({**settings, "retry.backoff.ms": 50, "log_level": 0})
        self.acknowledged: list[bytes] = []

    def send(self, value: bytes) -> KafkaError | None:
        """What the broker said, or the client in its stead."""
        heard: list[Any] = []
        self._producer.produce("t", value, partition=0, on_delivery=lambda error, _: heard.append(error))
        self._producer.flush(30)
        assert len(heard) == 1
        if heard[0] is None:
            self.acknowledged.append(value)
        error: KafkaError | None = heard[0]
        return error


def kept(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.glob("t-0/*.log")))


@pytest.mark.parametrize("stops_while_full", [False, True])
def test_a_full_disk_costs_nothing_that_was_acknowledged(tmp_path: Path, stops_while_full: bool) -> None:
    with running("--port", "0", "--data-dir", str(tmp_path)) as (process, ready):
        topic = Topic(ready["bootstrap_servers"])
        assert topic.send(b"before") is None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, FULL)
        assert topic.send(b"while it is full") is not None
        if not stops_while_full:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, UNLIMITED)
            deadline = time.monotonic() + 60
            topic = Topic(ready["bootstrap_servers"])
            while topic.send(b"after") is not None:
                assert time.monotonic() < deadline, "it does not come back"
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0
    assert "Traceback" not in said
    assert said.count("is offline, its logs take no writes") == 1
    assert said.count("is back after") == (0 if stops_while_full else 1)
    assert all(value in kept(tmp_path) for value in (b"before", *topic.acknowledged))
    assert (tmp_path / ".kafka_cleanshutdown").exists() is not stops_while_full
    check(tmp_path)
    with running("--port", "0", "--data-dir", str(tmp_path)) as (_, ready):
        assert Topic(ready["bootstrap_servers"]).send(b"at last") is None


def check(directory: Path) -> None:
    done = subprocess.run([*COMMAND, "check", str(directory)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("sound\n", 0)
