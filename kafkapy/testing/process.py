"""A broker in a process of its own: for tests that stop, kill and restart it, or want its memory elsewhere."""

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from kafkapy.config.hosts import address_of
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection
from kafkapy.testing.entries import Entry, read_entries, written
from kafkapy.testing.handle import BrokerHandle
from kafkapy.testing.remote import Remote, RemoteActivity, RemoteFaults, RemoteTime
from kafkapy.testing.routing import ClusterClient
from kafkapy.testing.settings import configured

START_TIMEOUT_SECONDS: Final = 30.0
_STOP_TIMEOUT_SECONDS: Final = 15.0


class BrokerProcess(BrokerHandle):
    """`kafkapy start` beside the test. Its data is in memory, or in `data_dir`; what it logs goes to `log`, or nowhere.

    Or a cluster of several `brokers`, node ids 1 and up, in these `racks` in turn, which come and go as those of
    `kafkapy.Broker` do. What is forgotten is stopped when the interpreter ends. Faults, its clock and its activity are
    those of `kafkapy.Broker`, at a distance: they begin anew with each start.

    `start` raises RuntimeError with what the broker said when it does not start.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        data_dir: str | os.PathLike[str] | None = None,
        log: IO[bytes] | None = None,
        brokers: int = 1,
        racks: Sequence[str] = (),
        as_version: str | None = None,
    ) -> None:
        self._as_version = as_version
        self._brokers = brokers
        self._racks = racks
        self._given_port = port
        self._bootstrap_servers = ""
        super().__init__("127.0.0.1", port)
        self._settings = dict(settings or {})
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._parent_id = 0
        self._remote: Remote | None = None
        self.cluster_id = ""
        self.faults = RemoteFaults(self._control)
        """What goes wrong with requests, until `reset`."""
        self.activity = RemoteActivity(self._control)
        """Who asks what."""
        self.clock = RemoteTime(self._control)
        """The broker's time, which a test can stop and move."""

    def start(self, timeout: float = START_TIMEOUT_SECONDS) -> Self:
        """Start it, and return when it accepts connections: one alone on the port where it ran before.

        Raises RuntimeError with what it says, TimeoutError where it takes longer than `timeout` seconds.
        """
        if self._process is not None:
            raise RuntimeError("the broker runs already")
        where = ["--memory"] if self._data_dir is None else ["--data-dir", str(self._data_dir)]
        given = configured(self._settings, self.port if self._brokers == 1 else self._given_port)
        flags = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        cluster = ["--brokers", str(self._brokers), "--racks", ",".join(self._racks)]
        if self._as_version is not None:
            cluster += ["--as-version", self._as_version]
        command = [sys.executable, "-m", "kafkapy", "start", *where, *cluster, "--json-ready", "--control", "0", *flags]
        errors = subprocess.PIPE if self._log is None else self._log
        process = self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        self._parent_id = os.getpid()
        atexit.register(self.stop)
        said = _Said(process.stderr)
        is_late = threading.Event()

        def give_up() -> None:
            is_late.set()
            process.kill()

        late = threading.Timer(timeout, give_up)
        late.start()
        assert process.stdout is not None
        line = process.stdout.readline()
        late.cancel()
        if not line:
            process.wait()
            self._process = None
            reason = said.text() or "it said nothing"
            if is_late.is_set():
                raise TimeoutError(f"the broker did not start within {timeout:g} s: {reason}")
            raise RuntimeError(f"the broker did not start: {reason}")
        ready = json.loads(line)
        self.cluster_id = ready["cluster_id"]
        self._remote = Remote(*address_of(ready["control"]))
        self._bootstrap_servers = ready["bootstrap_servers"]
        self._connect_to(*address_of(self._bootstrap_servers.partition(",")[0]))
        return self

    @property
    def bootstrap_servers(self) -> str:
        """host:port of each broker that ran when last looked at, with commas between, as every client takes it."""
        return self._bootstrap_servers if self._brokers > 1 else super().bootstrap_servers

    @property
    def node_ids(self) -> list[int]:
        """The brokers that run."""
        return self._look_at(self._control().ask("GET", "/brokers"))

    def stop_broker(self, node_id: int) -> None:
        """Stop one of the brokers: it hands over what it leads, and answers what is under way."""
        self._look_at(self._control().ask("POST", f"/brokers/{node_id}/stop"))

    def kill_broker(self, node_id: int) -> None:
        """End one of the brokers as a power cut would: its connections are cut, and then others lead what it led."""
        self._look_at(self._control().ask("POST", f"/brokers/{node_id}/kill"))

    def start_broker(self, node_id: int) -> None:
        """Start a broker that was stopped or killed, at the port that it had."""
        self._look_at(self._control().ask("POST", f"/brokers/{node_id}/start"))

    def add_broker(self, rack: str | None = None) -> int:
        """Start one more broker, and return its node id."""
        added = self._control().ask("POST", "/brokers", {} if rack is None else {"rack": rack})
        self._look_at(self._control().ask("GET", "/brokers"))
        return int(added["node_id"])

    def _look_at(self, told: list[dict[str, Any]]) -> list[int]:
        """The brokers that run, as they were told."""
        if told:
            self._bootstrap_servers = ",".join(next(iter(one["listeners"].values())) for one in told)
        return [one["node_id"] for one in told]

    def _client(self) -> Client:
        if self._brokers == 1:
            return super()._client()
        return ClusterClient(BlockingConnection, lambda: map(address_of, self.bootstrap_servers.split(",")))

    def reset(self) -> None:
        """Forget what `BrokerHandle` says, and faults, and let time go on; clients stay connected."""
        self._control().reset()

    def restore(self, snapshot: "str | os.PathLike[str] | Iterable[Entry]") -> None:
        """Have it hold what it held then, and nothing else; groups must have no members."""
        self._control().exchange("POST", "/restore", written(entry for _, entry in read_entries(snapshot)).encode())

    def stop(self) -> None:
        """Stop it, and return when its data is safe. A second time it does nothing."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would, short of losing what the system has yet to write: SIGKILL."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None or self._parent_id != os.getpid():  # one that was forked from us stops nobody
            return
        atexit.unregister(self.stop)
        self.close()
        process.send_signal(number)
        try:
            process.wait(_STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def _control(self) -> Remote:
        if self._process is None or self._remote is None:
            raise RuntimeError("the broker does not run: use it in a with block, or call start")
        return self._remote

    def _now_ms(self) -> int:
        return self.clock.now_ms()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Said:
    """The last of what a process writes, read in a thread so that it never has to wait for its reader."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._last: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        if self._stream is not None:
            for line in self._stream:
                self._last = [*self._last[-9:], line]
            self._stream.close()

    def text(self) -> str:
        """What the process said in the end, once it has ended."""
        self._reader.join()
        return b"".join(self._last).decode(errors="replace").strip()
