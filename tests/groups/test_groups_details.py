"""Members and administrators are told to the letter; timers of a past that is over are noticed by nobody."""

import pytest

from kafkapy.errors import Error
from kafkapy.groups.commands import (
    CommitOffsets,
    DeleteGroups,
    DeleteOffsets,
    DescribeGroup,
    FetchOffsets,
    InitialDelayOver,
    JoinExpired,
    MemberExpired,
    RemoveExpired,
    SyncExpired,
    TopicQuery,
)
from kafkapy.groups.facts import GroupRemoved, OffsetRemoved
from kafkapy.groups.group import GroupState
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.settings import GroupSettings, MigrationPolicy
from kafkapy.model import ZERO_UUID

DAY_MS = 24 * 3_600_000


def state(coordinator, group="g"):
    return coordinator.machine.groups[group].state


# Timers


@pytest.mark.parametrize(
    "command", [JoinExpired("g"), InitialDelayOver("g", 0, 0), SyncExpired("g", 1), MemberExpired("g", "gone")]
)
def test_what_was_to_happen_to_a_group_that_has_moved_on_does_not(coordinator, command):
    """A timer may come due just as it is no longer wanted."""
    members = coordinator.stable(2)
    coordinator.send(command)
    assert [coordinator.heartbeat(member) for member in members] == [Error.NONE, Error.NONE]
    coordinator.leave(*[member.member_id for member in members])
    coordinator.send(command)
    assert (state(coordinator), coordinator.machine.groups["g"].generation) == (GroupState.EMPTY, 2)
    coordinator.ask(DeleteGroups(["g"]))
    coordinator.send(command)
    assert not coordinator.machine.groups


def test_the_sync_timer_of_an_old_generation_drops_nobody_of_a_new_one(coordinator):
    leader, follower = coordinator.stable(2)
    tickets = [coordinator.join(m.member_id, protocols=(("range", b"new"),)) for m in (leader, follower)]
    members = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.send(SyncExpired("g", 1))
    coordinator.settle(members)
    assert [coordinator.heartbeat(member) for member in members] == [Error.NONE, Error.NONE]


def test_all_who_have_synced_are_kept_beyond_the_rebalance_timeout(coordinator):
    members = coordinator.stable(3, rebalance_ms=20_000, session_ms=60_000)
    coordinator.advance(40_000)
    assert [coordinator.heartbeat(member) for member in members] == [Error.NONE] * 3


def test_a_member_is_dropped_when_a_promised_id_expired_with_it(coordinator):
    """A rebalance that waits for somebody who never came goes on when the last of them is given up."""
    leader, follower = coordinator.stable(2, session_ms=30_000, rebalance_ms=100_000)
    coordinator.new_id(session_ms=30_000)
    rejoin = coordinator.join(follower.member_id, protocols=(("range", b"new"),), rebalance_ms=100_000)
    coordinator.advance(29_999)
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS
    coordinator.advance(1)
    assert coordinator.waits(rejoin)
    coordinator.advance(30_000)  # the leader was heard of, and then no more
    answer = coordinator.joined(rejoin)
    assert (answer.generation, [member.member_id for member in answer.members]) == (2, [follower.member_id])


def test_a_session_that_ends_while_nobody_is_ready_ends_no_rebalance(coordinator):
    a, b, c = coordinator.stable(3, session_ms=10_000, rebalance_ms=60_000)
    rejoin = coordinator.join(a.member_id, protocols=(("range", b"new"),))
    coordinator.advance(9_000)
    coordinator.heartbeat(b)
    coordinator.advance(1_000)  # c is dropped; b has still to come
    assert coordinator.waits(rejoin)
    assert coordinator.heartbeat(c) is Error.UNKNOWN_MEMBER_ID
    coordinator.join(b.member_id)
    assert {m.member_id for m in coordinator.joined(rejoin).members} == {a.member_id, b.member_id}


def test_what_is_answered_while_a_group_waits_for_its_assignment_extends_the_sessions(coordinator):
    """A member whose sync was answered has a whole session from then on."""
    tickets = [coordinator.enter(session_ms=10_000, rebalance_ms=60_000) for _ in range(2)]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower)
    coordinator.advance(9_000)
    coordinator.sync(leader, {})
    assert not coordinator.waits(waiting)
    coordinator.advance(9_000)
    assert coordinator.heartbeat(follower) is Error.NONE


