"""Static members (KIP-345): they keep their place, and nobody else may use it."""

from kafkapy.errors import Error
from kafkapy.groups.commands import DescribeGroup, Leaver


def static_pair(coordinator, **options):
    tickets = [coordinator.join(instance=name, **options) for name in ("a", "b")]
    coordinator.advance(0)
    members = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.settle(members)
    return members


def test_a_static_member_needs_no_promised_id(coordinator):
    ticket = coordinator.join(instance="a")
    coordinator.advance(0)
    answer = coordinator.joined(ticket)
    assert answer.error is Error.NONE
    assert answer.member_id.startswith("a-")
    assert answer.members[0].instance_id == "a"


def test_a_returning_follower_keeps_its_assignment_without_a_rebalance(coordinator):
    leader, follower = static_pair(coordinator)
    back = coordinator.joined(coordinator.join(instance="b"))
    assert (back.error, back.generation) == (Error.NONE, 1)
    assert back.member_id != follower.member_id
    assert (back.leader_id, back.members, back.skip_assignment) == (leader.member_id, (), False)
    synced = coordinator.synced(coordinator.sync(back, instance="b"))
    assert synced.assignment == b"1"
    assert coordinator.heartbeat(leader) is Error.NONE


def test_a_returning_leader_may_skip_the_assignment(coordinator):
    leader, follower = static_pair(coordinator)
    back = coordinator.joined(coordinator.join(instance="a", version=9))
    assert back.skip_assignment
    assert back.leader_id == back.member_id != leader.member_id
    assert {member.member_id for member in back.members} == {back.member_id, follower.member_id}


def test_before_version_9_a_returning_leader_hears_its_old_id(coordinator):
    leader, _ = static_pair(coordinator)
    back = coordinator.joined(coordinator.join(instance="a", version=8))
    assert (back.leader_id, back.members, back.skip_assignment) == (leader.member_id, (), False)


def test_the_one_who_held_the_place_is_fenced(coordinator):
    _, follower = static_pair(coordinator)
    back = coordinator.joined(coordinator.join(instance="b"))
    assert coordinator.heartbeat(follower, instance="b") is Error.FENCED_INSTANCE_ID
    assert coordinator.answers[coordinator.sync(follower, instance="b")].error is Error.FENCED_INSTANCE_ID
    rejoin = coordinator.joined(coordinator.join(follower.member_id, instance="b"))
    assert (rejoin.error, rejoin.member_id) == (Error.FENCED_INSTANCE_ID, follower.member_id)
    assert coordinator.commit(5, member=follower, instance="b") is Error.FENCED_INSTANCE_ID
    assert coordinator.leave(Leaver(follower.member_id, "b")) == [Error.FENCED_INSTANCE_ID]
    assert coordinator.heartbeat(back, instance="b") is Error.NONE


def test_an_unknown_instance_is_an_unknown_member(coordinator):
    leader, _ = static_pair(coordinator)
    assert coordinator.heartbeat(leader, instance="c") is Error.UNKNOWN_MEMBER_ID


def test_whoever_waits_under_the_old_id_is_fenced_at_once(coordinator):
    leader, follower = static_pair(coordinator)
    waiting = coordinator.join(follower.member_id, instance="b", protocols=(("range", b"new"),))
    coordinator.join(instance="b", protocols=(("range", b"new"),))
    assert coordinator.joined(waiting).error is Error.FENCED_INSTANCE_ID
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_a_return_between_join_and_sync_starts_over(coordinator):
    tickets = [coordinator.join(instance=name) for name in ("a", "b")]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    waiting = coordinator.sync(follower, instance="b")
    back = coordinator.join(instance="a")
    assert coordinator.waits(back)
    assert coordinator.answers[waiting].error is Error.REBALANCE_IN_PROGRESS
    assert coordinator.heartbeat(leader, instance="a") is Error.FENCED_INSTANCE_ID


