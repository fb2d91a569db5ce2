"""Committed offsets: who may commit what, what comes back, and when it is forgotten."""

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
    FetchOffsets,
    ForgetTopic,
    ListGroups,
    PartitionCommit,
    TopicCommit,
    TopicQuery,
)
from kafkapy.groups.facts import CommittedOffset, OffsetStored
from kafkapy.groups.group import GroupState
from kafkapy.model import ZERO_UUID

DAY_MS = 24 * 3_600_000
TOPIC_ID = bytes(range(16))
OTHER_ID = bytes(reversed(range(16)))


def subscription(*topics):
    """A consumer's metadata, version 0."""
    names = b"".join(len(t).to_bytes(2, "big") + t.encode() for t in topics)
    return b"\0\0" + len(topics).to_bytes(4, "big") + names + b"\xff\xff\xff\xff"


def everything(coordinator):
    return coordinator.ask(ListGroups(frozenset(), frozenset()))


def test_what_was_committed_comes_back(coordinator):
    assert coordinator.commit(42, metadata="note", leader_epoch=3, topic_id=TOPIC_ID) is Error.NONE
    [found] = coordinator.ask(FetchOffsets("g", [TopicQuery("t", TOPIC_ID, [0, 1])]))
    assert found.topic == "t"
    assert found.partitions == [(0, CommittedOffset(42, 3, "note", coordinator.now_ms, -1, TOPIC_ID)), (1, None)]


def test_an_unknown_group_has_committed_nothing(coordinator):
    [found] = coordinator.ask(FetchOffsets("nowhere", [TopicQuery("t", ZERO_UUID, [0])]))
    assert found.partitions == [(0, None)]
    assert coordinator.committed("nowhere") == {}


def test_no_topics_means_all_of_them(coordinator):
    coordinator.commit(1, topic="a")
    coordinator.commit(2, topic="b", partition=7)
    assert coordinator.committed() == {("a", 0): 1, ("b", 7): 2}


def test_offsets_of_a_topics_namesake_are_not_given_out(coordinator):
    coordinator.commit(1, topic="old", topic_id=TOPIC_ID)
    coordinator.commit(2, topic="any")
    query = [TopicQuery("old", OTHER_ID, [0]), TopicQuery("any", OTHER_ID, [0]), TopicQuery("old", ZERO_UUID, [0])]
    found = [partitions[0][1] for _, partitions in coordinator.ask(FetchOffsets("g", query))]
    assert found[0] is None
    assert [committed.offset for committed in found[1:]] == [2, 1]


def test_missing_metadata_is_stored_as_empty(coordinator):
    coordinator.commit(1, metadata=None)
    [found] = coordinator.ask(FetchOffsets("g", None))
    assert found.partitions[0][1].metadata == ""


def test_metadata_has_a_limit_for_each_partition(coordinator):
    topic = TopicCommit(
        "t",
        ZERO_UUID,
        [
            PartitionCommit(0, 1, -1, "x" * 4096),
            PartitionCommit(1, 2, -1, "x" * 4097),
            PartitionCommit(2, 3, -1, "𝄞" * 2049),
        ],
    )
    [errors] = coordinator.ask(CommitOffsets("g", "", None, -1, -1, [topic], True))
    assert errors == [Error.NONE, Error.OFFSET_METADATA_TOO_LARGE, Error.OFFSET_METADATA_TOO_LARGE]
    assert coordinator.committed() == {("t", 0): 1}


def test_outsiders_commit_while_the_group_is_empty(coordinator):
    assert coordinator.commit(1) is Error.NONE
    [only] = coordinator.stable(1)
    assert coordinator.commit(2) is Error.UNKNOWN_MEMBER_ID
    coordinator.leave(only.member_id)
    assert coordinator.commit(3) is Error.NONE


def test_a_generation_of_an_unknown_group(coordinator):
    assert coordinator.commit(1, generation=3, member_id="m", version=8) is Error.ILLEGAL_GENERATION
    assert coordinator.commit(1, generation=3, member_id="m", version=9) is Error.GROUP_ID_NOT_FOUND


def test_members_commit_in_their_generation(coordinator):
    _, follower = coordinator.stable(2)
    assert coordinator.commit(1, member=follower) is Error.NONE
    assert coordinator.commit(2, member=follower, generation=0) is Error.ILLEGAL_GENERATION
    assert coordinator.commit(3, member_id="nobody", generation=1) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.committed() == {("t", 0): 1}


