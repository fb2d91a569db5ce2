"""Stock clients of three processes over one database, which are paused, killed or cut off at the worst of moments.

A moment is a statement that has not reached the database yet, or whose answer has not come back; or a request of a
client or of another broker, before its work or before its answer. Whoever comes to it first is held there, and paused
until others have taken over what it had, or killed, or its connections break. Then what was held arrives after all.

`python -m tests.broker.test_points ROUNDS SEED` goes on for as many rounds as it is told.
"""

import random
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from kafkapy.clock import SystemClock
from kafkapy.storage.shared.check import check
from kafkapy.storage.shared.folding import FOLD
from kafkapy.storage.shared.members import RENEW
from kafkapy.storage.shared.tenure import RELEASE, TAKE
from kafkapy.testing.remote import Remote, RemoteFaults, RemoteRule
from tests.broker.test_fleet_clients import KafkaPython, Writer, go_on, under_clients
from tests.broker.test_processes import KAFKAPY, Processes, Seat, create_topics, database
from tests.storage.proxies import Proxy, proxied

UNFENCED = (sys.executable, "-m", "tests.broker.unfenced")

STATEMENTS = {
    "a commit": "insert into commits",
    "a fold": FOLD.sql,
    "a renewal": RENEW.sql,
    "a take-over": TAKE.sql,
    "a hand-over": RELEASE.sql,
}
_MOVING = ("a take-over", "a hand-over")
"""These come when somebody goes and comes back."""

REQUESTS = ("Produce", "EndTxn", "AddPartitionsToTxn", "WriteTxnMarkers", "OffsetCommit", "Heartbeat", "Fetch")

_PATIENCE_SECONDS = 20.0
"""Not every moment comes with every owner of the internal partitions, or before long."""


class Round(NamedTuple):
    """What happens to whoever comes to this moment first."""

    deed: str
    """"pause", "kill", "cut"."""
    moment: str
    is_after: bool

    def __str__(self) -> str:
        return f"{self.deed} {'after' if self.is_after else 'before'} {self.moment}"


class Hold(ABC):
    """Holds the first process that comes to a moment, and no other."""

    @abstractmethod
    async def caught(self) -> int:
        """Its number, once it is held."""

    @abstractmethod
    async def let_go(self) -> None:
        """Of all processes that can go on."""


class Statements(Hold):
    """On their way to the database, or their answers."""

    def __init__(self, proxies: Mapping[int, Proxy], sql: str, *, is_after: bool) -> None:
        self._proxies = proxies
        for proxy in proxies.values():
            proxy.hold(sql, answer=is_after)

    async def caught(self) -> int:
        first: list[int] = []
        async with trio.open_nursery() as nursery:

            async def watch(node_id: int) -> None:
                await self._proxies[node_id].held.wait()
                first.append(node_id)
                nursery.cancel_scope.cancel()

            for node_id in self._proxies:
                nursery.start_soon(watch, node_id)
        for node_id, proxy in self._proxies.items():
            if node_id != first[0]:
                proxy.let_go()
        return first[0]

    async def let_go(self) -> None:
        for proxy in self._proxies.values():
            proxy.let_go()


class Requests(Hold):
    """Of clients and other brokers."""

    def __init__(self, faults: Mapping[int, RemoteFaults], api: str, *, is_after: bool) -> None:
        self._faults = faults
        self._rules: dict[int, RemoteRule] = {
            node_id: there.add(api, hold=True, when="after" if is_after else "before")
            for node_id, there in faults.items()
        }

    async def caught(self) -> int:
        while True:
            for node_id, rule in self._rules.items():
                if await trio.to_thread.run_sync(lambda rule=rule: rule.hits):
                    for other, there in self._faults.items():
                        if other != node_id:
                            await trio.to_thread.run_sync(there.clear)
                    return node_id
            await trio.sleep(0.02)

    async def let_go(self) -> None:
        for there in self._faults.values():
            await trio.to_thread.run_sync(there.clear)


