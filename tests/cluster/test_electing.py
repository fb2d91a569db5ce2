"""Brokers that come and go, decided: who leads then, who is in sync, who may lead later, and where replicas are."""

from collections import Counter
from typing import Any

import pytest

from kafkapy.cluster.brokers import (
    AlterReassignments,
    BalanceLeaders,
    ElectLeaders,
    FenceBrokers,
    Reassignment,
    RegisterBroker,
    UnregisterBroker,
)
from kafkapy.cluster.image import PartitionInfo
from kafkapy.cluster.machine import CreatePartitions, CreateTopics, NewPartitions, NewTopic
from kafkapy.errors import Error, KafkaError
from tests.cluster.machines import Driver

NOBODY = -1


class Cluster(Driver):
    """Brokers 1 to 3, in racks of their own, and what is asked of their controller."""

    def __init__(self, racks: tuple[str | None, ...] = ("a", "b", "c")) -> None:
        super().__init__()
        for node_id, rack in enumerate(racks, 1):
            self.come(node_id, rack)

    def come(self, node_id: int, rack: str | None = None) -> None:
        self.do(RegisterBroker(node_id, bytes(16), rack, ()))

    def create(self, count: int = 1, factor: int = 3, assignments: Any = (), **settings: str) -> None:
        overrides: Any = {name.replace("_", "."): value for name, value in settings.items()}
        if assignments:
            count = factor = -1
        [made] = self.do(CreateTopics([NewTopic("t", count, factor, assignments, overrides)], [b"t" * 16]))
        if isinstance(made, KafkaError):
            raise made

    def go(self, *node_ids: int) -> None:
        self.do(FenceBrokers(node_ids))

    def partitions(self) -> list[PartitionInfo]:
        topic = self.machine.state.topic("t")
        assert topic is not None
        return [topic.partitions[index] for index in range(len(topic.partitions))]

    def told(self) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
        """Partition 0: its leader, in which epoch, the ISR and the eligible leader replicas."""
        one = self.partitions()[0]
        return one.leader, one.leader_epoch, one.isr, one.elr

    def elect(self, *, is_unclean: bool = False) -> Error:
        refusal = self.do(ElectLeaders([("t", 0)], is_unclean))["t", 0]
        return Error.NONE if refusal is None else refusal.error

    def reassign(self, brokers: list[int] | None, *, may_change_factor: bool = True) -> Error:
        [refusal] = self.do(AlterReassignments([Reassignment("t", 0, brokers)], may_change_factor))
        return Error.NONE if refusal is None else refusal.error


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.mark.parametrize("racks", [("a", "b", "c"), (None, None, None)])
def test_leaders_are_spread_over_brokers(racks: tuple[str | None, ...]) -> None:
    cluster = Cluster(racks)
    cluster.create(6)
    partitions = cluster.partitions()
    assert Counter(one.leader for one in partitions) == {1: 2, 2: 2, 3: 2}
    assert all(one.isr == one.replicas and one.leader == one.replicas[0] for one in partitions)
    assert all(sorted(one.replicas) == [1, 2, 3] for one in partitions)
    [grown] = cluster.do(CreatePartitions([NewPartitions("t", 9)]))
    assert Counter(one.leader for one in grown.partitions[6:]) == {1: 1, 2: 1, 3: 1}


def test_replicas_are_spread_over_racks() -> None:
    cluster = Cluster(("a", "a", "b", "b"))
    cluster.create(8, 2)
    assert all((one.replicas[0] in (1, 2)) != (one.replicas[1] in (1, 2)) for one in cluster.partitions())


def test_more_replicas_than_brokers_are_refused(cluster: Cluster) -> None:
    with pytest.raises(KafkaError, match="cannot be reached because only 3 broker"):
        cluster.create(1, 4)
    with pytest.raises(KafkaError, match="no such broker is registered"):
        cluster.create(assignments=[(0, [1, 9])])


