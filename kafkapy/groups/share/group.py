"""The nouns of the share protocol: a group, its states, and the partitions it keeps state for. No rules about when what
happens.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from enum import Enum

from kafkapy.groups.modern.core import NOTHING, ModernGroup, Partitions, Soft, put
from kafkapy.groups.share.facts import (
    FACT_TYPES,
    ShareCurrent,
    ShareFact,
    ShareSubscription,
    StatePartitions,
    StatePartitionsStored,
    TopicState,
)


class ShareGroupState(Enum):
    """Where a share group stands; the value is Kafka's own name for it. It is stable as soon as it has a member."""

    EMPTY = "Empty"
    STABLE = "Stable"


class ShareSoft(Soft):
    """`asked_ms`: when it was last written down for which partitions there is state, by whichever change."""

    __slots__ = ("asked_ms",)

    def __init__(self) -> None:
        super().__init__()
        self.asked_ms = 0


class ShareGroup(ModernGroup[ShareSubscription, Partitions, ShareCurrent]):
    """One share group: its facts, and what follows from them."""

    __slots__ = ("_stored_states", "subscribed")

    fact_types = FACT_TYPES
    soft: ShareSoft

    def __init__(self, group_id: str) -> None:
        super().__init__(group_id)
        self._stored_states: StatePartitions | None = None
        self.subscribed: Counter[str] = Counter()
        """How many members read which topic; nothing is counted as 0."""
        self.soft = ShareSoft()

    @property
    def state(self) -> ShareGroupState:
        return ShareGroupState.STABLE if self.subscriptions else ShareGroupState.EMPTY

    @property
    def is_blank(self) -> bool:
        return super().is_blank and self._stored_states is None

    @property
    def states(self) -> StatePartitions:
        """The partitions that there is state for."""
        return self._stored_states or StatePartitions()

    @property
    def has_states(self) -> bool:
        """Whether it was ever written down for which partitions there is state."""
        return self._stored_states is not None

    def is_subscribed_to(self, topic: str) -> bool:
        return topic in self.subscribed

    def subscribed_with(self, old: ShareSubscription, new: ShareSubscription | None) -> Counter[str]:
        """Who would read what if a member's subscription were another, or no more."""
        subscribed = self.subscribed.copy()
        subscribed.subtract(old.topics)
        if new is not None:
            subscribed.update(new.topics)
        return +subscribed

    def current(self, member_id: str) -> ShareCurrent:
        return self.currents.get(member_id) or ShareCurrent()

    def target(self, member_id: str) -> Partitions:
        return self.targets.get(member_id, NOTHING)

    def misses_initialized(self, exists: Callable[[bytes], object]) -> bool:
        """Whether partitions of a topic that members read are initialised, and assigned to nobody, or the reverse.

        Topics that are no more do not count, should it not have been noted that they went.
        """
        initialized = self.states.initialized
        if not (self.subscriptions and initialized):
            return False
        assigned: dict[bytes, set[int]] = {}
        for target in self.targets.values():
            for topic_id, partitions in target.items():
                assigned.setdefault(topic_id, set()).update(partitions)
        read = [topic_id for topic_id, topic in initialized.items() if topic.name in self.subscribed]
        return any(
            assigned.get(topic_id, set()) != set(initialized[topic_id].partitions)
            for topic_id in read
            if exists(topic_id)
        )

    # What there is beside the skeleton

    def _other_facts(self) -> Iterator[ShareFact]:
        if self._stored_states is not None:
            yield StatePartitionsStored(self.group_id, self._stored_states)

    def _other_tombstones(self) -> Iterator[ShareFact]:
        yield StatePartitionsStored(self.group_id, None)

    def _other_as_it_is(self, fact: StatePartitionsStored) -> ShareFact:
        return StatePartitionsStored(self.group_id, self._stored_states)

    def _apply_other(self, fact: StatePartitionsStored) -> None:
        self._stored_states = fact.partitions

    def _count_subscription(self, member_id: str, old: ShareSubscription | None, new: ShareSubscription | None) -> None:
        if old is not None or new is not None:
            self.subscribed = self.subscribed_with(old or ShareSubscription(), new)


def joined(known: Mapping[bytes, TopicState], more: Mapping[bytes, TopicState]) -> dict[bytes, TopicState]:
    """The partitions of both, under the names that the later one has."""
    found = dict(known)
    for topic_id, topic in more.items():
        put(found, topic_id, TopicState(topic.name, topic.partitions | partitions_of(known, topic_id)))
    return found


def partitions_of(topics: Mapping[bytes, TopicState], topic_id: bytes) -> frozenset[int]:
    """The partitions of a topic among these."""
    topic = topics.get(topic_id)
    return frozenset() if topic is None else topic.partitions


def without(topics: Mapping[bytes, TopicState], gone: Mapping[bytes, frozenset[int]]) -> dict[bytes, TopicState]:
    """These without the partitions that are gone; no topic is left without any on account of that."""
    found = {}
    for topic_id, topic in topics.items():
        left = topic.partitions - gone.get(topic_id, frozenset())
        if left or topic_id not in gone:
            found[topic_id] = TopicState(topic.name, left)
    return found
