"""Who leads what, and who is there, among the brokers of one process: their `Leases`, and the `Brokers` that all see.

The store has leases on the logs that are here, for the process; which of its brokers leads one, the controller's facts
say. So a log moves when an image tells that it has, for all of them in the same moment, and whoever asks later is
refused. Made by `broker.py`; joins the core before any broker does.

Invariants
 1. A log is led by one of the brokers at most, and by none that is not registered, fenced or not announced.
 2. What was lost is told before what was gained.
"""

import os
from collections.abc import Callable, Collection, Iterable, Sequence

from kafkapy.cluster.brokers import FenceBrokers, RegisterBroker
from kafkapy.cluster.core import Core, Onlooker
from kafkapy.cluster.image import METADATA_LOG, Change, ClusterImage
from kafkapy.cluster.membership import InTurn
from kafkapy.model import NOBODY, LogId
from kafkapy.storage.base import Holder, Leases, LiveBroker, Logs, Watch

Told = Callable[[Sequence[LogId]], None]


class Tenant:
    """One broker's leases: those of the process that are on logs which it leads."""

    def __init__(self, tenancy: "Tenancy", node_id: int) -> None:
        self.node_id = node_id
        self.moves = tenancy.moves
        self.epochs: dict[LogId, int] = {}
        self.watches: list[_LeaseWatch] = []
        self._tenancy = tenancy

    def epoch(self, log: LogId) -> int | None:
        return self.epochs.get(log)

    def holder(self, log: LogId) -> Holder | None:
        epoch = self.epochs.get(log)
        return self._tenancy.holder(log) if epoch is None else Holder(self.node_id, epoch)

    def watch(self, gained: Told, lost: Told) -> Watch:
        watch = _LeaseWatch(self.watches, gained, lost)
        if self.epochs:
            gained(list(self.epochs))
        return watch


class Tenancy:
    """The brokers of one process, and what each of them leads: their `Standing`."""

    in_turn: InTurn | None = None

    def __init__(self, core: Core, logs: Logs, leases: Leases, node_ids: Iterable[int] = ()) -> None:
        """`leases` are the process's, which begins with these brokers."""
        self.moves = 0
        self._core = core
        self._logs = logs
        self._leases = leases
        self._image = core.image
        self._tenants: dict[int, Tenant] = {}
        self._announced: dict[int, LiveBroker] = {}
        self._live: tuple[LiveBroker, ...] = ()
        self._controller_id = NOBODY
        self._watches: list[_BrokerWatch] = []
        for node_id in node_ids:
            self.tenant(node_id)
        core.join(Onlooker(self._show, self._follow))
        leases.watch(self._come_here, self._go)

    def tenant(self, node_id: int) -> Tenant:
        """A broker's leases."""
        return self._tenants.setdefault(node_id, Tenant(self, node_id))

    async def begin(self, node_ids: Collection[int]) -> None:
        """Those that the cluster had before, and are not among these, are not there."""
        await self._core.change(FenceBrokers([node_id for node_id in self._image.brokers if node_id not in node_ids]))

    async def enter(self, broker: LiveBroker) -> None:
        """The broker can be reached; it is there once it is registered, too, and not fenced."""
        self._announced[broker.node_id] = broker
        self._look_who_is_there()
        await self._core.change(RegisterBroker(broker.node_id, os.urandom(16), broker.rack, broker.endpoints))

    async def settle(self) -> None:
        """They lead as soon as they are there."""

    async def leave(self, node_id: int) -> None:
        """Others lead what it led."""
        await self._core.change(FenceBrokers([node_id]))

    async def leave_all(self) -> None:
        """What the process as a whole does is told to nobody: it starts again as it was."""

    def withdraw(self, node_id: int) -> None:
        """The broker can be reached no more."""
        del self._announced[node_id]
        self._look_who_is_there()

    def holder(self, log: LogId) -> Holder | None:
        """Who leads the log; None when nobody does."""
        tenant = self._tenant_with(log)
        return None if tenant is None else Holder(tenant.node_id, tenant.epochs[log])

    # -- as `Brokers`

    def live(self) -> Sequence[LiveBroker]:
        return self._live

    def watch(self, wake: Callable[[], None]) -> Watch:
        return _BrokerWatch(self._watches, wake)

    # -- what moves

    def _show(self, image: ClusterImage) -> None:
        self._image = image

    def _follow(self, change: Change) -> None:
        self._look_who_is_there()
        topics = [*change.created, *change.changed]
        self._settle(partition.log for topic in topics for partition in topic.partitions)

    def _come_here(self, logs: Sequence[LogId]) -> None:
        self._settle(logs)

    def _go(self, logs: Sequence[LogId]) -> None:
        self._settle(logs)

    def _look_who_is_there(self) -> None:
        brokers = self._image.brokers
        live = tuple(
            self._announced[node_id]
            for node_id in sorted(self._announced)
            if node_id in brokers and not brokers[node_id].is_fenced
        )
        if live == self._live:
            return
        self._live = live
        there = [broker.node_id for broker in live]
        if self._controller_id not in there:
            self._controller_id = there[0] if there else NOBODY
            self._settle([METADATA_LOG])
        for watch in list(self._watches):
            watch.wake()

    def _settle(self, logs: Iterable[LogId]) -> None:
        """Have each of these logs be with the broker that is to lead it now."""
        lost: dict[Tenant, list[LogId]] = {}
        gained: dict[Tenant, dict[LogId, int]] = {}
        for log in logs:
            present, (leader, epoch) = self._tenant_with(log), self._to_lead(log)
            new = self._tenants.get(leader)
            if present is new and (new is None or new.epochs[log] == epoch):
                continue
            if present is not None:
                lost.setdefault(present, []).append(log)
            if new is not None:
                gained.setdefault(new, {})[log] = epoch
        if not lost and not gained:
            return
        self.moves += 1
        for tenant in self._tenants.values():
            tenant.moves = self.moves
        for tenant, gone in lost.items():
            for log in gone:
                del tenant.epochs[log]
        for tenant, epochs in gained.items():
            tenant.epochs.update(epochs)
        for tenant, gone in lost.items():
            for watch in list(tenant.watches):
                watch.lost(gone)
        for tenant, epochs in gained.items():
            for watch in list(tenant.watches):
                watch.gained(list(epochs))
        for gone in lost.values():
            self._logs.look_again(gone)

    def _to_lead(self, log: LogId) -> tuple[int, int]:
        """Who is to lead a log, in which epoch."""
        epoch = self._leases.epoch(log)
        if epoch is None:
            return NOBODY, 0
        if log == METADATA_LOG:
            return self._controller_id, epoch
        partition = self._image.partition(log.topic, log.partition)
        if partition is None or partition.log != log:
            return NOBODY, 0
        return partition.leader, max(partition.leader_epoch, epoch)

    def _tenant_with(self, log: LogId) -> Tenant | None:
        for tenant in self._tenants.values():  # no generator: a start asks for every log there is
            if log in tenant.epochs:
                return tenant
        return None


class _LeaseWatch:
    """One who wants to know what a broker leads."""

    def __init__(self, watches: "list[_LeaseWatch]", gained: Told, lost: Told) -> None:
        self._watches = watches
        self.gained = gained
        self.lost = lost
        watches.append(self)

    def close(self) -> None:
        self._watches.remove(self)


class _BrokerWatch:
    """One who wants to know who is there."""

    def __init__(self, watches: "list[_BrokerWatch]", wake: Callable[[], None]) -> None:
        self._watches = watches
        self.wake = wake
        watches.append(self)

    def close(self) -> None:
        self._watches.remove(self)
