"""Streams groups: who is in one, what it waits for, and who runs which task."""

import pytest

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, DeleteGroups, ListGroups, PartitionCommit, TopicCommit
from kafkapy.groups.streams.assignor import StreamsGroupSpec, StreamsMemberSpec, SubtopologySpec, assign_sticky
from kafkapy.groups.streams.commands import StreamsHeartbeatAnswer
from kafkapy.groups.streams.facts import (
    InternalTopic,
    StreamsCurrent,
    StreamsCurrentStored,
    StreamsMemberState,
    StreamsSubscription,
    StreamsSubscriptionStored,
    Subtopology,
    Topology,
    UserEndpoint,
)
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.reconciling import StreamsSurroundings, StreamsTarget, reconcile
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks
from kafkapy.groups.streams.topologies import StatusCode
from tests.groups.streams import COUNTS_T, READS_T, StreamsCoordinator, StreamsMember

DELAY_MS = 3_000
ALL = {("0", 0), ("0", 1), ("0", 2)}


@pytest.fixture
def coordinator() -> StreamsCoordinator:
    return StreamsCoordinator()


def settle(coordinator: StreamsCoordinator, *members: StreamsMember, rounds: int = 8) -> None:
    """Everybody sends heartbeats in turn, two seconds apart."""
    for _ in range(rounds):
        coordinator.advance(2_000)
        for member in members:
            member.beat()


