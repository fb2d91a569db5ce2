"""A broker in a thread of this process, with an event loop of its own: for tests of any kind."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kafkapy import broker
from kafkapy.broker import open_broker
from kafkapy.fleet import Fleet
from kafkapy.node import descriptors_each
from kafkapy.testing.activity import Activity
from kafkapy.testing.as_version import answering_of, release_of
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection
from kafkapy.testing.faults import NO_DISK, Faults
from kafkapy.testing.in_thread import InThread
from kafkapy.testing.interception import Interception
from kafkapy.testing.operations import Operations
from kafkapy.testing.routing import ClusterClient
from kafkapy.testing.settings import broker_config
from kafkapy.testing.time_travel import TimeTravel

if TYPE_CHECKING:
    from kafkapy.storage.embedded.files import Disk


class Broker(InThread):
    """A complete broker beside the test, from the beginning of the `with` block to its end.

        with kafkapy.Broker() as broker:
            producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)

    Or a cluster of several `brokers`, node ids 1 and up, in these `racks` in turn: they can be stopped, killed, started
    and added, while clients work.

    With `as_version` ("3.9") it tells its clients of no more than that Kafka does, so that their fallbacks are tried.

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
        as_version: str | None = None,
    ) -> None:
        self._brokers = brokers
        self._racks = racks
        super().__init__(port, "broker")
        self._running: broker.Broker | None = None
        self._release = release_of(as_version)
        self._settings = dict(settings or {})
        self._data_dir = None if data_dir is None else Path(data_dir)
        self.faults = Faults(self._call, no_disk=NO_DISK if self._data_dir is None else None)
        """What goes wrong with requests, until `reset`."""
        self.activity = Activity(self._call)
        """Who asks what."""
        self.clock = TimeTravel(self._call_running)
        """The broker's time, which a test can stop and move."""
        self.bound_port = port
        """The port that it listens on, whatever clients are told (`advertised.listeners`)."""
        self.cluster_id = ""
        """The id of the cluster that this broker is all of, once it has started."""

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

    def _let_go(self) -> None:
        self.faults.clear()
        self.clock.thaw()  # the grace of requests under way has an end

    async def _serve(self) -> None:
        config, clock = broker_config(self._settings, self.port, self._brokers), self.clock.begin()
        async with open_broker(
            config,
            data_dir=self._data_dir,
            clock=clock,
            disk=None if self._data_dir is None else self._disk(),
            dispatch_of=lambda registry: (
                Interception(answering_of(registry, self._release), self.faults, self.activity, clock).dispatch
            ),
            brokers=self._brokers,
            racks=self._racks,
        ) as running:
            self._running = running
            self.cluster_id = running.cluster_id
            self.bound_port = running.port
            host, _, port = next(iter(running.listeners.values())).rpartition(":")
            self._connect_to(host.strip("[]"), int(port))
            await self._await_stop()

    def _disk(self) -> "Disk":
        from kafkapy.testing.disk import FailingDisk  # a broker in memory does without

        return FailingDisk(self.faults, descriptors_each())
