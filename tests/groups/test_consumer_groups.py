"""Consumer groups (KIP-848): joining, epochs, reconciliation, leaving, timeouts, fencing."""

import sys
import tracemalloc
from collections import Counter

import pytest

from kafkapy.cluster.image import ClusterImage
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import DescribeGroup, ListGroups
from kafkapy.groups.modern.facts import Current, CurrentStored, MemberState
from kafkapy.groups.modern.group import ConsumerGroup
from kafkapy.groups.modern.topic_hash import TopicHashes
from tests.groups.consumers import BROKER, Consumers, Member, image_of, settle, topic_id_of

T = topic_id_of("t")


@pytest.fixture
def consumers() -> Consumers:
    return Consumers()


def state_of(consumers: Consumers, member: Member) -> MemberState:
    return consumers.machine.consumers["g"].current(member.member_id).state


def test_the_first_member_gets_everything_in_epoch_2(consumers):
    member = Member(consumers, "a", "t")
    answer = member.join()
    assert (answer.member_id, answer.member_epoch, answer.heartbeat_interval_ms) == ("a", 2, 5_000)
    assert member.owned == {T: (0, 1, 2)}
    description = consumers.describe()
    assert (description.state, description.epoch, description.target_epoch) == ("Stable", 2, 2)
    assert description.assignor == "uniform"


