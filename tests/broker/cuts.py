"""Stock clients of three processes over one database, each process in a network of its own, which is cut at places.

A process is cut off from the database, from one of the others, or from everybody; or all are from the database. That
lasts for less than a lease, or until others have taken over. What is sent meanwhile is lost without a word.

`python -m tests.broker.cuts ROUNDS SEED`, as root, with iproute2.
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import trio

from kafkapy.clock import SystemClock
from kafkapy.storage.shared.check import check
from tests.broker.failover import Server, account
from tests.broker.test_fleet_clients import Writer, go_on, under_clients
from tests.broker.test_processes import KAFKAPY, LEASE_SECONDS, Processes, Seat, create_topics

NODES = (1, 2, 3)

_NOBODY = "02:00:00:00:00:00"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class Network:
    """A bridge, at which the database and the clients are, and a namespace at it for each process."""

    def __init__(self) -> None:
        # Several may be there, of as many runs.
        self._name = f"cuts{os.getpid()}"
        self._net = f"10.77.{os.getpid() % 256}"
        self.database = f"{self._net}.2"

    def make(self) -> None:
        ip("link", "add", self._name, "type", "bridge")
        for address in (f"{self._net}.1", self.database):  # clients come from the first
            ip("address", "add", f"{address}/24", "dev", self._name)
        ip("link", "set", self._name, "up")
        for node_id in NODES:
            space, link = self._space(node_id), self._link(node_id)
            ip("netns", "add", space)
            ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", link, "master", self._name, "up")
            ip("-n", space, "address", "add", f"{self.address(node_id)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", space, "link", "set", device, "up")

    def end(self) -> None:
        for node_id in NODES:
            ip("netns", "delete", self._space(node_id))
        ip("link", "delete", self._name)

    def address(self, node_id: int) -> str:
        return f"{self._net}.{10 + node_id}"

    def within(self, node_id: int) -> tuple[str, ...]:
        """What runs a program where this process is."""
        return ("ip", "netns", "exec", self._space(node_id))

    @contextmanager
    def without(self, node_id: int, address: str) -> Iterator[None]:
        """What this process sends to that address goes to nobody."""
        there = ("dev", "eth0", address)
        ip("-n", self._space(node_id), "neighbour", "replace", *there, "lladdr", _NOBODY, "nud", "permanent")
        try:
            yield
        finally:
            ip("-n", self._space(node_id), "neighbour", "delete", *there)

    @contextmanager
    def without_all(self, node_id: int) -> Iterator[None]:
        """Nothing comes from this process, or to it."""
        ip("link", "set", self._link(node_id), "down")
        try:
            yield
        finally:
            ip("link", "set", self._link(node_id), "up")

    def _space(self, node_id: int) -> str:
        return f"{self._name}-{node_id}"

    def _link(self, node_id: int) -> str:
        return f"{self._name}-{node_id}"


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    made.make()
    try:
        yield made
    finally:
        made.end()


@contextmanager
def database(host: str) -> Iterator[str]:
    parent = Path(tempfile.mkdtemp(prefix="kafkapy-cuts-"))
    if (name := account()) is not None:
        shutil.chown(parent, name)
    server = Server(parent / "server", 5432, host)
    try:
        server.make()
        server.start()
        yield f"postgresql://postgres@{host}/postgres"
    finally:
        server.stop()
        shutil.rmtree(parent)


async def cut(network: Network, processes: Processes, rounds: int, seed: int, writers: list[Writer]) -> None:
    """Cut the network at one place after the other."""
    chance = random.Random(seed)

    await go_on(writers)
    for number in range(rounds):
        one, other = chance.sample(NODES, 2)
        place = chance.choice(["database", "database", "each other", "all", "database of all"])
        is_long = chance.random() < 0.6
        seconds = LEASE_SECONDS * (chance.uniform(1.0, 2.5) if is_long else chance.uniform(0.1, 0.9))
        with ExitStack() as cuts:
            if place == "all":
                cuts.enter_context(network.without_all(one))
            elif place == "each other":
                cuts.enter_context(network.without(one, network.address(other)))
                cuts.enter_context(network.without(other, network.address(one)))
            else:
                for node_id in NODES if place == "database of all" else (one,):
                    cuts.enter_context(network.without(node_id, network.database))
            await trio.sleep(seconds)
            if is_long and place in ("database", "all"):
                await trio.to_thread.run_sync(processes.until_missed, one)
        await go_on(writers)
        said = f"{one} and {other} without each other" if place == "each other" else f"{one} without {place}"
        print(f"round {number + 1}: {said} for {seconds:.1f} s or more", flush=True)


async def run(rounds: int, seed: int) -> None:
    with ExitStack() as opened:
        at = opened.enter_context(network())
        url = opened.enter_context(database(at.database))
        seats = {node_id: Seat(url, at.address(node_id), program=(*at.within(node_id), *KAFKAPY)) for node_id in NODES}
        processes = Processes(seats)
        opened.callback(processes.end)
        await trio.to_thread.run_sync(processes.start_all)
        servers = processes.bootstrap_servers
        await trio.to_thread.run_sync(create_topics, servers, "t", "in-transactions")
        await under_clients(servers, partial(cut, at, processes, rounds, seed))
        problems = [problem async for problem in check(url, "kafkapy", SystemClock())]
        assert not problems, problems


if __name__ == "__main__":
    trio.run(run, int(sys.argv[1]), int(sys.argv[2]))
    print("nothing lost, doubled or reordered")