def test_who_is_fenced_gets_replicas_but_leads_nothing(cluster: Cluster) -> None:
    cluster.go(2)
    cluster.create(6)
    assert all(2 in one.replicas and 2 not in one.isr and one.leader != 2 for one in cluster.partitions())
    [grown] = cluster.do(CreatePartitions([NewPartitions("t", 7, [[2, 1, 3]])]))
    assert (grown.partitions[6].leader, grown.partitions[6].isr) == (1, (1, 3))
    cluster.go(1, 3)
    [refusal] = cluster.do(CreatePartitions([NewPartitions("t", 8, [[2, 1, 3]])]))
    assert "are fenced or in controlled shutdown" in refusal.message


def test_a_leader_that_goes_is_followed_by_the_next_in_sync(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2, 3])])
    cluster.go(1)
    assert cluster.told() == (2, 1, (2, 3), ())
    cluster.go(3)
    assert cluster.told() == (2, 1, (2,), ())
    cluster.come(1)
    assert cluster.told() == (2, 1, (2, 1), ())  # which does not lead again by itself
    assert cluster.elect() is Error.NONE
    assert cluster.told() == (1, 2, (2, 1), ())
    assert cluster.elect() is Error.ELECTION_NOT_NEEDED


def test_only_who_was_in_sync_at_last_leads_again(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2, 3])])
    cluster.go(1)
    cluster.go(2)
    cluster.go(3)
    assert cluster.told() == (NOBODY, 2 + 1, (), (3,))
    cluster.come(1)
    assert cluster.told() == (NOBODY, 3, (), (3,))
    assert cluster.elect() is Error.PREFERRED_LEADER_NOT_AVAILABLE
    cluster.come(3)
    assert cluster.told() == (3, 4, (3, 1), ())


def test_those_below_min_insync_replicas_stay_eligible(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2, 3])], min_insync_replicas="2")
    cluster.go(1)
    cluster.go(2)
    assert cluster.told() == (3, 2, (3,), (2,))
    cluster.go(3)
    assert cluster.told() == (NOBODY, 3, (), (2, 3))
    cluster.come(2)
    assert cluster.told() == (2, 4, (2,), (3,))
    cluster.come(1)
    assert cluster.told() == (2, 4, (2, 1), ())


def test_an_unclean_election_takes_whoever_is_there(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2])])
    cluster.go(1)
    cluster.go(2)
    cluster.come(1)
    assert cluster.elect(is_unclean=True) is Error.NONE
    assert cluster.told()[0] == 1
    assert cluster.elect(is_unclean=True) is Error.ELECTION_NOT_NEEDED


def test_a_topic_may_allow_unclean_elections_by_itself(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2])], unclean_leader_election_enable="true")
    cluster.go(1)
    cluster.go(2)
    cluster.come(1)
    assert cluster.told()[0] == 1


def test_leaders_are_balanced(cluster: Cluster) -> None:
    cluster.create(6)
    cluster.go(1)
    cluster.go(2)
    cluster.come(1)
    cluster.come(2)
    assert {one.leader for one in cluster.partitions()} == {3}
    assert cluster.do(BalanceLeaders()) == 4
    assert all(one.leader == one.replicas[0] for one in cluster.partitions())
    assert cluster.do(BalanceLeaders()) == 0


def test_all_leaders_are_elected_at_once(cluster: Cluster) -> None:
    cluster.create(3)
    cluster.go(1)
    cluster.come(1)
    moved = next(one.log.partition for one in cluster.partitions() if one.replicas[0] == 1)
    assert cluster.do(ElectLeaders(None, is_unclean=False)) == {("t", moved): None}


