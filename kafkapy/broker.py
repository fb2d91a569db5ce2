"""The composition root: the only module that constructs rooms.

Read `open_broker` from top to bottom to see how a broker starts, from bottom to top to see how it stops: each block is
opened inside of what it needs, so what is above is still there when it ends. A handler's failure costs one request; a
broken invariant in a machine or a store ends everything, since restarting is replaying.
"""

import logging
import random
import resource
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from kafkapy.clock import Clock, SystemClock
from kafkapy.cluster.image import Change, ClusterImage
from kafkapy.cluster.membership import Membership
from kafkapy.cluster.service import ClusterService
from kafkapy.cluster.token_expiry import expire_tokens
from kafkapy.config.authorizer import authorizer_settings
from kafkapy.config.hosts import connections_per_host
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.listeners import announced_endpoints, bound_listeners, told_addresses
from kafkapy.config.setting import ConfigError
from kafkapy.groups.service import GroupService
from kafkapy.handlers.context import Context, Rooms, Session
from kafkapy.handlers.peers import SolePeers
from kafkapy.handlers.registry import Registry
from kafkapy.log.fetch_session import FetchSessionCache
from kafkapy.log.housekeeping import apply_retention, clean_logs, expire_producers
from kafkapy.metrics import RequestMetrics
from kafkapy.model import format_uuid
from kafkapy.network.connection import Connection, Dispatch, Peer
from kafkapy.network.listening import bind
from kafkapy.network.server import Guard, Limits, Server
from kafkapy.network.transport import PlainTransport
from kafkapy.quotas.service import Quotas
from kafkapy.security.doors import Door, doors
from kafkapy.storage.base import CleanerSettings, Logs
from kafkapy.storage.memory import MemoryLogs, open_memory
from kafkapy.storage.sole import SoleBroker
from kafkapy.telemetry.service import Telemetry
from kafkapy.transactions.producer_ids import ProducerIds
from kafkapy.transactions.service import TransactionService
from kafkapy.transactions.verifying import Verifier
from kafkapy.turns import Turns

if TYPE_CHECKING:
    from kafkapy.security.authorizer import Authorizer
    from kafkapy.security.tokens import TokenSecret
    from kafkapy.storage.embedded.files import Disk
    from kafkapy.storage.embedded.store import EmbeddedLogs

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 2.0
"""How long requests under way may take once the broker is told to stop."""

_OTHER_DESCRIPTORS: Final = 128
"""What log files and connections leave of the descriptors: for worker threads (40 at most, a file each), listeners, the
event loop, and what a process opens now and then."""

_ANY_NUMBER: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker: where to reach it, and what it is.

    `listeners` says by name what clients of each are told, host:port; the first is for clients on this machine, and
    `port` is the one that it is bound to. At `metrics_port` metrics are told.
    """

    listeners: dict[str, str]
    port: int
    cluster_id: str
    node_id: int
    rooms: Rooms
    metrics_port: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The first listener's host:port."""
        return next(iter(self.listeners.values()))


