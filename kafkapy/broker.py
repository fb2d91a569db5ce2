"""The composition root: with `node.py` the only module that constructs rooms.

Read `open_broker` from top to bottom to see how a broker starts, from bottom to top to see how it stops: each block is
opened inside of what it needs, so what is above is still there when it ends. A handler's failure costs one request; a
broken invariant in a machine or a store ends everything, since restarting is replaying.
"""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from kafkapy.clock import Clock, SystemClock
from kafkapy.cluster.balancing import balance_leaders
from kafkapy.cluster.brokers import BalanceLeaders
from kafkapy.cluster.core import Core
from kafkapy.cluster.delegation_tokens import RemoveExpiredTokens
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.cluster.leftovers import drop_leftovers
from kafkapy.cluster.membership import Standing
from kafkapy.cluster.registrar import register_brokers
from kafkapy.cluster.seat import Seat
from kafkapy.cluster.tenancy import Tenancy
from kafkapy.cluster.token_expiry import expire_tokens
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigError
from kafkapy.config.several import with_node_id
from kafkapy.fleet import Fleet
from kafkapy.handlers.context import Rooms
from kafkapy.handlers.peers import LocalPeers
from kafkapy.handlers.registry import Registry
from kafkapy.log.housekeeping import apply_retention, clean_logs, expire_producers
from kafkapy.model import format_uuid
from kafkapy.network.connection import Dispatch
from kafkapy.node import House, descriptors_each
from kafkapy.storage.base import CleanerSettings, Logs
from kafkapy.storage.memory import MemoryLogs, open_memory
from kafkapy.turns import Turns

if TYPE_CHECKING:
    from kafkapy.storage.embedded.files import Disk
    from kafkapy.storage.embedded.store import EmbeddedLogs
    from kafkapy.storage.shared.store import SharedLogs


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker: where to reach it, and what it is; of several the first, and all in `fleet`.

    `listeners` says by name what clients of each are told, host:port; the first is for clients on this machine, and
    `port` is the one that it is bound to. At `metrics_port` metrics are told.
    """

    listeners: dict[str, str]
    port: int
    cluster_id: str
    node_id: int
    rooms: Rooms
    fleet: Fleet
    metrics_port: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The first listener's host:port; of several brokers that of each which runs, with commas between."""
        first = next(iter(self.listeners))
        running = [node.listeners[first] for _, node in sorted(self.fleet.nodes.items())]
        return ",".join(running or [self.listeners[first]])