def test_a_heartbeat_without_news_tells_no_assignment(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    before = len(consumers.entries)
    assert member.beat(owned=None).assigned is None
    assert len(consumers.entries) == before


def test_a_full_heartbeat_is_told_everything(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    assert member.beat(rebalance_ms=60_000, topics=["t"]).assigned is not None


def test_a_member_without_an_id_is_given_one(consumers):
    answer = consumers.beat(rebalance_ms=1_000, topics=["t"], owned={})
    assert answer.member_id == "new-1"


def test_a_partition_is_revoked_before_it_is_assigned(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    consumers.advance(1_000)
    second.join()
    assert (second.epoch, second.owned) == (3, {})
    assert state_of(consumers, second) is MemberState.UNRELEASED_PARTITIONS
    first.clings = True
    answer = first.beat()
    assert answer.member_epoch == 2, "it stays in its epoch until it has given up"
    assert consumers.describe().state == "Reconciling"
    assert second.beat().assigned is None
    first.clings = False
    kept = {topic_id: tuple(epochs) for topic_id, epochs in answer.assigned.items()}
    first.owned = kept
    assert first.beat().member_epoch == 3
    second.beat()
    assert {*first.partitions, *second.partitions} == {("t", 0), ("t", 1), ("t", 2)}
    assert not first.partitions & second.partitions
    assert consumers.describe().state == "Stable"


def test_a_member_that_does_not_give_up_in_time_is_fenced(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    consumers.advance(1_000)
    second.join()
    first.clings = True
    first.beat()
    for _ in range(4):
        consumers.advance(15_000)
        second.beat()
        if "a" in consumers.machine.consumers["g"].subscriptions:
            first.beat(owned=None)
    assert first.try_beat() is Error.UNKNOWN_MEMBER_ID
    settle(second)
    assert second.owned == {T: (0, 1, 2)}


def test_a_silent_member_is_fenced_after_its_session(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    second.join()
    consumers.advance(44_000)
    second.beat()
    consumers.advance(1_000)
    assert first.try_beat() is Error.UNKNOWN_MEMBER_ID
    settle(second)
    assert second.owned == {T: (0, 1, 2)}


def test_a_groups_own_settings_count_within_the_brokers_bounds(consumers):
    own = {"g": {"consumer.session.timeout.ms": "50000", "consumer.heartbeat.interval.ms": "99000"}}
    consumers.image = image_of({"t": 3}, own)
    answer = Member(consumers, "a", "t").join()
    assert answer.heartbeat_interval_ms == 15_000
    consumers.advance(49_999)
    assert not consumers.machine.consumers["g"].is_empty
    consumers.advance(1)
    assert consumers.machine.consumers["g"].is_empty


def test_targets_are_not_computed_more_often_than_the_interval_allows(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    second.join()
    assert (second.epoch, second.owned) == (2, {})
    assert consumers.describe().state == "Assigning"
    consumers.advance(1_000)
    second.beat()
    assert second.epoch == 3


def test_leaving_frees_everything(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    second.join()
    settle(first, second)
    assert first.leave().member_epoch == -1
    assert first.try_beat() is Error.UNKNOWN_MEMBER_ID
    settle(second)
    assert second.owned == {T: (0, 1, 2)}


def test_the_last_to_leave_leaves_an_empty_group(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    member.leave()
    description = consumers.describe()
    assert (description.state, description.epoch, description.target_epoch) == ("Empty", 3, 3)
    assert {key for key in consumers.timer_keys if key[0] != "expiry"} == set()


@pytest.mark.parametrize("epoch", [1, 3])
def test_another_epoch_is_fenced(consumers, epoch):
    member = Member(consumers, "a", "t")
    member.join()
    assert member.try_beat(epoch=epoch, owned={T: [7]}) is Error.FENCED_MEMBER_EPOCH


def test_the_epoch_before_is_good_when_the_answer_may_have_been_lost(consumers):
    first, second = Member(consumers, "a", "t"), Member(consumers, "b", "t")
    first.join()
    second.join()
    settle(first, second)
    owned = first.owned
    assert first.try_beat(epoch=2, owned=owned).member_epoch == 3
    assert first.try_beat(epoch=2, owned=None) is Error.FENCED_MEMBER_EPOCH
    assert first.try_beat(epoch=2, owned={T: (0, 1, 2)}) is Error.FENCED_MEMBER_EPOCH


def test_a_member_may_join_again_under_its_id(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    answer = member.join()
    assert (answer.member_epoch, member.owned) == (2, {T: (0, 1, 2)})


def test_what_to_give_up_is_told_again_when_the_answer_was_lost(consumers):
    consumers.set_topics(t=3, u=2)
    member = Member(consumers, "a", "t", "u")
    member.join()
    settle(member)
    assert member.try_beat(topics=["u"]).assigned is not None
    member.beat(rebalance_ms=60_000, topics=["u"])
    assert member.partitions == {("u", 0), ("u", 1)}


def test_who_leaves_while_it_gives_up_partitions_may_join_at_once_and_has_all_that_is_its(consumers):
    consumers.set_topics(t=3, u=2)
    member = Member(consumers, "a", "t")
    member.join()
    settle(member)
    member.try_beat(topics=["u"])
    member.leave()
    member.topics = ["t", "u"]
    member.join()
    settle(member)
    assert member.partitions == {("t", 0), ("t", 1), ("t", 2), ("u", 0), ("u", 1)}


def test_nobody_is_known_of_an_unknown_group(consumers):
    assert consumers.beat(member_id="a", epoch=1) is Error.GROUP_ID_NOT_FOUND
    assert consumers.beat(member_id="a", epoch=-1) is Error.GROUP_ID_NOT_FOUND


def test_a_full_group_takes_no_newcomer_but_who_was_there():
    consumers = Consumers(consumer_max_size=1)
    member = Member(consumers, "a", "t", instance="i")
    member.join()
    assert consumers.beat(member_id="b", rebalance_ms=1, topics=["t"], owned={}) is Error.GROUP_MAX_SIZE_REACHED
    member.leave(-2)
    Member(consumers, "c", "t", instance="i").join()


# Static members


def test_a_static_member_that_went_away_finds_its_place(consumers):
    first, second = Member(consumers, "a", "t", instance="i"), Member(consumers, "b", "t")
    first.join()
    second.join()
    settle(first, second)
    had, epoch = first.owned, consumers.describe().epoch
    assert first.leave(-2).member_epoch == -2
    back = Member(consumers, "c", "t", instance="i")
    back.join()
    assert back.owned == had
    assert consumers.describe().epoch == epoch, "nobody else is bothered"
    assert first.try_beat() is Error.FENCED_INSTANCE_ID


def test_an_instance_id_in_use_is_not_released(consumers):
    Member(consumers, "a", "t", instance="i").join()
    answer = consumers.beat(member_id="b", instance="i", rebalance_ms=1, topics=["t"], owned={})
    assert answer is Error.UNRELEASED_INSTANCE_ID


def test_a_static_member_that_stays_away_is_fenced(consumers):
    member = Member(consumers, "a", "t", instance="i")
    member.join()
    member.leave(-2)
    consumers.advance(45_000)
    assert consumers.describe().members == []


def test_an_unknown_instance_is_told_so(consumers):
    Member(consumers, "a", "t").join()
    assert consumers.beat(member_id="a", instance="x", epoch=2) is Error.UNKNOWN_MEMBER_ID


# Topics


def test_new_partitions_are_seen_at_the_next_heartbeat(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    consumers.advance(1_000)
    consumers.set_topics(t=5)
    member.beat()
    assert (member.epoch, member.owned) == (3, {T: (0, 1, 2, 3, 4)})


def test_a_topic_that_comes_later_is_seen(consumers):
    member = Member(consumers, "a", "t", "later")
    member.join()
    consumers.advance(1_000)
    consumers.set_topics(t=3, later=1)
    member.beat()
    assert member.owned == {T: (0, 1, 2), topic_id_of("later"): (0,)}


def test_a_deleted_topic_is_revoked(consumers):
    consumers.set_topics(t=3, other=1)
    member = Member(consumers, "a", "t", "other")
    member.join()
    consumers.advance(1_000)
    consumers.set_topics(t=3)
    member.beat()
    member.beat()
    assert (member.epoch, member.owned) == (3, {T: (0, 1, 2)})


def test_a_topic_that_nobody_reads_changes_nothing(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    consumers.set_topics(t=3, other=1)
    before = len(consumers.entries)
    member.beat()
    assert len(consumers.entries) == before


def test_a_topic_that_is_no_longer_read_is_revoked_at_once(consumers):
    consumers.set_topics(t=3, other=1)
    member = Member(consumers, "a", "t", "other")
    member.join()
    member.clings = True
    answer = member.beat(topics=["t"])
    assert set(answer.assigned) == {T}, "though the next target is not due yet"
    assert state_of(consumers, member) is MemberState.UNREVOKED_PARTITIONS


def test_members_ask_for_an_assignor(consumers):
    consumers.set_topics(t=3, u=3)
    first, second = (Member(consumers, name, "t", "u", assignor="range") for name in "ab")
    first.join()
    second.join()
    settle(first, second)
    assert first.owned == {T: (0, 1), topic_id_of("u"): (0, 1)}
    assert consumers.describe().assignor == "range"


# Patterns


def test_a_pattern_is_looked_up_after_the_heartbeat(consumers):
    consumers.set_topics(**{"t-1": 1, "t-2": 1, "x": 1})
    member = Member(consumers, "a", pattern="t-.*")
    assert (member.join().member_epoch, member.owned) == (1, {})
    consumers.advance(0)
    member.beat()
    assert member.partitions == {("t-1", 0), ("t-2", 0)}


def test_a_pattern_matches_topics_that_come_later_and_may_be_known(consumers):
    member = Member(consumers, "a", pattern="t.*")
    member.join()
    consumers.advance(0)
    settle(member)
    consumers.set_topics(t=3, t2=1, t3=1)
    consumers.advance(10_001)
    member.beat(may_describe=lambda topic: topic != "t3")
    consumers.advance(0)
    member.beat()
    assert member.partitions == {("t", 0), ("t", 1), ("t", 2), ("t2", 0)}


def test_an_invalid_pattern_is_refused_and_leaves_no_group(consumers):
    answer = consumers.beat(member_id="a", rebalance_ms=1, pattern="(", owned={})
    assert answer is Error.INVALID_REGULAR_EXPRESSION
    assert consumers.machine.consumers == {}


def test_a_pattern_goes_with_its_last_member(consumers):
    first, second = Member(consumers, "a", pattern="t"), Member(consumers, "b", "t")
    first.join()
    consumers.advance(0)
    second.join()
    settle(first, second)
    first.leave()
    assert consumers.machine.consumers["g"].patterns == {}
    settle(second)
    assert second.owned == {T: (0, 1, 2)}


def test_a_pattern_that_is_still_to_be_looked_up_takes_nothing_from_others(consumers):
    leaver, reader = Member(consumers, "m-first", pattern="t"), Member(consumers, "m-0", "t")
    leaver.join()
    reader.join()
    consumers.advance(1_000)
    settle(leaver, reader)
    leaver.leave()
    consumers.advance(1_000)
    newcomers = [Member(consumers, f"m-{number}", pattern="nothing") for number in range(1, 9)]
    for newcomer in newcomers:
        newcomer.join()
    settle(reader, *newcomers)
    assert reader.owned == {T: (0, 1, 2)}


# As others see it


def test_it_is_listed_as_a_consumer_group(consumers):
    Member(consumers, "a", "t").join()
    [listed] = consumers.ask(ListGroups(frozenset(), frozenset({"consumer"})))
    assert (listed.group_id, listed.protocol_type, listed.state, listed.group_type) == (
        "g",
        "consumer",
        "Stable",
        "consumer",
    )
    assert consumers.ask(ListGroups(frozenset({"stable"}), frozenset({"classic"}))) == []
    with pytest.raises(KafkaError, match="Group g is not a classic group"):
        consumers.ask(DescribeGroup("g"))


def test_a_restart_changes_nothing_but_the_sessions(consumers):
    consumers.set_topics(t=3, u=2)
    members = [Member(consumers, "a", "t"), Member(consumers, "b", "t", "u"), Member(consumers, "c", pattern="u")]
    for member in members:
        member.join()
        consumers.advance(1_000)
    members[0].clings = True
    members[0].beat()
    for other in (consumers.restarted(), consumers.restarted_from_snapshot()):
        assert other.describe() == consumers.describe()
        other.advance(45_000)
        assert other.describe().members == []


def test_a_partition_that_went_to_another_is_not_taken_along_by_its_former_owner():
    """A compacted log may have the new owner's record before the last one of the old."""
    group = ConsumerGroup("g")
    for member_id, assigned in (("a", {T: {0: 2}}), ("b", {T: {0: 3}}), ("a", {})):
        group.apply(CurrentStored("g", member_id, Current(3, 2, assigned=assigned)))
    assert group.owners == {(T, 0): "b"}


def work_of_a_heartbeat(topic_count: int, *, by_pattern: bool) -> tuple[int, int]:
    """Calls that a heartbeat without news makes, and the bytes that it holds at most."""
    consumers = Consumers()
    names = [f"topic-{number}" for number in range(topic_count)]
    consumers.set_topics(**dict.fromkeys(names, 1))
    members = [
        Member(consumers, member_id, *names, pattern="topic-.*" if by_pattern else None) for member_id in ("a", "b")
    ]
    for member in members:
        member.join()
        consumers.advance(1_000)
    settle(*members)
    image = consumers.image  # a setting has changed, and no topic
    consumers.image = ClusterImage("c", BROKER, image.topics, {topic_id_of(name): name for name in names})
    calls: Counter[str] = Counter()
    sys.setprofile(lambda frame, event, arg: calls.update([event]))
    members[0].beat(owned=None)
    sys.setprofile(None)
    tracemalloc.start()
    members[0].beat(owned=None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return calls.total(), peak


@pytest.mark.parametrize("by_pattern", [False, True])
def test_a_heartbeat_without_news_costs_the_same_however_many_topics_are_read(by_pattern):
    calls, peak = work_of_a_heartbeat(10, by_pattern=by_pattern)
    more_calls, higher_peak = work_of_a_heartbeat(1_000, by_pattern=by_pattern)
    assert more_calls < calls + 20
    assert higher_peak < peak + 4_000


def test_topics_that_come_and_go_leave_nothing_behind(consumers):
    hashes = TopicHashes(lambda replicas: [])
    for number in range(100):
        consumers.set_topics(**{f"t{number}": 1, "t": 1})
        hashes.of([f"t{number}", "t"], consumers.image)
    assert len(hashes._known) <= 4


def test_a_pattern_that_would_take_long_to_compile_is_refused(consumers):
    pattern = "(a|b)*a" + "[ab]{0,900}" * 30  # RE2 itself takes it, and seconds for that
    refusal = consumers.beat(member_id="a", rebalance_ms=1_000, pattern=pattern, owned={})
    assert refusal is Error.INVALID_REGULAR_EXPRESSION
    many_names = "|".join(f"team-{number:03}.orders-of-customers" for number in range(200))
    assert Member(consumers, "a", pattern=many_names).join().member_epoch == 1
