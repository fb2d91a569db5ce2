"""Joining: the member id handshake, protocols, sizes, and when the first generation begins."""

from kafkapy.errors import Error


def test_a_newcomer_is_sent_back_with_a_member_id(coordinator):
    answer = coordinator.joined(coordinator.join(client="shop"))
    assert answer.error is Error.MEMBER_ID_REQUIRED
    assert answer.member_id.startswith("shop-")
    again = coordinator.join(answer.member_id)
    coordinator.advance(0)
    assert coordinator.joined(again).error is Error.NONE
    assert coordinator.joined(again).member_id == answer.member_id


def test_before_version_4_a_newcomer_joins_at_once(coordinator):
    ticket = coordinator.join(version=3)
    coordinator.advance(0)
    assert coordinator.joined(ticket).error is Error.NONE
    assert coordinator.joined(ticket).generation == 1


def test_a_promised_id_expires_with_its_session(coordinator):
    promised = coordinator.new_id(session_ms=6_000)
    coordinator.advance(6_000)
    assert coordinator.joined(coordinator.join(promised)).error is Error.UNKNOWN_MEMBER_ID


def test_a_promised_id_is_waited_for_in_a_rebalance_until_it_expires(coordinator):
    [leader] = coordinator.stable(1)
    coordinator.new_id(session_ms=6_000)
    rejoin = coordinator.join(leader.member_id)
    assert coordinator.waits(rejoin)
    coordinator.advance(6_000)
    assert coordinator.joined(rejoin).generation == 2


def test_a_member_id_of_an_unknown_group_is_unknown(coordinator):
    answer = coordinator.joined(coordinator.join("somebody"))
    assert (answer.error, answer.member_id) == (Error.UNKNOWN_MEMBER_ID, "somebody")
    assert not coordinator.machine.groups


def test_a_member_id_that_was_never_given_is_unknown(coordinator):
    coordinator.stable(1)
    assert coordinator.joined(coordinator.join("somebody")).error is Error.UNKNOWN_MEMBER_ID


def test_a_promised_id_is_of_no_use_to_a_static_member(coordinator):
    answer = coordinator.joined(coordinator.join(coordinator.new_id(), instance="a"))
    assert (answer.error, answer.member_id) == (Error.UNKNOWN_SERVER_ERROR, "")


def test_only_the_leader_is_told_of_all_members(coordinator):
    tickets = [coordinator.enter(protocols=(("range", str(n).encode()),)) for n in range(3)]
    coordinator.advance(0)
    answers = [coordinator.joined(ticket) for ticket in tickets]
    [leader] = [answer for answer in answers if answer.members]
    assert leader.leader_id == leader.member_id
    assert {answer.leader_id for answer in answers} == {leader.member_id}
    assert {member.member_id: member.metadata for member in leader.members} == {
        answer.member_id: str(n).encode() for n, answer in enumerate(answers)
    }


def test_the_protocol_is_elected_among_those_that_all_support(coordinator):
    both = [("range", b"r"), ("sticky", b"s")]
    tickets = [
        coordinator.enter(protocols=(("private", b"p"), *both)),
        coordinator.enter(protocols=tuple(reversed(both))),
        coordinator.enter(protocols=tuple(reversed(both))),
    ]
    coordinator.advance(0)
    assert {coordinator.joined(ticket).protocol_name for ticket in tickets} == {"sticky"}
    leader = next(a for a in map(coordinator.joined, tickets) if a.members)
    assert {member.metadata for member in leader.members} == {b"s"}


def test_a_joiner_must_share_a_protocol(coordinator):
    coordinator.stable(1)
    answer = coordinator.joined(coordinator.join(protocols=(("other", b""),)))
    assert answer.error is Error.INCONSISTENT_GROUP_PROTOCOL


def test_a_joiner_must_share_the_protocol_type(coordinator):
    coordinator.stable(1)
    answer = coordinator.joined(coordinator.join(protocol_type="connect"))
    assert answer.error is Error.INCONSISTENT_GROUP_PROTOCOL


