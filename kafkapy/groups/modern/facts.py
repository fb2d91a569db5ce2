"""What a coordinator remembers of a consumer group (KIP-848): the facts behind its records of `__consumer_offsets`.

Five of them are those of the skeleton (`groups/modern/core.py`). `groups/modern/journal.py` turns them into Kafka's
records and back; `groups/modern/group.py` keeps them.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple

from kafkapy.groups.commands import Protocol
from kafkapy.groups.modern.core import (
    CurrentFact,
    EpochFact,
    FactTypes,
    Partitions,
    SubscriptionFact,
    TargetEpochFact,
    TargetFact,
)

Owned = Mapping[bytes, Mapping[int, int]]
"""By topic id, for each partition the epoch in which the member was given it; no topic is without any."""

AWAY_EPOCH = -2
"""The epoch of a static member that has left and will come back."""


class MemberState(IntEnum):
    """How far a member has come on the way to its target assignment. The values are those on disk.

    STABLE: it has what its epoch's target gave it.
        A new target → the same, UNREVOKED_PARTITIONS or UNRELEASED_PARTITIONS.
    UNREVOKED_PARTITIONS: it was told to give partitions up, and has not said that it did.
        It no longer names them among those it owns → as from STABLE. The rebalance timeout fences it.
    UNRELEASED_PARTITIONS: it is at the target's epoch, and waits for partitions that others still own.
        Each of its heartbeats brings what has become free; all of it → STABLE.
    UNKNOWN: a later Kafka wrote it. The member must come back with nothing.
    """

    STABLE = 0
    UNREVOKED_PARTITIONS = 1
    UNRELEASED_PARTITIONS = 2
    UNKNOWN = 127


class ClassicMember(NamedTuple):
    """What is known besides of a member that speaks the classic protocol."""

    session_timeout_ms: int
    protocols: tuple[Protocol, ...]


class Subscription(NamedTuple):
    """What a member has said of itself. An empty pattern is none; without an assignor the group's default serves."""

    instance_id: str | None = None
    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()
    pattern: str | None = ""
    rebalance_timeout_ms: int = -1
    assignor: str | None = None
    classic: ClassicMember | None = None


class Current(NamedTuple):
    """Where a member stands: its epoch, what it may read, and what it is still to give up."""

    epoch: int = 0
    previous_epoch: int = -1
    state: MemberState = MemberState.STABLE
    assigned: Owned = {}
    revoking: Owned = {}

    def is_reconciled_to(self, target_epoch: int) -> bool:
        """Whether nothing is left to do to bring it to the target of that epoch."""
        return self.state is MemberState.STABLE and self.epoch == target_epoch


class Resolved(NamedTuple):
    """The topics that match a pattern, by which version of the cluster's metadata, and when they were looked up."""

    topics: frozenset[str]
    version: int
    timestamp_ms: int


class EpochStored(EpochFact):
    """The group's epoch."""

    __slots__ = ()


class SubscriptionStored(SubscriptionFact[Subscription]):
    """A member's subscription."""

    __slots__ = ()


class TargetEpochStored(TargetEpochFact):
    """The target assignment's epoch."""

    __slots__ = ()


class TargetStored(TargetFact[Partitions]):
    """What a member is to have."""

    __slots__ = ()


class CurrentStored(CurrentFact[Current]):
    """What a member has."""

    __slots__ = ()


class PatternStored(NamedTuple):
    """What a subscribed pattern stands for."""

    group_id: str
    pattern: str
    resolved: Resolved | None


class TopicsStored(NamedTuple):
    """A group of a Kafka before 4.1 has the metadata of its topics in the log; now it is only ever deleted."""

    group_id: str
    is_there: bool


FACT_TYPES: Final = FactTypes(EpochStored, SubscriptionStored, TargetEpochStored, TargetStored, CurrentStored)

CONSUMER_FACTS: Final = frozenset((*FACT_TYPES, PatternStored, TopicsStored))

ConsumerFact = (
    EpochStored | SubscriptionStored | TargetEpochStored | TargetStored | CurrentStored | PatternStored | TopicsStored
)
