"""A broker in a thread of this process, with an event loop of its own: for tests of any kind."""

import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import trio

from kafkapy import broker
from kafkapy.broker import open_broker
from kafkapy.fleet import Fleet
from kafkapy.node import descriptors_each
from kafkapy.testing.activity import Activity
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection
from kafkapy.testing.faults import NO_DISK, Faults
from kafkapy.testing.handle import BrokerHandle
from kafkapy.testing.interception import Interception, OfBroker
from kafkapy.testing.operations import Operations
from kafkapy.testing.routing import ClusterClient
from kafkapy.testing.settings import broker_config
from kafkapy.testing.time_travel import TimeTravel

if TYPE_CHECKING:
    from kafkapy.storage.embedded.files import Disk

T = TypeVar("T")
R = TypeVar("R")

START_TIMEOUT_SECONDS: Final = 30.0
_STOP_TIMEOUT_SECONDS: Final = 15.0
_CALL_TIMEOUT_SECONDS: Final = 30.0


class Broker(BrokerHandle):
    """A complete broker beside the test, from the beginning of the `with` block to its end.

        with kafkapy.Broker() as broker:
            producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    Or a cluster of several `brokers`, node ids 1 and up, in these `racks` in turn: they can be stopped, killed, started
    and added, while clients work.

    Its data is in memory, or in `data_dir`; `settings` are those of Kafka's server.properties. Without a block, `start`
    and `stop` do the same; what is forgotten ends with the interpreter. `start` raises what kept the broker from
    starting: ConfigError, CannotListen, DirectoryInUse, DirectoryMismatch, OSError.
    """

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        *,
        port: int = 0,
        data_dir: str | os.PathLike[str] | None = None,
        brokers: int = 1,
        racks: Sequence[str] = (),
    ) -> None:
        self._brokers = brokers
        self._racks = racks
        super().__init__("127.0.0.1", port)
        self._running: broker.Broker | None = None
        self._settings = dict(settings or {})
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._thread: threading.Thread | None = None
        self._process_id = 0
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self.faults = Faults(self._call, no_disk=NO_DISK if self._data_dir is None else None)
        """What goes wrong with requests, until `reset`."""
        self.activity = Activity(self._call)
        """Who asks what."""
        self.clock = TimeTravel(self._call_running)
        """The broker's time, which a test can stop and move."""
        self._stop: trio.Event | None = None
        self.bound_port = port
        """The port that it listens on, whatever clients are told (`advertised.listeners`)."""
        self.cluster_id = ""
        """The id of the cluster that this broker is all of, once it has started."""

    def start(self, timeout: float = START_TIMEOUT_SECONDS) -> Self:
        """Start it, and return when it accepts connections; TimeoutError after so many seconds."""
        if self._thread is not None:
            raise RuntimeError("the broker was started already")
        self._process_id, self._failure = os.getpid(), None
        # A daemon: an interpreter that ends waits for no other thread before it comes to what is registered below.
        self._thread = threading.Thread(target=self._run, name="kafkapy", daemon=True)
        atexit.register(self.stop)
        self._thread.start()
        if not self._ready.wait(timeout):
            self.stop()
            raise TimeoutError(f"the broker did not start within {timeout:g} s")
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure
        return self

    def stop(self) -> None:
        """Stop it, and return when its data is safe and its port free. A second time it does nothing."""
        thread = self._thread
        if thread is None or self._process_id != os.getpid() or thread is threading.current_thread():
            return
        atexit.unregister(self.stop)
        self.faults.clear()
        if self._token is not None and self._stop is not None:
            try:
                self._token.run_sync_soon(self._begin_to_stop, self._stop)
            except trio.RunFinishedError:
                pass  # it has ended by itself, and said why
        thread.join(_STOP_TIMEOUT_SECONDS)
        super().close()  # not sooner: another thread may be waiting for an answer
        self._thread = None
        self._ready.clear()

    @property
    def operations(self) -> Operations:
        if not self._process_id:
            raise RuntimeError("the broker was not started: use it in a with block, or call start")
        self._refuse_after_fork()
        if self._thread is None:
            raise RuntimeError("the broker has stopped")
        return self._operations

    @property
    def bootstrap_servers(self) -> str:
        """host:port of each broker that runs, with commas between, as every client takes it."""
        running = self._running
        return super().bootstrap_servers if running is None else self._call(lambda: running.bootstrap_servers)

    @property
    def node_ids(self) -> list[int]:
        """The brokers that run."""
        return self._call_running(lambda: sorted(self._fleet.nodes))

    def stop_broker(self, node_id: int) -> None:
        """Stop one of the brokers: it hands over what it leads, and answers what is under way."""
        self._await(self._fleet.stop, node_id)

    def kill_broker(self, node_id: int) -> None:
        """End one of the brokers as a power cut would: its connections are cut, and then others lead what it led."""
        self._await(self._fleet.kill, node_id)

    def start_broker(self, node_id: int) -> None:
        """Start a broker that was stopped or killed, at the port that it had."""
        self._await(self._fleet.start, node_id)

    def add_broker(self, rack: str | None = None) -> int:
        """Start one more broker, and return its node id."""
        return self._await(self._fleet.add, rack)

    @property
    def _fleet(self) -> Fleet:
        assert self.operations
        assert self._running is not None
        return self._running.fleet

    def _await(self, work: Callable[[T], Awaitable[R]], argument: T) -> R:
        """Do this in the broker's event loop. RuntimeError where it does not run."""
        return trio.from_thread.run(work, argument, trio_token=self._token)

    def _client(self) -> Client:
        if self._brokers == 1:
            return super()._client()
        return ClusterClient(BlockingConnection, self._listened)

    def _operations_over(self, client: Client) -> Operations:
        return Operations(client, image=lambda: self._fleet.image, now_ms=self._now_ms)

    def _listened(self) -> list[tuple[str, int]]:
        addresses = [address.rpartition(":") for address in self.bootstrap_servers.split(",")]
        return [(host.strip("[]"), int(port)) for host, _, port in addresses]

    def _now_ms(self) -> int:
        return self.clock.now_ms()

    def reset(self) -> None:
        """Forget what `BrokerHandle` says, and faults, and let time go on; clients stay connected."""
        self.faults.clear()
        self.activity.forget()
        self.clock.thaw()
        super().reset()

    def _begin_to_stop(self, stop: trio.Event) -> None:
        self.clock.thaw()  # the grace of requests under way has an end
        stop.set()

    def _call_running(self, work: Callable[[], T]) -> T:
        """The same, but RuntimeError where it does not run."""
        assert self.operations
        return self._call(work)

    def _refuse_after_fork(self) -> None:
        if self._process_id not in (0, os.getpid()):
            raise RuntimeError(
                "this process was forked from the one that runs the broker: clients can reach it by its address, "
                "but the object belongs to the other process"
            )

    def _call(self, work: Callable[[], T]) -> T:
        """Do this in the broker's event loop, and return what it returns. At once where it does not run yet."""
        self._refuse_after_fork()
        if self._token is None or threading.current_thread() is self._thread:
            return work()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as problem:  # noqa: BLE001  the caller's, wherever it is
                done.set_exception(problem)

        try:
            self._token.run_sync_soon(run)
        except trio.RunFinishedError:
            return work()  # there is nobody left whom it could disturb
        return done.result(_CALL_TIMEOUT_SECONDS)

    def _run(self) -> None:
        try:
            trio.run(self._serve, strict_exception_groups=True)
        except BaseException as failure:  # noqa: BLE001  handed to whoever starts or stops it
            self._failure = _the_one_in(failure)
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stop = trio.Event()
        config, clock = broker_config(self._settings, self.port, self._brokers), self.clock.begin()
        async with open_broker(
            config,
            data_dir=self._data_dir,
            clock=clock,
            disk=None if self._data_dir is None else self._disk(),
            dispatch_of=lambda registry: Interception(OfBroker(registry), self.faults, self.activity, clock).dispatch,
            brokers=self._brokers,
            racks=self._racks,
        ) as running:
            self._running = running
            self.cluster_id = running.cluster_id
            self.bound_port = running.port
            host, _, port = next(iter(running.listeners.values())).rpartition(":")
            self._connect_to(host.strip("[]"), int(port))
            self._ready.set()
            await self._stop.wait()

    def _disk(self) -> "Disk":
        from kafkapy.testing.disk import FailingDisk  # a broker in memory does without

        return FailingDisk(self.faults, descriptors_each())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._failure is not None and error is None:
            raise self._failure


def _the_one_in(failure: BaseException) -> BaseException:
    """What a group of one was made of."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
