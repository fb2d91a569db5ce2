"""Groups that change between the protocols while they have members, and classic members of consumer groups."""

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import DescribeGroup, Heartbeat, Joined, Leave, Leaver, Protocol, Sync
from kafkapy.groups.embedded import encoded_assignment
from kafkapy.groups.settings import MigrationPolicy
from tests.groups.consumers import Consumers, Member, assigned_by, settle, subscription_bytes, topic_id_of

T = topic_id_of("t")
RANGE = (("range", subscription_bytes("t")),)


@pytest.fixture
def consumers() -> Consumers:
    return Consumers()


def classic_group(consumers: Consumers, **options) -> Joined:
    """A classic consumer that has all of the topic, in generation 1."""
    ticket = consumers.enter(protocols=RANGE, **options)
    consumers.advance(0)
    joined = consumers.joined(ticket)
    assignment = encoded_assignment({"t": [0, 1, 2]}, (Protocol(*RANGE[0]),))
    consumers.sync(joined, {joined.member_id: assignment}, **options)
    return joined


def rejoin(consumers: Consumers, member_id: str, owned=None, instance=None) -> Joined:
    protocols = (("range", subscription_bytes("t", owned={"t": owned or []})),)
    return consumers.joined(consumers.join(member_id, protocols=protocols, instance=instance))


def synced(consumers: Consumers, joined: Joined, **options) -> dict[str, list[int]]:
    return assigned_by(consumers.synced(consumers.sync(joined, **options)).assignment)


def beat(consumers: Consumers, joined: Joined) -> Error:
    answer = consumers.answers[consumers.send(Heartbeat("g", joined.member_id, None, joined.generation))]
    return answer.error if isinstance(answer, KafkaError) else Error.NONE


def mixed(consumers: Consumers) -> tuple[Joined, Member]:
    """A classic member and one of the consumer protocol, settled."""
    joined, member = classic_group(consumers), Member(consumers, "new", "t")
    member.join()
    assert beat(consumers, joined) is Error.REBALANCE_IN_PROGRESS
    joined = rejoin(consumers, joined.member_id, [0, 1, 2])
    kept = synced(consumers, joined)
    assert beat(consumers, joined) is Error.REBALANCE_IN_PROGRESS, "it has something to give up"
    joined = rejoin(consumers, joined.member_id, kept["t"])
    assert synced(consumers, joined) == kept
    settle(member)
    return joined, member


def test_a_new_member_makes_a_consumer_group_of_a_classic_one(consumers):
    joined, member = mixed(consumers)
    assert beat(consumers, joined) is Error.NONE
    description = consumers.describe()
    assert (description.state, description.epoch) == ("Stable", 2)
    assert {each.is_classic for each in description.members} == {True, False}
    assert len(member.partitions) == 1
    assert consumers.machine.groups == {}


def test_a_restart_in_the_middle_changes_nothing(consumers):
    joined, _member = mixed(consumers)
    other = consumers.restarted()
    assert other.describe() == consumers.describe()
    assert beat(other, joined) is Error.NONE


def test_who_waits_in_the_classic_group_must_join_again(consumers):
    first = classic_group(consumers)
    waiting = consumers.enter(protocols=RANGE)
    assert consumers.waits(waiting)
    Member(consumers, "new", "t").join()
    assert consumers.joined(waiting).error is Error.REBALANCE_IN_PROGRESS
    assert beat(consumers, first) is Error.REBALANCE_IN_PROGRESS


def test_an_empty_classic_group_gives_way(consumers):
    consumers.commit(7)
    member = Member(consumers, "a", "t")
    member.join()
    assert member.epoch == 2
    assert consumers.committed() == {("t", 0): 7}
    assert consumers.restarted().describe() == consumers.describe()


def test_an_empty_consumer_group_gives_way(consumers):
    member = Member(consumers, "a", "t")
    member.join()
    consumers.commit(7, member_id="a", generation=2)
    member.leave()
    classic_group(consumers)
    assert consumers.machine.consumers == {}
    assert consumers.ask(DescribeGroup("g")).state == "Stable"
    assert consumers.restarted().committed() == {("t", 0): 7}


def test_the_group_is_classic_again_when_the_last_new_member_leaves(consumers):
    joined, member = mixed(consumers)
    member.leave()
    assert consumers.machine.consumers == {}
    assert beat(consumers, joined) is Error.REBALANCE_IN_PROGRESS
    again = consumers.joined(consumers.join(joined.member_id, protocols=RANGE))
    assert (again.generation, again.leader_id) == (3, joined.member_id)
    assert consumers.restarted().ask(DescribeGroup("g")).members[0].member_id == joined.member_id


def test_a_static_member_may_go_back_to_the_classic_protocol(consumers):
    member = Member(consumers, "a", "t", instance="i")
    member.join()
    joined = rejoin(consumers, "", instance="i")
    assert joined.error is Error.NONE
    assert consumers.machine.consumers == {}
    assert synced(consumers, joined, instance="i") == {"t": [0, 1, 2]}


def test_a_classic_member_that_does_not_sync_is_fenced(consumers):
    _joined, member = mixed(consumers)
    classic = consumers.joined(consumers.enter(protocols=RANGE, rebalance_ms=20_000, session_ms=60_000))
    consumers.advance(20_000)
    member.beat()
    assert beat(consumers, classic) is Error.UNKNOWN_MEMBER_ID