def test_a_return_that_changes_the_protocol_starts_a_rebalance(coordinator):
    both = (("range", b""), ("sticky", b""))
    tickets = [coordinator.join(instance=name, protocols=both) for name in ("a", "b")]
    coordinator.advance(0)
    members = [coordinator.joined(ticket) for ticket in tickets]
    coordinator.settle(members)
    back = coordinator.join(instance="b", protocols=(("sticky", b""),))
    assert coordinator.waits(back)
    assert coordinator.heartbeat(members[0]) is Error.REBALANCE_IN_PROGRESS


def test_a_return_brings_its_new_timeouts(coordinator):
    leader, _ = static_pair(coordinator, session_ms=10_000)
    back = coordinator.joined(coordinator.join(instance="b", session_ms=30_000))
    coordinator.sync(back, instance="b")
    coordinator.heartbeat(back, instance="b")
    for _ in range(2):
        coordinator.advance(9_000)
        assert coordinator.heartbeat(leader) is Error.NONE
    assert coordinator.heartbeat(back, instance="b") is Error.NONE


def test_a_static_member_that_is_away_keeps_its_place_in_a_rebalance(coordinator):
    leader, follower = static_pair(coordinator, session_ms=100_000, rebalance_ms=20_000)
    rejoin = coordinator.join(follower.member_id, instance="b", protocols=(("range", b"new"),), rebalance_ms=20_000)
    coordinator.advance(20_000)
    answer = coordinator.joined(rejoin)
    assert answer.generation == 2
    assert answer.leader_id == follower.member_id
    assert {member.member_id for member in answer.members} == {leader.member_id, follower.member_id}


def test_a_member_that_returns_before_its_first_sync_must_still_sync(coordinator):
    tickets = [coordinator.join(instance=name, rebalance_ms=20_000, session_ms=60_000) for name in ("a", "b")]
    coordinator.advance(0)
    leader, follower = (coordinator.joined(ticket) for ticket in tickets)
    coordinator.sync(leader, {leader.member_id: b"0", follower.member_id: b"1"}, instance="a")
    back = coordinator.joined(coordinator.join(instance="b", rebalance_ms=20_000, session_ms=60_000))
    assert back.error is Error.NONE
    coordinator.advance(20_000)
    assert coordinator.heartbeat(back, instance="b") is Error.UNKNOWN_MEMBER_ID


def test_when_no_static_member_comes_the_rebalance_goes_another_round(coordinator):
    leader, follower = static_pair(coordinator, session_ms=100_000, rebalance_ms=20_000)
    dynamic = coordinator.enter(rebalance_ms=20_000)
    coordinator.leave(*[m for m in coordinator.machine.groups["g"].members if m.startswith("client")])
    assert coordinator.joined(dynamic).error is Error.UNKNOWN_MEMBER_ID
    coordinator.advance(20_000)
    assert coordinator.machine.groups["g"].state.value == "PreparingRebalance"
    tickets = [coordinator.join(m.member_id, instance=i) for m, i in ((leader, "a"), (follower, "b"))]
    assert {coordinator.joined(ticket).generation for ticket in tickets} == {2}


def test_static_members_can_be_removed_by_instance_id_alone(coordinator):
    leader, follower = static_pair(coordinator)
    assert coordinator.leave(Leaver("", "b"), Leaver("", "nobody")) == [Error.NONE, Error.UNKNOWN_MEMBER_ID]
    assert coordinator.heartbeat(follower, instance="b") is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader, instance="a") is Error.REBALANCE_IN_PROGRESS


def test_a_member_id_must_match_the_instance_id_to_leave(coordinator):
    leader, _ = static_pair(coordinator)
    assert coordinator.leave(Leaver(leader.member_id, "b")) == [Error.FENCED_INSTANCE_ID]


def test_a_returned_member_survives_a_restart(coordinator):
    leader, _ = static_pair(coordinator)
    back = coordinator.joined(coordinator.join(instance="b"))
    later = coordinator.restarted()
    assert later.heartbeat(back, instance="b") is Error.NONE
    description = later.ask(DescribeGroup("g"))
    assert {member.instance_id: member.assignment for member in description.members} == {"a": b"0", "b": b"1"}
    assert later.heartbeat(leader, instance="a") is Error.NONE
