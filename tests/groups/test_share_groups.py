"""Share groups by commands and decisions: who joins, who is told what, and which partitions may be assigned."""

from typing import Any

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
    FetchOffsets,
    ForgetTopic,
    Joined,
    ListedGroup,
    ListGroups,
    PartitionCommit,
    TopicCommit,
    TopicQuery,
)
from kafkapy.groups.modern.commands import DescribeConsumerGroup
from kafkapy.groups.persister import UNKNOWN_START, TopicIdPartition
from kafkapy.groups.share.commands import (
    AlterStarts,
    DeleteStates,
    DescribeShareGroup,
    PrepareDeletion,
    ShareHeartbeatAnswer,
    StatesDeleted,
)
from kafkapy.groups.share.facts import StatePartitionsStored
from kafkapy.groups.share.group import ShareGroup
from kafkapy.model import ZERO_UUID
from tests.groups.consumers import image_of, topic_id_of
from tests.groups.shares import Sharer, Shares, settle

T = topic_id_of("t")


def shares_of(coordinator: Shares, group: str = "g") -> ShareGroup:
    group_: ShareGroup = coordinator.machine._modern.find(group)
    return group_


def test_a_member_reads_what_is_initialised_and_nothing_before() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    assert alice.join().assigned == {}
    assert alice.epoch == 2
    [(group, asks)] = shares.asked
    assert (group, asks.state_epoch) == ("g", 2)
    assert asks.starts == {TopicIdPartition(T, number): UNKNOWN_START for number in range(3)}
    alice.beat()
    assert alice.partitions == set(), "the share coordinator has not answered"
    shares.initialize()
    shares.advance(1_000)
    alice.beat()
    assert alice.partitions == {("t", 0), ("t", 1), ("t", 2)}
    assert alice.epoch == 3


def test_several_members_read_the_same_partition() -> None:
    shares = Shares()
    shares.set_topics(t=1)
    members = [Sharer(shares, f"m{number}", "t") for number in range(3)]
    for member in members:
        member.join()
    settle(*members)
    assert [member.partitions for member in members] == [{("t", 0)}] * 3
    assert len({member.epoch for member in members}) == 1


def test_balance_goes_before_stickiness() -> None:
    shares = Shares()
    shares.set_topics(t=4)
    alice, bob = Sharer(shares, "alice", "t"), Sharer(shares, "bob", "t")
    alice.join()
    settle(alice)
    assert len(alice.partitions) == 4
    bob.join()
    settle(alice, bob)
    assert len(alice.partitions) == len(bob.partitions) == 2
    assert not alice.partitions & bob.partitions


def test_a_delayed_target_bumps_the_epoch_once() -> None:
    """KAFKA-20291: what was initialised while a target was due must not bump the epoch with each heartbeat."""
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    shares.initialize()
    for _ in range(5):
        alice.beat()
        shares.advance(10)
    assert shares.describe_share().epoch == 3
    assert shares.describe_share().target_epoch == 2, "the assignment interval is not over"
    shares.advance(1_000)
    alice.beat()
    assert (shares.describe_share().epoch, shares.describe_share().target_epoch) == (3, 3)
    assert alice.partitions == {("t", 0), ("t", 1), ("t", 2)}


def test_partitions_that_come_to_a_known_topic_begin_at_their_start() -> None:
    """KAFKA-20742: nobody may have read them before, so that what was written first must not be passed over."""
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    shares.set_topics(t=5)
    alice.beat()
    [(_, asks)] = shares.asked
    assert asks.starts == {TopicIdPartition(T, 3): 0, TopicIdPartition(T, 4): 0}
    settle(alice)
    assert alice.partitions == {("t", number) for number in range(5)}


def test_what_failed_to_be_initialised_is_asked_for_again() -> None:
    """KAFKA-19204."""
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    shares.initialize(fails=True)
    alice.beat()
    [(_, asks)] = shares.asked
    assert set(asks.starts) == {TopicIdPartition(T, number) for number in range(3)}
    assert set(asks.starts.values()) == {UNKNOWN_START}
    settle(alice)
    assert len(alice.partitions) == 3


def test_what_was_not_answered_is_asked_for_again_after_the_retry_interval() -> None:
    shares = Shares(share_initialize_retry_interval_ms=30_000)
    alice = Sharer(shares, "alice", "t")
    alice.join()
    shares.asked.clear()
    shares.advance(29_999)
    alice.beat()
    assert shares.asked == []
    shares.advance(1)
    alice.beat()
    assert len(shares.asked) == 1