def test_a_generation_means_nothing_to_an_empty_group(coordinator):
    coordinator.commit(1)
    assert coordinator.commit(2, generation=0, member_id="m") is Error.UNKNOWN_MEMBER_ID


def test_a_commit_between_join_and_sync_is_told_of_the_rebalance(coordinator):
    ticket = coordinator.enter()
    coordinator.advance(0)
    assert coordinator.commit(1, member=coordinator.joined(ticket)) is Error.REBALANCE_IN_PROGRESS


def test_during_a_rebalance_the_old_generation_still_commits_and_later_not(coordinator):
    leader, follower = coordinator.stable(2)
    rejoin = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert coordinator.commit(1, member=follower) is Error.NONE
    again = coordinator.joined(coordinator.join(follower.member_id))
    coordinator.settle([coordinator.joined(rejoin), again])
    assert coordinator.commit(2, member=follower) is Error.ILLEGAL_GENERATION
    assert coordinator.commit(3, member=again) is Error.NONE


def test_a_commit_counts_as_a_heartbeat(coordinator):
    [only] = coordinator.stable(1, session_ms=10_000)
    coordinator.advance(9_000)
    coordinator.commit(1, member=only)
    coordinator.advance(9_000)
    assert coordinator.heartbeat(only) is Error.NONE


def test_offsets_survive_a_restart(coordinator):
    coordinator.commit(1, topic="a", metadata="note", leader_epoch=2, topic_id=TOPIC_ID)
    coordinator.commit(2, topic="a", topic_id=TOPIC_ID)
    coordinator.commit(3, topic="b", retention_ms=DAY_MS)
    later = coordinator.restarted()
    assert later.committed() == {("a", 0): 2, ("b", 0): 3}
    assert later.ask(FetchOffsets("g", None)) == coordinator.ask(FetchOffsets("g", None))
    assert [group.group_id for group in everything(later)] == ["g"]


# Deleting


def test_deleted_offsets_are_gone_for_good(coordinator):
    coordinator.commit(1, topic="a")
    coordinator.commit(2, topic="b")
    assert coordinator.ask(DeleteOffsets("g", [("a", [0, 5])])) == [Error.NONE]
    assert coordinator.committed() == {("b", 0): 2}
    assert coordinator.restarted().committed() == {("b", 0): 2}


def test_offsets_of_a_topic_in_use_are_kept(coordinator):
    [only] = coordinator.stable(1, protocols=(("range", subscription("used")),))
    coordinator.commit(1, member=only, topic="used")
    coordinator.commit(2, member=only, topic="left")
    errors = coordinator.ask(DeleteOffsets("g", [("used", [0]), ("left", [0])]))
    assert errors == [Error.GROUP_SUBSCRIBED_TO_TOPIC, Error.NONE]
    assert coordinator.committed() == {("used", 0): 1}


def test_what_a_group_reads_is_known_after_a_restart(coordinator):
    [only] = coordinator.stable(1, protocols=(("range", subscription("used")),))
    coordinator.commit(1, member=only, topic="left")
    errors = coordinator.restarted().ask(DeleteOffsets("g", [("used", [0]), ("left", [0])]))
    assert errors == [Error.GROUP_SUBSCRIBED_TO_TOPIC, Error.NONE]


def test_where_the_subscription_is_unreadable_every_topic_may_be_in_use(coordinator):
    coordinator.stable(1, protocols=(("range", b"\x7f"),))
    assert coordinator.ask(DeleteOffsets("g", [("t", [0])])) == [Error.GROUP_SUBSCRIBED_TO_TOPIC]


def test_offsets_of_a_live_group_of_another_kind_cannot_be_deleted(coordinator):
    coordinator.stable(1, protocol_type="connect")
    assert coordinator.error(DeleteOffsets("g", [("t", [0])])) is Error.NON_EMPTY_GROUP


def test_offsets_of_an_unknown_group_cannot_be_deleted(coordinator):
    assert coordinator.error(DeleteOffsets("g", [("t", [0])])) is Error.GROUP_ID_NOT_FOUND


def test_a_topics_offsets_go_with_it(coordinator):
    coordinator.commit(1, topic="t", topic_id=TOPIC_ID)
    coordinator.commit(2, topic="t", group="other")
    coordinator.commit(3, topic="t", group="new", topic_id=OTHER_ID)
    coordinator.commit(4, topic="u", topic_id=TOPIC_ID)
    coordinator.ask(ForgetTopic("t", TOPIC_ID))
    assert coordinator.committed() == {("u", 0): 4}
    assert coordinator.committed("other") == {}
    assert coordinator.restarted().committed("new") == {("t", 0): 3}


