"""Rebalances: who starts them, who is left behind, how a generation gets its assignment."""

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import Leaver


def test_a_second_member_starts_a_rebalance_that_the_first_hears_of(coordinator):
    [first] = coordinator.stable(1)
    second = coordinator.enter()
    assert coordinator.waits(second)
    assert coordinator.heartbeat(first) is Error.REBALANCE_IN_PROGRESS
    rejoin = coordinator.join(first.member_id)
    assert coordinator.joined(second).generation == coordinator.joined(rejoin).generation == 2
    assert coordinator.joined(second).error is Error.NONE


def test_the_generation_moves_only_when_a_rebalance_completes(coordinator):
    [first] = coordinator.stable(1)
    coordinator.enter()
    assert coordinator.heartbeat(first, generation=first.generation) is Error.REBALANCE_IN_PROGRESS
    assert coordinator.heartbeat(first, generation=first.generation + 1) is Error.ILLEGAL_GENERATION


def test_the_assignment_reaches_every_member(coordinator):
    tickets = [coordinator.enter() for _ in range(3)]
    coordinator.advance(0)
    leader, *followers = (coordinator.joined(ticket) for ticket in tickets)
    waiting = [coordinator.sync(follower) for follower in followers]
    assert all(coordinator.waits(ticket) for ticket in waiting)
    own = coordinator.sync(leader, {m.member_id: m.member_id.encode() for m in (leader, *followers)})
    assert coordinator.synced(own).assignment == leader.member_id.encode()
    assert [coordinator.synced(t).assignment for t in waiting] == [f.member_id.encode() for f in followers]
    assert coordinator.synced(own).protocol_name == "range"
    assert coordinator.synced(own).protocol_type == "consumer"


def test_a_member_the_leader_left_out_gets_an_empty_assignment(coordinator):
    tickets = [coordinator.enter(), coordinator.enter()]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    coordinator.sync(leader, {leader.member_id: b"all"})
    assert coordinator.synced(coordinator.sync(follower)).assignment == b""


def test_a_late_sync_is_answered_from_the_stable_group(coordinator):
    leader, follower = coordinator.stable(2)
    assert coordinator.synced(coordinator.sync(follower)).assignment == b"1"
    assert coordinator.synced(coordinator.sync(leader)).assignment == b"0"


def test_sync_is_checked_in_kafkas_order(coordinator):
    leader, follower = coordinator.stable(2)

    def error(**options):
        return coordinator.answers[coordinator.sync(follower, **options)].error

    assert error(group="nowhere") is Error.UNKNOWN_MEMBER_ID
    assert error(instance="static") is Error.UNKNOWN_MEMBER_ID
    assert error(generation=7) is Error.ILLEGAL_GENERATION
    assert error(protocol_type="connect") is Error.INCONSISTENT_GROUP_PROTOCOL
    assert error(protocol_name="sticky") is Error.INCONSISTENT_GROUP_PROTOCOL
    assert coordinator.synced(coordinator.sync(follower, protocol_type=None, protocol_name=None)).assignment == b"1"
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert error() is Error.REBALANCE_IN_PROGRESS


def test_a_member_may_join_twice_and_only_the_last_join_waits(coordinator):
    leader, follower = coordinator.stable(2)
    first = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    second = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert coordinator.joined(first).error is Error.REBALANCE_IN_PROGRESS
    coordinator.join(follower.member_id)
    assert coordinator.joined(second).error is Error.NONE


def test_a_follower_that_joins_again_unchanged_disturbs_nobody(coordinator):
    leader, follower = coordinator.stable(2)
    again = coordinator.joined(coordinator.join(follower.member_id))
    assert (again.error, again.generation, again.leader_id) == (Error.NONE, 1, leader.member_id)
    assert again.members == ()
    assert coordinator.heartbeat(leader) is Error.NONE


def test_a_leader_that_joins_again_starts_a_rebalance(coordinator):
    leader, follower = coordinator.stable(2)
    rejoin = coordinator.join(leader.member_id)
    assert coordinator.waits(rejoin)
    assert coordinator.heartbeat(follower) is Error.REBALANCE_IN_PROGRESS