def test_a_recreated_topic_starts_afresh() -> None:
    """Behaviour 10: state hangs on the topic's id."""
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    shares.image = image_of({"t": 3}, incarnations={"t": 1})
    alice.beat()
    assert alice.partitions == set()
    [(_, asks)] = shares.asked
    assert set(asks.starts.items()) == {(TopicIdPartition(topic_id_of("t", 1), n), UNKNOWN_START) for n in range(3)}
    settle(alice)
    assert alice.partitions == {("t", number) for number in range(3)}
    assert shares.named(alice.assigned) == alice.partitions


def test_a_deleted_topic_leaves_no_state() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    shares.set_topics()
    shares.ask(ForgetTopic("t", T))
    assert shares.initialized() == set()
    assert not any(shares_of(shares).states)


# Epochs


@pytest.mark.parametrize("epoch", [-1, 1, 7])
def test_only_who_joins_with_topics_makes_a_group(epoch: int) -> None:
    """Behaviour 25."""
    shares = Shares()
    assert shares.share_beat("alice", epoch) is Error.GROUP_ID_NOT_FOUND
    assert shares.ask(ListGroups(frozenset(), frozenset())) == []


def test_the_epoch_and_the_one_before_are_good_and_no_other() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    assert alice.epoch == 3
    assert isinstance(shares.share_beat("alice", 3), ShareHeartbeatAnswer)
    assert isinstance(shares.share_beat("alice", 2), ShareHeartbeatAnswer), "the answer may have been lost"
    assert shares.share_beat("alice", 1) is Error.FENCED_MEMBER_EPOCH
    assert shares.share_beat("alice", 4) is Error.FENCED_MEMBER_EPOCH
    assert shares.share_beat("bob", 3) is Error.UNKNOWN_MEMBER_ID
    again = shares.share_beat("alice", 0, "t")
    assert isinstance(again, ShareHeartbeatAnswer)
    assert again.assigned is not None, "who joins is told all"


def test_an_assignment_is_told_when_it_is_new_or_asked_for() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    assert alice.beat().assigned is None
    assert alice.beat("t").assigned is not None


def test_a_subscription_that_changes_changes_the_assignment() -> None:
    shares = Shares()
    shares.set_topics(t=2, u=1)
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    epoch = shares.describe_share().epoch
    alice.beat("u")
    assert shares.describe_share().epoch == epoch + 1
    assert ("t", 0) not in alice.partitions
    settle(alice)
    assert alice.partitions == {("u", 0)}
    assert shares.initialized() == {("t", 0), ("t", 1), ("u", 0)}, "what it has done with t is not forgotten"


def test_a_full_group_takes_nobody() -> None:
    shares = Shares(share_max_size=2)
    for name in ("alice", "bob"):
        Sharer(shares, name, "t").join()
    assert shares.share_beat("carol", 0, "t") is Error.GROUP_MAX_SIZE_REACHED
    assert isinstance(shares.share_beat("alice", 0, "t"), ShareHeartbeatAnswer)


# Members that go


def test_who_leaves_is_followed_by_the_others() -> None:
    shares = Shares()
    alice, bob = Sharer(shares, "alice", "t"), Sharer(shares, "bob", "t")
    alice.join()
    bob.join()
    settle(alice, bob)
    epoch = shares.describe_share().epoch
    assert alice.leave().member_epoch == -1
    assert shares.describe_share().epoch == epoch + 1
    assert shares.share_beat("alice", alice.epoch) is Error.UNKNOWN_MEMBER_ID
    settle(bob)
    assert len(bob.partitions) == 3


def test_silence_ends_a_membership() -> None:
    shares = Shares()
    alice, bob = Sharer(shares, "alice", "t"), Sharer(shares, "bob", "t")
    alice.join()
    bob.join()
    shares.advance(40_000)
    bob.beat()
    shares.advance(10_000)
    assert [member.member_id for member in shares.describe_share().members] == ["bob"]


def test_an_empty_group_stays_with_what_it_has_done() -> None:
    shares = Shares(offsets_retention_ms=1_000)
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    alice.leave()
    shares.advance(10_000_000)
    assert shares.ask(ListGroups(frozenset(), frozenset({"share"}))) == [ListedGroup("g", "share", "Empty", "share")]
    assert len(shares.initialized()) == 3
    again = Sharer(shares, "alice", "t")
    assert again.join().assigned is not None
    assert shares.asked == []
    settle(again)
    assert len(again.partitions) == 3


# Starts, and what is to be forgotten


