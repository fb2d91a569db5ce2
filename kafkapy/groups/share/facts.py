"""What a coordinator remembers of a share group (KIP-932): the facts behind its records of `__consumer_offsets`.

Five of them are those of the skeleton (`groups/modern/core.py`); the sixth says for which partitions there is state, or
is about to be. `groups/share/journal.py` turns them into Kafka's records and back; `groups/share/group.py` keeps them.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from kafkapy.groups.modern.core import (
    CurrentFact,
    EpochFact,
    FactTypes,
    Partitions,
    SubscriptionFact,
    TargetEpochFact,
    TargetFact,
)


class ShareSubscription(NamedTuple):
    """What a member has said of itself."""

    rack_id: str | None = None
    client_id: str = ""
    client_host: str = ""
    topics: frozenset[str] = frozenset()


class ShareCurrent(NamedTuple):
    """Where a member stands: its epoch, and what it may read, which others may read as well.

    Of a record that another Kafka wrote `state` is kept as it is; there is but one, 0.
    """

    epoch: int = 0
    previous_epoch: int = -1
    state: int = 0
    assigned: Partitions = {}


class TopicState(NamedTuple):
    """The partitions of a topic that something is said of."""

    name: str
    partitions: frozenset[int]


class StatePartitions(NamedTuple):
    """The partitions whose state the share coordinator keeps for a group, by topic id.

    Of those that are `initializing` it has been asked for, and has not answered; those that are `initialized` may be
    assigned; of the topics in `deleting`, by name, it has been asked to forget everything.
    """

    initializing: Mapping[bytes, TopicState] = {}
    initialized: Mapping[bytes, TopicState] = {}
    deleting: Mapping[bytes, str] = {}


class ShareEpochStored(EpochFact):
    """The group's epoch."""

    __slots__ = ()


class ShareSubscriptionStored(SubscriptionFact[ShareSubscription]):
    """A member's subscription."""

    __slots__ = ()


class ShareTargetEpochStored(TargetEpochFact):
    """The target assignment's epoch."""

    __slots__ = ()


class ShareTargetStored(TargetFact[Partitions]):
    """What a member is to have."""

    __slots__ = ()


class ShareCurrentStored(CurrentFact[ShareCurrent]):
    """What a member has."""

    __slots__ = ()


class StatePartitionsStored(NamedTuple):
    """For which partitions there is state."""

    group_id: str
    partitions: StatePartitions | None


FACT_TYPES: Final = FactTypes(
    ShareEpochStored, ShareSubscriptionStored, ShareTargetEpochStored, ShareTargetStored, ShareCurrentStored
)
SHARE_FACTS: Final = frozenset((*FACT_TYPES, StatePartitionsStored))

ShareFact = (
    ShareEpochStored
    | ShareSubscriptionStored
    | ShareTargetEpochStored
    | ShareTargetStored
    | ShareCurrentStored
    | StatePartitionsStored
)