def test_groups_without_members_can_be_deleted(coordinator):
    coordinator.commit(1, group="simple")
    coordinator.stable(1, group="live")
    [gone] = coordinator.stable(1, group="left")
    coordinator.leave(gone.member_id, group="left")
    errors = coordinator.ask(DeleteGroups(["simple", "live", "left", "nowhere"]))
    assert errors == [Error.NONE, Error.NON_EMPTY_GROUP, Error.NONE, Error.GROUP_ID_NOT_FOUND]
    assert [group.group_id for group in everything(coordinator)] == ["live"]
    later = coordinator.restarted()
    assert [group.group_id for group in everything(later)] == ["live"]
    assert later.committed("simple") == {}


# Expiry


def test_offsets_of_a_group_without_members_expire_after_the_commit(coordinator):
    coordinator.commit(1)
    coordinator.advance(6 * DAY_MS)
    coordinator.commit(2, partition=1)
    coordinator.advance(DAY_MS + 600_000)
    assert coordinator.committed() == {("t", 1): 2}
    coordinator.advance(6 * DAY_MS)
    assert everything(coordinator) == []
    assert everything(coordinator.restarted()) == []


def test_offsets_of_a_live_group_do_not_expire(coordinator):
    [only] = coordinator.stable(1, protocols=(("range", subscription("t")),), session_ms=1_800_000)
    coordinator.commit(1, member=only)
    for _ in range(9 * 48):
        coordinator.advance(DAY_MS // 48 - 1)
        assert coordinator.heartbeat(only) is Error.NONE
    assert coordinator.committed() == {("t", 0): 1}


def test_once_its_members_left_a_groups_offsets_expire_from_then_on(coordinator):
    [only] = coordinator.stable(1, protocols=(("range", subscription("t")),), session_ms=1_800_000)
    coordinator.commit(1, member=only)
    for _ in range(3 * 50):
        coordinator.advance(DAY_MS // 50)
        coordinator.heartbeat(only)
    coordinator.leave(only.member_id)
    coordinator.advance(7 * DAY_MS - 1_200_000)
    assert coordinator.committed() == {("t", 0): 1}
    coordinator.advance(1_800_000)
    assert everything(coordinator) == []


def test_offsets_of_topics_that_a_live_group_left_behind_expire(coordinator):
    [only] = coordinator.stable(1, protocols=(("range", subscription("t")),), session_ms=1_800_000)
    coordinator.commit(1, member=only)
    coordinator.commit(2, member=only, topic="left")
    for _ in range(8 * 50):
        coordinator.advance(DAY_MS // 50)
        coordinator.heartbeat(only)
    assert coordinator.committed() == {("t", 0): 1}


def test_a_commit_may_bring_its_own_retention(coordinator):
    coordinator.commit(1, retention_ms=3_600_000, version=4)
    coordinator.advance(3_600_000 - 1)
    assert coordinator.committed() == {("t", 0): 1}
    coordinator.advance(600_000)
    assert coordinator.committed() == {}


def test_a_retention_of_its_own_survives_a_restart(coordinator):
    coordinator.commit(1, retention_ms=3_600_000, version=4)
    later = coordinator.restarted()
    later.advance(4_200_000)
    assert later.committed() == {}


# As administrators see it


def test_a_stable_group_described(coordinator):
    leader, follower = coordinator.stable(2, protocols=(("range", b"meta"),))
    group = coordinator.ask(DescribeGroup("g"))
    assert (group.state, group.protocol_type, group.protocol_name) == ("Stable", "consumer", "range")
    assert [
        (m.member_id, m.instance_id, m.client_id, m.client_host, m.metadata, m.assignment) for m in group.members
    ] == [
        (leader.member_id, None, "client", "/127.0.0.1", b"meta", b"0"),
        (follower.member_id, None, "client", "/127.0.0.1", b"meta", b"1"),
    ]


def test_metadata_is_shown_of_stable_groups_only(coordinator):
    leader, _ = coordinator.stable(2)
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    group = coordinator.ask(DescribeGroup("g"))
    assert (group.state, group.protocol_name) == ("PreparingRebalance", "")
    assert {member.metadata for member in group.members} == {b""}


def test_an_assignment_is_shown_until_the_next_one_is_begun(coordinator):
    leader, follower = coordinator.stable(2)

    def shown():
        return [member.assignment for member in coordinator.ask(DescribeGroup("g")).members]

    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert shown() == [b"0", b"1"]
    coordinator.join(follower.member_id)
    assert shown() == [b"0", b"1"]
    coordinator.join(leader.member_id, protocols=(("range", b"newer"),))
    assert shown() == [b"", b""]


def test_a_group_that_is_not_there_is_not_found(coordinator):
    with pytest.raises(KafkaError) as refusal:
        coordinator.ask(DescribeGroup("g"))
    assert (refusal.value.error, refusal.value.message) == (Error.GROUP_ID_NOT_FOUND, "Group g not found.")


def test_groups_are_listed_by_state_and_type(coordinator):
    coordinator.commit(1, group="simple")
    coordinator.stable(1, group="live")
    coordinator.new_id(group="coming")

    def listed(states=(), types=()):
        found = coordinator.ask(ListGroups(frozenset(states), frozenset(types)))
        return {(group.group_id, group.state, group.protocol_type, group.group_type) for group in found}

    simple, live, coming = (
        ("simple", "Empty", "", "classic"),
        ("live", "Stable", "consumer", "classic"),
        ("coming", "Empty", "", "classic"),
    )
    assert listed() == {simple, live, coming}
    assert listed(states={"stable"}) == {live}
    assert listed(states={"empty", "stable"}, types={"classic"}) == {simple, live, coming}
    assert listed(types={"consumer"}) == set()


def test_a_snapshot_shows_the_moment_it_was_begun(coordinator):
    for group in ("g", "h"):
        for partition in range(3):
            coordinator.commit(partition, group=group, partition=partition)
    before = set(coordinator.machine.snapshot())
    snapshot = coordinator.machine.snapshot()
    next(snapshot)
    coordinator.commit(100, group="g")
    coordinator.ask(DeleteGroups(["h"]))
    coordinator.commit(100, group="i")
    assert len(before) == 8
    assert {*snapshot} <= before
    again = coordinator.machine.snapshot()
    coordinator.commit(101, group="g")
    assert {fact.committed.offset for fact in again if isinstance(fact, OffsetStored)} == {100, 1, 2}


def test_what_the_log_refuses_is_as_it_was_before(coordinator):
    coordinator.commit(1)
    coordinator.commit(1, partition=1, metadata="with words")
    before = set(coordinator.machine.snapshot())
    coordinator.begin_write()
    coordinator.commit(2)
    coordinator.commit(3)
    coordinator.ask(DeleteOffsets("g", [("t", [1])]))
    coordinator.commit(4, group="new")
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert set(coordinator.machine.snapshot()) == before
    assert set(coordinator.machine.groups) == {"g"}


def test_a_refusal_concerns_those_who_waited_for_it(coordinator):
    """A group with a refused fact is what it was at its last one; another one goes on as if nothing had been."""
    joining = coordinator.join(version=3)
    coordinator.advance(0)
    first = coordinator.answers[joining]
    coordinator.sync(first, {first.member_id: b"all of it"})
    waiting = coordinator.join(group="other", version=3)
    coordinator.advance(0)
    other = coordinator.machine.groups["other"]
    coordinator.join("", version=3)  # a second member: the group waits for the first one
    coordinator.begin_write()
    rejoined = coordinator.join(first.member_id, version=3)
    leader = coordinator.answers[rejoined]
    coordinator.sync(leader, {leader.member_id: b"half of it"})
    coordinator.end_write(Error.NOT_COORDINATOR)
    group = coordinator.machine.groups["g"]
    assert (group.state, group.generation, list(group.members)) == (GroupState.STABLE, 1, [first.member_id])
    assert not {("join", "g"), ("sync", "g")} & coordinator.timer_keys
    assert coordinator.machine.groups["other"] is other
    assert coordinator.answers[waiting].error is Error.NONE
    coordinator.advance(9_000)
    assert coordinator.heartbeat(first) is Error.NONE
    coordinator.begin_write()
    coordinator.leave(first.member_id)
    coordinator.end_write(Error.NOT_COORDINATOR)
    coordinator.advance(9_999)
    assert coordinator.machine.groups["g"].members
    coordinator.advance(2)
    assert not coordinator.machine.groups["g"].members  # whoever is back has a session, which ends