def test_a_rebalance_that_interrupts_a_sync_gives_its_member_a_session_to_join_again(coordinator):
    tickets = [coordinator.enter(session_ms=10_000, rebalance_ms=60_000) for _ in range(2)]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower)
    coordinator.advance(9_000)
    coordinator.heartbeat(leader)
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert coordinator.answers[waiting].error is Error.REBALANCE_IN_PROGRESS
    coordinator.advance(9_000)
    assert coordinator.heartbeat(follower) is Error.REBALANCE_IN_PROGRESS


def test_a_sync_that_does_not_wait_extends_no_session(coordinator):
    tickets = [coordinator.enter(session_ms=10_000, rebalance_ms=60_000) for _ in range(2)]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    coordinator.advance(9_000)
    coordinator.heartbeat(leader)
    coordinator.sync(leader, {})  # the follower has not been heard of
    coordinator.advance(1_000)
    assert coordinator.heartbeat(follower) is Error.UNKNOWN_MEMBER_ID


def test_nothing_is_awaited_for_members_who_are_gone(coordinator):
    tickets = [coordinator.join(instance="a", session_ms=20_000), coordinator.enter(), coordinator.enter()]
    coordinator.advance(0)
    members = [coordinator.joined(ticket) for ticket in tickets]
    assert coordinator.awaited() == {MemberExpired, RemoveExpired, SyncExpired}
    coordinator.settle(members[:1], instance="a")
    coordinator.settle(members[1:])
    assert coordinator.awaited() == {MemberExpired, RemoveExpired}
    back = coordinator.joined(coordinator.join(instance="a"))
    coordinator.join(members[1].member_id, protocols=(("range", b"new"),))
    assert coordinator.awaited() == {JoinExpired, MemberExpired, RemoveExpired}
    coordinator.leave(back.member_id, *[member.member_id for member in members[1:]])
    assert coordinator.awaited() == {RemoveExpired}
    assert state(coordinator) is GroupState.EMPTY


# Answers


def test_a_late_sync_is_told_of_the_protocol(coordinator):
    _, follower = coordinator.stable(2)
    answer = coordinator.synced(coordinator.sync(follower))
    assert (answer.protocol_type, answer.protocol_name) == ("consumer", "range")


def test_a_repeated_sync_takes_the_place_of_the_first(coordinator):
    tickets = [coordinator.enter(), coordinator.enter()]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    first, second = coordinator.sync(follower), coordinator.sync(follower)
    assert coordinator.answers[first].error is Error.REBALANCE_IN_PROGRESS
    coordinator.sync(leader, {follower.member_id: b"1"})
    assert coordinator.synced(second).assignment == b"1"


def test_whoever_waits_for_the_assignment_under_an_old_id_is_fenced(coordinator):
    tickets = [coordinator.join(instance=name) for name in ("a", "b")]
    coordinator.advance(0)
    _, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower, instance="b")
    back = coordinator.join(instance="b")
    assert coordinator.answers[waiting].error is Error.FENCED_INSTANCE_ID
    assert coordinator.waits(back)


def test_the_one_who_held_the_place_is_told_under_its_own_id(coordinator):
    tickets = [coordinator.join(instance=name) for name in ("a", "b")]
    coordinator.advance(0)
    members = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.settle(members)
    waiting = coordinator.join(members[1].member_id, instance="b", protocols=(("range", b"new"),))
    coordinator.join(instance="b", protocols=(("range", b"new"),))
    answer = coordinator.joined(waiting)
    assert (answer.error, answer.member_id) == (Error.FENCED_INSTANCE_ID, members[1].member_id)


def test_a_join_that_is_repeated_is_answered_under_its_own_id(coordinator):
    leader, _ = coordinator.stable(2)
    first = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    answer = coordinator.joined(first)
    assert (answer.error, answer.member_id) == (Error.REBALANCE_IN_PROGRESS, leader.member_id)


def test_who_is_dropped_while_joining_is_told_without_an_id(coordinator):
    leader, _ = coordinator.stable(2)
    rejoin = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    coordinator.leave(leader.member_id)
    answer = coordinator.joined(rejoin)
    assert (answer.error, answer.member_id) == (Error.UNKNOWN_MEMBER_ID, "")


def test_a_static_member_that_returns_into_a_rebalance_completes_it(coordinator):
    tickets = [coordinator.join(instance=name) for name in ("a", "b")]
    coordinator.advance(0)
    members = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.settle(members)
    rejoin = coordinator.join(members[0].member_id, instance="a", protocols=(("range", b"new"),))
    assert coordinator.waits(rejoin)
    back = coordinator.joined(coordinator.join(instance="b"))
    assert (back.error, back.generation) == (Error.NONE, 2)
    assert coordinator.joined(rejoin).generation == 2