def test_replicas_move_at_once_where_their_brokers_are_there(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2])])
    assert cluster.reassign([3, 2]) is Error.NONE
    [moved] = cluster.partitions()
    assert (moved.replicas, set(moved.isr), moved.leader) == ((3, 2), {2, 3}, 3)
    assert (moved.adding, moved.removing, moved.leader_epoch) == ((), (), 1)
    assert cluster.reassign([3], may_change_factor=False) is Error.INVALID_REPLICATION_FACTOR
    assert cluster.reassign([3, 9]) is Error.INVALID_REPLICA_ASSIGNMENT
    assert cluster.reassign(None) is Error.NO_REASSIGNMENT_IN_PROGRESS


def test_a_partition_that_is_moved_twice_in_a_request_is_where_it_was_sent_last(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2])])
    moves = [Reassignment("t", 0, [3]), Reassignment("t", 0, [2, 1])]
    assert cluster.do(AlterReassignments(moves)) == [None, None]
    [moved] = cluster.partitions()
    assert (moved.replicas, sorted(moved.isr), moved.leader) == ((2, 1), [1, 2], 2)


def test_a_move_waits_for_brokers_that_are_not_there_and_can_be_taken_back(cluster: Cluster) -> None:
    cluster.create(assignments=[(0, [1, 2])])
    cluster.go(3)
    assert cluster.reassign([3]) is Error.NONE
    [moving] = cluster.partitions()
    assert (moving.replicas, moving.adding, moving.removing, moving.leader) == ((3, 1, 2), (3,), (1, 2), 1)
    assert cluster.reassign(None) is Error.NONE
    [back] = cluster.partitions()
    assert (back.replicas, back.adding, back.removing, back.leader) == ((1, 2), (), (), 1)
    cluster.reassign([3])
    cluster.come(3)
    [moved] = cluster.partitions()
    assert (moved.replicas, moved.isr, moved.leader, moved.adding, moved.removing) == ((3,), (3,), 3, (), ())


def test_a_broker_that_is_gone_can_be_forgotten(cluster: Cluster) -> None:
    with pytest.raises(KafkaError) as refusal:
        cluster.machine.decide(UnregisterBroker(2), 7, None)  # type: ignore[arg-type]
    assert refusal.value.error is Error.INVALID_REQUEST
    cluster.go(2)
    cluster.do(UnregisterBroker(2))
    assert list(cluster.machine.state.brokers) == [1, 3]
    with pytest.raises(KafkaError) as refusal:
        cluster.machine.decide(UnregisterBroker(2), 7, None)  # type: ignore[arg-type]
    assert refusal.value.error is Error.BROKER_ID_NOT_REGISTERED


def test_a_broker_that_is_alone_is_not_written_down() -> None:
    alone = Driver()
    alone.do(RegisterBroker(1, bytes(16), None, ()))
    assert not alone.log
    alone.do(RegisterBroker(2, bytes(16), "r", ()))
    assert [(broker.node_id, broker.rack) for broker in alone.machine.state.brokers.values()] == [(1, None), (2, "r")]


def test_all_of_it_is_in_the_log_and_in_a_checkpoint(cluster: Cluster) -> None:
    cluster.create(6, 2, min_insync_replicas="2")
    cluster.go(2)
    cluster.go(3)
    cluster.reassign([1, 2, 3])
    image = cluster.machine.state.advance().new
    again = cluster.replayed().state.advance().new
    assert again.topics["t"].partitions == image.topics["t"].partitions
    assert again.brokers == image.brokers
    restored = cluster.fresh()
    for fact in cluster.machine.snapshot():
        restored.apply(fact)
    assert restored.state.advance().new.topics["t"].partitions == image.topics["t"].partitions
    assert restored.state.brokers == image.brokers


def test_what_the_log_refused_is_taken_back(cluster: Cluster) -> None:
    cluster.create(3)
    before, count = cluster.partitions(), len(cluster.undos)
    cluster.go(1)
    cluster.reassign([2, 3])
    for undo in reversed(cluster.undos[count:]):
        undo()
    assert cluster.partitions() == before
    assert not cluster.machine.state.brokers[1].is_fenced
