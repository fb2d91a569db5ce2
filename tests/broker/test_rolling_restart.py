"""`kafkapy cluster --restart` whose brokers are told to stop one after the other, while stock clients work."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import confluent_kafka.admin
import trio

from tests.broker.test_fleet_clients import Writer, go_on, under_clients, until
from tests.broker.test_processes import create_topics

SETTINGS = {
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "6",
    "kafkapy.database.lease.ms": "5000",
}


class Cluster:
    """Three brokers, each of which comes back."""

    def __init__(self, ready: Any) -> None:
        self.bootstrap_servers: str = ready["bootstrap_servers"]
        self.pids: dict[int, int] = {int(node_id): broker["pid"] for node_id, broker in ready["brokers"].items()}

    def until_back(self, node_id: int) -> None:
        """Return once the broker says that it is there."""
        address = self.bootstrap_servers.split(",")[list(self.pids).index(node_id)]
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": address})
        while node_id not in admin.list_topics(timeout=60).brokers:
            pass


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def cluster() -> Iterator[Cluster]:
    settings = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    process = subprocess.Popen(
        [sys.executable, "-m", "kafkapy", "cluster", "3", "--port", "0", "--restart", "--json-ready", *settings],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield Cluster(json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.communicate(timeout=60)


async def restart_all(brokers: Cluster, writers: list[Writer]) -> None:
    await go_on(writers)
    for node_id, pid in brokers.pids.items():
        os.kill(pid, signal.SIGTERM)
        await until(partial(is_gone, pid))
        await trio.to_thread.run_sync(brokers.until_back, node_id)
        await go_on(writers)


async def test_a_rolling_restart_is_nothing_that_clients_tell_of() -> None:
    with cluster() as brokers:
        await trio.to_thread.run_sync(create_topics, brokers.bootstrap_servers, "t", "in-transactions")
        await under_clients(brokers.bootstrap_servers, partial(restart_all, brokers))