def test_the_last_to_leave_a_rebalance_completes_it(coordinator):
    leader, follower = coordinator.stable(2)
    rejoin = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    coordinator.leave(follower.member_id)
    answer = coordinator.joined(rejoin)
    assert (answer.generation, [member.member_id for member in answer.members]) == (2, [leader.member_id])
    coordinator.settle([answer])
    # When it was empty is what its offsets will expire by, so the time has to be this one.
    coordinator.leave(leader.member_id)
    assert coordinator.machine.groups["g"].state_timestamp_ms == coordinator.now_ms


def test_a_group_without_a_static_member_of_no_name(coordinator):
    coordinator.stable(1)
    assert coordinator.leave("") == [Error.UNKNOWN_MEMBER_ID]


# What a restart brings back


def test_a_group_as_large_as_allowed_is_not_disturbed_by_a_restart(make_coordinator):
    coordinator = make_coordinator(max_size=2)
    members = coordinator.stable(2)
    later = coordinator.restarted()
    assert [later.heartbeat(member) for member in members] == [Error.NONE, Error.NONE]


def test_the_leader_is_the_leader_after_a_restart(coordinator):
    leader, follower = coordinator.stable(2)
    rejoin = coordinator.join(follower.member_id, protocols=(("range", b"new"),), rebalance_ms=60_000)
    coordinator.leave(leader.member_id)
    newcomer = coordinator.enter()
    again = coordinator.join(coordinator.joined(rejoin).member_id)
    members = [coordinator.joined(ticket) for ticket in (again, newcomer)]
    coordinator.settle(members)
    later = coordinator.restarted()
    # A follower that joins again unchanged disturbs nobody, a leader starts a rebalance.
    assert later.joined(later.join(members[1].member_id)).leader_id == members[0].member_id
    assert later.waits(later.join(members[0].member_id))


def test_when_a_group_became_empty_is_known_after_a_restart(coordinator):
    [only] = coordinator.stable(1)
    coordinator.commit(1, member=only)
    coordinator.advance(9_000)
    coordinator.leave(only.member_id)
    later = coordinator.restarted()
    later.advance(7 * DAY_MS - 1_200_000)
    assert later.committed() == {("t", 0): 1}


def test_a_leader_who_was_not_the_first_to_come_is_the_leader_after_a_restart(coordinator):
    tickets = [coordinator.join(instance=name, rebalance_ms=20_000, session_ms=100_000) for name in ("a", "b")]
    coordinator.advance(0)
    first, second = (coordinator.joined(ticket) for ticket in tickets)
    coordinator.sync(first, {}, instance="a")
    coordinator.sync(second, instance="b")
    rejoin = coordinator.join(
        second.member_id, instance="b", protocols=(("range", b"new"),), rebalance_ms=20_000, session_ms=100_000
    )
    coordinator.advance(20_000)  # the first, being static, keeps its place, but cannot lead
    answer = coordinator.joined(rejoin)
    coordinator.sync(answer, {}, instance="b")
    later = coordinator.restarted()
    again = later.joined(later.join(first.member_id, instance="a"))
    assert (again.leader_id, again.members) == (second.member_id, ())
    assert later.waits(later.join(second.member_id, instance="b", protocols=(("range", b"new"),)))


def test_a_snapshot_tells_all_there_is_and_nothing_of_what_comes_after(coordinator):
    members = coordinator.stable(2)
    coordinator.commit(1, member=members[0])
    coordinator.commit(2, group="other")
    facts = coordinator.machine.snapshot()
    coordinator.commit(3, member=members[0])
    coordinator.commit(4, group="other", topic="u")
    coordinator.commit(5, group="new")
    coordinator.entries = [entry for fact in facts for entry in GroupJournal().encode(fact)]
    later = coordinator.restarted()
    assert [later.committed(group) for group in ("g", "other", "new")] == [{("t", 0): 1}, {("t", 0): 2}, {}]
    assert [later.heartbeat(member) for member in members] == [Error.NONE, Error.NONE]


def test_what_was_removed_need_not_have_been_there(coordinator):
    """Of a compacted log a tombstone may be all that is left."""
    coordinator.commit(1)
    for group, topic, partition in ("g", "t", 1), ("g", "u", 0), ("nowhere", "t", 0):
        coordinator.machine.apply(OffsetRemoved(group, topic, partition))
    coordinator.machine.apply(GroupRemoved("nowhere"))
    assert coordinator.committed() == {("t", 0): 1}


