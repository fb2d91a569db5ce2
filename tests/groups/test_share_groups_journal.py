"""Facts of share groups as Kafka's records, and back."""

import pytest

from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.share.facts import (
    ShareCurrent,
    ShareCurrentStored,
    ShareEpochStored,
    ShareSubscription,
    ShareSubscriptionStored,
    ShareTargetEpochStored,
    ShareTargetStored,
    StatePartitions,
    StatePartitionsStored,
    TopicState,
)

T1, T2 = b"\x01" * 16, b"\x02" * 16
STATES = StatePartitions(
    {T1: TopicState("t", frozenset({3}))}, {T1: TopicState("t", frozenset({0, 1})), T2: TopicState("u", frozenset())}
)

FACTS = [
    (10, ShareSubscriptionStored("g", "m", ShareSubscription("r", "c", "/h", frozenset({"t", "a"})))),
    (10, ShareSubscriptionStored("g", "m", ShareSubscription())),
    (10, ShareSubscriptionStored("g", "m", None)),
    (11, ShareEpochStored("g", GroupEpoch(7, -5))),
    (11, ShareEpochStored("g", None)),
    (12, ShareTargetEpochStored("g", TargetEpoch(7, 1_700_000_000_000))),
    (12, ShareTargetEpochStored("g", TargetEpoch(7, 0))),
    (12, ShareTargetEpochStored("g", None)),
    (13, ShareTargetStored("g", "m", {T1: (0, 2), T2: ()})),
    (13, ShareTargetStored("g", "m", None)),
    (14, ShareCurrentStored("g", "m", ShareCurrent(5, 4, 0, {T1: (0, 2)}))),
    (14, ShareCurrentStored("g", "m", None)),
    (15, StatePartitionsStored("g", STATES)),
    (15, StatePartitionsStored("g", StatePartitions({}, {}, {T2: "u"}))),
    (15, StatePartitionsStored("g", None)),
]


@pytest.mark.parametrize(("record_type", "fact"), FACTS)
def test_facts_come_back_under_kafkas_numbers(record_type: int, fact: object) -> None:
    journal = GroupJournal()
    [entry] = journal.encode(fact)
    assert entry.key is not None
    assert entry.key[:2] == record_type.to_bytes(2, "big")
    decoded = journal.decode(entry)
    assert (type(decoded), decoded) == (type(fact), fact)
