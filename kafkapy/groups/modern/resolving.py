"""The patterns that members subscribe to: when they are looked up, and which topics they stand for (KIP-848).

A pattern is looked up after the heartbeat that brought it, for all members at once, and again when topics have come, or
after a time. Owned by `groups/modern/consumer.py`.
"""

from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

from kafkapy.coordination.shard import Decision, SetTimer
from kafkapy.errors import KafkaError
from kafkapy.groups.modern.commands import MayDescribe, ResolvePatterns
from kafkapy.groups.modern.facts import Resolved, Subscription
from kafkapy.groups.modern.group import ConsumerGroup
from kafkapy.patterns import full_match

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

_MIN_INTERVAL_MS: Final = 10_000
"""Kafka's constant: patterns of a group are not looked up more often."""

_TOPICS_A_STEP: Final = 100
"""So many are held against a pattern before all others get their turn: a millisecond's work."""

_NO_VERSION: Final = 0
"""What is written as the metadata's version: whoever loads the group looks its patterns up once more."""


class PatternChange(Enum):
    """What a heartbeat does to a member's pattern. RESOLVED: the topics of the new one are known, or it has none."""

    NONE = 0
    CHANGED = 1
    RESOLVED = 2


class Resolving:
    """Which topics there are for patterns to match, and which groups have not seen them."""

    def __init__(self, refresh_interval_ms: int) -> None:
        self._refresh_interval_ms = refresh_interval_ms
        self._topic_ids: frozenset[bytes] = frozenset()
        self._topics: object = None
        self._version = 0

    def change(self, group: ConsumerGroup, old: Subscription, new: Subscription) -> tuple[PatternChange, bool]:
        """What the change comes to, and whether it calls for a look-up. Raises INVALID_REGULAR_EXPRESSION."""
        if old.pattern == new.pattern:
            return PatternChange.NONE, False
        if not new.pattern:
            return (PatternChange.RESOLVED if old.pattern else PatternChange.CHANGED), False
        if new.pattern not in group.subscribed.patterns:
            _require_pattern(new.pattern)
            return PatternChange.CHANGED, True
        return (PatternChange.RESOLVED if new.pattern in group.patterns else PatternChange.CHANGED), False

    def schedule(
        self,
        group: ConsumerGroup,
        patterns: Collection[str],
        is_wanted: bool,
        may_describe: MayDescribe,
        now_ms: int,
        image: "ClusterImage",
        out: Decision,
    ) -> None:
        """Have the patterns of the group, as they will be, looked up if it is time for it."""
        if not (is_wanted or group.subscribed.patterns) or group.soft.is_resolving:
            return
        looked_up_ms = next((resolved.timestamp_ms for resolved in group.patterns.values()), None)
        if looked_up_ms is not None and now_ms <= looked_up_ms + _MIN_INTERVAL_MS:
            return
        is_due = (
            is_wanted
            or len(patterns) != len(group.patterns)
            or group.soft.resolved_version < self._version_of(image)
            or looked_up_ms is None
            or now_ms > looked_up_ms + self._refresh_interval_ms
        )
        if is_due and patterns:
            group.soft.is_resolving = True
            command = ResolvePatterns(group.group_id, frozenset(patterns), may_describe)
            out.timers.append(SetTimer(("patterns", group.group_id), now_ms, command))

    def resolve(
        self, group: ConsumerGroup, command: ResolvePatterns, now_ms: int, image: "ClusterImage", out: Decision
    ) -> dict[str, Resolved] | None:
        """What the patterns stand for, of those that are still subscribed to; None when there is more to be done, which
        others need not wait for.
        """
        soft = group.soft
        if soft.looking_up is None:
            soft.looking_up = _look_up(command, [*image.topics])
            soft.resolved_version = self._version_of(image)
        found = next(soft.looking_up)
        if found is None:
            out.timers.append(SetTimer(("patterns", group.group_id), now_ms, command))
            return None
        soft.is_resolving, soft.looking_up = False, None
        return {
            pattern: Resolved(topics, _NO_VERSION, now_ms)
            for pattern, topics in found.items()
            if pattern in group.subscribed.patterns
        }

    def _version_of(self, image: "ClusterImage") -> int:
        """How many times topics have come since this shard was loaded; the first look counts as one."""
        if image.topics is not self._topics:
            topic_ids = frozenset(topic.topic_id for topic in image.topics.values())
            if self._topics is None or not topic_ids <= self._topic_ids:
                self._version += 1
            self._topics, self._topic_ids = image.topics, topic_ids
        return self._version


def _look_up(command: ResolvePatterns, names: Sequence[str]) -> Iterator[dict[str, frozenset[str]] | None]:
    """What the patterns stand for among topics of these names, once it is known; None at each step before."""
    found = {}
    for pattern in sorted(command.patterns):
        matches, topics = full_match(pattern), set[str]()
        for begin in range(0, len(names), _TOPICS_A_STEP):
            topics.update(
                name for name in names[begin : begin + _TOPICS_A_STEP] if matches(name) and command.may_describe(name)
            )
            yield None
        found[pattern] = frozenset(topics)
    yield found


def _require_pattern(pattern: str) -> None:
    try:
        full_match(pattern)
    except KafkaError as refusal:
        why = f"SubscribedTopicRegex `{pattern}` is not a valid regular expression: {refusal.message}."
        raise KafkaError(refusal.error, why) from refusal