# A write that is refused


def test_who_waits_in_groups_that_a_refused_write_takes_back_is_told(coordinator):
    joined = {}
    for group in ("g", "h"):
        tickets = [coordinator.enter(group=group) for _ in range(2)]
        coordinator.advance(0)
        joined[group] = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.begin_write()
    waiting = []
    for group, (leader, follower) in joined.items():
        coordinator.sync(leader, {}, group=group)  # this is what is to be written
        waiting.append(coordinator.join(follower.member_id, group=group, protocols=(("range", b"new"),)))
        promised = coordinator.new_id(group=group)
        assert promised
    assert all(map(coordinator.waits, waiting))
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert [coordinator.answers[ticket].error for ticket in waiting] == [Error.NOT_COORDINATOR] * 2
    assert {state(coordinator, group) for group in joined} == {GroupState.EMPTY}
    assert coordinator.awaited() == {RemoveExpired}


def test_members_that_a_refused_write_brings_back_have_a_session_to_be_heard_of(coordinator):
    leader, follower = coordinator.stable(2, session_ms=10_000)
    coordinator.advance(5_000)
    coordinator.begin_write()
    coordinator.leave(follower.member_id)
    again = coordinator.joined(coordinator.join(leader.member_id))
    coordinator.sync(again, {leader.member_id: b"all"})
    coordinator.end_write(Error.COORDINATOR_NOT_AVAILABLE)
    assert coordinator.synced(coordinator.sync(follower)).assignment == b"1"
    coordinator.advance(9_000)
    assert coordinator.heartbeat(leader) is Error.NONE
    coordinator.advance(1_000)
    assert coordinator.heartbeat(follower) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_a_refused_write_leaves_offsets_as_they_were(coordinator):
    coordinator.commit(1, group="kept", topic="t")
    coordinator.commit(2, group="kept", topic="u")
    [only] = coordinator.stable(1, group="live")
    coordinator.commit(3, group="live", member=only)
    coordinator.commit(4, group="deleted")
    coordinator.begin_write()
    coordinator.commit(11, group="kept", topic="t")
    coordinator.commit(12, group="kept", topic="new")
    coordinator.send(DeleteOffsets("kept", [("u", [0])]))
    coordinator.commit(13, group="live", member=only, topic="new")
    coordinator.commit(14, group="new")
    coordinator.send(DeleteGroups(["deleted"]))
    coordinator.end_write(Error.NOT_COORDINATOR)
    for each in coordinator, coordinator.restarted():
        assert each.committed("kept") == {("t", 0): 1, ("u", 0): 2}
        assert each.committed("live") == {("t", 0): 3}
        assert each.committed("deleted") == {("t", 0): 4}
        assert set(each.machine.groups) == {"kept", "live", "deleted"}
        assert each.heartbeat(only, group="live") is Error.NONE


# Settings


def test_the_settings_of_a_broker_are_read_by_their_names():
    config = {
        "group.min.session.timeout.ms": 1,
        "group.max.session.timeout.ms": 2,
        "group.max.size": 3,
        "group.initial.rebalance.delay.ms": 4,
        "offset.metadata.max.bytes": 5,
        "offsets.retention.minutes": 6,
        "offsets.retention.check.interval.ms": 7,
        "group.consumer.assignors": ["range", "org.apache.kafka.coordinator.group.assignor.UniformAssignor"],
        "group.consumer.max.size": 8,
        "group.consumer.regex.refresh.interval.ms": 9,
        "group.consumer.migration.policy": "Upgrade",
        "group.share.max.size": 10,
        "group.share.initialize.retry.interval.ms": 11,
        "group.streams.max.size": 12,
    }
    assert GroupSettings.of(config) == GroupSettings(
        1, 2, 3, 4, 5, 6 * 60_000, 7, ("range", "uniform"), 8, 9, MigrationPolicy.UPGRADE, 10, 11, 12
    )


# Offsets