def test_a_joiner_must_name_a_protocol_and_a_type(coordinator):
    assert coordinator.joined(coordinator.join(protocols=())).error is Error.INCONSISTENT_GROUP_PROTOCOL
    assert coordinator.joined(coordinator.join(protocol_type="")).error is Error.INCONSISTENT_GROUP_PROTOCOL


def test_an_empty_group_takes_another_protocol_type(coordinator):
    [member] = coordinator.stable(1)
    coordinator.leave(member.member_id)
    ticket = coordinator.enter(protocol_type="connect", protocols=(("eager", b""),))
    coordinator.advance(0)
    assert coordinator.joined(ticket).protocol_type == "connect"


def test_the_first_generation_waits_for_the_initial_delay(make_coordinator):
    coordinator = make_coordinator(initial_rebalance_delay_ms=3_000)
    first = coordinator.enter()
    coordinator.advance(2_999)
    assert coordinator.waits(first)
    coordinator.advance(1)
    assert coordinator.joined(first).generation == 1


def test_the_initial_delay_is_extended_while_members_come(make_coordinator):
    coordinator = make_coordinator(initial_rebalance_delay_ms=3_000)
    first = coordinator.enter()
    coordinator.advance(2_000)
    second = coordinator.enter()
    coordinator.advance(1_000)
    assert coordinator.waits(first)
    coordinator.advance(3_000)
    assert coordinator.joined(first).generation == coordinator.joined(second).generation == 1


def test_the_initial_delay_ends_at_the_rebalance_timeout(make_coordinator):
    coordinator = make_coordinator(initial_rebalance_delay_ms=3_000)
    tickets = [coordinator.enter(rebalance_ms=7_000)]
    for _ in range(6):
        coordinator.advance(1_000)
        tickets.append(coordinator.enter(rebalance_ms=7_000))
    coordinator.advance(1_000)
    assert {coordinator.joined(ticket).generation for ticket in tickets} == {1}


def test_with_the_delay_at_zero_the_first_generation_begins_at_once(coordinator):
    ticket = coordinator.enter()
    coordinator.advance(0)
    assert coordinator.joined(ticket).generation == 1


def test_a_full_group_refuses_newcomers(make_coordinator):
    coordinator = make_coordinator(max_size=2)
    members = coordinator.stable(2)
    refused = coordinator.joined(coordinator.join())
    assert (refused.error, refused.member_id) == (Error.GROUP_MAX_SIZE_REACHED, "")
    assert coordinator.heartbeat(members[0]) is Error.NONE


def test_in_a_rebalance_places_go_to_those_who_joined(make_coordinator):
    coordinator = make_coordinator(max_size=2)
    leader, follower = coordinator.stable(2)
    coordinator.join(leader.member_id, protocols=(("range", b"new"),))
    late = coordinator.new_id()
    ticket = coordinator.join(late)
    refused = coordinator.joined(coordinator.join(follower.member_id))
    assert refused.error is Error.GROUP_MAX_SIZE_REACHED
    coordinator.advance(60_000)
    assert coordinator.joined(ticket).error is Error.NONE
    assert coordinator.joined(ticket).generation == 2


def test_a_group_loaded_with_too_many_members_rebalances(make_coordinator):
    coordinator = make_coordinator()
    leader, _ = coordinator.stable(2)
    coordinator.settings = type(coordinator.settings)(max_size=1)
    assert coordinator.restarted().heartbeat(leader) is Error.REBALANCE_IN_PROGRESS


def test_a_newcomer_that_never_gets_a_generation_is_dropped_after_five_minutes(coordinator):
    [leader] = coordinator.stable(1, rebalance_ms=400_000, session_ms=600_000)
    waiting = coordinator.enter(rebalance_ms=400_000)
    coordinator.advance(299_999)
    assert coordinator.waits(waiting)
    coordinator.advance(1)
    assert coordinator.joined(waiting).error is Error.UNKNOWN_MEMBER_ID
    assert coordinator.heartbeat(leader) is Error.REBALANCE_IN_PROGRESS