@asynccontextmanager
async def open_broker(
    config: BrokerConfig,
    *,
    data_dir: Path | None,
    other_dirs: Sequence[Path] = (),
    cluster_id: str | None = None,
    advertise_host: str | None = None,
    clock: Clock | None = None,
    disk: "Disk | None" = None,
    dispatch_of: Callable[[Registry], Dispatch] = lambda registry: registry.dispatch,
) -> AsyncIterator[Broker]:
    """Run a broker for the length of the block; it accepts connections when the block begins.

    `data_dir` None keeps everything in memory; in `other_dirs` lie logs, too. `advertise_host` is the host that clients
    are told, whatever the settings say and however they came. `disk` reaches the directories' files: tests hand one
    that counts, or that lies. `dispatch_of` says what answers requests, given what does: what is set between can have
    them go wrong.
    Raises ConfigError, CannotListen, DirectoryInUse, DirectoryMismatch, OSError.
    """
    clock, turns = clock or SystemClock(), Turns()
    node_id: int = config["node.id"]
    limits = _limits(config)
    announced = announced_endpoints(config, advertise_host)
    token_secret = _token_secret(config)
    guarded = await _doors(config, lambda: cluster.image, token_secret)
    us = SoleBroker(node_id, config["broker.rack"], announced)
    listeners = bind(bound_listeners(config), config["socket.receive.buffer.bytes"])
    data_dirs = () if data_dir is None else (data_dir, *other_dirs)
    try:
        async with _open_store(data_dirs, config, clock, turns, cluster_id, disk) as (logs, cluster_id):
            peers = SolePeers(node_id, lambda request: registry.ask(request))
            cluster = ClusterService(cluster_id, config, logs, Membership(node_id, logs.leases, us, peers), clock)
            groups = GroupService(cluster, logs, logs.leases, clock, config)
            verifier = Verifier(cluster, logs, peers, clock)
            producer_ids = ProducerIds(cluster.allocate_producer_ids)
            transactions = TransactionService(cluster, logs, logs.leases, peers, producer_ids, clock, config)
            quotas = Quotas(config, clock)
            tells_metrics = config["kafkapy.metrics.port"] >= 0
            rooms = Rooms(
                clock=clock,
                turns=turns,
                logs=logs,
                cluster=cluster,
                groups=groups,
                transactions=transactions,
                producer_ids=producer_ids,
                verifier=verifier,
                fetch_sessions=_fetch_sessions(config),
                quotas=quotas,
                telemetry=Telemetry(listens=tells_metrics),
                metrics=RequestMetrics() if tells_metrics else None,
                authorizer=_authorizer(config),
                token_secret=token_secret,
            )
            registry = Registry(rooms, _context(rooms))
            registry.observes = rooms.metrics is not None
            guards = {listener: _guard(door, registry, clock) for listener, door in guarded.items()}
            server = Server(limits, _open_session, dispatch_of(registry), clock, guards, quotas.hold)

            def on_change(change: Change) -> None:
                for topic in change.deleted:
                    groups.on_topic_deleted(topic)
                if change.new.config is not change.old.config:
                    _follow_limits(server, change.new.config)
                if change.new.kinds.client_quotas is not change.old.kinds.client_quotas:
                    quotas.follow(change.new.kinds.client_quotas)
                    registry.observes = quotas.limits_clients or rooms.metrics is not None

            cluster.on_change(on_change)
            async with trio.open_nursery() as coordinators:
                await coordinators.start(cluster.run)
                await coordinators.start(groups.run)
                await coordinators.start(verifier.run)
                await coordinators.start(transactions.run)
                async with trio.open_nursery() as housekeeping:
                    housekeeping.start_soon(_keep_house, logs, clock, cluster)
                    if encrypted := [door.tls for door in guarded.values() if door.tls is not None]:
                        from kafkapy.security.tls import keep_fresh

                        housekeeping.start_soon(keep_fresh, encrypted, clock)
                    for door in guarded.values():
                        if door.sasl is not None and door.sasl.signed_tokens is not None:
                            housekeeping.start_soon(door.sasl.signed_tokens.keep_fresh, clock)
                    async with trio.open_nursery() as connections:
                        await connections.start(server.serve, listeners)
                        metrics_port = await _tell_metrics(rooms, server, clock, connections)
                        bound = [endpoint for endpoint, _ in listeners]
                        told = told_addresses(bound, announced)
                        ports = {endpoint.listener: endpoint.port for endpoint in bound}
                        yield Broker(told, ports[next(iter(told))], cluster_id, node_id, rooms, metrics_port)
                        await server.drain(GRACE_SECONDS)
                        connections.cancel_scope.cancel()
                    housekeeping.cancel_scope.cancel()
                coordinators.cancel_scope.cancel()
    finally:
        for _, listener in listeners:
            listener.close()


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


