"""One broker: its rooms, what it listens on, and what of it starts before what.

Several may run in one process, over one store and one core of the cluster (`House`): each has coordinators, sessions,
quotas and listeners of its own. Run by `fleet.py`; each block is opened inside of what it needs, so what is above is
still there when it ends.
"""

import logging
import random
import resource
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.cluster.core import Core
from kafkapy.cluster.image import Change, ClusterImage
from kafkapy.cluster.membership import Membership, Standing
from kafkapy.cluster.service import ClusterService
from kafkapy.config.authorizer import authorizer_settings
from kafkapy.config.hosts import connections_per_host
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.listeners import (
    announced_endpoints,
    bound_listeners,
    listener_between_brokers,
    reachable_endpoints,
    told_addresses,
)
from kafkapy.config.setting import ConfigError
from kafkapy.groups.service import GroupService
from kafkapy.groups.share.service import ShareGroups
from kafkapy.groups.streams.service import StreamsGroups
from kafkapy.handlers.context import Context, Rooms, Session
from kafkapy.handlers.forwarding import Forwarding
from kafkapy.handlers.peers import LocalPeers
from kafkapy.handlers.registry import Registry
from kafkapy.handlers.sharing.group_persister import GroupPersister
from kafkapy.handlers.sharing.session_end import connection_closed
from kafkapy.log.fetch_session import FetchSessionCache
from kafkapy.metrics import RequestMetrics
from kafkapy.model import Endpoint
from kafkapy.network.connection import Connection, Dispatch, Peer
from kafkapy.network.listening import bind
from kafkapy.network.server import Guard, Limits, Server
from kafkapy.network.transport import PlainTransport
from kafkapy.quotas.service import Quotas
from kafkapy.security.doors import Door, Key, doors, key
from kafkapy.sharing.dead_letters import DeadLetterQueues
from kafkapy.sharing.partitions import SharePartitions
from kafkapy.sharing.persister import SharePersister
from kafkapy.sharing.sessions import ShareSessions
from kafkapy.sharing.state.service import ShareStateService
from kafkapy.storage.base import Brokers, LiveBroker, Logs
from kafkapy.telemetry.service import Telemetry
from kafkapy.transactions.producer_ids import ProducerIds
from kafkapy.transactions.service import TransactionService
from kafkapy.transactions.verifying import Verifier
from kafkapy.turns import Turns

if TYPE_CHECKING:
    from kafkapy.handlers.network_peers import NetworkPeers
    from kafkapy.security.authorizer import Authorizer
    from kafkapy.security.tokens import TokenSecret

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 2.0
"""How long requests under way may take once the broker is told to stop."""

_OTHER_DESCRIPTORS: Final = 128
"""What log files and connections leave of the descriptors: for worker threads (40 at most, a file each), listeners, the
event loop, and what a process opens now and then."""

_ANY_NUMBER: Final = 1 << 20


class House(NamedTuple):
    """What the brokers of one process share."""

    clock: Clock
    turns: Turns
    logs: Logs
    cluster_id: str
    core: Core
    standing: Standing
    peers: LocalPeers
    dispatch_of: Callable[[Registry], Dispatch]
    between: bool = False
    """Whether brokers of other processes are of this cluster, too."""


