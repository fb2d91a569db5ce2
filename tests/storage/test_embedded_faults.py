"""The embedded store on a disk that is full, fails, lies, or loses what was not synced."""

import random
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, append, batch, end, marker, sent, values
from catalogues import create, delete
from disks import FOLDER, SYNCED, LyingDisk, come_back, everything, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import IsolationLevel
from kafkapy.storage.aborted import ROW_SIZE
from kafkapy.storage.base import Bounds, Checkpoint, LogSettings, Origin, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.files import Buffer, Disk
from kafkapy.storage.embedded.store import EmbeddedLogs
from kafkapy.storage.producer_snapshot import decode_snapshot

ANY = LogSettings(segment_bytes=600, index_interval_bytes=100)


@pytest.mark.parametrize("before", [0, 1, 20])
@pytest.mark.parametrize("room", [0, 1, 2])
async def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path, before: int, room: int) -> None:
    """Also when it fills up between the batches of one write, before or after a new segment begins."""
    disk, clock = LyingDisk(), ManualClock()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, ANY)
        for number in range(before):
            await append(logs, LOG, sent(number, b"before"))
        disk.appends_left = room
        three = b"".join(sent(before + n, b"v" * 300, at=9000) for n in range(3))
        assert (await append(logs, LOG, three)).error is Error.KAFKA_STORAGE_ERROR
        assert logs.bounds(LOG) == Bounds(0, before, before, before)
        assert [value for _, value in await everything(logs)] == [b"before"] * before
        disk.appends_left = None
        await come_back(logs, clock)
        for number in range(before, before + 20):
            assert (await append(logs, LOG, sent(number, b"after"))).base_offset == number
        found = await everything(logs)
        assert [value for _, value in found] == [b"before"] * before + [b"after"] * 20
        assert await logs.find_time(LOG, 9000) is None
        assert await logs.find_max_time(LOG) == (0, 1000, 0)
    assert list(check(tmp_path)) == []
    async with opened(tmp_path) as logs:
        assert await everything(logs) == found


async def test_a_write_that_cannot_be_taken_back_closes_the_log(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"before"))
        disk.appends_left, disk.cuts_fail = 0, True
        assert (await append(logs, LOG, batch(b"lost"))).error is Error.KAFKA_STORAGE_ERROR
        disk.appends_left, disk.cuts_fail = None, False
        assert (await append(logs, LOG, batch(b"more"))).error is Error.KAFKA_STORAGE_ERROR
        assert await everything(logs) == [(0, b"before")]
    assert not (tmp_path / ".kafka_cleanshutdown").exists()
    async with opened(tmp_path) as logs:
        assert await everything(logs) == [(0, b"before")]
        assert (await append(logs, LOG, batch(b"again"))).base_offset == 1


async def test_an_abort_is_written_with_its_index_or_not_at_all(tmp_path: Path) -> None:
    disk, clock = LyingDisk(), ManualClock()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, sent(0, b"a", transactional=True))
        await append(logs, LOG, sent(0, b"b", producer=8, transactional=True))
        await end(logs, LOG, 8, committed=False)
        for appends_left in (0, 1):  # the marker's, then the row's
            disk.appends_left = appends_left
            assert (await end(logs, LOG, 7, committed=False)).error is Error.KAFKA_STORAGE_ERROR
            assert logs.bounds(LOG) == Bounds(0, 3, 0, 3)
            disk.appends_left = None
            await come_back(logs, clock)
        assert (tmp_path / FOLDER / f"{0:020}.txnindex").stat().st_size == ROW_SIZE
        assert (await end(logs, LOG, 7, committed=False)).error is Error.NONE
        [piece] = await logs.read([Read(LOG, 0, 1000, IsolationLevel.READ_COMMITTED)], 1000)
        assert piece.aborted == [(7, 0), (8, 1)]
    assert list(check(tmp_path)) == []