def test_an_offset_expires_at_the_very_end_of_its_retention(make_coordinator):
    coordinator = make_coordinator(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    coordinator.commit(1)
    coordinator.advance(59_999)
    assert coordinator.committed() == {("t", 0): 1}
    coordinator.advance(1)
    assert coordinator.committed() == {}


def test_offsets_of_several_groups_expire_at_once(make_coordinator):
    coordinator = make_coordinator(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    for group in ("a", "b"):
        coordinator.commit(1, group=group, topic="t")
        coordinator.commit(2, group=group, topic="u")
    coordinator.advance(60_000)
    later = coordinator.restarted()
    assert [later.committed(group) for group in ("a", "b")] == [{}, {}]
    assert not later.machine.groups


def test_a_group_whose_members_are_between_generations_keeps_its_offsets(make_coordinator):
    coordinator = make_coordinator(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    [only] = coordinator.stable(1, session_ms=300_000, rebalance_ms=300_000)
    coordinator.commit(1, member=only)
    coordinator.enter(session_ms=300_000, rebalance_ms=300_000)  # and the first has still to join again
    coordinator.advance(120_000)
    assert coordinator.committed() == {("t", 0): 1}
    assert state(coordinator) is GroupState.PREPARING_REBALANCE


def test_a_live_group_of_another_kind_keeps_its_offsets(make_coordinator):
    coordinator = make_coordinator(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    [only] = coordinator.stable(1, protocol_type="connect", session_ms=300_000)
    coordinator.commit(1, member=only)
    coordinator.advance(120_000)
    assert coordinator.committed() == {("t", 0): 1}


def test_a_group_that_became_empty_at_no_known_time_keeps_its_offsets_from_their_commit(make_coordinator):
    """Older versions of the record have no time."""
    coordinator = make_coordinator(offsets_retention_ms=60_000, offsets_retention_check_interval_ms=10_000)
    [only] = coordinator.stable(1)
    coordinator.commit(1, member=only)
    coordinator.leave(only.member_id)
    coordinator.machine.groups["g"].state_timestamp_ms = -1
    coordinator.advance(59_999)
    assert coordinator.committed() == {("t", 0): 1}
    coordinator.advance(1)
    assert coordinator.committed() == {}


def test_a_group_without_offsets_goes_when_it_is_empty(make_coordinator):
    coordinator = make_coordinator(offsets_retention_check_interval_ms=10_000)
    [only] = coordinator.stable(1)
    coordinator.advance(9_000)
    coordinator.heartbeat(only)
    coordinator.leave(only.member_id)
    coordinator.advance(10_000)
    assert not coordinator.machine.groups
    assert not coordinator.restarted().machine.groups


def test_offsets_of_several_topics_are_deleted_at_once(coordinator):
    for topic in ("a", "b", "c"):
        coordinator.commit(1, topic=topic)
    errors = coordinator.ask(DeleteOffsets("g", [("a", [0, 0]), ("unknown", [0]), ("b", [0])]))
    assert errors == [Error.NONE] * 3
    assert coordinator.committed() == {("c", 0): 1}
    assert coordinator.restarted().committed() == {("c", 0): 1}


def test_offsets_of_a_group_that_has_none_can_be_deleted(coordinator):
    [only] = coordinator.stable(1)
    coordinator.leave(only.member_id)
    assert coordinator.ask(DeleteOffsets("g", [("t", [0])])) == [Error.NONE]


def test_who_may_commit_without_a_generation(coordinator):
    """An instance id or a member id makes a member of whoever commits, and members are checked."""
    [only] = coordinator.stable(1)
    assert coordinator.commit(1, generation=-1, member_id=only.member_id) is Error.ILLEGAL_GENERATION
    assert coordinator.commit(1, generation=-1, instance="a") is Error.UNKNOWN_MEMBER_ID
    assert coordinator.commit(1, generation=-1) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.commit(1, generation=0) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.commit(1, generation=0, member_id=only.member_id) is Error.ILLEGAL_GENERATION
    assert coordinator.committed() == {}


def test_a_commit_of_a_generation_names_the_group_that_is_not_there(coordinator):
    for generation in (0, 5):
        command = CommitOffsets("nowhere", "m", None, generation, -1, [], True)
        answer = coordinator.answers[coordinator.send(command)]
        assert (answer.error, answer.message) == (Error.GROUP_ID_NOT_FOUND, "Group nowhere not found.")


def test_missing_metadata_is_empty_beside_a_retention_too(coordinator):
    coordinator.commit(1, metadata=None, retention_ms=60_000)
    [found] = coordinator.ask(FetchOffsets("g", None))
    assert found.partitions[0][1].metadata == ""


def test_a_group_that_is_described_without_a_protocol(coordinator):
    coordinator.commit(1)
    group = coordinator.ask(DescribeGroup("g"))
    assert (group.state, group.protocol_type, group.protocol_name) == ("Empty", "", "")
    [found] = coordinator.ask(FetchOffsets("g", [TopicQuery("t", ZERO_UUID, [0])]))
    assert found.partitions[0][1].offset == 1
