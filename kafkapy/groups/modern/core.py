"""What a group of any of the newer protocols is: the skeleton of KIP-848, which each of them fills with its own.

A group has an epoch, which grows when a new assignment is due; a target assignment, which follows it; and members, each
of which has said what it subscribes to, and has come to some epoch on its way to its part of the target. Each of these
is a fact with a key, as in Kafka's records, and None says that the key says nothing: so a fact is undone by the one
that was there before it, and applying the last of each key brings the group back.

A protocol derives its facts from those here, so that they are told apart by their type, and its groups from
`ModernGroup`; it may have facts beside them. `groups/modern/protocol.py` has the rules that are common to all.

Invariants
 1. A group is what its facts say, one of each key; everything else that is known of it is counted from them as they
    come and go, or may be forgotten at any time (`Soft`).
 2. Restored from `facts()` it is the same group.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from kafkapy.errors import Error, KafkaError

S = TypeVar("S")
"""What a member says of itself."""
T = TypeVar("T")
"""What a member is to have."""
C = TypeVar("C")
"""Where a member stands."""
K = TypeVar("K")
V = TypeVar("V")

Partitions = Mapping[bytes, tuple[int, ...]]
"""Partitions, ascending, by topic id; no topic is without any."""

NOTHING: Partitions = {}

LEFT_EPOCH = -1
"""The epoch of who has left."""


class GroupEpoch(NamedTuple):
    """The group's epoch, with the hash of the topics it was bumped for. `basis`: what a protocol compares beside."""

    epoch: int
    metadata_hash: int
    basis: Hashable = None


class TargetEpoch(NamedTuple):
    """The epoch that the target assignment is for, and when it was computed (0: the next may be at once)."""

    epoch: int
    timestamp_ms: int


class EpochFact(NamedTuple):
    """The group's epoch."""

    group_id: str
    epoch: GroupEpoch | None


class SubscriptionFact(NamedTuple, Generic[S]):
    """A member's subscription."""

    group_id: str
    member_id: str
    subscription: S | None


class TargetEpochFact(NamedTuple):
    """The target assignment's epoch."""

    group_id: str
    target: TargetEpoch | None


class TargetFact(NamedTuple, Generic[T]):
    """What a member is to have."""

    group_id: str
    member_id: str
    assignment: T | None


class CurrentFact(NamedTuple, Generic[C]):
    """What a member has."""

    group_id: str
    member_id: str
    current: C | None


class FactTypes(NamedTuple):
    """The types that a protocol's facts have."""

    epoch: type[EpochFact]
    subscription: type[SubscriptionFact[Any]]
    target_epoch: type[TargetEpochFact]
    target: type[TargetFact[Any]]
    current: type[CurrentFact[Any]]


_INITIAL_EPOCH = GroupEpoch(1, 0)
_INITIAL_TARGET = TargetEpoch(1, 0)


class Soft:
    """What is known of a group beside its facts, and forgotten with a restart.

    `checked_topics`: the cluster's topics when they were last looked through.
    """

    __slots__ = ("checked_topics",)

    def __init__(self) -> None:
        self.checked_topics: object = None


