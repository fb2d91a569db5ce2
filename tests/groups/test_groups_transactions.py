"""Offsets that transactions commit: pending until their marker, and then in the order in which they were written."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kafkapy.clock import ManualClock
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error
from kafkapy.groups.commands import DeleteGroups, DeleteOffsets, FetchOffsets, ForgetTopic, ListGroups, TopicQuery
from kafkapy.groups.facts import CommittedOffset, OffsetStored
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.machine import GroupMachine
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import ZERO_UUID, LogId
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.control import EndMarker, build_end_marker, header_view
from kafkapy.records.record import Record
from kafkapy.storage.base import Origin, Write
from kafkapy.storage.memory import open_memory
from tests.groups.conftest import Coordinator
from tests.storage.catalogues import create

RETENTION_MS = 7 * 24 * 3_600_000
UNSTABLE = Error.UNSTABLE_OFFSET_COMMIT


def stable(coordinator: Coordinator, partition: int = 0, group: str = "g") -> Any:
    """The offset as a consumer of committed records asks for it: a number, None, or an error."""
    query = FetchOffsets(group, [TopicQuery("t", ZERO_UUID, [partition])], require_stable=True)
    [topic] = coordinator.ask(query)
    [(_, found)] = topic.partitions
    return found if found is None or isinstance(found, Error) else found.offset


def test_an_offset_counts_from_its_commit_marker_on(coordinator: Coordinator) -> None:
    coordinator.commit(1)
    assert coordinator.commit(5, producer=7) is Error.NONE
    assert coordinator.committed() == {("t", 0): 1}
    assert stable(coordinator) is UNSTABLE
    assert stable(coordinator, partition=1) is None
    coordinator.end(7, committed=True)
    assert coordinator.committed() == {("t", 0): 5}
    assert stable(coordinator) == 5


def test_an_aborted_offset_never_counts(coordinator: Coordinator) -> None:
    coordinator.commit(1)
    coordinator.commit(5, producer=7)
    coordinator.end(7, committed=False)
    assert stable(coordinator) == 1
    coordinator.end(7, committed=True)
    assert stable(coordinator) == 1


def test_all_offsets_of_a_group_tell_which_are_pending(coordinator: Coordinator) -> None:
    coordinator.commit(1, partition=0)
    coordinator.commit(1, partition=1)
    coordinator.commit(5, partition=1, producer=7)
    coordinator.commit(5, partition=2, producer=7)
    [topic] = coordinator.ask(FetchOffsets("g", None, require_stable=True))
    found = {partition: known if isinstance(known, Error) else known.offset for partition, known in topic.partitions}
    assert found == {0: 1, 1: UNSTABLE}


def test_what_was_written_last_wins_whenever_its_transaction_ends(coordinator: Coordinator) -> None:
    coordinator.commit(1, producer=7)
    coordinator.commit(2, producer=8)
    coordinator.end(8, committed=True)
    assert stable(coordinator) is UNSTABLE
    coordinator.end(7, committed=True)
    assert stable(coordinator) == 2


def test_a_plain_commit_overtakes_what_is_pending(coordinator: Coordinator) -> None:
    coordinator.commit(1, producer=7)
    coordinator.commit(2)
    assert stable(coordinator) is UNSTABLE
    coordinator.end(7, committed=True)
    assert stable(coordinator) == 2


def test_a_pending_offset_brings_its_group_into_being(coordinator: Coordinator) -> None:
    coordinator.commit(1, producer=7)
    coordinator.end(7, committed=False)
    assert [group.state for group in coordinator.ask(ListGroups(frozenset(), frozenset()))] == ["Empty"]
    coordinator.advance(RETENTION_MS)
    assert coordinator.machine.groups == {}


def test_what_is_pending_does_not_expire_nor_does_its_group(coordinator: Coordinator) -> None:
    coordinator.commit(1)
    coordinator.commit(5, producer=7)
    coordinator.commit(5, producer=8, group="only pending")
    coordinator.commit(1, group="other")
    coordinator.commit(5, producer=9, group="other", partition=1)
    coordinator.advance(2 * RETENTION_MS)
    assert coordinator.committed() == {("t", 0): 1}
    assert coordinator.committed("other") == {}
    assert set(coordinator.machine.groups) == {"g", "only pending", "other"}
    for producer in (7, 8, 9):
        coordinator.end(producer, committed=False)
    coordinator.advance(RETENTION_MS)
    assert coordinator.machine.groups == {}


def delete_offset(coordinator: Coordinator) -> None:
    assert coordinator.ask(DeleteOffsets("g", [("t", [0, 1])])) == [Error.NONE]


def delete_group(coordinator: Coordinator) -> None:
    assert coordinator.ask(DeleteGroups(["g"])) == [Error.NONE]


def delete_topic(coordinator: Coordinator) -> None:
    coordinator.ask(ForgetTopic("t", b"1" * 16))


@pytest.mark.parametrize("delete", [delete_offset, delete_group, delete_topic])
@pytest.mark.parametrize("commits_before", [0, 1])
def test_what_is_deleted_under_a_transaction_stays_deleted(
    coordinator: Coordinator, delete: Callable[[Coordinator], None], commits_before: int
) -> None:
    """As in Kafka. Where it comes back in the same transaction, it is there again."""
    for _ in range(commits_before):
        coordinator.commit(1)
    coordinator.commit(5, producer=7)
    coordinator.commit(5, partition=1, producer=7)
    delete(coordinator)
    coordinator.commit(6, partition=1, producer=7)
    for each in (coordinator, coordinator.restarted()):
        assert stable(each) is None
        each.end(7, committed=True)
        assert each.committed() == {("t", 1): 6}


def test_another_topic_of_the_name_keeps_what_is_pending(coordinator: Coordinator) -> None:
    coordinator.commit(5, producer=7, topic_id=b"2" * 16)
    coordinator.ask(ForgetTopic("t", b"1" * 16))
    coordinator.end(7, committed=True)
    assert coordinator.committed() == {("t", 0): 5}


def test_a_transaction_is_committed_by_a_member_of_the_generation(coordinator: Coordinator) -> None:
    [member] = coordinator.stable(1)
    commit = partial(coordinator.commit, 5, producer=7)
    assert commit(member_id="nobody", generation=member.generation) is Error.UNKNOWN_MEMBER_ID
    assert commit(member_id=member.member_id, generation=member.generation + 1) is Error.ILLEGAL_GENERATION
    assert commit(member_id=member.member_id, instance="i", generation=member.generation) is Error.UNKNOWN_MEMBER_ID
    assert commit(group="unknown", generation=0, version=0) is Error.ILLEGAL_GENERATION
    assert commit(member=member) is Error.NONE
    assert commit() is Error.NONE  # as producers that know of no members do
    coordinator.enter()
    coordinator.join(member.member_id)
    assert commit(member_id=member.member_id, generation=member.generation + 1) is Error.NONE  # before the sync


def test_a_transaction_keeps_nobody_in_the_group(coordinator: Coordinator) -> None:
    [member] = coordinator.stable(1)
    for _ in range(3):
        coordinator.advance(4_000)
        coordinator.commit(5, producer=7, member=member)
    assert coordinator.machine.groups["g"].members == {}


def test_what_is_too_large_is_refused_by_itself(coordinator: Coordinator) -> None:
    assert coordinator.commit(5, metadata="x" * 5000, producer=7) is Error.OFFSET_METADATA_TOO_LARGE
    assert stable(coordinator) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda coordinator: coordinator.commit(3),
        lambda coordinator: coordinator.commit(3, producer=7),
        lambda coordinator: coordinator.commit(3, producer=9, group="new"),
        lambda coordinator: coordinator.end(7, committed=True),
        lambda coordinator: coordinator.end(8, committed=False),
        delete_offset,
        delete_group,
    ],
)
def test_what_the_log_refuses_was_never_so(coordinator: Coordinator, change: Callable[[Coordinator], None]) -> None:
    coordinator.commit(1)
    coordinator.commit(5, producer=7)
    coordinator.commit(6, producer=8)
    coordinator.begin_write()
    change(coordinator)
    coordinator.end_write(Error.NOT_COORDINATOR)
    assert set(coordinator.machine.groups) == {"g"}
    assert stable(coordinator) is UNSTABLE
    assert coordinator.committed() == {("t", 0): 1}
    coordinator.end(8, committed=True)
    assert coordinator.committed() == {("t", 0): 6}
    assert stable(coordinator) is UNSTABLE
    coordinator.end(7, committed=True)
    assert stable(coordinator) == 6


# Whatever happens, what counts is the same for who was there, who reads the log, and who reads a checkpoint.

KEYS = st.tuples(st.sampled_from(["g", "h"]), st.integers(0, 1))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), KEYS),
        st.tuples(st.just("pend"), KEYS, st.integers(1, 3)),
        st.tuples(st.just("pend"), KEYS, st.integers(1, 3)),
        st.tuples(st.just("end"), st.integers(1, 3), st.booleans()),
        st.tuples(st.just("delete"), KEYS),
        st.tuples(st.just("delete group"), st.sampled_from(["g", "h"])),
        st.tuples(st.sampled_from(["begin write", "refuse", "refuse"])),
        st.tuples(st.sampled_from(["restart", "restart from snapshot"])),
    ),
    max_size=40,
)


class Model:
    """Kafka's own rule: of the offsets that count, the one at the highest offset of the log wins."""

    def __init__(self) -> None:
        self.committed: dict[Any, tuple[int, int]] = {}  # position and value
        self.pending: dict[tuple[int, Any], tuple[int, int]] = {}

    def copy(self) -> "Model":
        other = Model()
        other.committed, other.pending = self.committed.copy(), self.pending.copy()
        return other

    def end(self, producer: int, committed: bool) -> None:
        for owner, key in [known for known in self.pending if known[0] == producer]:
            found = self.pending.pop((owner, key))
            if committed:
                self.committed[key] = max(found, self.committed.get(key, found))

    def delete(self, key: Any) -> None:
        self.committed.pop(key, None)
        self.pending = {known: found for known, found in self.pending.items() if known[1] != key}


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_every_way_leads_to_what_the_log_says(steps: list[tuple[Any, ...]]) -> None:
    coordinator, model = Coordinator(), Model()
    before: Model | None = None
    for position, step in enumerate(steps, 1):
        match step:
            case ("commit", (group, partition)):
                coordinator.commit(position, group=group, partition=partition)
                model.committed[group, partition] = (position, position)
            case ("pend", (group, partition), producer):
                coordinator.commit(position, group=group, partition=partition, producer=producer)
                model.pending[producer, (group, partition)] = (position, position)
            case ("end", producer, committed):
                coordinator.end(producer, committed=committed)
                model.end(producer, committed)
            case ("delete", (group, partition)):
                if group in coordinator.machine.groups:
                    coordinator.ask(DeleteOffsets(group, [("t", [partition])]))
                    model.delete((group, partition))
            case ("delete group", group):
                if group in coordinator.machine.groups:
                    coordinator.ask(DeleteGroups([group]))
                    for partition in range(2):
                        model.delete((group, partition))
            case ("begin write",) if before is None:
                coordinator.begin_write()
                before = model.copy()
            case ("refuse",) if before is not None:
                coordinator.end_write(Error.NOT_COORDINATOR)
                model, before = before, None
            case ("restart",) if before is None:
                coordinator = coordinator.restarted()
            case ("restart from snapshot",) if before is None:
                coordinator = coordinator.restarted_from_snapshot()
        for each in (coordinator, coordinator.restarted()):
            check(each, model)
    check(coordinator.restarted_from_snapshot(), model)