class Worst:
    """Has processes come to grief at moments."""

    def __init__(self, processes: Processes, proxies: Mapping[int, Proxy], seed: int) -> None:
        self._processes = processes
        self._proxies = proxies
        self._chance = random.Random(seed)
        self.not_met: list[Round] = []
        """Whose moments did not come."""

    def rounds(self, count: int) -> Iterator[Round]:
        """At random."""
        for _ in range(count):
            if self._chance.random() < 0.6:
                deed, moments = self._chance.choice(["pause", "pause", "cut", "cut", "kill"]), list(STATEMENTS)
            else:
                deed, moments = "pause", list(REQUESTS)
            yield Round(deed, self._chance.choice(moments), self._chance.random() < 0.5)

    async def disturb(self, rounds: Sequence[Round], writers: list[Writer]) -> None:
        await go_on(writers)
        for number, this in enumerate(rounds):
            node_id = await self._round(this, writers)
            await go_on(writers)
            if node_id is None:
                self.not_met.append(this)
            print(f"round {number + 1}: {this}, of {node_id or 'nobody: it did not come'}", flush=True)

    async def _round(self, this: Round, writers: list[Writer]) -> int | None:
        if this.moment in STATEMENTS:
            hold: Hold = Statements(self._proxies, STATEMENTS[this.moment], is_after=this.is_after)
        else:
            hold = await trio.to_thread.run_sync(self._requests, this)
        node_id = None
        async with trio.open_nursery() as nursery:
            if this.moment in _MOVING:
                nursery.start_soon(self._move)
            with trio.move_on_after(_PATIENCE_SECONDS):
                node_id = await hold.caught()
        if node_id is not None:
            await getattr(self, f"_{this.deed}")(node_id, hold, writers)
        await hold.let_go()
        return node_id

    def _requests(self, this: Round) -> Requests:
        return Requests(
            {node_id: faults(ready["control"]) for node_id, ready in self._processes.ready.items()},
            this.moment,
            is_after=this.is_after,
        )

    async def _move(self) -> None:
        """Have lanes taken over and handed over."""
        node_id = self._chance.choice(sorted(self._processes.running))
        self._processes.pause(node_id)
        await trio.to_thread.run_sync(self._processes.until_missed, node_id)
        self._processes.go_on(node_id)

    async def _pause(self, node_id: int, hold: Hold, writers: list[Writer]) -> None:
        self._processes.pause(node_id)
        await trio.to_thread.run_sync(self._processes.until_missed, node_id)
        if isinstance(hold, Statements) and self._chance.random() < 0.5:
            await hold.let_go()  # it arrives while whoever sent it stands still
        self._processes.go_on(node_id)

    async def _cut(self, node_id: int, hold: Hold, writers: list[Writer]) -> None:
        self._proxies[node_id].cut()

    async def _kill(self, node_id: int, hold: Hold, writers: list[Writer]) -> None:
        await trio.to_thread.run_sync(self._processes.kill, node_id)
        await go_on(writers)  # others have taken over, and written
        await hold.let_go()
        await trio.to_thread.run_sync(self._processes.start, node_id)


def faults(control: str) -> RemoteFaults:
    host, _, port = control.rpartition(":")
    return RemoteFaults(lambda: Remote(host, int(port)))


class Cluster(NamedTuple):
    """Three processes, and what stands between each and the database."""

    processes: Processes
    proxies: dict[int, Proxy]
    database: str

    async def check(self) -> list[str]:
        return [problem async for problem in check(self.database, "kafkapy", SystemClock())]


@asynccontextmanager
async def cluster(program: tuple[str, ...] = KAFKAPY) -> AsyncIterator[Cluster]:
    async with AsyncExitStack() as opened:
        url = opened.enter_context(database())
        proxies: dict[int, Proxy] = {}
        for node_id in (1, 2, 3):
            directory = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="kafkapy-proxy-")))
            proxies[node_id] = await opened.enter_async_context(proxied(url, directory))
        processes = Processes(
            {node_id: Seat(proxy.url, program=program, flags=("--control", "0")) for node_id, proxy in proxies.items()}
        )
        opened.callback(processes.end)
        await trio.to_thread.run_sync(processes.start_all)
        await trio.to_thread.run_sync(create_topics, processes.bootstrap_servers, "t", "in-transactions")
        yield Cluster(processes, proxies, url)


async def run(rounds: Sequence[Round] | int, seed: int = 0) -> None:
    """These rounds, or so many by chance."""
    async with cluster() as there:
        worst = Worst(there.processes, there.proxies, seed)
        planned = list(worst.rounds(rounds)) if isinstance(rounds, int) else rounds
        await under_clients(there.processes.bootstrap_servers, partial(worst.disturb, planned))
        assert isinstance(rounds, int) or not worst.not_met, worst.not_met
        problems = await there.check()
        assert not problems, problems


async def test_nothing_is_lost_doubled_or_reordered_whatever_is_under_way() -> None:
    rounds = [
        Round("kill", "a commit", is_after=False),
        Round("pause", "a commit", is_after=False),
        Round("cut", "a commit", is_after=True),
        Round("pause", "Produce", is_after=True),
    ]
    await run(rounds)


async def test_a_store_without_a_fence_is_found_out() -> None:
    """The negative control: what a process has sent that is dead since arrives, and counts."""
    async with cluster(UNFENCED) as there, trio.open_nursery() as nursery:
        writer = KafkaPython(there.processes.bootstrap_servers, "t")
        nursery.start_soon(trio.to_thread.run_sync, writer.run)
        await go_on([writer])
        assert await there.check() == []
        hold = Statements(there.proxies, STATEMENTS["a commit"], is_after=False)
        node_id = await hold.caught()
        await trio.to_thread.run_sync(there.processes.kill, node_id)
        await go_on([writer])  # others have taken over, and written
        await hold.let_go()
        with trio.fail_after(60):
            while not await there.check():
                await trio.sleep(0.1)
        writer.over.set()


if __name__ == "__main__":
    trio.run(run, int(sys.argv[1]), int(sys.argv[2]))
    print("nothing lost, doubled or reordered")