def test_the_first_members_wait_for_more_and_hold_nothing_at_epoch_1(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    assert a.join().member_epoch == 1
    assert a.statuses == [StatusCode.ASSIGNMENT_DELAYED] and not a.active
    b = StreamsMember(coordinator, "b")
    b.join()
    coordinator.advance(DELAY_MS)
    a.beat()
    b.beat()
    assert a.active | b.active == ALL and not a.active & b.active
    assert a.epoch == b.epoch > 1 and a.statuses == []


def test_tasks_move_to_a_newcomer_only_when_they_are_given_up(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    a.join()
    settle(coordinator, a)
    assert a.active == ALL
    b.join()
    assert not b.active
    had = a.tasks.without_epochs
    a.beat(claimed=had)
    assert len(a.active) == 2
    for claimed in (had, None):  # it has not given up what it was told to, nor does it when it says nothing of that
        a.beat(claimed=claimed)
        b.beat()
        assert not b.active
    settle(coordinator, a, b)
    assert a.active | b.active == ALL and not a.active & b.active
    assert coordinator.describe_streams().state == "Stable"


def test_a_member_that_does_not_give_up_in_time_is_fenced(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a", rebalance_timeout_ms=10_000), StreamsMember(coordinator, "b")
    a.join()
    settle(coordinator, a)
    b.join()
    had = a.tasks.without_epochs
    a.beat(claimed=had)
    coordinator.advance(10_000)
    assert coordinator.streams_beat("a", a.epoch, claimed=had) is Error.UNKNOWN_MEMBER_ID


def test_who_falls_silent_is_dropped_and_its_tasks_are_others(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    a.join()
    b.join()
    settle(coordinator, a, b)
    settle(coordinator, a, rounds=30)
    assert a.active == ALL


def test_a_missing_source_topic_is_told_and_its_coming_ends_the_wait(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a", Topology(0, (Subtopology("0", ("u",)),)))
    a.join()
    settle(coordinator, a)
    assert a.statuses == [StatusCode.MISSING_SOURCE_TOPICS]
    assert coordinator.describe_streams().state == "NotReady"
    coordinator.set_topics(t=3, u=2)
    settle(coordinator, a)
    assert a.active == {("0", 0), ("0", 1)} and a.statuses == []


def test_a_group_whose_topic_goes_is_not_ready_until_there_is_one_again(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)
    assert coordinator.describe_streams().state == "Stable"
    coordinator.set_topics()
    settle(coordinator, a)
    assert (coordinator.describe_streams().state, a.active) == ("NotReady", set())
    assert a.statuses == [StatusCode.MISSING_SOURCE_TOPICS]
    coordinator.set_topics(t=3)
    settle(coordinator, a)
    assert (coordinator.describe_streams().state, a.active) == ("Stable", ALL)


def test_internal_topics_are_asked_for_and_then_the_group_is_ready(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a", COUNTS_T)
    answer = a.join()
    assert answer.missing == {"g-log": InternalTopic("g-log", 3)}
    assert StatusCode.MISSING_INTERNAL_TOPICS in a.statuses
    coordinator.set_topics(**{"t": 3, "g-log": 3})
    settle(coordinator, a)
    assert a.active == ALL and not a.beat().missing


def test_an_internal_topic_of_another_width_is_told(coordinator: StreamsCoordinator) -> None:
    coordinator.set_topics(**{"t": 3, "g-log": 2})
    a = StreamsMember(coordinator, "a", COUNTS_T)
    a.join()
    assert StatusCode.INCORRECTLY_PARTITIONED_TOPICS in a.statuses


def test_another_topology_of_the_same_epoch_is_refused_and_an_older_one_is_told(
    coordinator: StreamsCoordinator,
) -> None:
    a = StreamsMember(coordinator, "a", READS_T._replace(epoch=1))
    a.join()
    settle(coordinator, a)
    other = Topology(1, (Subtopology("0", ("u",)),))
    assert coordinator.streams_beat("b", 0, topology=other, claimed=Assignment()) is Error.INVALID_REQUEST
    c = StreamsMember(coordinator, "c", READS_T)
    c.join()
    assert StatusCode.STALE_TOPOLOGY in c.statuses


def test_standby_tasks_lie_with_other_processes(coordinator: StreamsCoordinator) -> None:
    coordinator.set_topics(**{"t": 3, "g-log": 3})
    coordinator.set_group("g", {"streams.num.standby.replicas": "1"})
    a, b = StreamsMember(coordinator, "a", COUNTS_T), StreamsMember(coordinator, "b", COUNTS_T)
    a.join()
    b.join()
    settle(coordinator, a, b)
    assert a.active | b.active == ALL
    assert a.standby == b.active and b.standby == a.active


def test_a_changed_number_of_standbys_is_a_new_assignment(coordinator: StreamsCoordinator) -> None:
    coordinator.set_topics(**{"t": 3, "g-log": 3})
    a, b = StreamsMember(coordinator, "a", COUNTS_T), StreamsMember(coordinator, "b", COUNTS_T)
    a.join()
    b.join()
    settle(coordinator, a, b)
    epoch = coordinator.describe_streams().epoch
    assert not a.standby
    coordinator.set_group("g", {"streams.num.standby.replicas": "1"})
    settle(coordinator, a, b)
    assert coordinator.describe_streams().epoch == epoch + 1 and a.standby


def test_epochs_that_are_too_great_or_too_old_are_fenced(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)
    has = a.tasks.without_epochs
    assert coordinator.streams_beat("a", a.epoch + 1, claimed=has) is Error.FENCED_MEMBER_EPOCH
    # the answer that told of this epoch may have been lost: what it says it has lies within what it has
    before = coordinator.streams_beat("a", 1, claimed=Assignment())
    assert isinstance(before, StreamsHeartbeatAnswer) and before.member_epoch == a.epoch
    beyond = Assignment({"0": frozenset({0})}, {"0": frozenset({0})})
    assert coordinator.streams_beat("a", 1, claimed=beyond) is Error.FENCED_MEMBER_EPOCH
    assert coordinator.streams_beat("nobody", 1) is Error.UNKNOWN_MEMBER_ID


def test_tasks_that_there_are_not_are_refused(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)
    for claimed in (Assignment({"1": frozenset({0})}), Assignment({"0": frozenset({3})})):
        assert coordinator.streams_beat("a", a.epoch, claimed=claimed) is Error.INVALID_REQUEST


def test_a_static_member_comes_back_to_its_tasks_under_another_id(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a", instance="i", process="p")
    b = StreamsMember(coordinator, "b")
    a.join()
    b.join()
    settle(coordinator, a, b)
    had, epoch = a.active, coordinator.describe_streams().epoch
    joins = {"instance": "i", "process": "p", "topology": READS_T, "claimed": Assignment()}
    assert coordinator.streams_beat("a2", 0, **joins) is Error.UNRELEASED_INSTANCE_ID
    a.leave(-2)
    again = StreamsMember(coordinator, "a2", instance="i", process="p")
    again.join()
    assert again.active == had and coordinator.describe_streams().epoch == epoch
    assert coordinator.streams_beat("a", a.epoch, instance="i") is Error.FENCED_INSTANCE_ID


def test_a_static_member_that_comes_from_elsewhere_is_no_reason_to_move_tasks(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a", instance="i", process="p")
    a.join()
    settle(coordinator, a)
    epoch = coordinator.describe_streams().epoch
    a.beat(endpoint=UserEndpoint("elsewhere", 80))
    assert coordinator.describe_streams().epoch == epoch
    assert coordinator.describe_streams().members[0].subscription.endpoint == UserEndpoint("elsewhere", 80)
    a.beat(rack="r")
    assert coordinator.describe_streams().epoch == epoch + 1


def test_who_is_in_a_state_of_a_newer_kafka_must_come_with_nothing() -> None:
    current = StreamsCurrent(5, 4, StreamsMemberState.UNKNOWN, OwnedTasks({"0": {0: 3}}))
    target = StreamsTarget(7, Assignment({"0": frozenset({0})}))
    nobody = StreamsGroup("g")
    for claimed in (None, Assignment({"0": frozenset({0})})):
        with pytest.raises(KafkaError) as refusal:
            reconcile(current, target, StreamsSurroundings("p", nobody, claimed))
        assert refusal.value.error is Error.FENCED_MEMBER_EPOCH
    new = reconcile(current, target, StreamsSurroundings("p", nobody, Assignment()))
    assert (new.epoch, new.state, new.assigned) == (7, StreamsMemberState.STABLE, current.assigned)


def test_a_standby_that_takes_over_keeps_its_state_until_the_task_is_free() -> None:
    group = StreamsGroup("g")
    group.apply(StreamsSubscriptionStored("g", "other", StreamsSubscription(process_id="q")))
    group.apply(StreamsCurrentStored("g", "other", StreamsCurrent(5, 4, assigned=OwnedTasks({"0": {0: 3}}))))
    has_state = StreamsCurrent(5, 4, assigned=OwnedTasks({}, {"0": frozenset({0})}))
    target = StreamsTarget(6, Assignment({"0": frozenset({0})}))
    waits = reconcile(has_state, target, StreamsSurroundings("p", group, None))
    assert (waits.state, waits.assigned) == (StreamsMemberState.UNRELEASED_TASKS, has_state.assigned)
    group.apply(StreamsCurrentStored("g", "other", None))
    runs = reconcile(waits, target, StreamsSurroundings("p", group, None))
    assert (runs.state, runs.assigned) == (StreamsMemberState.STABLE, OwnedTasks({"0": {0: 6}}))


def test_no_process_has_a_task_twice() -> None:
    members = {"m1": StreamsMemberSpec("p"), "m2": StreamsMemberSpec("p"), "m3": StreamsMemberSpec("q")}
    found = assign_sticky(StreamsGroupSpec(members, {"0": SubtopologySpec(3, True)}, standby_count=2))
    for number in range(3):
        processes = [
            members[member_id].process_id
            for member_id, tasks in found.items()
            for role in (tasks.active, tasks.standby)
            if number in role.get("0", ())
        ]
        assert sorted(processes) == ["p", "q"]  # of two standbys there is room for one: no process has a task twice


@pytest.mark.parametrize("successor", ["b", "c"])
def test_a_task_that_nobody_runs_any_longer_goes_to_who_has_its_state(successor: str) -> None:
    members = {
        "a": StreamsMemberSpec("p", {"0": frozenset({0})}),
        "b": StreamsMemberSpec("q"),
        "c": StreamsMemberSpec("r"),
    }
    members[successor] = members[successor]._replace(standby={"0": frozenset({1})})
    found = assign_sticky(StreamsGroupSpec(members, {"0": SubtopologySpec(2, True)}))
    assert (found["a"].active, found[successor].active) == ({"0": {0}}, {"0": {1}})


def test_at_a_first_start_each_process_has_its_share_of_each_subtopology() -> None:
    members = {"a": StreamsMemberSpec("p"), "b": StreamsMemberSpec("q")}
    found = assign_sticky(StreamsGroupSpec(members, {"0": SubtopologySpec(2, False), "1": SubtopologySpec(2, False)}))
    for tasks in found.values():
        assert {name: len(numbers) for name, numbers in tasks.active.items()} == {"0": 1, "1": 1}


def test_all_are_told_when_one_wants_the_application_to_end(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    a.join()
    b.join()
    settle(coordinator, a, b)
    a.beat(shuts_down=True)
    b.beat()
    assert a.statuses == b.statuses == [StatusCode.SHUTDOWN_APPLICATION]
    a.leave()
    b.leave()
    a.join()
    assert StatusCode.SHUTDOWN_APPLICATION not in a.statuses


def test_endpoints_are_told_to_those_who_do_not_know_them(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    assert a.join(UserEndpoint("host", 80)).endpoint_epoch == 0
    b.join()
    settle(coordinator, a, b)
    answer = b.beat()
    assert answer.endpoint_epoch > 0 and answer.endpoints is not None
    [told] = answer.endpoints
    assert told.endpoint == UserEndpoint("host", 80)
    assert set(told.active[0][1]) == {partition for _, partition in a.active} and not told.standby
    assert b.beat(endpoint_epoch=answer.endpoint_epoch).endpoints is None
    own = a.beat(endpoint_epoch=answer.endpoint_epoch - 1).endpoints
    assert own == [told], "whoever asks, there is one entry for each endpoint"


def test_without_endpoints_there_is_nothing_new_to_be_told_of_them(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    a.join()
    settle(coordinator, a)
    b.join()
    settle(coordinator, a, b)
    answer = a.beat()
    assert (answer.endpoint_epoch, answer.endpoints) == (0, None)


def test_offsets_are_committed_by_members_of_the_epoch(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)

    def commit(member_id: str, epoch: int) -> object:
        topics = [TopicCommit("t", bytes(16), [PartitionCommit(0, 5, -1, "")])]
        command = CommitOffsets("g", member_id, None, epoch, -1, topics, knows_member_epochs=True)
        return coordinator.answers[coordinator.send(command)]

    assert commit("a", a.epoch) == [[Error.NONE]]
    for member_id, epoch, error in (("a", a.epoch + 1, Error.STALE_MEMBER_EPOCH), ("b", 3, Error.UNKNOWN_MEMBER_ID)):
        refusal = commit(member_id, epoch)
        assert isinstance(refusal, KafkaError) and refusal.error is error


def test_a_group_is_listed_and_deleted_when_it_is_empty(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)
    [listed] = coordinator.ask(ListGroups(frozenset(), frozenset()))
    assert (listed.group_id, listed.protocol_type, listed.group_type, listed.state) == (
        "g",
        "streams",
        "streams",
        "Stable",
    )
    assert coordinator.ask(DeleteGroups(["g"])) == [Error.NON_EMPTY_GROUP]
    a.leave()
    assert coordinator.ask(DeleteGroups(["g"])) == [Error.NONE]
    assert coordinator.ask(ListGroups(frozenset(), frozenset())) == []


# Groups of other kinds


def test_a_classic_group_without_members_becomes_a_streams_group_that_has_its_offsets(
    coordinator: StreamsCoordinator,
) -> None:
    [classic] = coordinator.stable(1)
    assert coordinator.commit(7, member=classic) is Error.NONE
    joins = {"topology": READS_T, "claimed": Assignment()}
    assert coordinator.streams_beat("a", 0, **joins) is Error.GROUP_ID_NOT_FOUND, "it has a member"
    coordinator.leave(classic.member_id)
    a = StreamsMember(coordinator, "a")
    a.join()
    settle(coordinator, a)
    for each in (coordinator, coordinator.restarted(), coordinator.restarted_from_snapshot()):
        assert each.committed() == {("t", 0): 7}
        assert [(listed.group_type, listed.state) for listed in each.ask(ListGroups(frozenset(), frozenset()))] == [
            ("streams", "Stable")
        ]


def test_a_streams_group_takes_no_classic_member_and_without_members_gives_way(coordinator: StreamsCoordinator) -> None:
    a = StreamsMember(coordinator, "a")
    a.join()
    assert coordinator.joined(coordinator.join()).error is Error.INCONSISTENT_GROUP_PROTOCOL
    a.leave()
    coordinator.stable(1)
    for each in (coordinator, coordinator.restarted()):
        [listed] = each.ask(ListGroups(frozenset(), frozenset()))
        assert (listed.group_type, listed.state) == ("classic", "Stable")
        assert each.streams_beat("a", 0, topology=READS_T, claimed=Assignment()) is Error.GROUP_ID_NOT_FOUND


def test_a_restart_changes_nothing_that_members_see(coordinator: StreamsCoordinator) -> None:
    a, b = StreamsMember(coordinator, "a"), StreamsMember(coordinator, "b")
    a.join()
    b.join()
    settle(coordinator, a, b)
    before = coordinator.describe_streams()
    after = coordinator.restarted()
    for member in (a, b):
        member.coordinator = after
        assert member.beat().assigned is None
    assert after.describe_streams() == before