class ModernGroup(ABC, Generic[S, T, C]):
    """One group: its facts, and what follows from them."""

    __slots__ = ("_stored_epoch", "_stored_target", "currents", "group_id", "soft", "subscriptions", "targets")

    fact_types: ClassVar[FactTypes]

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self._stored_epoch: GroupEpoch | None = None
        self._stored_target: TargetEpoch | None = None
        self.subscriptions: dict[str, S] = {}
        self.targets: dict[str, T] = {}
        self.currents: dict[str, C] = {}
        self.soft = Soft()

    @property
    @abstractmethod
    def state(self) -> Enum:
        """Where the group stands; the value is Kafka's own name for it."""

    @abstractmethod
    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member reads the topic."""

    @property
    def epoch(self) -> int:
        return (self._stored_epoch or _INITIAL_EPOCH).epoch

    @property
    def metadata_hash(self) -> int:
        return (self._stored_epoch or _INITIAL_EPOCH).metadata_hash

    @property
    def epoch_basis(self) -> Hashable:
        return (self._stored_epoch or _INITIAL_EPOCH).basis

    @property
    def target_epoch(self) -> int:
        return (self._stored_target or _INITIAL_TARGET).epoch

    @property
    def target_timestamp_ms(self) -> int:
        return (self._stored_target or _INITIAL_TARGET).timestamp_ms

    @property
    def is_blank(self) -> bool:
        """Whether no fact is left, so that there is no such group."""
        return (
            self._stored_epoch is None
            and self._stored_target is None
            and not (self.subscriptions or self.currents or self.targets)
        )

    @property
    def is_empty(self) -> bool:
        return not self.subscriptions

    def require_subscription(self, member_id: str) -> S:
        """What a member has said of itself. Raises UNKNOWN_MEMBER_ID."""
        subscription = self.subscriptions.get(member_id)
        if subscription is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}.")
        return subscription

    # Facts

    def facts(self) -> Iterator[Any]:
        """The facts that bring the group back, in the order in which Kafka writes a group down."""
        group_id, types = self.group_id, self.fact_types
        yield from (types.subscription(group_id, *item) for item in self.subscriptions.items())
        if self._stored_epoch is not None:
            yield types.epoch(group_id, self._stored_epoch)
        yield from self._other_facts()
        yield from (types.target(group_id, *item) for item in self.targets.items())
        if self._stored_target is not None:
            yield types.target_epoch(group_id, self._stored_target)
        yield from (types.current(group_id, *item) for item in self.currents.items())

    def tombstones(self, replaced: Mapping[str, str] = {}) -> list[Any]:
        """The facts of the group's end, in Kafka's order; of members that were just replaced, for their new ids."""
        group_id, types = self.group_id, self.fact_types
        members = [replaced.get(member_id, member_id) for member_id in self.subscriptions]
        return [
            *(types.current(group_id, member_id, None) for member_id in members),
            *(types.target(group_id, member_id, None) for member_id in members),
            types.target_epoch(group_id, None),
            *(types.subscription(group_id, member_id, None) for member_id in members),
            *self._other_tombstones(),
            types.epoch(group_id, None),
        ]

    def removal(self, member_id: str) -> list[Any]:
        """The facts of a member's end."""
        group_id, types = self.group_id, self.fact_types
        return [
            types.current(group_id, member_id, None),
            types.target(group_id, member_id, None),
            types.subscription(group_id, member_id, None),
        ]

    def as_it_is(self, fact: Any) -> Any:
        """What the key of this fact says now."""
        kind = type(fact)
        match fact:
            case EpochFact(group_id):
                return kind(group_id, self._stored_epoch)
            case SubscriptionFact(group_id, member_id):
                return kind(group_id, member_id, self.subscriptions.get(member_id))
            case TargetEpochFact(group_id):
                return kind(group_id, self._stored_target)
            case TargetFact(group_id, member_id):
                return kind(group_id, member_id, self.targets.get(member_id))
            case CurrentFact(group_id, member_id):
                return kind(group_id, member_id, self.currents.get(member_id))
            case _:
                return self._other_as_it_is(fact)

    def apply(self, fact: Any) -> None:
        match fact:
            case EpochFact(_, epoch):
                self._stored_epoch = epoch
            case SubscriptionFact(_, member_id, subscription):
                self._count_subscription(member_id, self.subscriptions.get(member_id), subscription)
                put(self.subscriptions, member_id, subscription)
            case TargetEpochFact(_, target):
                self._stored_target = target
            case TargetFact(_, member_id, assignment):
                put(self.targets, member_id, assignment)
            case CurrentFact(_, member_id, current):
                self._count_current(member_id, self.currents.get(member_id), current)
                put(self.currents, member_id, current)
            case _:
                self._apply_other(fact)

    # What a protocol has beside this

    def _count_subscription(self, member_id: str, old: S | None, new: S | None) -> None:
        """Count what follows from subscriptions: this member's is about to be another."""

    def _count_current(self, member_id: str, old: C | None, new: C | None) -> None:
        """Count what follows from what members have: this member is about to be elsewhere."""

    def _other_facts(self) -> Iterable[Any]:
        return ()

    def _other_tombstones(self) -> Iterable[Any]:
        return ()

    def _other_as_it_is(self, fact: Any) -> Any:
        raise TypeError(f"{fact!r} is no fact of this protocol")

    def _apply_other(self, fact: Any) -> None:
        raise TypeError(f"{fact!r} is no fact of this protocol")


def put(table: dict[K, V], key: K, value: V | None) -> None:
    """What the key says from now on; None: nothing."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