class Node:
    """A broker, from the binding of its addresses to the end of its last connection.

    `listeners` says by name what clients of each are told, host:port; the first is for clients on this machine, and
    `port` is the one that it is bound to. At `metrics_port` metrics are told.
    """

    rooms: Rooms
    metrics_port: int | None = None

    def __init__(self, config: BrokerConfig, advertise_host: str | None = None) -> None:
        """Raises ConfigError."""
        self.node_id: int = config["node.id"]
        self._config = config
        self._limits = _limits(config)
        self._announced = announced_endpoints(config, advertise_host)
        self._token_secret = _token_secret(config)
        self._doors: dict[str, Door] = {}
        self._keys: list[Key] = []  # for other brokers' doors
        self._bound: list[tuple[Endpoint, socket.socket]] = []
        self._told_to_stop = trio.Event()
        self._life = trio.CancelScope()
        self._cut = self._life
        self.ended = trio.Event()
        """Set by who runs it, once it is gone."""

    async def prepare(self) -> None:
        """Have the addresses, before anything else is opened. Raises ConfigError, CannotListen, OSError."""
        self._doors = await _doors(self._config, lambda: self.rooms.cluster.image, self._token_secret)
        self._bound = bind(bound_listeners(self._config), self._config["socket.receive.buffer.bytes"])
        bound = [endpoint for endpoint, _ in self._bound]
        self.listeners = told_addresses(bound, self._announced)
        self.ports = {endpoint.listener: endpoint.port for endpoint in bound}
        self.port = self.ports[next(iter(self.listeners))]
        endpoints = [
            told._replace(port=told.port or own.port) for told, own in zip(self._announced, bound, strict=True)
        ]
        self.as_told = LiveBroker(self.node_id, self._config["broker.rack"], tuple(endpoints))

    def as_reached(self) -> LiveBroker:
        """The same for other processes, which tell their clients of it: each listener has a host, and a port."""
        bound = [endpoint for endpoint, _ in self._bound]
        return self.as_told._replace(endpoints=tuple(reachable_endpoints(bound, self._announced)))

    def close(self) -> None:
        """Give the addresses back."""
        for _, listener in self._bound:
            listener.close()

    def stop(self) -> None:
        """Take no more requests, and end once those under way are answered."""
        self._told_to_stop.set()

    def kill(self) -> None:
        """End at once, whatever is under way."""
        self._cut.cancel()

    async def run(self, house: House, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until told to stop, killed or cancelled; `started` once connections are accepted."""
        with self._life:
            await self._run(house, task_status)

    async def _run(self, house: House, task_status: trio.TaskStatus[None]) -> None:
        network = await self._network_peers(house, house.standing) if house.between else None
        clock, rooms = house.clock, self._open_rooms(house, network)
        registry = Registry(rooms, _context(rooms), rooms.forwarding)
        registry.observes = rooms.metrics is not None
        dispatch = house.dispatch_of(registry)
        guards = {listener: _guard(door, registry, dispatch, clock) for listener, door in self._doors.items()}
        quotas = rooms.quotas
        server = Server(
            self._limits,
            _open_session,
            dispatch,
            clock,
            guards,
            quotas.hold,
            lambda session: connection_closed(session, rooms),
        )

        def on_change(change: Change) -> None:
            for topic in change.deleted:
                rooms.groups.on_topic_deleted(topic)
                rooms.share_state.on_topic_deleted(topic.topic_id)
                rooms.share_partitions.on_topic_deleted(topic.topic_id)
            if change.new.config is not change.old.config:
                _follow_limits(server, change.new.config)
            if change.new.kinds.client_quotas is not change.old.kinds.client_quotas:
                quotas.follow(change.new.kinds.client_quotas)
                registry.observes = quotas.limits_clients or rooms.metrics is not None

        rooms.cluster.on_change(on_change)
        house.peers.add(self.node_id, registry.ask)
        try:
            async with trio.open_nursery() as between:
                if network is not None:
                    await between.start(network.run)
                await self._serve(server, rooms, house, task_status)
                between.cancel_scope.cancel()
        finally:
            house.peers.remove(self.node_id)

    async def _serve(self, server: Server, rooms: Rooms, house: House, task_status: trio.TaskStatus[None]) -> None:
        clock = house.clock
        async with trio.open_nursery() as coordinators:
            await coordinators.start(rooms.cluster.run)
            await coordinators.start(rooms.groups.run)
            await coordinators.start(rooms.share_groups.run)
            await coordinators.start(rooms.streams_groups.run)
            await coordinators.start(rooms.verifier.run)
            await coordinators.start(rooms.transactions.run)
            await coordinators.start(rooms.share_state.run)
            await coordinators.start(rooms.share_partitions.run)
            async with trio.open_nursery() as upkeep:
                self._keep_fresh(upkeep, clock)
                async with trio.open_nursery() as connections:
                    # Who is killed, too, ends from the inside: what still runs asks no room that is gone.
                    self._cut = connections.cancel_scope
                    await connections.start(server.serve, self._bound)
                    self.metrics_port = await _tell_metrics(rooms, server, clock, connections)
                    task_status.started()
                    await self._told_to_stop.wait()
                    await server.drain(GRACE_SECONDS)
                    connections.cancel_scope.cancel()
                upkeep.cancel_scope.cancel()
            house.peers.remove(self.node_id)
            coordinators.cancel_scope.cancel()

    async def _network_peers(self, house: House, brokers: Brokers) -> "NetworkPeers":
        """How brokers of other processes are asked. Raises ConfigError, OSError."""
        from kafkapy.handlers.network_peers import NetworkPeers, Settings  # a process that is alone does without
        from kafkapy.network.client import Line, open_line

        config = self._config
        listener = listener_between_brokers(config)
        own = await trio.to_thread.run_sync(key, config, listener)
        self._keys.append(own)

        async def connect(host: str, port: int, nursery: trio.Nursery) -> Line:
            return await open_line(
                host,
                port,
                tls=None if own.tls is None else own.tls.current,
                max_frame_size=config["socket.request.max.bytes"],
                nursery=nursery,
            )

        settings = Settings(
            listener.listener, own.login, config["request.timeout.ms"], config["socket.connection.setup.timeout.ms"]
        )
        here = house.peers
        return NetworkPeers(self.node_id, house.cluster_id, here, brokers, connect, settings, house.clock)

    def _open_rooms(self, house: House, network: "NetworkPeers | None") -> Rooms:
        clock, logs, config = house.clock, house.logs, self._config
        standing = house.standing
        leases = standing.tenant(self.node_id)
        peers = house.peers if network is None else network
        membership = Membership(self.node_id, leases, standing, peers, standing.in_turn)
        cluster = ClusterService(house.cluster_id, config, logs, membership, clock, house.core)
        groups = GroupService(cluster, logs, leases, clock, config)
        producer_ids = ProducerIds(cluster.allocate_producer_ids)
        share_state = ShareStateService(cluster, logs, leases, clock, config)
        persister = SharePersister(cluster, share_state, peers, clock)
        queues = DeadLetterQueues(cluster, logs, peers, house.turns, clock)
        tells_metrics = config["kafkapy.metrics.port"] >= 0
        self.rooms = Rooms(
            clock=clock,
            turns=house.turns,
            logs=logs,
            cluster=cluster,
            groups=groups,
            share_groups=ShareGroups(cluster, groups, GroupPersister(persister), peers),
            streams_groups=StreamsGroups(cluster, groups, clock),
            transactions=TransactionService(cluster, logs, leases, peers, producer_ids, clock, config),
            producer_ids=producer_ids,
            verifier=Verifier(cluster, logs, peers, clock),
            fetch_sessions=_fetch_sessions(config),
            share_state=share_state,
            share_partitions=SharePartitions(cluster, logs, persister, queues, clock),
            share_sessions=ShareSessions(config["group.share.max.share.sessions"]),
            quotas=Quotas(config, clock),
            telemetry=Telemetry(listens=tells_metrics),
            metrics=RequestMetrics() if tells_metrics else None,
            authorizer=_authorizer(config),
            token_secret=self._token_secret,
            forwarding=None if network is None else Forwarding(network.listener, network),
        )
        return self.rooms

    def _keep_fresh(self, nursery: trio.Nursery, clock: Clock) -> None:
        """Have what lets clients in, and this broker in elsewhere, read again when it has changed."""
        ways: list[Door | Key] = [*self._doors.values(), *self._keys]
        encrypted = [way.tls for way in ways if way.tls is not None]
        if encrypted:
            from kafkapy.security.tls import keep_fresh

            nursery.start_soon(keep_fresh, encrypted, clock)
        for door in self._doors.values():
            if door.sasl is not None and door.sasl.signed_tokens is not None:
                nursery.start_soon(door.sasl.signed_tokens.keep_fresh, clock)


async def _tell_metrics(rooms: Rooms, server: Server, clock: Clock, nursery: trio.Nursery) -> int | None:
    if rooms.metrics is None:
        return None
    try:
        import kafkapy.telemetry.otlp  # noqa: F401  which is needed with the first push
        from kafkapy.console.metrics import MetricsEndpoint  # a broker that tells none does without
    except ModuleNotFoundError as missing:
        raise ConfigError(f'metrics need the extra "metrics" of kafkapy-broker: {missing}') from missing

    endpoint = MetricsEndpoint(rooms, rooms.metrics, lambda: server.connection_count, clock)
    host, port = rooms.config["kafkapy.metrics.host"], rooms.config["kafkapy.metrics.port"]
    bound: int = await nursery.start(endpoint.serve, host, port)
    return bound


def _authorizer(config: BrokerConfig) -> "Authorizer | None":
    settings = authorizer_settings(config.static)
    if settings is None:
        return None
    from kafkapy.security.authorizer import Authorizer  # most brokers allow everything

    return Authorizer(settings.super_users, allow_everyone_if_no_acl_found=settings.allow_everyone_if_no_acl_found)


def _context(rooms: Rooms) -> type[Context]:
    if rooms.authorizer is None:
        return Context
    from kafkapy.handlers.guarded import GuardedContext

    return GuardedContext


def _fetch_sessions(config: BrokerConfig) -> FetchSessionCache:
    return FetchSessionCache(
        config["max.incremental.fetch.session.cache.slots"], lambda: random.randrange(1, 2**31 - 1)
    )


def _follow_limits(server: Server, config: BrokerConfig) -> None:
    """Have the network keep within what is set now; where that cannot be, as in Kafka within what was set before."""
    try:
        server.set_limits(_limits(config))
    except ConfigError as problem:
        _log.error("the limits of connections stay as they were: %s", problem)


def _limits(config: BrokerConfig) -> Limits:
    overrides = {}
    for host, count in connections_per_host(config["max.connections.per.ip.overrides"]).items():
        try:
            overrides[str(socket.getaddrinfo(host, None)[0][4][0])] = count
        except (ValueError, OSError) as problem:
            raise ConfigError(f"max.connections.per.ip.overrides: {host} is nowhere: {problem}") from None
    return Limits(
        socket_request_max_bytes=config["socket.request.max.bytes"],
        connections_max_idle_ms=config["connections.max.idle.ms"],
        # Those beyond wait until others end.
        max_connections=min(config["max.connections"], descriptors_each()),
        max_connections_per_ip=config["max.connections.per.ip"],
        max_connections_per_ip_overrides=overrides,
        socket_send_buffer_bytes=config["socket.send.buffer.bytes"],
        socket_listen_backlog_size=config["socket.listen.backlog.size"],
    )


def descriptors_each() -> int:
    """How many descriptors log files may have, and connections as many: together no more than there are."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _ANY_NUMBER if limit == resource.RLIM_INFINITY else max(limit - _OTHER_DESCRIPTORS, limit // 2) // 2


def _token_secret(config: BrokerConfig) -> "TokenSecret | None":
    if not config["delegation.token.secret.key"]:
        return None
    from kafkapy.security.tokens import TokenSecret

    return TokenSecret(config["delegation.token.secret.key"])


async def _doors(
    config: BrokerConfig, image: Callable[[], ClusterImage], token_secret: "TokenSecret | None"
) -> dict[str, Door]:
    """What each listener asks of its clients, by name. Raises ConfigError, OSError."""
    endpoints = bound_listeners(config)
    if all(endpoint.security_protocol == "PLAINTEXT" for endpoint in endpoints):
        return {}
    from kafkapy.security.cluster_credentials import ClusterCredentials

    return await trio.to_thread.run_sync(doors, config, endpoints, ClusterCredentials(image, token_secret))


def _guard(door: Door, registry: Registry, dispatch: Dispatch, clock: Clock) -> Guard:
    """How the network meets a listener's clients."""
    from kafkapy.handlers.access.gate import CertificateGate, SaslGate  # not needed where all may come in

    def meet(connection: Connection) -> None:
        if door.sasl is None:
            CertificateGate(door.user_of, dispatch, connection)
        else:
            SaslGate(door.sasl, registry, dispatch, clock, connection)

    tls = door.tls
    if tls is None:
        return Guard(PlainTransport, meet)
    from kafkapy.network.tls import TlsTransport

    return Guard(lambda sock: TlsTransport(sock, tls.current), meet)


def _open_session(peer: Peer, mute: Callable[[float], None]) -> Session:
    return Session(*peer, mute=mute)
