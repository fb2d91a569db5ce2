"""Facts of streams groups as Kafka's records, and back."""

import pytest

from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.streams.facts import (
    CopartitionGroup,
    EpochBasis,
    InternalTopic,
    StreamsCurrent,
    StreamsCurrentStored,
    StreamsEpochStored,
    StreamsMemberState,
    StreamsSubscription,
    StreamsSubscriptionStored,
    StreamsTargetEpochStored,
    StreamsTargetStored,
    Subtopology,
    Topology,
    TopologyStored,
    UserEndpoint,
)
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks

SAID = StreamsSubscription("i", "r", "c", "/h", 300_000, 3, "p", UserEndpoint("host", 65_535), (("a", "1"), ("b", "2")))
TASKS = Assignment({"0": frozenset({0, 2})}, {"1": frozenset({1})}, {"1": frozenset({3})})
OWNED = OwnedTasks({"0": {0: 4, 2: 5}}, {"1": frozenset({1})}, {"1": frozenset({3})})
TOPOLOGY = Topology(
    2,
    (
        Subtopology("0", ("t",), (), (), ("between",)),
        Subtopology(
            "1",
            ("u",),
            ("p.*",),
            (InternalTopic("log", 0, 2, (("cleanup.policy", "compact"),)),),
            (),
            (InternalTopic("between", 4, 0),),
            (CopartitionGroup((0,), (0,), (0,)),),
        ),
    ),
)

FACTS = [
    (17, StreamsEpochStored("g", GroupEpoch(7, -5, EpochBasis(3, (("num.standby.replicas", "1"),), -2, 1)))),
    (17, StreamsEpochStored("g", GroupEpoch(7, 0, EpochBasis()))),
    (17, StreamsEpochStored("g", None)),
    (19, StreamsSubscriptionStored("g", "m", SAID)),
    (19, StreamsSubscriptionStored("g", "m", StreamsSubscription())),
    (19, StreamsSubscriptionStored("g", "m", None)),
    (20, StreamsTargetEpochStored("g", TargetEpoch(7, 1_700_000_000_000))),
    (20, StreamsTargetEpochStored("g", None)),
    (21, StreamsTargetStored("g", "m", TASKS)),
    (21, StreamsTargetStored("g", "m", None)),
    (22, StreamsCurrentStored("g", "m", StreamsCurrent(5, 4, StreamsMemberState.UNREVOKED_TASKS, OWNED, OWNED))),
    (22, StreamsCurrentStored("g", "m", None)),
    (23, TopologyStored("g", TOPOLOGY)),
    (23, TopologyStored("g", None)),
]


@pytest.mark.parametrize(("record_type", "fact"), FACTS, ids=lambda each: type(each).__name__)
def test_what_is_written_is_read_again(record_type: int, fact: object) -> None:
    journal = GroupJournal()
    [entry] = journal.encode(fact)
    assert entry.key is not None and int.from_bytes(entry.key[:2], "big") == record_type
    assert journal.decode(entry) == fact