def test_changed_metadata_starts_a_rebalance(coordinator):
    leader, follower = coordinator.stable(2)
    coordinator.join(follower.member_id, protocols=(("range", b"other topics"),))
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_a_lost_join_answer_is_given_again_before_the_assignment(coordinator):
    tickets = [coordinator.enter(), coordinator.enter()]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    again = coordinator.joined(coordinator.join(leader.member_id))
    assert again.generation == 1
    assert {member.member_id for member in again.members} == {leader.member_id, follower.member_id}
    assert coordinator.joined(coordinator.join(follower.member_id)).members == ()


def test_changed_metadata_before_the_assignment_starts_over(coordinator):
    tickets = [coordinator.enter(), coordinator.enter()]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower)
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    assert coordinator.answers[waiting].error is Error.REBALANCE_IN_PROGRESS


def test_who_does_not_rejoin_in_time_is_left_behind(coordinator):
    leader, follower = coordinator.stable(2, rebalance_ms=20_000, session_ms=60_000)
    rejoin = coordinator.join(follower.member_id, protocols=(("range", b"new"),), rebalance_ms=20_000)
    coordinator.advance(19_999)
    assert coordinator.waits(rejoin)
    coordinator.advance(1)
    answer = coordinator.joined(rejoin)
    assert answer.generation == 2
    assert answer.leader_id == follower.member_id
    assert [member.member_id for member in answer.members] == [follower.member_id]
    assert coordinator.heartbeat(leader) is Error.UNKNOWN_MEMBER_ID


def test_who_joined_but_never_syncs_is_dropped_at_the_rebalance_timeout(coordinator):
    tickets = [coordinator.enter(rebalance_ms=20_000, session_ms=60_000) for _ in range(2)]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    coordinator.sync(leader, {leader.member_id: b"0", follower.member_id: b"1"})
    assert coordinator.heartbeat(leader) is Error.NONE
    coordinator.advance(20_000)
    assert coordinator.heartbeat(follower) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_a_leader_that_never_syncs_does_not_hold_the_group(coordinator):
    tickets = [coordinator.enter(rebalance_ms=20_000, session_ms=60_000) for _ in range(2)]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower)
    coordinator.advance(20_000)
    assert coordinator.answers[waiting].error is Error.REBALANCE_IN_PROGRESS
    answer = coordinator.joined(coordinator.join(follower.member_id))
    assert (answer.generation, answer.leader_id) == (2, follower.member_id)
    assert coordinator.heartbeat(leader) is Error.UNKNOWN_MEMBER_ID


def test_a_session_without_heartbeats_ends_the_membership(coordinator):
    leader, follower = coordinator.stable(2, session_ms=10_000)
    coordinator.advance(9_999)
    assert coordinator.heartbeat(leader) is Error.NONE
    coordinator.advance(1)
    assert coordinator.heartbeat(follower) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_waiting_in_a_join_counts_as_being_there(coordinator):
    leader, follower = coordinator.stable(2, session_ms=10_000, rebalance_ms=60_000)
    rejoin = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    for _ in range(5):
        coordinator.advance(9_000)
        coordinator.heartbeat(follower)
    assert coordinator.waits(rejoin)
    coordinator.join(follower.member_id)
    assert coordinator.joined(rejoin).error is Error.NONE


def test_heartbeats_are_answered_between_join_and_sync(coordinator):
    ticket = coordinator.enter()
    coordinator.advance(0)
    assert coordinator.heartbeat(coordinator.joined(ticket)) is Error.NONE


def test_heartbeats_know_their_group_and_member(coordinator):
    leader, _ = coordinator.stable(2)
    assert coordinator.heartbeat(leader, group="nowhere") is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader._replace(member_id="nobody")) is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader, generation=0) is Error.ILLEGAL_GENERATION


def test_several_leave_at_once_and_one_rebalance_follows(coordinator):
    a, b, c = coordinator.stable(3)
    assert coordinator.leave(b.member_id, "nobody", Leaver(c.member_id, None, "shutting down")) == [
        Error.NONE,
        Error.UNKNOWN_MEMBER_ID,
        Error.NONE,
    ]
    assert coordinator.heartbeat(a) is Error.REBALANCE_IN_PROGRESS
    rejoin = coordinator.joined(coordinator.join(a.member_id))
    assert rejoin.generation == 2
    assert [member.member_id for member in rejoin.members] == [a.member_id]