def test_a_group_that_is_not_there_may_begin_where_it_is_told() -> None:
    """Behaviour 25: of topics that nobody reads."""
    shares = Shares()
    altered = shares.ask(AlterStarts("g", [("t", [(0, 17), (2, 4), (9, 1)]), ("nothing", [(0, 1)])]))
    assert altered.asks.starts == {TopicIdPartition(T, 0): 17, TopicIdPartition(T, 2): 4}
    assert shares.ask(ListGroups(frozenset(), frozenset())) == [ListedGroup("g", "share", "Empty", "share")]
    shares.asked.append(("g", altered.asks))
    shares.initialize()
    assert shares.initialized() == {("t", 0), ("t", 2)}


def test_nothing_begins_where_no_topic_is() -> None:
    shares = Shares()
    assert shares.ask(AlterStarts("g", [("nothing", [(0, 1)])])).asks.starts == {}
    assert shares.ask(ListGroups(frozenset(), frozenset())) == []
    assert shares.entries == []


@pytest.mark.parametrize(
    "command", [AlterStarts("g", [("t", [(0, 1)])]), DeleteStates("g", ["t"]), PrepareDeletion("g")]
)
def test_nothing_is_altered_or_forgotten_under_members(command: Any) -> None:
    shares = Shares()
    Sharer(shares, "alice", "t").join()
    assert shares.error(command) is Error.NON_EMPTY_GROUP


def test_what_is_forgotten_is_what_has_state_whoever_reads_it() -> None:
    """Behaviour 25, KAFKA-18629: not what is subscribed to."""
    shares = Shares()
    shares.set_topics(t=3, u=1)
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    alice.leave()
    deleting = shares.ask(DeleteStates("g", ["t", "u", "nothing"]))
    assert [(name, error) for name, _, error, _ in deleting.topics] == [
        ("t", Error.NONE),
        ("u", Error.UNKNOWN_TOPIC_OR_PARTITION),
        ("nothing", Error.UNKNOWN_TOPIC_OR_PARTITION),
    ]
    assert deleting.partitions == [TopicIdPartition(T, number) for number in range(3)]
    assert shares.initialized() == set()
    assert shares.ask(DeleteStates("g", ["t"])).partitions == deleting.partitions, "until it is known to be gone"
    shares.ask(StatesDeleted("g", [T]))
    assert shares.ask(DeleteStates("g", ["t"])).partitions == []


def test_a_group_is_deleted_after_all_that_it_has_done() -> None:
    shares = Shares()
    shares.set_topics(t=2, u=1)
    alice = Sharer(shares, "alice", "t", "u")
    alice.join()
    shares.asked.clear()  # it is never answered, and counts all the same
    alice.leave()
    assert len(shares.ask(PrepareDeletion("g"))) == 3
    assert len(shares.ask(PrepareDeletion("g"))) == 3, "it may have failed, and is tried again"
    assert shares.ask(DeleteGroups(["g"])) == [Error.NONE]
    assert shares.ask(ListGroups(frozenset(), frozenset())) == []
    assert shares.restarted().ask(ListGroups(frozenset(), frozenset())) == []


def test_what_is_read_again_is_forgotten_no_more() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)
    alice.leave()
    shares.ask(DeleteStates("g", ["t"]))
    alice.join()
    assert shares_of(shares).states.deleting == {}
    settle(alice)
    assert len(alice.partitions) == 3


def test_no_other_group_has_anything_to_forget() -> None:
    shares = Shares()
    shares.stable(1)
    assert shares.ask(PrepareDeletion("g")) == []
    assert shares.ask(PrepareDeletion("nothing")) == []


# Restarts, and writes that fail


def test_a_restart_changes_nothing() -> None:
    shares = Shares()
    alice, bob = Sharer(shares, "alice", "t"), Sharer(shares, "bob", "t")
    alice.join()
    bob.join()
    settle(alice, bob)
    for other in (shares.restarted(), shares.restarted_from_snapshot()):
        assert other.describe_share() == shares.describe_share()
        assert other.initialized() == shares.initialized()
        answer = other.share_beat("alice", alice.epoch)
        assert isinstance(answer, ShareHeartbeatAnswer)
        assert (answer.member_epoch, answer.assigned, answer.asks) == (alice.epoch, None, None)
        other.advance(60_000)
        assert other.describe_share().members == []


def test_what_was_under_way_at_a_restart_has_its_time_anew() -> None:
    shares = Shares(share_initialize_retry_interval_ms=30_000)
    Sharer(shares, "alice", "t").join()
    other = shares.restarted()
    other.asked = []
    other.share_beat("alice", 2)
    assert other.asked == []
    other.advance(30_000)
    other.share_beat("alice", 2)
    assert len(other.asked) == 1