def check(coordinator: Coordinator, model: Model) -> None:
    pending = {key for _, key in model.pending}
    for group in ("g", "h"):
        known = {("t", p): value for (owner, p), (_, value) in model.committed.items() if owner == group}
        assert coordinator.committed(group) == known
        for partition in range(2):
            is_unstable = stable(coordinator, partition, group) is UNSTABLE
            assert is_unstable is ((group, partition) in pending)
    assert {group for group, _ in (*pending, *model.committed)} <= set(coordinator.machine.groups)


def batch_of(offset: int, producer: int | None = None) -> bytes:
    [entry] = GroupJournal().encode(OffsetStored("g", "t", 0, CommittedOffset(offset)))
    record = Record(0, 1, entry.key, entry.value, [])
    if producer is None:
        return build_batch([record])
    return build_batch([record], producer_id=producer, producer_epoch=0, transactional=True)


def end_of(producer: int) -> bytes:
    return build_end_marker(EndMarker(True, 0), producer_id=producer, producer_epoch=0, timestamp=1)


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([batch_of(1), batch_of(2, 7), end_of(7)], 2),
        ([batch_of(2, 7), batch_of(1), end_of(7)], 1),
        ([batch_of(2, 7), end_of(7), batch_of(1)], 1),
        ([batch_of(1), batch_of(2, 7), batch_of(3, 8), end_of(8), end_of(7)], 3),
        ([batch_of(1), batch_of(2, 7)], 1),
    ],
)
async def test_a_log_is_read_in_its_order(batches: list[bytes], expected: int) -> None:
    """Though of the records outside of transactions those of a key are looked at together."""
    log = LogId("__consumer_offsets", 0, bytes(16))
    async with open_memory(ManualClock()) as logs:
        await create(logs, log)
        for batch in batches:
            write = Write(log, batch, [header_view(read_header(batch), batch)], origin=Origin.COORDINATOR)
            [outcome] = await logs.append([write]).wait()
            assert outcome.error is Error.NONE
        replay = Replay(logs, log, ShardType(lambda: GroupMachine(GroupSettings()), GroupJournal()))
        await replay.load()
    committed = replay.machine.offsets.committed("g", "t", 0)
    assert committed is not None
    assert committed.offset == expected