class CountingDisk(Disk):
    """Counts what is written to indexes of transactions."""

    def __init__(self) -> None:
        super().__init__()
        self.written_bytes = 0

    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        self.written_bytes += size if path.endswith(".txnindex") else 0
        super().append(path, buffers, size, position)

    def write_file(self, path: Path, data: bytes, *, sync: bool = False) -> None:
        self.written_bytes += len(data) if path.suffix == ".txnindex" else 0
        super().write_file(path, data, sync=sync)


async def test_an_abort_writes_its_own_row_and_no_other(tmp_path: Path) -> None:
    disk, count = CountingDisk(), 2000
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=20_000))
        for number in range(count):
            await append(logs, LOG, sent(0, b"v", producer=number, transactional=True))
            await end(logs, LOG, number, committed=False)
        assert disk.written_bytes == count * ROW_SIZE
        [piece] = await logs.read([Read(LOG, 2000, 1000, IsolationLevel.READ_COMMITTED)], 1000)
        last = values(piece.records)[-1][0]
        assert piece.aborted is not None
        assert (1000, 2000) in piece.aborted
        assert len(piece.aborted) < 100 < last - 1900
    assert disk.written_bytes == count * ROW_SIZE
    assert list(check(tmp_path)) == []


async def test_a_disk_too_full_for_a_checkpoint_stops_nothing(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SYNCED)
        await append(logs, LOG, batch(b"v"))
        disk.small_files_fail = True
        assert await logs.trim(LOG, 1) == 1
        assert (await append(logs, LOG, batch(b"v"))).error is Error.NONE
        disk.small_files_fail = False


async def test_a_disk_too_full_for_a_clean_stop_ends_it_all_the_same(tmp_path: Path) -> None:
    """Without an error for whoever stops; the next start reads the log as after a crash, and finds everything."""
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SMALL)
        for number in range(30):
            await append(logs, LOG, sent(number, b"v" * 100))
        disk.small_files_fail = True
    assert not (tmp_path / ".kafka_cleanshutdown").exists()
    async with opened(tmp_path) as logs:
        assert len(await everything(logs)) == 30
    assert list(check(tmp_path)) == []