@asynccontextmanager
async def open_broker(
    config: BrokerConfig,
    *,
    data_dir: Path | None,
    other_dirs: Sequence[Path] = (),
    database: str | None = None,
    cluster_id: str | None = None,
    advertise_host: str | None = None,
    clock: Clock | None = None,
    disk: "Disk | None" = None,
    dispatch_of: Callable[[Registry], Dispatch] = lambda registry: registry.dispatch,
    brokers: int = 1,
    racks: Sequence[str] = (),
    shares: bool = False,
) -> AsyncIterator[Broker]:
    """Run a broker for the length of the block; it accepts connections when the block begins.

    Or several `brokers` over one store, a cluster: with one node id after the other, and listeners of their own
    (`config/several.py`), in these racks. They come and go as `Broker.fleet` is told.

    `shares`: over a database there may be other processes, and together they are one cluster; each has one broker.

    `data_dir` None keeps everything in memory, or in the PostgreSQL that the URL `database` names; in `other_dirs` lie
    logs, too. `advertise_host` is the host that clients
    are told, whatever the settings say and however they came. `disk` reaches the directories' files: tests hand one
    that counts, or that lies. `dispatch_of` says what answers requests, given what does: what is set between can have
    them go wrong.
    Raises ConfigError, CannotListen, DirectoryInUse, DirectoryMismatch, OSError; UnfitDatabase, DatabaseInUse,
    DatabaseError.
    """
    clock, turns = clock or SystemClock(), Turns()
    data_dirs = () if data_dir is None else (data_dir, *other_dirs)
    logs: MemoryLogs | EmbeddedLogs | SharedLogs
    async with AsyncExitStack() as opened:
        shared = None
        if database is not None:  # which may have a node id to give
            shared = await opened.enter_async_context(
                _open_shared(database, config, clock, turns, cluster_id, alone=not shares)
            )
            config = with_node_id(config, shared.brokers.node_id)
        fleet = Fleet(config, brokers, racks, advertise_host)
        opened.callback(fleet.close)
        first = next(iter(fleet.nodes.values()))
        await fleet.prepare()
        logs, cluster_id = (
            (shared, shared.cluster_id)
            if shared
            else await opened.enter_async_context(_open_store(data_dirs, config, clock, turns, cluster_id, disk))
        )
        standing: Standing
        if shared and shares:
            core = Core(cluster_id, config, logs, logs.leases, clock, shared=shared)
            standing = Seat(core, shared, clock)
        else:
            core = Core(cluster_id, config, logs, logs.leases, clock)
            standing = Tenancy(core, logs, logs.leases, fleet.nodes)
        house = House(clock, turns, logs, cluster_id, core, standing, LocalPeers(), dispatch_of, between=shares)
        async with trio.open_nursery() as cluster:
            await cluster.start(core.run)
            async with trio.open_nursery() as housekeeping:
                housekeeping.start_soon(_keep_house, logs, clock, core)
                if shares:
                    housekeeping.start_soon(register_brokers, core, standing, logs.leases, clock)
                if shared:
                    interval_ms = config["log.retention.check.interval.ms"]
                    housekeeping.start_soon(partial(drop_leftovers, core, shared.lanes, clock, interval_ms=interval_ms))
                async with trio.open_nursery() as nodes:
                    await nodes.start(fleet.run, house)
                    yield Broker(
                        first.listeners,
                        first.port,
                        cluster_id,
                        first.node_id,
                        first.rooms,
                        fleet,
                        first.metrics_port,
                    )
                    await fleet.stop_all()
                    nodes.cancel_scope.cancel()
                housekeeping.cancel_scope.cancel()
            cluster.cancel_scope.cancel()


@asynccontextmanager
async def _open_shared(
    database: str, config: BrokerConfig, clock: Clock, turns: Turns, cluster_id: str | None, *, alone: bool
) -> "AsyncIterator[SharedLogs]":
    """The store in a PostgreSQL."""
    try:
        from kafkapy.storage.shared.store import open_shared
    except ModuleNotFoundError as missing:
        raise ConfigError(f'a database needs the extra "cluster" of kafkapy-broker: {missing}') from missing

    async with open_shared(
        database,
        clock=clock,
        node_id=config["node.id"],
        cluster_id=cluster_id or format_uuid(random.randbytes(16)),
        ttl_ms=config["kafkapy.database.lease.ms"],
        turns=turns,
        alone=alone,
        followed=METADATA_LOG,
    ) as logs:
        if cluster_id not in (None, logs.cluster_id):
            raise ConfigError(f"the database has cluster {logs.cluster_id}, not {cluster_id}")
        yield logs


@asynccontextmanager
async def _open_store(
    data_dirs: Sequence[Path],
    config: BrokerConfig,
    clock: Clock,
    turns: Turns,
    cluster_id: str | None,
    disk: "Disk | None",
) -> AsyncIterator[tuple["MemoryLogs | EmbeddedLogs", str]]:
    """The store in memory or in directories, and the id of the cluster that it is of."""
    if not data_dirs:
        async with open_memory(clock, config["node.id"], turns) as memory:
            yield memory, cluster_id or format_uuid(random.randbytes(16))
        return
    from kafkapy.storage.embedded.directory import open_embedded  # a broker in memory does without
    from kafkapy.storage.embedded.files import Disk

    disk = disk or Disk(descriptors_each())
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


async def _keep_house(logs: Logs, clock: Clock, cluster: Core) -> None:
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
        if config["auto.leader.rebalance.enable"]:
            duties.start_soon(
                partial(
                    balance_leaders,
                    partial(cluster.change, BalanceLeaders()),
                    clock,
                    interval_seconds=config["leader.imbalance.check.interval.seconds"],
                )
            )
        if config["delegation.token.secret.key"]:
            duties.start_soon(
                partial(
                    expire_tokens,
                    partial(cluster.change, RemoveExpiredTokens()),
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
