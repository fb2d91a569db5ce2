"""A broker in the caller's own trio."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from kafkapy import broker
from kafkapy.clock import Clock
from kafkapy.testing.as_version import answering_of, release_of
from kafkapy.testing.client import Client
from kafkapy.testing.connection import TrioConnection
from kafkapy.testing.operations import Operations
from kafkapy.testing.routing import ClusterClient
from kafkapy.testing.settings import broker_config


class TrioBroker(Operations):
    """A running broker in the caller's event loop; its methods are those of `Operations`."""

    def __init__(self, running: broker.Broker) -> None:
        self.bootstrap_servers = running.bootstrap_servers
        """host:port, as every client takes it."""
        self.port = running.port
        self.cluster_id = running.cluster_id
        self.fleet = running.fleet
        """The brokers, one or several: stops, kills, starts and adds some."""
        self._running = running
        addresses = self._listened()
        client = Client(TrioConnection(*addresses[0]))
        if len(addresses) > 1:
            client = ClusterClient(TrioConnection, self._listened)
        super().__init__(client, image=lambda: running.fleet.image, now_ms=running.rooms.clock.now_ms)

    def _listened(self) -> list[tuple[str, int]]:
        addresses = [address.rpartition(":") for address in self._running.bootstrap_servers.split(",")]
        return [(host.strip("[]"), int(port)) for host, _, port in addresses]


@asynccontextmanager
async def open_broker(
    settings: Mapping[str, str] | None = None,
    *,
    port: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
    brokers: int = 1,
    racks: Sequence[str] = (),
    as_version: str | None = None,
) -> AsyncIterator[TrioBroker]:
    """Run a broker for the length of the block, as `kafkapy.Broker` does, without a thread."""
    directory = None if data_dir is None else Path(data_dir)
    config = broker_config(settings or {}, port, brokers)
    release = release_of(as_version)
    async with broker.open_broker(
        config,
        data_dir=directory,
        clock=clock,
        dispatch_of=lambda registry: answering_of(registry, release).dispatch,
        brokers=brokers,
        racks=racks,
    ) as running:
        opened = TrioBroker(running)
        try:
            yield opened
        finally:
            await opened.close()
