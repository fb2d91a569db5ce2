"""The nouns of the consumer protocol: a group, its members, its states. No rules about when what happens.

Invariant: `owners` names for each partition the member that has it, be it to give it up, and no other.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from kafkapy.groups.modern.core import NOTHING, ModernGroup, Partitions, Soft, put
from kafkapy.groups.modern.facts import (
    FACT_TYPES,
    ConsumerFact,
    Current,
    Owned,
    PatternStored,
    Resolved,
    Subscription,
    TopicsStored,
)
from kafkapy.groups.modern.java_order import hash_of_text, in_order


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


class ConsumerSoft(Soft):
    """`resolved_version`: how many times topics had come when the group's patterns were looked up. `is_resolving`: they
    are about to be, and `looking_up` is what has been begun of it. `join_timers`: the classic members that are awaited.
    """

    __slots__ = ("is_resolving", "join_timers", "looking_up", "resolved_version")

    def __init__(self) -> None:
        super().__init__()
        self.resolved_version = 0
        self.is_resolving = False
        self.looking_up: Iterator[dict[str, frozenset[str]] | None] | None = None
        self.join_timers: set[str] = set()


class ConsumerGroup(ModernGroup[Subscription, Partitions, Current]):
    """One consumer group: its facts, and what follows from them."""

    __slots__ = (
        "assignors",
        "classic_count",
        "classic_protocols",
        "has_old_topics",
        "owners",
        "patterns",
        "static_members",
        "subscribed",
    )

    fact_types = FACT_TYPES
    soft: ConsumerSoft

    def __init__(self, group_id: str) -> None:
        super().__init__(group_id)
        self.patterns: dict[str, Resolved] = {}
        self.has_old_topics = False
        # Counted from these
        self.static_members: dict[str, str] = {}
        self.subscribed = Subscribed(Counter(), Counter(), Counter())
        self.assignors: Counter[str] = Counter()
        self.classic_protocols: Counter[str] = Counter()
        self.classic_count = 0
        self.owners: dict[tuple[bytes, int], str] = {}
        self.soft = ConsumerSoft()

    @property
    def is_blank(self) -> bool:
        return super().is_blank and not self.patterns

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
        return Member(member_id, self.require_subscription(member_id), self.current(member_id))

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

    # What there is beside the skeleton

    def _other_facts(self) -> Iterator[ConsumerFact]:
        yield from (PatternStored(self.group_id, *item) for item in self.patterns.items())
        if self.has_old_topics:
            yield TopicsStored(self.group_id, True)

    def _other_tombstones(self) -> Iterator[ConsumerFact]:
        yield from (PatternStored(self.group_id, pattern, None) for pattern in self.patterns)
        yield TopicsStored(self.group_id, False)

    def _other_as_it_is(self, fact: PatternStored | TopicsStored) -> ConsumerFact:
        match fact:
            case PatternStored(group_id, pattern):
                return PatternStored(group_id, pattern, self.patterns.get(pattern))
            case TopicsStored(group_id):
                return TopicsStored(group_id, self.has_old_topics)

    def _apply_other(self, fact: PatternStored | TopicsStored) -> None:
        match fact:
            case PatternStored(_, pattern, resolved):
                if pattern in self.patterns:
                    _take(self.subscribed.by_pattern, *self.patterns[pattern].topics)
                if resolved is not None:
                    self.subscribed.by_pattern.update(resolved.topics)
                put(self.patterns, pattern, resolved)
            case TopicsStored(_, is_there):
                self.has_old_topics = is_there

    def _count_subscription(self, member_id: str, old: Subscription | None, new: Subscription | None) -> None:
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
        if new is not None:
            self.subscribed.by_name.update(new.topics)
            if new.pattern:
                self.subscribed.patterns[new.pattern] += 1
            if new.assignor is not None:
                self.assignors[new.assignor] += 1
            if new.instance_id is not None:
                self.static_members[new.instance_id] = member_id
            if new.classic is not None:
                self.classic_count += 1
                self.classic_protocols.update(name for name, _ in new.classic.protocols)

    def _count_current(self, member_id: str, old: Current | None, new: Current | None) -> None:
        owners = self.owners
        if old is not None:
            for partition in _partitions_of(old):
                if owners.get(partition) == member_id:
                    del owners[partition]
        if new is not None:
            owners.update(dict.fromkeys(_partitions_of(new), member_id))


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
