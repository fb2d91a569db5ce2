"""A Kafka of somebody else's, with faults: a proxy in a thread of this process."""

import ssl
from typing import NoReturn

import trio

from kafkapy.clock import SystemClock
from kafkapy.config.hosts import address_of
from kafkapy.errors import KafkaError
from kafkapy.protocol.header import API_VERSIONS
from kafkapy.testing.activity import Activity
from kafkapy.testing.client import Client
from kafkapy.testing.connection import BlockingConnection, Disconnected, driven
from kafkapy.testing.faults import Faults
from kafkapy.testing.in_thread import InThread
from kafkapy.testing.proxying import Proxy
from kafkapy.testing.routing import ClusterClient

NO_DISK = "the disk of a Kafka behind a proxy is its own, and cannot be made to fail from here"
NO_CLOCK = "the clock of a Kafka behind a proxy is its own, and cannot be moved from here"


class FaultProxy(InThread):
    """What stands before a Kafka, as `kafkapy.Broker` is held: clients of its `bootstrap_servers` are the Kafka's, and
    `faults` are what they meet on the way.

        with kafkapy.FaultProxy("localhost:9092") as proxy:
            proxy.faults.add("Produce", error="NOT_LEADER_OR_FOLLOWER", times=2)
            producer = KafkaProducer(bootstrap_servers=proxy.bootstrap_servers)

    Each broker of the cluster is stood before. Clients speak to it without TLS; SASL passes through. `start` raises
    Disconnected when no such Kafka is there, ConfigError, CannotListen.
    """

    def __init__(self, kafka: str, *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        """`kafka` is where its clients would begin, host:port; `tls` is how its brokers are met, where their listeners
        have TLS: `ssl.create_default_context(cafile=...)`. Raises ConfigError.
        """
        self._kafka = address_of(kafka)
        self._tls = tls
        super().__init__(port, "proxy")
        self.faults = Faults(self._call, no_disk=NO_DISK)
        """What goes wrong with requests, until `reset`."""
        self.activity = Activity(self._call)
        """Who asks what."""

    @property
    def clock(self) -> NoReturn:
        """There is none."""
        raise RuntimeError(NO_CLOCK)

    def reset(self) -> None:
        """Forget faults, and on the Kafka topics but for its own, and groups that have no members."""
        self.faults.clear()
        self.activity.forget()
        super().reset()

    def _client(self) -> Client:
        return ClusterClient(BlockingConnection, lambda: [(self.host, self.port)])

    def _let_go(self) -> None:
        self.faults.clear()

    async def _serve(self) -> None:
        await trio.to_thread.run_sync(find_kafka, *self._kafka, self._tls)
        proxy = Proxy(self._kafka, self.host, self.faults, self.activity, SystemClock(), self._tls)
        async with trio.open_nursery() as nursery:
            self._connect_to(self.host, await nursery.start(proxy.run, self.port))
            await self._await_stop()
            nursery.cancel_scope.cancel()


def find_kafka(host: str, port: int, tls: ssl.SSLContext | None) -> None:
    """Return if a Kafka answers there that can be relayed to. Raises Disconnected, in words."""
    client = Client(BlockingConnection(host, port, tls=tls))
    try:
        driven(client.serves(API_VERSIONS))
    except (Disconnected, KafkaError) as problem:
        how = "without" if tls is None else "with"
        raise Disconnected(f"{host}:{port} is no Kafka {how} TLS (kafkapy doctor says more): {problem}") from problem
    finally:
        driven(client.close())
