"""The share coordinator's machine: what it writes, whom it refuses, and what of its log is needed."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error
from kafkapy.sharing.batches import UNKNOWN_START, StateBatch, merged
from kafkapy.sharing.state.commands import (
    DeleteState,
    ForgetTopic,
    InitializeState,
    ReadState,
    ReadStateSummary,
    WriteState,
)
from kafkapy.sharing.state.facts import (
    SharePartitionKey,
    ShareState,
    StateRemoved,
    StateSnapshotted,
    StateUpdated,
)
from kafkapy.sharing.state.journal import ShareStateJournal
from kafkapy.sharing.state.machine import ShareStateMachine, StateSettings
from tests.driver import Driver

TOPIC = b"t" * 16
KEY = SharePartitionKey("g", TOPIC, 0)
OTHER = SharePartitionKey("g", TOPIC, 1)
AVAILABLE, ACKNOWLEDGED, ARCHIVED = 0, 2, 4


class Image:
    """A cluster with one topic of two partitions."""

    class Topic:
        partitions = (0, 1)

    def topic_by_id(self, topic_id: bytes) -> Any:
        return self.Topic if topic_id == TOPIC else None


class Coordinator(Driver):
    journal = ShareStateJournal()

    def __init__(self, updates_per_snapshot: int = 500) -> None:
        self.settings = StateSettings(updates_per_snapshot)
        super().__init__()

    def make_image(self) -> Any:
        return Image()

    def make_machine(self) -> ShareStateMachine:
        return ShareStateMachine(self.settings)

    def facts(self) -> list[Any]:
        return [self.journal.decode(entry) for entry in self.entries]

    def write(self, *batches: StateBatch, key: SharePartitionKey = KEY, start: int = 0, **epochs: int) -> Any:
        epochs = {"state_epoch": 1, "leader_epoch": 0} | epochs
        return WriteState(key, epochs["state_epoch"], epochs["leader_epoch"], start, 0, batches)

    def replayed(self, first: int = 0) -> ShareStateMachine:
        """Another machine, loaded from the log from that record on."""
        machine = self.make_machine()
        for fact in self.facts()[first:]:
            machine.apply(fact)
        return machine

    def state(self, key: SharePartitionKey = KEY) -> ShareState:
        found: ShareState = self.ask(ReadStateSummary(key))
        return found


@pytest.fixture
def coordinator() -> Coordinator:
    one = Coordinator()
    one.ask(InitializeState(KEY, 1, 10))
    return one


def test_what_is_written_is_read(coordinator: Coordinator) -> None:
    coordinator.ask(coordinator.write(StateBatch(10, 12, ACKNOWLEDGED, 1), StateBatch(13, 14, AVAILABLE, 2), start=10))
    coordinator.ask(coordinator.write(StateBatch(14, 14, ACKNOWLEDGED, 2), start=12))
    state = coordinator.ask(ReadState(KEY, 0))
    assert state.start_offset == 12
    assert state.batches == (
        StateBatch(12, 12, ACKNOWLEDGED, 1),
        StateBatch(13, 13, AVAILABLE, 2),
        StateBatch(14, 14, ACKNOWLEDGED, 2),
    )
    assert coordinator.replayed().decide(ReadStateSummary(KEY), 1, coordinator.moment).answers[0].value == state


def test_what_was_not_initialized_is_refused(coordinator: Coordinator) -> None:
    assert coordinator.error(ReadState(OTHER, 0)) is Error.INVALID_REQUEST
    assert coordinator.error(coordinator.write(key=OTHER)) is Error.INVALID_REQUEST
    assert coordinator.state(OTHER).start_offset == UNKNOWN_START
    assert coordinator.ask(DeleteState(OTHER)) is True
    assert coordinator.error(InitializeState(KEY._replace(partition=2), 1, 0)) is Error.UNKNOWN_TOPIC_OR_PARTITION
    assert coordinator.error(InitializeState(KEY._replace(partition=-1), 1, 0)) is Error.INVALID_REQUEST


def test_a_leader_that_is_deposed_is_refused(coordinator: Coordinator) -> None:
    coordinator.ask(ReadState(KEY, 5))
    assert coordinator.error(ReadState(KEY, 4)) is Error.FENCED_LEADER_EPOCH
    assert coordinator.error(coordinator.write(leader_epoch=4)) is Error.FENCED_LEADER_EPOCH
    assert coordinator.ask(coordinator.write(leader_epoch=5, start=10)) is True
    assert (
        coordinator.replayed().decide(ReadStateSummary(KEY), 1, coordinator.moment).answers[0].value.leader_epoch == 5
    )


def test_a_reset_begins_anew_and_refuses_who_has_not_heard_of_it(coordinator: Coordinator) -> None:
    coordinator.ask(coordinator.write(StateBatch(10, 12, ACKNOWLEDGED, 1), start=13))
    assert coordinator.ask(InitializeState(KEY, 2, 5)) is True
    assert coordinator.error(coordinator.write(state_epoch=1)) is Error.FENCED_STATE_EPOCH
    assert coordinator.error(InitializeState(KEY, 1, 7)) is Error.FENCED_STATE_EPOCH
    state = coordinator.state()
    assert (state.state_epoch, state.start_offset, state.batches, state.snapshot_epoch) == (2, 5, (), 1)
    assert state.complete_count == 0, "which is known, so that the lag is"
    coordinator.ask(InitializeState(KEY, 3, UNKNOWN_START))
    assert coordinator.state().complete_count == -1


def test_the_start_does_not_go_back_when_writes_come_late(coordinator: Coordinator) -> None:
    coordinator.ask(coordinator.write(start=20))
    coordinator.ask(coordinator.write(StateBatch(15, 21, ACKNOWLEDGED, 1), start=15))
    assert coordinator.state().start_offset == 20
    assert coordinator.state().batches == (StateBatch(20, 21, ACKNOWLEDGED, 1),)


@pytest.mark.parametrize(
    ("start", "count", "expected"),
    [(-1, 7, (10, 3)), (9, 7, (10, 3)), (10, 2, (10, 3)), (10, 7, (10, 7)), (11, 2, (11, 2)), (11, -1, (11, -1))],
)
def test_what_is_complete_counts_from_its_start_on(
    coordinator: Coordinator, start: int, count: int, expected: tuple[int, int]
) -> None:
    for told in ((10, 3), (start, count)):
        coordinator.ask(coordinator.write(start=told[0])._replace(complete_count=told[1]))
    assert coordinator.state()[3:5] == expected
    assert coordinator.facts()[-1][3:5] == expected, "what is written down makes sense by itself"


def test_an_update_that_came_late_into_the_log_changes_neither_start_nor_count(coordinator: Coordinator) -> None:
    """An older Kafka writes it as the leader of the partition told it."""
    coordinator.ask(coordinator.write(start=10)._replace(complete_count=3))
    coordinator.machine.apply(StateUpdated(KEY, 0, 0, 9, 7, ()))
    assert coordinator.state()[3:5] == (10, 3)


@pytest.mark.parametrize(
    "command",
    [
        InitializeState(KEY, -1, 0),
        ReadState(KEY, -1),
        WriteState(KEY, -1, 0, 0, 0, ()),
        WriteState(KEY, 1, -1, 0, 0, ()),
    ],
)
def test_no_epoch_is_below_0(coordinator: Coordinator, command: Any) -> None:
    assert coordinator.error(command) is Error.INVALID_REQUEST


def test_after_some_updates_comes_a_snapshot_and_what_is_before_it_is_redundant() -> None:
    one = Coordinator(updates_per_snapshot=2)
    one.ask(InitializeState(KEY, 1, 0))
    one.ask(InitializeState(OTHER, 1, 0))
    for count in range(1, 6):
        one.ask(one.write(StateBatch(count, count, AVAILABLE, count)))
    kinds = [type(fact) for fact in one.facts()]
    snapshot, update = StateSnapshotted, StateUpdated
    assert kinds == [snapshot, snapshot, update, update, snapshot, update, update]
    assert one.machine.needed_record_count == 6  # the other partition's first record
    one.ask(DeleteState(OTHER))
    needed = one.machine.needed_record_count
    assert needed == 4
    state = one.replayed(len(one.entries) - needed).decide(ReadStateSummary(KEY), 1, one.moment).answers[0].value
    assert state == one.state()
    assert [batch.first_offset for batch in state.batches] == [1, 2, 3, 4, 5]


def test_quiet_partitions_are_written_again_so_that_the_log_can_be_cut_off(coordinator: Coordinator) -> None:
    coordinator.ask(InitializeState(OTHER, 1, 0))
    coordinator.advance(200_000)
    coordinator.ask(coordinator.write(StateBatch(10, 10, ACKNOWLEDGED, 1), start=10))
    before = coordinator.state()
    coordinator.advance(100_000)
    assert coordinator.machine.needed_record_count == 2
    after = coordinator.state()
    assert after.batches == before.batches
    assert after.snapshot_epoch == before.snapshot_epoch + 1
    coordinator.advance(300_000)
    assert len(coordinator.entries) == 5, "all were quiet: nothing is written again"


def test_what_the_log_refuses_is_taken_back(coordinator: Coordinator) -> None:
    before, needed = coordinator.state(), coordinator.machine.needed_record_count
    coordinator.begin_write()
    coordinator.send(coordinator.write(StateBatch(10, 12, ACKNOWLEDGED, 1), start=13))
    coordinator.send(InitializeState(OTHER, 1, 0))
    coordinator.send(DeleteState(KEY))
    coordinator.end_write(Error.NOT_ENOUGH_REPLICAS)
    assert coordinator.state() == before
    assert coordinator.state(OTHER).start_offset == UNKNOWN_START
    assert coordinator.machine.needed_record_count == needed


def test_a_deleted_topic_is_forgotten(coordinator: Coordinator) -> None:
    coordinator.ask(InitializeState(OTHER, 1, 0))
    coordinator.ask(ForgetTopic(TOPIC))
    assert coordinator.facts()[-2:] == [StateRemoved(KEY), StateRemoved(OTHER)]
    assert coordinator.machine.needed_record_count == 0


def test_records_of_others_count_as_records() -> None:
    journal, machine = ShareStateJournal(), ShareStateMachine(StateSettings())
    [entry] = journal.encode(StateSnapshotted(KEY, ShareState(0, 1, 0, 0, -1)))
    for fact in (journal.decode(entry), journal.decode(entry._replace(key=b"\0\x63what"))):
        machine.apply(fact)
    assert machine.needed_record_count == 2


@pytest.mark.parametrize(
    ("so_far", "news", "start", "expected"),
    [
        ([(0, 9, 0, 1)], [(3, 5, 2, 1)], -1, [(0, 2, 0, 1), (3, 5, 2, 1), (6, 9, 0, 1)]),
        ([(0, 4, 0, 1), (5, 9, 2, 1)], [(0, 4, 2, 1)], 0, [(0, 9, 2, 1)]),
        ([(3, 5, 2, 2)], [(0, 9, 0, 1)], 0, [(0, 2, 0, 1), (3, 5, 2, 2), (6, 9, 0, 1)]),
        ([(0, 9, 2, 1)], [(20, 29, 4, 3)], 5, [(5, 9, 2, 1), (20, 29, 4, 3)]),
        ([], [(0, 1, 0, 1), (2, 3, 0, 1), (1, 2, 0, 2)], -1, [(0, 0, 0, 1), (1, 2, 0, 2), (3, 3, 0, 1)]),
    ],
)
def test_batches_add_up(so_far: Any, news: Any, start: int, expected: Any) -> None:
    def batches(rows: Any) -> list[StateBatch]:
        return [StateBatch(*row) for row in rows]

    assert list(merged(batches(so_far), batches(news), start)) == batches(expected)


@given(
    so_far=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3), st.sampled_from([0, 2, 4]), st.integers(1, 3))),
    news=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4), st.sampled_from([0, 2, 4]), st.integers(1, 3))),
    start=st.integers(-1, 8),
)
def test_batches_add_up_offset_by_offset(so_far: Any, news: Any, start: int) -> None:
    expected: dict[int, tuple[int, int]] = {}
    batches = ()
    for first, length, state, count in [*so_far, *news]:
        for offset in range(first, first + length + 1):
            expected[offset] = max(expected.get(offset, (0, 0)), (count, state))
        batches = merged(batches, [StateBatch(first, first + length, state, count)], -1)
    batches = merged(batches, (), start)
    found = {
        offset: (batch.delivery_count, batch.delivery_state)
        for batch in batches
        for offset in range(batch.first_offset, batch.last_offset + 1)
    }
    assert found == {offset: told for offset, told in expected.items() if offset >= start}
    for one, following in pairwise(batches):
        assert one.last_offset < following.first_offset
        assert one.last_offset + 1 < following.first_offset or one[2:] != following[2:], "neighbours alike are one"


def test_moments_are_asked_of_the_caller() -> None:
    machine = ShareStateMachine(StateSettings())
    decision = machine.decide(InitializeState(KEY, 1, 0), 1, Moment(77, Image()))
    assert decision.facts[0].state.created_ms == 77