@asynccontextmanager
async def _open_store(
    data_dirs: Sequence[Path],
    config: BrokerConfig,
    clock: Clock,
    turns: Turns,
    cluster_id: str | None,
    disk: "Disk | None",
) -> AsyncIterator[tuple["MemoryLogs | EmbeddedLogs", str]]:
    """The store, and the id of the cluster that it is of."""
    if not data_dirs:
        async with open_memory(clock, config["node.id"], turns) as memory:
            yield memory, cluster_id or format_uuid(random.randbytes(16))
        return
    from kafkapy.storage.embedded.directory import open_embedded  # a broker in memory does without
    from kafkapy.storage.embedded.files import Disk

    disk = disk or Disk(_descriptors_each())
    metadata_dir = config["metadata.log.dir"]
    async with open_embedded(
        *data_dirs,
        clock=clock,
        node_id=config["node.id"],
        metadata_path=None if metadata_dir is None else Path(metadata_dir).absolute(),
        cluster_id=cluster_id,
        disk=disk,
        turns=turns,
    ) as logs:
        yield logs, logs.cluster_id


async def _keep_house(logs: Logs, clock: Clock, cluster: ClusterService) -> None:
    config = cluster.image.config
    async with trio.open_nursery() as duties:
        duties.start_soon(
            partial(
                expire_producers,
                logs,
                clock,
                expiration_ms=lambda: int(cluster.image.config["producer.id.expiration.ms"]),
                interval_ms=config["producer.id.expiration.check.interval.ms"],
            )
        )
        duties.start_soon(
            partial(
                apply_retention,
                logs,
                clock,
                delay_ms=config["log.initial.task.delay.ms"],
                interval_ms=config["log.retention.check.interval.ms"],
            )
        )
        if config["delegation.token.secret.key"]:
            duties.start_soon(
                partial(
                    expire_tokens,
                    cluster.remove_expired_tokens,
                    clock,
                    interval_ms=config["delegation.token.expiry.check.interval.ms"],
                )
            )
        if config["log.cleaner.enable"]:
            duties.start_soon(
                partial(
                    clean_logs,
                    logs,
                    clock,
                    settings=lambda: _cleaner_settings(cluster.image.config),
                    backoff_ms=lambda: int(cluster.image.config["log.cleaner.backoff.ms"]),
                )
            )


def _cleaner_settings(config: BrokerConfig) -> CleanerSettings:
    return CleanerSettings(
        dedupe_buffer_size=config["log.cleaner.dedupe.buffer.size"],
        io_buffer_load_factor=config["log.cleaner.io.buffer.load.factor"],
        io_buffer_size=config["log.cleaner.io.buffer.size"],
        io_max_bytes_per_second=config["log.cleaner.io.max.bytes.per.second"],
    )


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
        max_connections=min(config["max.connections"], _descriptors_each()),
        max_connections_per_ip=config["max.connections.per.ip"],
        max_connections_per_ip_overrides=overrides,
        socket_send_buffer_bytes=config["socket.send.buffer.bytes"],
        socket_listen_backlog_size=config["socket.listen.backlog.size"],
    )


def _descriptors_each() -> int:
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


def _guard(door: Door, registry: Registry, clock: Clock) -> Guard:
    """How the network meets a listener's clients."""
    from kafkapy.handlers.access.gate import CertificateGate, SaslGate  # not needed where all may come in

    def meet(connection: Connection) -> None:
        if door.sasl is None:
            CertificateGate(door.user_of, registry, connection)
        else:
            SaslGate(door.sasl, registry, clock, connection)

    tls = door.tls
    if tls is None:
        return Guard(PlainTransport, meet)
    from kafkapy.network.tls import TlsTransport

    return Guard(lambda sock: TlsTransport(sock, tls.current), meet)


def _open_session(peer: Peer, mute: Callable[[float], None]) -> Session:
    return Session(*peer, mute=mute)