def test_a_join_that_is_not_written_never_was() -> None:
    shares = Shares()
    shares.begin_write()
    shares.share_beat("alice", 0, "t")
    shares.end_write(Error.NOT_ENOUGH_REPLICAS)
    assert shares.ask(ListGroups(frozenset(), frozenset())) == []
    assert shares.machine._modern.find("g") is None


def test_what_is_not_noted_is_initialised_once_more() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    shares.begin_write()
    shares.initialize()
    shares.end_write(Error.NOT_ENOUGH_REPLICAS)
    assert shares.initialized() == set()
    shares.advance(30_000)
    settle(alice)
    assert len(alice.partitions) == 3


# Groups of other kinds


def test_a_share_group_takes_no_other_protocol() -> None:
    shares = Shares()
    Sharer(shares, "alice", "t").join()
    joined = shares.answers[shares.join()]
    assert (joined.error, joined.member_id) == (Error.INCONSISTENT_GROUP_PROTOCOL, "")
    assert shares.beat(member_id="c", topics=["t"], owned={}, rebalance_ms=1_000) is Error.GROUP_ID_NOT_FOUND
    assert shares.heartbeat(Joined(Error.NONE, "alice", 2)) is Error.UNKNOWN_MEMBER_ID
    commit = TopicCommit("t", ZERO_UUID, [PartitionCommit(0, 1, -1, None)])
    for generation in (-1, 2):
        command = CommitOffsets("g", "alice", None, generation, -1, [commit], True)
        assert shares.error(command) is Error.GROUP_ID_NOT_FOUND
    assert shares.error(DeleteOffsets("g", [("t", [0])])) is Error.GROUP_ID_NOT_FOUND
    [offsets] = shares.ask(FetchOffsets("g", [TopicQuery("t", ZERO_UUID, [0])]))
    assert offsets.partitions == [(0, None)]
    assert shares.error(DescribeGroup("g")) is Error.GROUP_ID_NOT_FOUND
    assert shares.error(DescribeConsumerGroup("g")) is Error.GROUP_ID_NOT_FOUND
    assert shares.ask(DeleteGroups(["g"])) == [Error.NON_EMPTY_GROUP]


def test_an_empty_share_group_gives_way_to_nobody() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    alice.leave()
    assert shares.answers[shares.join()].error is Error.INCONSISTENT_GROUP_PROTOCOL
    assert shares.beat(member_id="c", topics=["t"], owned={}, rebalance_ms=1_000) is Error.GROUP_ID_NOT_FOUND


@pytest.mark.parametrize("kind", ["classic", "consumer", "offsets"])
def test_no_other_group_becomes_a_share_group(kind: str) -> None:
    shares = Shares()
    if kind == "classic":
        shares.stable(1)
    elif kind == "consumer":
        shares.beat(member_id="c", topics=["t"], owned={}, rebalance_ms=1_000)
    else:
        shares.ask(CommitOffsets("g", "", None, -1, -1, [TopicCommit("t", T, [PartitionCommit(0, 1, -1, None)])], True))
    for epoch in (0, 1, -1):
        assert shares.share_beat("alice", epoch, "t") is Error.GROUP_ID_NOT_FOUND
    for command in (DescribeShareGroup("g"), AlterStarts("g", [("t", [(0, 1)])]), DeleteStates("g", ["t"])):
        with pytest.raises(KafkaError, match=r"Group g is not a share group\."):
            shares.ask(command)


# Settings


def test_a_groups_own_settings_hold_within_bounds() -> None:
    shares = Shares()
    own = {"g": {"share.heartbeat.interval.ms": "1", "share.session.timeout.ms": "50000"}}
    shares.image = image_of({"t": 3}, own)
    answer = shares.share_beat("alice", 0, "t")
    assert isinstance(answer, ShareHeartbeatAnswer)
    assert answer.heartbeat_interval_ms == 5_000
    shares.advance(49_999)
    assert len(shares.describe_share().members) == 1
    shares.advance(1)
    assert shares.describe_share().members == []


def test_state_is_written_down_with_each_change_of_it_only() -> None:
    shares = Shares()
    alice = Sharer(shares, "alice", "t")
    alice.join()
    settle(alice)

    def count() -> int:
        return sum(isinstance(shares.journal.decode(entry), StatePartitionsStored) for entry in shares.entries)

    before, entries = count(), len(shares.entries)
    for _ in range(5):
        alice.beat()
        shares.advance(3_000)
    assert (count(), len(shares.entries)) == (before, entries)