def test_when_the_last_member_leaves_the_group_is_empty(coordinator):
    [only] = coordinator.stable(1)
    assert coordinator.leave(only.member_id) == [Error.NONE]
    group = coordinator.machine.groups["g"]
    assert (group.state.value, group.generation) == ("Empty", 2)


def test_a_promised_id_can_leave(coordinator):
    promised = coordinator.new_id()
    assert coordinator.leave(promised) == [Error.NONE]
    assert coordinator.joined(coordinator.join(promised)).error is Error.UNKNOWN_MEMBER_ID


def test_leaving_a_group_that_is_not_there(coordinator):
    with pytest.raises(KafkaError) as refusal:
        coordinator.leave("nobody", group="nowhere")
    assert refusal.value.error is Error.UNKNOWN_MEMBER_ID


def test_who_leaves_while_waiting_is_answered(coordinator):
    leader, follower = coordinator.stable(2)
    rejoin = coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    coordinator.leave(leader.member_id)
    assert coordinator.joined(rejoin).error is Error.UNKNOWN_MEMBER_ID
    assert coordinator.joined(coordinator.join(follower.member_id)).leader_id == follower.member_id


def test_who_leaves_while_waiting_for_the_assignment_is_answered(coordinator):
    tickets = [coordinator.enter() for _ in range(3)]
    coordinator.advance(0)
    leader, leaver, other = (coordinator.joined(ticket) for ticket in tickets)
    waiting = [coordinator.sync(leaver), coordinator.sync(other)]
    coordinator.leave(leaver.member_id)
    told = [coordinator.answers[ticket].error for ticket in waiting]
    assert told == [Error.UNKNOWN_MEMBER_ID, Error.REBALANCE_IN_PROGRESS]
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_cooperative_consumers_rebalance_twice_without_losing_anyone(coordinator):
    """The protocol's two rounds: revoke in the first, hand over in the second."""
    [first] = coordinator.stable(1, protocols=(("cooperative-sticky", b"owns 0,1"),))
    second = coordinator.enter(protocols=(("cooperative-sticky", b"owns -"),))
    rejoin = coordinator.join(first.member_id, protocols=(("cooperative-sticky", b"owns 0,1 "),))
    members = [coordinator.joined(rejoin), coordinator.joined(second)]
    coordinator.settle(members)
    rejoin = coordinator.join(members[0].member_id, protocols=(("cooperative-sticky", b"owns 0"),))
    assert coordinator.heartbeat(members[1]) is Error.REBALANCE_IN_PROGRESS
    other = coordinator.join(members[1].member_id, protocols=(("cooperative-sticky", b"owns -"),))
    members = [coordinator.joined(rejoin), coordinator.joined(other)]
    assert {member.generation for member in members} == {3}
    coordinator.settle(members)
    assert [coordinator.heartbeat(member) for member in members] == [Error.NONE, Error.NONE]


def test_a_stable_group_survives_a_restart(coordinator):
    members = coordinator.stable(3)
    later = coordinator.restarted()
    assert [later.heartbeat(member) for member in members] == [Error.NONE] * 3
    assert [later.synced(later.sync(member)).assignment for member in members] == [b"0", b"1", b"2"]


def test_after_a_restart_members_have_a_session_to_be_heard_of(coordinator):
    leader, follower = coordinator.stable(2, session_ms=10_000)
    later = coordinator.restarted()
    later.advance(9_999)
    assert later.heartbeat(leader) is Error.NONE
    later.advance(1)
    assert later.heartbeat(follower) is Error.UNKNOWN_MEMBER_ID


def test_a_rebalance_that_a_restart_cut_short_is_gone_through_again(coordinator):
    leader, follower = coordinator.stable(2)
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    later = coordinator.restarted()
    assert later.heartbeat(follower) is Error.NONE
    rejoin = later.join(leader.member_id, protocols=(("range", b"new"),))
    assert later.heartbeat(follower) is Error.REBALANCE_IN_PROGRESS
    later.join(follower.member_id, protocols=(("range", b"meta"),))
    assert later.joined(rejoin).generation == 2
