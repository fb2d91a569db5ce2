"""A broker in the caller's own trio."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from kafkapy import broker
from kafkapy.clock import Clock
from kafkapy.testing.client import Client
from kafkapy.testing.connection import TrioConnection
from kafkapy.testing.operations import Operations
from kafkapy.testing.settings import broker_config


class TrioBroker(Operations):
    """A running broker in the caller's event loop; its methods are those of `Operations`."""

    def __init__(self, running: broker.Broker) -> None:
        self.bootstrap_servers = running.bootstrap_servers
        """host:port, as every client takes it."""
        self.port = running.port
        self.cluster_id = running.cluster_id
        host, _, port = running.bootstrap_servers.rpartition(":")
        super().__init__(Client(TrioConnection(host.strip("[]"), int(port))), owned=True)


@asynccontextmanager
async def open_broker(
    settings: Mapping[str, str] | None = None,
    *,
    port: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[TrioBroker]:
    """Run a broker for the length of the block, as `kafkapy.Broker` does, without a thread."""
    directory = None if data_dir is None else Path(data_dir)
    async with broker.open_broker(broker_config(settings or {}, port), data_dir=directory, clock=clock) as running:
        opened = TrioBroker(running)
        try:
            yield opened
        finally:
            await opened.close()
