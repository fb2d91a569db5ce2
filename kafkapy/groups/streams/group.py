"""The nouns of the streams protocol: a group, its states, and who has which task. No rules about when what happens."""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, FetchOffsets
from kafkapy.groups.modern.core import ModernGroup, Soft
from kafkapy.groups.streams.facts import (
    FACT_TYPES,
    EpochBasis,
    StreamsCurrent,
    StreamsFact,
    StreamsSubscription,
    Topology,
    TopologyStored,
)
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks, TaskOffsets, pairs_of
from kafkapy.groups.streams.topologies import ConfiguredTopology

Task = tuple[str, int]
_NOTHING = Assignment()


class StreamsGroupState(Enum):
    """Where a streams group stands; the value is Kafka's own name for it.

    EMPTY: no members. NOT_READY: topics of its topology are missing or wrongly partitioned. ASSIGNING: its epoch is
    ahead of its target assignment. RECONCILING: a member has not come to its target yet. STABLE: all have.
    """

    EMPTY = "Empty"
    NOT_READY = "NotReady"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class StreamsSoft(Soft):
    """What is known beside the facts. `configured`: the topology as `checked_topics` had it. `is_delayed`: the first
    assignment waits for more members. `offsets`: how far members say they are with their tasks, and how far one can be.
    `endpoint_epoch` counts changes of who can be asked for what; `shutdown_member_id`: who wants all members to end.
    """

    __slots__ = ("configured", "endpoint_epoch", "is_delayed", "offsets", "shutdown_member_id")

    def __init__(self) -> None:
        super().__init__()
        self.configured: ConfiguredTopology | None = None
        self.is_delayed = False
        self.offsets: dict[str, tuple[TaskOffsets, TaskOffsets]] = {}
        self.endpoint_epoch = 0
        self.shutdown_member_id: str | None = None


class StreamsGroup(ModernGroup[StreamsSubscription, Assignment, StreamsCurrent]):
    """One streams group: its facts, and what follows from them."""

    __slots__ = ("_active", "_standby", "_warmup", "source_topics", "static_members", "topology")

    fact_types = FACT_TYPES
    soft: StreamsSoft

    def __init__(self, group_id: str) -> None:
        super().__init__(group_id)
        self.topology: Topology | None = None
        self.source_topics: dict[str, str] = {}
        """The subtopology that reads a topic."""
        self.static_members: dict[str, str] = {}
        self._active: dict[Task, set[str]] = {}
        self._standby: dict[Task, set[str]] = {}
        self._warmup: dict[Task, set[str]] = {}
        self.soft = StreamsSoft()

    @property
    def basis(self) -> EpochBasis:
        basis = self.epoch_basis
        return basis if isinstance(basis, EpochBasis) else EpochBasis()

    @property
    def state(self) -> StreamsGroupState:
        if not self.subscriptions:
            return StreamsGroupState.EMPTY
        if self.topology is None or self.topology.epoch != self.basis.validated_topology_epoch:
            return StreamsGroupState.NOT_READY
        if self.epoch > self.target_epoch:
            return StreamsGroupState.ASSIGNING
        target_epoch = self.target_epoch
        if all(self.current(member_id).is_reconciled_to(target_epoch) for member_id in self.subscriptions):
            return StreamsGroupState.STABLE
        return StreamsGroupState.RECONCILING

    @property
    def is_blank(self) -> bool:
        return super().is_blank and self.topology is None

    def is_subscribed_to(self, topic: str) -> bool:
        return bool(self.subscriptions) and topic in self.source_topics

    def current(self, member_id: str) -> StreamsCurrent:
        return self.currents.get(member_id) or StreamsCurrent()

    def target(self, member_id: str) -> Assignment:
        return self.targets.get(member_id, _NOTHING)

    # Who has a task

    def active_process(self, task: Task) -> str | None:
        return next(iter(self._processes(self._active.get(task, ()))), None)

    def standby_processes(self, task: Task) -> frozenset[str]:
        return self._processes(self._standby.get(task, ()))

    def warmup_processes(self, task: Task) -> frozenset[str]:
        return self._processes(self._warmup.get(task, ()))

    def _processes(self, member_ids: Iterable[str]) -> frozenset[str]:
        known = self.subscriptions
        return frozenset(known[member_id].process_id for member_id in member_ids if member_id in known)

    # Offsets

    def validate_commit(self, command: CommitOffsets) -> None:
        """Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH; UNSUPPORTED_VERSION for versions before 9.

        A commit may come from an older epoch for tasks that the member had by then and still has (KIP-1251).
        """
        epoch, in_transaction = command.generation, command.transaction is not None
        if epoch < 0 and self.is_empty:
            return
        if in_transaction and epoch == -1 and not command.member_id and command.instance_id is None:
            return
        self.require_subscription(command.member_id)
        if not in_transaction and not command.knows_member_epochs:
            raise KafkaError(
                Error.UNSUPPORTED_VERSION,
                "OffsetCommit version 9 or above must be used by members using the streams group protocol",
            )
        current = self.current(command.member_id)
        if epoch == current.epoch:
            return
        if epoch > current.epoch:
            raise KafkaError(Error.STALE_MEMBER_EPOCH)
        for topic in command.topics:
            subtopology = self.source_topics.get(topic.topic, "")
            for asked in topic.partitions:
                since = current.assigned.active.get(subtopology, {}).get(asked.partition)
                if since is None:
                    since = current.revoking.active.get(subtopology, {}).get(asked.partition)
                if since is None or epoch < since:
                    raise KafkaError(Error.STALE_MEMBER_EPOCH)

    def validate_fetch(self, query: FetchOffsets) -> None:
        """Raises UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH. Who names no member is an administrator."""
        if query.member_id is None and query.member_epoch < 0:
            return
        self.require_subscription(query.member_id or "")
        if query.member_epoch != self.current(query.member_id or "").epoch:
            raise KafkaError(Error.STALE_MEMBER_EPOCH)

    # Facts

    def tombstones(self, replaced: Mapping[str, str] = {}) -> list[Any]:
        return [*super().tombstones(replaced), TopologyStored(self.group_id, None)]

    def _other_facts(self) -> Iterator[StreamsFact]:
        if self.topology is not None:
            yield TopologyStored(self.group_id, self.topology)

    def _other_as_it_is(self, fact: TopologyStored) -> StreamsFact:
        return TopologyStored(self.group_id, self.topology)

    def _apply_other(self, fact: TopologyStored) -> None:
        self.topology = fact.topology
        self.source_topics = {} if fact.topology is None else dict(fact.topology.readers())

    def _count_subscription(
        self, member_id: str, old: StreamsSubscription | None, new: StreamsSubscription | None
    ) -> None:
        if old is not None and old.instance_id is not None and self.static_members.get(old.instance_id) == member_id:
            del self.static_members[old.instance_id]
        if new is not None and new.instance_id is not None:
            self.static_members[new.instance_id] = member_id

    def _count_current(self, member_id: str, old: StreamsCurrent | None, new: StreamsCurrent | None) -> None:
        for current, counts in ((old, False), (new, True)):
            if current is not None:
                for owned in (current.assigned, current.revoking):
                    self._count(member_id, owned, counts)

    def _count(self, member_id: str, owned: OwnedTasks, counts: bool) -> None:
        for tasks, holders in (
            (owned.active, self._active),
            (owned.standby, self._standby),
            (owned.warmup, self._warmup),
        ):
            for task in pairs_of(tasks):
                if counts:
                    holders.setdefault(task, set()).add(member_id)
                elif task in holders:
                    holders[task].discard(member_id)
                    if not holders[task]:
                        del holders[task]
