"""The nouns of the consumer protocol: a group, its members, its states. No rules about when what happens.

Invariants
 1. A group is what its facts say, one of each key; everything else here is counted from them as they come and go.
 2. `restored` from `facts()` it is the same group, but for what it has looked at.
 3. `owners` names for each partition the member that has it, be it to give it up, and no other.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, TypeVar

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.facts import (
    Current,
    CurrentStored,
    EpochStored,
    GroupEpoch,
    ModernFact,
    Owned,
    Partitions,
    PatternStored,
    Resolved,
    Subscription,
    SubscriptionStored,
    TargetEpoch,
    TargetEpochStored,
    TargetStored,
    TopicsStored,
)
from kafkapy.groups.modern.java_order import hash_of_text, in_order

K = TypeVar("K")
V = TypeVar("V")

_INITIAL_EPOCH = GroupEpoch(1, 0)
_INITIAL_TARGET = TargetEpoch(1, 0)
NOTHING: Partitions = {}


class ConsumerGroupState(Enum):
    """Where a consumer group stands; the value is Kafka's own name for it.

    EMPTY: no members. ASSIGNING: its epoch is ahead of its target assignment, which the next heartbeat computes.
    RECONCILING: a member has not come to its target yet. STABLE: all have.
    """

    EMPTY = "Empty"
    ASSIGNING = "Assigning"
    RECONCILING = "Reconciling"
    STABLE = "Stable"


class Member(NamedTuple):
    """A member as of now; one that is about to join has said nothing yet, and has nothing."""

    member_id: str
    subscription: Subscription = Subscription()
    current: Current = Current()

    @property
    def uses_classic(self) -> bool:
        return self.subscription.classic is not None


class Subscribed(NamedTuple):
    """Who subscribes to what: members by topic, patterns by topic, members by pattern. Nothing is counted as 0."""

    by_name: Counter[str]
    by_pattern: Counter[str]
    patterns: Counter[str]

    @property
    def topics(self) -> set[str]:
        return {*self.by_name, *self.by_pattern}

    def is_homogeneous(self, member_count: int) -> bool:
        """Whether all members read the same topics, as far as Kafka sees it."""
        if not self.patterns:
            return all(count == member_count for count in self.by_name.values())
        if next(iter(self.patterns.values())) != member_count:
            return False
        return not self.by_name and all(count == 1 for count in self.by_pattern.values())


class Soft:
    """What is known of a group beside its facts, and forgotten with a restart.

    `checked_topics`: the cluster's topics when they were last looked through. `resolved_version`: how many times topics
    had come when its patterns were. `is_resolving`: they are about to be. `join_timers`: the classic members that are
    awaited.
    """

    __slots__ = ("checked_topics", "is_resolving", "join_timers", "resolved_version")

    def __init__(self) -> None:
        self.checked_topics: object = None
        self.resolved_version = 0
        self.is_resolving = False
        self.join_timers: set[str] = set()


class ConsumerGroup:
    """One consumer group: its facts, and what follows from them."""

    __slots__ = (
        "_stored_epoch",
        "_stored_target",
        "assignors",
        "classic_count",
        "classic_protocols",
        "currents",
        "group_id",
        "has_old_topics",
        "owners",
        "patterns",
        "soft",
        "static_members",
        "subscribed",
        "subscriptions",
        "targets",
    )

    def __init__(self, group_id: str) -> None:
        self.group_id = group_id
        self._stored_epoch: GroupEpoch | None = None
        self._stored_target: TargetEpoch | None = None
        self.subscriptions: dict[str, Subscription] = {}
        self.currents: dict[str, Current] = {}
        self.targets: dict[str, Partitions] = {}
        self.patterns: dict[str, Resolved] = {}
        self.has_old_topics = False
        # Counted from these
        self.static_members: dict[str, str] = {}
        self.subscribed = Subscribed(Counter(), Counter(), Counter())
        self.assignors: Counter[str] = Counter()
        self.classic_protocols: Counter[str] = Counter()
        self.classic_count = 0
        self.owners: dict[tuple[bytes, int], str] = {}
        self.soft = Soft()

    @property
    def epoch(self) -> int:
        return (self._stored_epoch or _INITIAL_EPOCH).epoch

    @property
    def metadata_hash(self) -> int:
        return (self._stored_epoch or _INITIAL_EPOCH).metadata_hash

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
            and not (self.subscriptions or self.currents or self.targets or self.patterns)
        )

    @property
    def is_empty(self) -> bool:
        return not self.subscriptions

    @property
    def state(self) -> ConsumerGroupState:
        if not self.subscriptions:
            return ConsumerGroupState.EMPTY
        if self.epoch > self.target_epoch:
            return ConsumerGroupState.ASSIGNING
        target_epoch = self.target_epoch
        if all(self.current(member_id).is_reconciled_to(target_epoch) for member_id in self.subscriptions):
            return ConsumerGroupState.STABLE
        return ConsumerGroupState.RECONCILING

    def current(self, member_id: str) -> Current:
        return self.currents.get(member_id) or Current()

    def member(self, member_id: str) -> Member:
        """Raises UNKNOWN_MEMBER_ID."""
        subscription = self.subscriptions.get(member_id)
        if subscription is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID, f"Member {member_id} is not a member of group {self.group_id}.")
        return Member(member_id, subscription, self.current(member_id))

    def static_member(self, instance_id: str | None) -> Member | None:
        member_id = self.static_members.get(instance_id) if instance_id is not None else None
        return None if member_id is None else self.member(member_id)

    def target(self, member_id: str, instance_id: str | None) -> Partitions:
        """What the member is to have; a static one, what it was to have under whichever id."""
        if instance_id is not None:
            member_id = self.static_members.get(instance_id, "")
        return self.targets.get(member_id, NOTHING)

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member reads the topic, by name or by pattern."""
        return topic in self.subscribed.by_name or topic in self.subscribed.by_pattern

    def subscribed_with(self, olds: Sequence[Subscription], new: Subscription | None = None) -> Subscribed:
        """What would be subscribed to if these were no more, and a new one came."""
        by_name, by_pattern, patterns = (counter.copy() for counter in self.subscribed)
        for old in olds:
            _take(by_name, *old.topics)
            if old.pattern:
                _take(patterns, old.pattern)
        if new is not None:
            by_name.update(new.topics)
            if new.pattern:
                patterns[new.pattern] += 1
        for pattern in {old.pattern for old in olds if old.pattern and not patterns[old.pattern]}:
            if pattern in self.patterns:
                _take(by_pattern, *self.patterns[pattern].topics)
        return Subscribed(by_name, by_pattern, patterns)

    def patterns_with(self, old: Subscription, new: Subscription) -> Counter[str]:
        """The patterns, and how many members have each, if a member's subscription were another."""
        patterns = self.subscribed.patterns
        if old.pattern == new.pattern:
            return patterns
        patterns = patterns.copy()
        if old.pattern:
            _take(patterns, old.pattern)
        if new.pattern:
            patterns[new.pattern] += 1
        return patterns

    def is_homogeneous_with(self, old: Subscription, updated: Member) -> bool:
        """Whether all members read the same if this one, whose subscription was the old one, were as given."""
        is_known = updated.member_id in self.subscriptions or updated.subscription.instance_id in self.static_members
        subscribed = self.subscribed_with([old], updated.subscription)
        return subscribed.is_homogeneous(len(self.subscriptions) + (not is_known))

    def preferred_assignor(self, default: str) -> str:
        """The one that most members ask for, the first of them as Kafka's table has it."""
        return _most_wanted(self.assignors, default)

    def preferred_assignor_with(self, old: Subscription, new: Subscription, default: str) -> str:
        """The preferred one if a member's subscription were another."""
        if old.assignor == new.assignor:
            return self.preferred_assignor(default)
        wanted = self.assignors.copy()
        if old.assignor is not None:
            _take(wanted, old.assignor)
        if new.assignor is not None:
            wanted[new.assignor] += 1
        return _most_wanted(wanted, default)

    # Facts

    def facts(self) -> Iterator[ModernFact]:
        """The facts that bring the group back, in the order in which Kafka writes a group down."""
        group_id = self.group_id
        yield from (SubscriptionStored(group_id, *item) for item in self.subscriptions.items())
        if self._stored_epoch is not None:
            yield EpochStored(group_id, self._stored_epoch)
        yield from (PatternStored(group_id, *item) for item in self.patterns.items())
        yield from (TargetStored(group_id, *item) for item in self.targets.items())
        if self._stored_target is not None:
            yield TargetEpochStored(group_id, self._stored_target)
        yield from (CurrentStored(group_id, *item) for item in self.currents.items())
        if self.has_old_topics:
            yield TopicsStored(group_id, True)

    def tombstones(self, replaced: Mapping[str, str] = {}) -> list[ModernFact]:
        """The facts of the group's end, in Kafka's order; of members that were just replaced, for their new ids."""
        group_id, members = self.group_id, [replaced.get(member_id, member_id) for member_id in self.subscriptions]
        return [
            *(CurrentStored(group_id, member_id, None) for member_id in members),
            *(TargetStored(group_id, member_id, None) for member_id in members),
            TargetEpochStored(group_id, None),
            *(SubscriptionStored(group_id, member_id, None) for member_id in members),
            *(PatternStored(group_id, pattern, None) for pattern in self.patterns),
            TopicsStored(group_id, False),
            EpochStored(group_id, None),
        ]

    def as_it_is(self, fact: ModernFact) -> ModernFact:
        """What the key of this fact says now."""
        match fact:
            case EpochStored(group_id):
                return EpochStored(group_id, self._stored_epoch)
            case SubscriptionStored(group_id, member_id):
                return SubscriptionStored(group_id, member_id, self.subscriptions.get(member_id))
            case TargetEpochStored(group_id):
                return TargetEpochStored(group_id, self._stored_target)
            case TargetStored(group_id, member_id):
                return TargetStored(group_id, member_id, self.targets.get(member_id))
            case CurrentStored(group_id, member_id):
                return CurrentStored(group_id, member_id, self.currents.get(member_id))
            case PatternStored(group_id, pattern):
                return PatternStored(group_id, pattern, self.patterns.get(pattern))
            case TopicsStored(group_id):
                return TopicsStored(group_id, self.has_old_topics)

    def apply(self, fact: ModernFact) -> None:
        match fact:
            case EpochStored(_, epoch):
                self._stored_epoch = epoch
            case SubscriptionStored(_, member_id, subscription):
                self._subscribe(member_id, subscription)
            case TargetEpochStored(_, target):
                self._stored_target = target
            case TargetStored(_, member_id, partitions):
                _put(self.targets, member_id, partitions)
            case CurrentStored(_, member_id, current):
                self._own(member_id, current)
            case PatternStored(_, pattern, resolved):
                if pattern in self.patterns:
                    _take(self.subscribed.by_pattern, *self.patterns[pattern].topics)
                if resolved is not None:
                    self.subscribed.by_pattern.update(resolved.topics)
                _put(self.patterns, pattern, resolved)
            case TopicsStored(_, is_there):
                self.has_old_topics = is_there

    def _subscribe(self, member_id: str, subscription: Subscription | None) -> None:
        old = self.subscriptions.get(member_id)
        if old is not None:
            _take(self.subscribed.by_name, *old.topics)
            if old.pattern:
                _take(self.subscribed.patterns, old.pattern)
            if old.assignor is not None:
                _take(self.assignors, old.assignor)
            if old.instance_id is not None and self.static_members.get(old.instance_id) == member_id:
                del self.static_members[old.instance_id]
            if old.classic is not None:
                self.classic_count -= 1
                _take(self.classic_protocols, *(name for name, _ in old.classic.protocols))
        if subscription is not None:
            self.subscribed.by_name.update(subscription.topics)
            if subscription.pattern:
                self.subscribed.patterns[subscription.pattern] += 1
            if subscription.assignor is not None:
                self.assignors[subscription.assignor] += 1
            if subscription.instance_id is not None:
                self.static_members[subscription.instance_id] = member_id
            if subscription.classic is not None:
                self.classic_count += 1
                self.classic_protocols.update(name for name, _ in subscription.classic.protocols)
        _put(self.subscriptions, member_id, subscription)

    def _own(self, member_id: str, current: Current | None) -> None:
        owners = self.owners
        old = self.currents.get(member_id)
        if old is not None:
            for partition in _partitions_of(old):
                if owners.get(partition) == member_id:
                    del owners[partition]
        if current is not None:
            owners.update(dict.fromkeys(_partitions_of(current), member_id))
        _put(self.currents, member_id, current)


def without_epochs(*owned: Owned) -> Partitions:
    """The partitions alone."""
    found: dict[bytes, list[int]] = {}
    for each in owned:
        for topic_id, epochs in each.items():
            found.setdefault(topic_id, []).extend(epochs)
    return {topic_id: tuple(sorted(partitions)) for topic_id, partitions in found.items()}


def _partitions_of(current: Current) -> Iterator[tuple[bytes, int]]:
    for owned in (current.assigned, current.revoking):
        for topic_id, epochs in owned.items():
            for partition in epochs:
                yield topic_id, partition


def _most_wanted(wanted: Counter[str], default: str) -> str:
    return max(in_order(wanted, hash_of_text), key=wanted.__getitem__, default=default)


def _take(counts: Counter[str], *names: str) -> None:
    """Count each of these once less, and forget those that are none any more."""
    for name in names:
        if counts[name] > 1:
            counts[name] -= 1
        else:
            del counts[name]


def _put(table: dict[K, V], key: K, value: V | None) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