def test_a_classic_member_that_does_not_join_again_is_fenced(consumers):
    joined, member = classic_group(consumers, rebalance_ms=30_000), Member(consumers, "new", "t")
    member.join()
    for _ in range(4):
        beat(consumers, joined)
        consumers.advance(7_500)
        member.beat()
    assert beat(consumers, joined) is Error.UNKNOWN_MEMBER_ID


def test_a_silent_classic_member_is_fenced_after_its_own_session(consumers):
    joined, _member = mixed(consumers)
    consumers.advance(10_000)
    assert beat(consumers, joined) is Error.UNKNOWN_MEMBER_ID


def test_both_kinds_may_leave_by_the_classic_request(consumers):
    joined, _member = mixed(consumers)
    errors = consumers.ask(Leave("g", [Leaver("new"), Leaver("nobody"), Leaver(joined.member_id)]))
    assert errors == [Error.NONE, Error.UNKNOWN_MEMBER_ID, Error.NONE]
    assert consumers.describe().state == "Empty"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"generation": 1}, Error.ILLEGAL_GENERATION),
        ({"protocol_type": "connect"}, Error.INCONSISTENT_GROUP_PROTOCOL),
        ({"protocol_name": "other"}, Error.INCONSISTENT_GROUP_PROTOCOL),
        ({"member_id": "new"}, Error.UNKNOWN_MEMBER_ID),
        ({"member_id": "nobody"}, Error.UNKNOWN_MEMBER_ID),
    ],
)
def test_a_sync_must_fit_the_member(consumers, change, error):
    joined, _ = mixed(consumers)
    command = Sync("g", joined.member_id, None, joined.generation, "consumer", "range", {})
    assert consumers.error(command._replace(**change)) is error


def test_a_classic_member_must_share_a_protocol_with_the_others(consumers):
    mixed(consumers)
    protocols = (("other", subscription_bytes("t")),)
    assert consumers.answers[consumers.join(protocols=protocols)].error is Error.INCONSISTENT_GROUP_PROTOCOL
    assert (
        consumers.answers[consumers.join(protocols=(("range", b""),), version=3)].error
        is Error.INCONSISTENT_GROUP_PROTOCOL
    )


def test_the_policy_decides(consumers):
    disabled = Consumers(consumer_migration_policy=MigrationPolicy.DISABLED)
    classic_group(disabled)
    assert disabled.beat(member_id="a", rebalance_ms=1, topics=["t"], owned={}) is Error.GROUP_ID_NOT_FOUND
    Member(disabled, "a", "t", group="other").join()
    answer = disabled.answers[disabled.join(group="other", protocols=RANGE)]
    assert answer.error is Error.INCONSISTENT_GROUP_PROTOCOL
    upgrading = Consumers(consumer_migration_policy=MigrationPolicy.UPGRADE)
    _joined, member = mixed(upgrading)
    member.leave()
    assert upgrading.describe().epoch == 3


@pytest.mark.parametrize("metadata", [b"", b"\x00\x01\x00"])
def test_a_group_of_which_the_members_cannot_be_read_stays_classic(consumers, metadata):
    ticket = consumers.enter(protocols=(("range", metadata),))
    consumers.advance(0)
    joined = consumers.joined(ticket)
    consumers.sync(joined, {joined.member_id: b""})
    assert consumers.beat(member_id="a", rebalance_ms=1, topics=["t"], owned={}) is Error.GROUP_ID_NOT_FOUND
    assert beat(consumers, joined) is Error.NONE


def test_another_kind_of_group_stays_what_it_is(consumers):
    consumers.stable(1, protocol_type="connect")
    assert consumers.beat(member_id="a", rebalance_ms=1, topics=["t"], owned={}) is Error.GROUP_ID_NOT_FOUND


def test_a_refused_upgrade_leaves_the_classic_group(consumers):
    joined = classic_group(consumers)
    consumers.begin_write()
    Member(consumers, "new", "t").join()
    consumers.end_write(Error.NOT_ENOUGH_REPLICAS)
    assert consumers.machine.consumers == {}
    assert beat(consumers, joined) is Error.NONE


def test_a_refused_downgrade_leaves_the_consumer_group(consumers):
    joined, member = mixed(consumers)
    before = sorted(consumers.describe().members)
    consumers.begin_write()
    member.leave()
    consumers.end_write(Error.NOT_ENOUGH_REPLICAS)
    assert consumers.machine.groups == {}
    assert sorted(consumers.describe().members) == before
    assert beat(consumers, joined) is Error.NONE


def test_a_static_member_that_was_awaited_and_replaced_is_awaited_no_longer(consumers):
    ticket = consumers.join("", protocols=RANGE, instance="i")
    consumers.advance(0)
    joined = consumers.joined(ticket)
    consumers.sync(joined, {joined.member_id: encoded_assignment({"t": [0, 1, 2]}, (Protocol(*RANGE[0]),))})
    Member(consumers, "new", "t").join()
    answer = consumers.answers[consumers.send(Heartbeat("g", joined.member_id, "i", joined.generation))]
    assert answer.error is Error.REBALANCE_IN_PROGRESS
    again = rejoin(consumers, "", instance="i")
    assert again.member_id != joined.member_id
    for _ in range(400):
        consumers.advance(1_000)
    assert not consumers.machine.consumers["g"].soft.join_timers