async def test_a_write_of_several_batches_joins_one_segment(tmp_path: Path) -> None:
    """So the producers that are written down where a segment begins are those of what lies before it, as in Kafka."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, sent(0, b"v" * 1500))
        await append(logs, LOG, b"".join(sent(number, b"v" * 300) for number in range(1, 4)))
        copy = tmp_path.with_name(f"{tmp_path.name}-crashed")
        shutil.copytree(tmp_path, copy)
    folder = copy / FOLDER
    assert sorted(path.name for path in folder.glob("*.log")) == [f"{0:020}.log", f"{1:020}.log"]
    [producer] = decode_snapshot((folder / f"{1:020}.snapshot").read_bytes()).values()
    assert producer.last_sequence == 0
    async with opened(copy) as logs:
        assert (await append(logs, LOG, sent(3, b"v" * 300))).duplicate
        assert (await append(logs, LOG, sent(4, b"next"))).base_offset == 4


async def test_records_whose_files_cannot_be_removed_are_gone_nevertheless(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, ANY)
        for number in range(30):
            await append(logs, LOG, sent(number, b"v" * 100))
        disk.renames_fail = True
        assert await logs.trim(LOG, 20) == 20
        assert [offset for offset, _ in await everything(logs)] == list(range(20, 30))
        assert await logs.trim(LOG, 25) == 25
        assert (await append(logs, LOG, sent(30, b"after"))).base_offset == 30
    async with opened(tmp_path) as logs:
        assert [offset for offset, _ in await everything(logs)] == list(range(25, 31))


async def test_a_folder_that_cannot_be_renamed_is_one_log_s_trouble(tmp_path: Path) -> None:
    """The log is gone for all who ask, others go on, and a namesake gets a folder of its own once that can be had."""
    disk, again = LyingDisk(), LOG._replace(topic_id=b"9" * 16)
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SMALL)
        await create(logs, OTHER, SMALL)
        await append(logs, LOG, batch(b"old"))
        disk.renames_fail = True
        await delete(logs, LOG)
        assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
        assert (await append(logs, OTHER, batch(b"v"))).error is Error.NONE
        await create(logs, again, SMALL)
        assert (await append(logs, again, batch(b"new"))).error is Error.KAFKA_STORAGE_ERROR
        disk.renames_fail = False
        assert (await append(logs, again, batch(b"new"))).base_offset == 0
        [piece] = await logs.read([Read(again, 0, 1000)], 1000)
        assert values(piece.records) == [(0, b"new")]
        assert [path for path in tmp_path.iterdir() if path.name.endswith("-delete")]


async def test_a_read_that_fails_is_one_error(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"v"))
        disk.reads_fail = True
        [piece] = await logs.read([Read(LOG, 0, 1000)], 1000)
        assert piece.error is Error.KAFKA_STORAGE_ERROR


@pytest.mark.parametrize("flush_messages", [1, 3])
@pytest.mark.parametrize("ends", ["power cut", "stop"])
async def test_a_failed_sync_is_never_taken_for_one_that_worked(tmp_path: Path, flush_messages: int, ends: str) -> None:
    """What the system dropped then is written again before anybody is told that it is on the medium."""
    disk, clock = LyingDisk(), ManualClock()
    copy = tmp_path.with_name(f"{tmp_path.name}-after")
    topic = LogSettings(segment_bytes=2000, index_interval_bytes=200, flush_messages=flush_messages)
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, topic)
        await create(logs, OTHER, SYNCED)
        for number in range(flush_messages):
            assert (await append(logs, LOG, sent(number, b"safe"))).error is Error.NONE
        for number in range(flush_messages, 2 * flush_messages - 1):
            assert (await append(logs, LOG, sent(number, b"waits"))).error is Error.NONE
        disk.syncs_fail = True
        last = sent(2 * flush_messages - 1, b"doubtful")
        assert (await append(logs, LOG, last)).error is Error.KAFKA_STORAGE_ERROR
        disk.syncs_fail = False
        assert (await append(logs, LOG, last)).error is Error.KAFKA_STORAGE_ERROR
        assert (await append(logs, OTHER, batch(b"refused"))).error is Error.KAFKA_STORAGE_ERROR
        assert logs.log_dirs()[0].error is Error.KAFKA_STORAGE_ERROR
        acknowledged = await everything(logs)
        assert len(acknowledged) == 2 * flush_messages - 1
        await come_back(logs, clock)
        assert logs.log_dirs()[0].error is Error.NONE
        again = await append(logs, LOG, last)
        assert (again.base_offset, again.duplicate) == (2 * flush_messages - 1, False)
        for number in range(2 * flush_messages, 3 * flush_messages - 1):
            assert (await append(logs, LOG, sent(number, b"after"))).error is Error.NONE
        assert (await append(logs, OTHER, batch(b"fine"))).error is Error.NONE
        found = await everything(logs)
        if ends == "power cut":
            disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    if ends == "stop":
        assert (tmp_path / ".kafka_cleanshutdown").exists()
        disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    async with opened(copy, disk) as logs:
        await create(logs, LOG, topic)
        await create(logs, OTHER, SYNCED)
        assert await everything(logs) == found
    assert list(check(copy)) == []


async def test_who_waits_for_the_next_sync_of_a_log_whose_sync_fails_hears_so(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs, trio.open_nursery() as nursery:
        await create(logs, LOG, SYNCED)
        await append(logs, LOG, batch(b"safe"))
        pending = Pending(disk, logs, nursery)
        disk.syncs_fail = True
        disk.sync_fails_at_its_end = True
        await pending.begin(batch(b"first"), first=True)
        await pending.begin(batch(b"second"))
        disk.sync_may_end.set()
        await trio.to_thread.run_sync(disk.sync_failed.wait)
        disk.syncs_fail = False
        with trio.fail_after(30):
            while len(pending.done) < 2:
                await trio.sleep(0)
        assert pending.done == [Error.KAFKA_STORAGE_ERROR] * 2
        assert await everything(logs) == [(0, b"safe")]


async def test_a_sealed_segment_whose_sync_failed_is_written_again(tmp_path: Path) -> None:
    disk, clock = LyingDisk(), ManualClock()
    copy = tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, SMALL)
        disk.syncs_fail = True
        for number in range(100):
            outcome = await append(logs, LOG, sent(number, b"v" * 100, transactional=True))
            if outcome.error:
                break
            await trio.testing.wait_all_tasks_blocked()
        acknowledged = await everything(logs)
        assert len(acknowledged) > 5
        disk.syncs_fail = False
        await come_back(logs, clock)
        assert (await append(logs, LOG, sent(len(acknowledged), b"next", transactional=True))).error is Error.NONE
        assert (await everything(logs))[:-1] == acknowledged
        disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    async with opened(copy, disk) as logs:
        await create(logs, LOG, SMALL)
        assert await everything(logs) == acknowledged
    assert list(check(copy)) == []


async def test_a_directory_that_is_full_says_so_once_and_again_when_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    disk, clock = LyingDisk(), ManualClock()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"before"))
        disk.appends_left = 0
        for _ in range(20):
            assert (await append(logs, LOG, batch(b"v"))).error is Error.KAFKA_STORAGE_ERROR
        await create(logs, OTHER, SMALL)
        assert logs.bounds(OTHER) is Error.KAFKA_STORAGE_ERROR
        assert await everything(logs) == [(0, b"before")]
        lines = [record.getMessage() for record in caplog.records]
        assert len([line for line in lines if "is offline" in line and str(tmp_path) in line]) == 1
        assert len(lines) == 2
        for _ in range(5):
            clock.advance_ms(1000)
            await trio.sleep(0.01)
            await trio.testing.wait_all_tasks_blocked()
        assert (await append(logs, LOG, batch(b"v"))).error is Error.KAFKA_STORAGE_ERROR
        disk.appends_left = None
        await come_back(logs, clock)
        assert "is back after" in caplog.records[-1].getMessage()
        assert len(caplog.records) == 3
        assert (await append(logs, LOG, batch(b"v"))).base_offset == 1
        assert (await append(logs, OTHER, batch(b"v"))).base_offset == 0
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    assert list(check(tmp_path)) == []


async def test_a_log_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, OTHER, SMALL)
        disk.small_files_fail = True
        await create(logs, LOG, SMALL)
        assert logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
    assert list(check(tmp_path)) == []


class Pending:
    """An append that waits for a sync which has begun."""

    def __init__(self, disk: LyingDisk, logs: EmbeddedLogs, nursery: trio.Nursery) -> None:
        self.disk, self.logs, self.nursery = disk, logs, nursery
        self.done: list[Error] = []

    async def begin(self, data: bytes, *, first: bool = False, origin: Origin = Origin.CLIENT) -> None:
        if first:
            self.disk.sync_begun.clear()
            self.disk.sync_may_end.clear()
        self.nursery.start_soon(self._append, data, origin)
        if first:
            await trio.to_thread.run_sync(self.disk.sync_begun.wait)
        await trio.testing.wait_all_tasks_blocked()

    async def _append(self, data: bytes, origin: Origin) -> None:
        self.done.append((await append(self.logs, LOG, data, origin=origin)).error)


async def test_what_is_sealed_while_a_sync_runs_waits_for_the_next(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs, trio.open_nursery() as nursery:
        await create(logs, LOG, SYNCED)
        pending = Pending(disk, logs, nursery)
        await pending.begin(batch(b"first"), first=True)
        await pending.begin(batch(b"not in that sync"))
        await pending.begin(batch(b"x" * 1990))  # begins a segment
        disk.sync_may_end.set()
        with trio.fail_after(5):
            while len(pending.done) < 3:
                await trio.lowlevel.checkpoint()
        assert pending.done == [Error.NONE] * 3
        copy = tmp_path.with_name(f"{tmp_path.name}-after")
        disk.after_crash(tmp_path, copy, lambda: 0.0)
    async with opened(copy) as logs:
        await create(logs, LOG, SYNCED)
        assert [offset for offset, _ in await everything(logs)] == [0, 1, 2]


async def test_a_repeat_waits_for_the_sync_of_what_it_repeats(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs, trio.open_nursery() as nursery:
        await create(logs, LOG, SYNCED)
        pending = Pending(disk, logs, nursery)
        await pending.begin(sent(0, b"v"), first=True)
        await pending.begin(sent(0, b"v"))
        assert pending.done == []
        disk.sync_may_end.set()


async def test_a_writer_that_leaves_does_not_hide_its_records(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SYNCED)
        async with trio.open_nursery() as nursery, trio.open_nursery() as leaving:
            await Pending(disk, logs, nursery).begin(batch(b"a"), first=True)
            await Pending(disk, logs, leaving).begin(batch(b"b"))
            leaving.cancel_scope.cancel()
            disk.sync_may_end.set()
        with trio.fail_after(30):
            while logs.bounds(LOG) != Bounds(0, 2, 2, 2):
                await trio.lowlevel.checkpoint()


class Model:
    """What was appended: the log as a list, and its transactions.

    Those that ended are (producer, first offset, offset of the marker); of those that lost theirs, the first offset.
    """

    def __init__(self) -> None:
        self.records: list[tuple[int, bytes | None]] = []
        self.committed: list[tuple[int, int, int]] = []
        self.aborted: list[tuple[int, int, int]] = []
        self.open: list[int] = []

    async def append(self, logs: EmbeddedLogs, count: int, size: int, *, ends: bool | None) -> None:
        """Append a batch; `ends`: as a transaction, then committed or aborted."""
        base = len(self.records)
        contents = [b"%d" % (base + i) + b"." * size for i in range(count)]
        producer = 1000 + base  # each transaction has its own
        data = sent(0, *contents, producer=producer, transactional=ends is not None)
        assert (await append(logs, LOG, data)).base_offset == base
        self.records += enumerate(contents, base)
        if ends is not None:
            outcome = await end(logs, LOG, producer, committed=ends)
            assert outcome.base_offset == base + count
            self.records.append((base + count, bytes(6)))
            (self.committed if ends else self.aborted).append((producer, base, base + count))

    async def check(self, logs: EmbeddedLogs, acknowledged: int) -> None:
        """The store holds a prefix of this model, of at least that length; what it lost is forgotten here too."""
        found = await everything(logs)
        assert found == self.records[: len(found)]
        assert acknowledged <= len(found)
        lost = [row for row in (*self.committed, *self.aborted) if row[2] >= len(found)]
        self.open = [first for first in (*self.open, *(row[1] for row in lost)) if first < len(found)]
        self.aborted = [row for row in self.aborted if row not in lost]
        self.committed = [row for row in self.committed if row not in lost]
        del self.records[len(found) :]
        stable, offset = min(self.open, default=len(found)), 0
        while offset < stable:  # segment by segment
            [piece] = await logs.read([Read(LOG, offset, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
            assert piece.last_stable_offset == stable
            begin, offset = offset, values(piece.records)[-1][0] + 1
            assert piece.aborted == [row[:2] for row in self.aborted if row[1] < offset and row[2] >= begin]
        assert offset == stable


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["plain", "commit", "abort"]), st.integers(1, 3), st.integers(1, 300)),
        st.tuples(st.just("checkpoint"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["stop", "kill", "power cut"]), st.integers(0, 1000), st.just(0)),
    ),
    max_size=20,
)
ENDS = {"plain": None, "commit": True, "abort": False}


@settings(max_examples=50, deadline=None)
@given(steps=STEPS, may_wait=st.sampled_from([0, 3, 1 << 62]))
async def test_what_was_acknowledged_outlives_every_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]], may_wait: int
) -> None:
    """After a power cut the log is short of at most the records that may wait for their sync; else of nothing."""
    topic = LogSettings(segment_bytes=600, index_interval_bytes=100, flush_messages=may_wait + 1)
    root = tmp_path_factory.mktemp("lives")
    model, acknowledged = Model(), 0
    lives = [*steps, ("stop", 0, 0), ("stop", 0, 0)]
    directory, disk = root / "0", LyingDisk()
    while lives:
        async with opened(directory, disk) as logs:
            await create(logs, LOG, topic)
            bounds = logs.bounds(LOG)
            assert isinstance(bounds, Bounds)
            if bounds.log_start_offset:
                # Of what may all be lost, the beginning is: as in Kafka the log begins with what is left.
                assert acknowledged <= 0
                return
            await model.check(logs, acknowledged)
            step, first, size = lives.pop(0)
            while step in (*ENDS, "checkpoint"):
                if step in ENDS:
                    await model.append(logs, first, size, ends=ENDS[step])
                else:
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr("kafkapy.storage.segments.CHECKPOINTED_BYTES", 1)
                        await logs.save_checkpoint(LOG, Checkpoint(len(model.records), b"state"))
                await model.check(logs, len(model.records))
                step, first, size = lives.pop(0)
            acknowledged = len(model.records)
            following = root / str(len(lives) + 1)
            if step == "power cut":
                chance = random.Random(first)
                disk = disk.after_crash(directory, following, chance.random)
                acknowledged -= may_wait
            elif step == "kill":
                disk = disk.after_kill(directory, following)
        if step != "stop":
            directory = following
    assert list(check(directory)) == []


@pytest.mark.parametrize("stopped", [False, True])
async def test_a_power_cut_does_not_make_another_cluster_of_this_one(tmp_path: Path, stopped: bool) -> None:
    """Whenever it comes: `kept` is 0, so that nothing is left but what was synced."""
    disk, copy = LyingDisk(), tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk) as logs:
        cluster_id = logs.cluster_id
        if not stopped:
            disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    if stopped:
        disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    async with opened(copy, disk) as logs:
        assert logs.cluster_id == cluster_id


async def test_a_power_cut_does_not_bring_back_the_mark_of_a_clean_stop(tmp_path: Path) -> None:
    disk, copy = LyingDisk(), tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk):
        pass
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    async with opened(tmp_path, disk):
        disk.after_crash(tmp_path, copy, lambda: 0.0)
    assert not (copy / ".kafka_cleanshutdown").exists()


async def test_checkpoints_outlast_a_power_cut(tmp_path: Path) -> None:
    """Else the start of a log would be forgotten, and its deleted records would be back."""
    disk, copy = LyingDisk(), tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SYNCED)
        for number in range(10):
            await append(logs, LOG, sent(number, b"v"))
        await logs.trim(LOG, 5)
    disk = disk.after_crash(tmp_path, copy, lambda: 0.0)
    async with opened(copy, disk) as logs:
        await create(logs, LOG, SYNCED)
        assert logs.bounds(LOG) == Bounds(5, 10, 10, 10)


async def test_what_came_after_a_sync_began_is_not_called_synced(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"before"))
        partition = logs._partitions[LOG]
        end_offset, _ = partition.begin_sync(0.0)
        await append(logs, LOG, batch(b"meanwhile"))
        partition.synced(end_offset)
        assert (partition.recovery_point, partition.unflushed_count) == (1, 1)


@pytest.mark.parametrize("committed", [True, False])
async def test_a_marker_that_is_not_durable_has_decided_nothing_yet(tmp_path: Path, committed: bool) -> None:
    """Or a power cut would take the stable offset back to where the transaction began, for those who have read on."""
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs, trio.open_nursery() as nursery:
        await create(logs, LOG, SYNCED)
        await append(logs, LOG, sent(0, b"a", b"b", transactional=True))
        pending = Pending(disk, logs, nursery)
        await pending.begin(marker(7, committed=committed), first=True, origin=Origin.COORDINATOR)
        assert logs.bounds(LOG) == Bounds(0, 2, 0, 3)
        disk.sync_may_end.set()
        with trio.fail_after(30):
            while logs.bounds(LOG) != Bounds(0, 3, 3, 3):
                await trio.lowlevel.checkpoint()
