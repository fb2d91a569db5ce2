"""What is kept no longer goes, the oldest segments first, and nothing else does: for every store, and on its disk."""

import itertools
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, batch, end, sent, values
from catalogues import create
from disks import FOLDER, LyingDisk, everything, opened

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import LogId
from kafkapy.storage.base import Bounds, Logs, LogSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.store import EmbeddedLogs
from kafkapy.storage.segments import Extent, count_expired

NOW_MS = 1_700_000_000_000
BATCH = batch(b"v" * 300)
EACH_ITS_OWN = LogSettings(segment_bytes=len(BATCH), index_interval_bytes=200, flush_messages=1)
"""A segment for each batch."""


async def fill(logs: Logs, *times_ms: int, log: LogId = LOG, settings: LogSettings = EACH_ITS_OWN) -> None:
    await create(logs, log, settings)
    for time_ms in times_ms:
        assert (await append(logs, log, batch(b"v" * 300, at=time_ms))).error is Error.NONE


def start_and_end(logs: Logs, log: LogId = LOG) -> tuple[int, int]:
    bounds = logs.bounds(log)
    assert isinstance(bounds, Bounds)
    assert bounds.high_watermark == bounds.end_offset
    return bounds.log_start_offset, bounds.end_offset


@pytest.mark.parametrize(
    ("ages_ms", "start"),
    [
        ((1001, 1001, 1001, 500), 3),
        ((1001, 999, 1001, 500), 1),  # what lies behind something younger stays
        ((1000, 1001), 0),  # not older than what is kept
        ((5000, 5000, 5000), 3),  # the last segment, too
        ((-5000, 5000), 0),  # of the future
        ((), 0),
    ],
)
async def test_segments_that_are_too_old_go(logs: Logs, ages_ms: Sequence[int], start: int) -> None:
    await fill(logs, *(NOW_MS - age for age in ages_ms), settings=replace(EACH_ITS_OWN, retention_ms=1000))
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs) == (start, len(ages_ms))
    if start:
        [gone, there] = await logs.read([Read(LOG, start - 1, 1 << 20), Read(LOG, start, 1 << 20)], 1 << 20)
        assert gone.error is Error.OFFSET_OUT_OF_RANGE
        assert there.error is Error.NONE
        assert there.log_start_offset == start
    outcome = await append(logs, LOG, batch(b"after", at=NOW_MS))
    assert (outcome.base_offset, outcome.log_start_offset) == (len(ages_ms), start)


@pytest.mark.parametrize(("kept", "start"), [(-1, 0), (10, 0), (4, 0), (3.5, 0), (3, 1), (1, 3), (0.5, 3), (0, 4)])
async def test_a_log_that_is_too_large_loses_its_oldest_segments(logs: Logs, kept: float, start: int) -> None:
    """It stays at least as large as retention.bytes, as in Kafka."""
    size = int(kept * len(BATCH)) if kept >= 0 else -1
    await fill(logs, *[NOW_MS] * 4, settings=replace(EACH_ITS_OWN, retention_bytes=size))
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs) == (start, 4)
    assert logs.size_bytes(LOG) == (4 - start) * len(BATCH)


async def test_both_bounds_hold_and_each_log_has_its_own(logs: Logs) -> None:
    both = replace(EACH_ITS_OWN, retention_bytes=3 * len(BATCH), retention_ms=1000)
    await fill(logs, *[NOW_MS - 500] * 2, *[NOW_MS - 5000] * 2, NOW_MS, settings=both)
    await fill(logs, *[NOW_MS - 5000] * 5, log=OTHER)
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs) == (4, 5)
    assert start_and_end(logs, OTHER) == (0, 5)
    await create(logs, OTHER, both)  # a setting that changes acts
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs, OTHER) == (5, 5)


async def test_records_without_a_time_age_from_when_they_were_written(tmp_path: Path) -> None:
    settings = replace(EACH_ITS_OWN, retention_ms=60_000)
    timeless = batch(b"v" * 300, at=-1)
    async with opened(tmp_path) as logs:
        await create(logs, LOG, settings)
        await append(logs, LOG, timeless)
        written_ms = (tmp_path / FOLDER / f"{0:020}.log").stat().st_mtime_ns // 1_000_000
        await logs.apply_retention(written_ms + 60_000)
        assert start_and_end(logs) == (0, 1)
        await logs.apply_retention(written_ms + 60_001)
        assert start_and_end(logs) == (1, 1)


async def test_what_comes_after_all_went_is_not_counted_with_it(logs: Logs) -> None:
    settings = LogSettings(segment_bytes=100 * len(BATCH), retention_ms=1000, retention_bytes=3 * len(BATCH))
    await fill(logs, *[NOW_MS - 5000] * 3, settings=settings)
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs) == (3, 3)
    await fill(logs, *[NOW_MS] * 2, settings=settings)
    await logs.apply_retention(NOW_MS)
    assert start_and_end(logs) == (3, 5)
    assert logs.size_bytes(LOG) == 2 * len(BATCH)


async def test_who_waits_at_the_start_is_woken(logs: Logs) -> None:
    await fill(logs, NOW_MS - 5000, NOW_MS, settings=replace(EACH_ITS_OWN, retention_ms=1000))
    await fill(logs, NOW_MS - 5000, log=OTHER)
    woken: list[LogId] = []
    logs.watch([LOG, OTHER], woken.append)
    await logs.apply_retention(NOW_MS)
    assert woken == [LOG]


@examples(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(0, 20)), max_size=8),
    st.integers(-1, 30),
    st.integers(-1, 20),
    st.integers(0, 40),
)
def test_what_goes_is_the_least_that_the_bounds_ask_for(
    given_segments: list[tuple[int, int, int]], retention_bytes: int, retention_ms: int, high_watermark: int
) -> None:
    ends = list(itertools.accumulate(count for count, _, _ in given_segments))
    segments = [Extent(end, size, at) for end, (_, size, at) in zip(ends, given_segments, strict=True)]
    size = sum(segment.size for segment in segments)
    settings = LogSettings(retention_bytes=retention_bytes, retention_ms=retention_ms)
    now_ms = 20
    count = count_expired(segments, size, settings, high_watermark, now_ms)
    gone, left = segments[:count], segments[count:]
    assert all(segment.end_offset <= high_watermark for segment in gone)
    left_size = sum(segment.size for segment in left)
    for segment in reversed(gone):  # each was too old, or is not missed
        is_old = 0 <= retention_ms < now_ms - segment.latest_ms
        assert is_old or 0 <= retention_bytes <= left_size
        left_size += segment.size
    if left and left[0].end_offset <= high_watermark:
        assert not 0 <= retention_ms < now_ms - left[0].latest_ms
        assert not 0 <= retention_bytes <= sum(segment.size for segment in left[1:]) or retention_bytes == -1


# -- the embedded store's files


async def until_checkpointed(clock: ManualClock, directory: Path, log_start: int) -> None:
    """Let the store write its checkpoints, and wait for what it does then."""
    with trio.fail_after(10):
        while f"t 0 {log_start}" not in (directory / "log-start-offset-checkpoint").read_text().splitlines():
            clock.advance_ms(1000)
            await trio.sleep(0.001)
        await trio.testing.wait_all_tasks_blocked()


def files(directory: Path) -> set[str]:
    return {path.name for path in (directory / FOLDER).iterdir()}


async def test_dropped_files_stay_for_a_while_and_then_go(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    settings = replace(EACH_ITS_OWN, retention_ms=1000, file_delete_delay_ms=30_000)
    async with opened(tmp_path, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await fill(logs, NOW_MS - 5000, NOW_MS - 5000, NOW_MS + 60_000, settings=settings)
        await logs.apply_retention(NOW_MS)
        await until_checkpointed(clock, tmp_path, 2)
        expected = {f"{base:020}{suffix}.deleted" for base in (0, 1) for suffix in (".log", ".index", ".timeindex")}
        with trio.fail_after(10):
            while not expected <= files(tmp_path):
                await trio.sleep(0.001)
        assert not {f"{0:020}.log", f"{1:020}.log"} & files(tmp_path)
        assert list(check_all(tmp_path)) == []
        clock.advance_ms(31_000)
        with trio.fail_after(10):
            while any(name.endswith(".deleted") for name in files(tmp_path)):
                await trio.sleep(0.001)
        assert [offset for offset, _ in await everything(logs)] == [2]


def check_all(directory: Path) -> list[str]:
    """What `kafkapy check` would say of a copy that nobody uses."""
    import shutil

    copy = directory.with_name(f"{directory.name}-checked")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    return [str(finding) for finding in check(copy)]


async def test_who_is_being_sent_a_dropped_segment_gets_it_whole(tmp_path: Path) -> None:
    clock = ManualClock(NOW_MS)
    large = batch(b"v" * 300_000, at=NOW_MS - 5000)
    async with opened(tmp_path, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await create(logs, LOG, LogSettings(segment_bytes=len(large), retention_ms=1000))
        await append(logs, LOG, large)
        [piece] = await logs.read([Read(LOG, 0, 1 << 20, to_send=True)], 1 << 20)
        assert piece.region is not None
        await logs.apply_retention(NOW_MS)
        await until_checkpointed(clock, tmp_path, 1)
        assert piece.region.read(len(large))[16:] == large[16:]


async def test_files_that_cannot_be_renamed_are_tried_again(tmp_path: Path) -> None:
    clock, disk = ManualClock(NOW_MS), LyingDisk()
    async with opened(tmp_path, disk, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await fill(logs, *[NOW_MS - 5000] * 3, settings=EACH_ITS_OWN)
        disk.renames_fail = True
        await logs.trim(LOG, 1)
        await until_checkpointed(clock, tmp_path, 1)
        assert f"{0:020}.log" in files(tmp_path)
        disk.renames_fail = False
        await logs.trim(LOG, 2)
        with trio.fail_after(10):
            while {f"{0:020}.log", f"{1:020}.log"} & files(tmp_path):
                clock.advance_ms(1000)
                await trio.sleep(0.001)
        assert [offset for offset, _ in await everything(logs)] == [2]


async def test_what_was_set_aside_goes_at_the_next_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await fill(logs, NOW_MS)
    left = tmp_path / FOLDER / f"{7:020}.log.deleted"
    left.write_bytes(b"x")
    async with opened(tmp_path) as logs:
        with trio.fail_after(10):
            while left.exists():
                await trio.sleep(0.001)
        assert [offset for offset, _ in await everything(logs)] == [0]


@pytest.mark.parametrize("checkpoint_is_lost", [True, False])
async def test_an_empty_log_goes_on_where_it_ended(tmp_path: Path, checkpoint_is_lost: bool) -> None:
    async with opened(tmp_path, clock=ManualClock(NOW_MS)) as logs:
        await fill(logs, *[NOW_MS - 5000] * 3, settings=replace(EACH_ITS_OWN, retention_ms=1000))
        await logs.apply_retention(NOW_MS)
        await logs.apply_retention(NOW_MS + 5000)
        assert start_and_end(logs) == (3, 3)
    if checkpoint_is_lost:
        (tmp_path / "log-start-offset-checkpoint").unlink()
        for path in (tmp_path / FOLDER).glob("*.log"):
            if path.stat().st_size:
                path.unlink()  # as if it had been removed in time
    async with opened(tmp_path) as logs:
        assert start_and_end(logs) == (3, 3)
        assert (await append(logs, LOG, BATCH)).base_offset == 3


@pytest.mark.parametrize("seed", range(30))
async def test_a_power_cut_leaves_what_is_kept(tmp_path: Path, seed: int) -> None:
    """Whichever of the dropped files it takes, or brings back: what lies behind them is all there."""
    chance = random.Random(seed)
    clock, disk = ManualClock(NOW_MS), LyingDisk()
    copy = tmp_path.with_name(f"{tmp_path.name}-after")
    settings = replace(EACH_ITS_OWN, retention_ms=1000)
    async with opened(tmp_path, disk, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await create(logs, LOG, settings)
        for number in range(8):
            at = NOW_MS - 5000 if number < 5 else NOW_MS + 60_000
            await append(logs, LOG, sent(number, b"v" * 300, at=at))
        await logs.apply_retention(NOW_MS)
        if chance.random() < 0.7:
            await until_checkpointed(clock, tmp_path, 5)
        left = disk.after_crash(tmp_path, copy, chance.random)
    async with opened(copy, left, clock=ManualClock(NOW_MS)) as logs:
        await create(logs, LOG, settings)
        found = await everything(logs)
        assert [offset for offset, _ in found][-3:] == [5, 6, 7]
        await logs.apply_retention(NOW_MS)
        assert await kept(logs) == [5, 6, 7]


@pytest.mark.parametrize("back", [(0,), (0, 2), (1, 4), (0, 1, 2, 3, 4)])
async def test_dropped_segments_that_are_back_do_not_count(tmp_path: Path, back: tuple[int, ...]) -> None:
    """A power cut before their new names were on the medium, and nothing was synced: so there may be holes."""
    clock, disk = ManualClock(NOW_MS), LyingDisk()
    copy = tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await fill(logs, *[NOW_MS] * 8)
        await logs.trim(LOG, 5)
        await until_checkpointed(clock, tmp_path, 5)
        with trio.fail_after(10):
            while f"{4:020}.log" in files(tmp_path):
                await trio.sleep(0.001)
        left = disk.after_kill(tmp_path, copy)
    (copy / "recovery-point-offset-checkpoint").unlink()
    for base in back:
        path = copy / FOLDER / f"{base:020}.log.deleted"
        path.rename(path.with_suffix(""))
    async with opened(copy, left, clock=ManualClock(NOW_MS)) as logs:
        await create(logs, LOG, EACH_ITS_OWN)
        assert await kept(logs) == [5, 6, 7]
        assert {name for name in files(copy) if name.endswith(".log")} == {f"{base:020}.log" for base in (5, 6, 7)}


async def test_a_snapshot_of_a_dropped_segment_that_is_back_does_not_count(tmp_path: Path) -> None:
    """It calls a transaction open whose marker was dropped: nobody would read committed records any more."""
    clock, disk = ManualClock(NOW_MS), LyingDisk()
    copy = tmp_path.with_name(f"{tmp_path.name}-after")
    async with opened(tmp_path, disk, clock=clock) as logs:
        (tmp_path / "log-start-offset-checkpoint").touch()
        await create(logs, LOG, replace(EACH_ITS_OWN, retention_bytes=0))
        await append(logs, LOG, sent(0, b"v" * 300, transactional=True))
        await end(logs, LOG, 7, committed=True)
        await logs.apply_retention(NOW_MS)
        await until_checkpointed(clock, tmp_path, 2)
        with trio.fail_after(10):
            while f"{1:020}.snapshot" in files(tmp_path):
                await trio.sleep(0.001)
        left = disk.after_kill(tmp_path, copy)
    dropped = copy / FOLDER / f"{1:020}.snapshot.deleted"
    dropped.rename(dropped.with_suffix(""))  # its old name is there again
    (copy / FOLDER / f"{2:020}.snapshot").write_bytes(b"")  # which nobody had synced
    async with opened(copy, left, clock=clock) as logs:
        await create(logs, LOG, EACH_ITS_OWN)
        assert (await append(logs, LOG, BATCH)).base_offset == 2
        assert logs.bounds(LOG) == Bounds(2, 3, 3, 3)


async def test_dropped_segments_stay_until_the_file_that_the_log_begins_with_is_on_the_medium(tmp_path: Path) -> None:
    """Else a power cut that takes some of them, and that file, would have the log end before where it ended."""
    clock, disk = ManualClock(NOW_MS), LyingDisk()
    settings, copies = replace(EACH_ITS_OWN, retention_bytes=0), list[tuple[Path, LyingDisk]]()
    directory = tmp_path / "data"

    def before_change() -> None:
        for number in range(3):
            copy = tmp_path / f"after-{len(copies)}"
            copies.append((copy, disk.after_crash(directory, copy, random.Random(number).random)))

    async with opened(directory, disk, clock=clock) as logs:
        await fill(logs, *[NOW_MS] * 3, settings=settings)
        disk.sync_may_end.clear()  # the disk is slow
        await logs.apply_retention(NOW_MS)
        disk.before_change = before_change
        with trio.fail_after(10):
            while any(f"{base:020}.log" in files(directory) for base in range(3)):
                clock.advance_ms(1000)
                await trio.sleep(0.001)
        disk.before_change = lambda: None
        disk.sync_may_end.set()
    assert len(copies) >= 20
    for copy, left in copies:
        async with opened(copy, left, clock=clock) as logs:
            await create(logs, LOG, settings)
            assert start_and_end(logs)[1] == 3


async def test_a_log_that_is_moved_while_its_checkpoint_is_written_has_left_dropped_segments_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, disk, moved = ManualClock(NOW_MS), LyingDisk(), list[Path]()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await fill(logs, *[NOW_MS] * 8)
        partition, sync_folder = logs._partitions[LOG], disk.sync_folder

        def move() -> None:
            if not moved:
                partition.relocate(partition.folder)
                moved.append(partition.folder)

        def overtaken(folder: str) -> None:
            trio.from_thread.run_sync(move)
            sync_folder(folder)

        await logs.trim(LOG, 2)
        monkeypatch.setattr(disk, "sync_folder", overtaken)
        with trio.fail_after(10):
            while not moved:
                clock.advance_ms(1000)
                await trio.sleep(0.001)
        monkeypatch.undo()
        await logs.trim(LOG, 5)
        with trio.fail_after(10):
            while f"{4:020}.log" in files(tmp_path):
                clock.advance_ms(1000)
                await trio.sleep(0.001)
        assert await kept(logs) == [5, 6, 7]


async def test_segments_go_also_after_a_log_was_cleaned(tmp_path: Path) -> None:
    """The cleaner writes the checkpoints, too: who waits for something to be due is not forgotten over that."""
    clock = ManualClock(NOW_MS)
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, EACH_ITS_OWN)
        await fill(logs, *[NOW_MS] * 8)
        [directory] = logs.directories.values()
        await directory.kept.write_aside()
        await logs.trim(LOG, 2)
        await until_checkpointed(clock, tmp_path, 2)
        await directory.kept.write_aside()
        await logs.trim(LOG, 5)
        await until_checkpointed(clock, tmp_path, 5)
        with trio.fail_after(10):
            while f"{4:020}.log" in files(tmp_path):
                await trio.sleep(0.001)


async def kept(logs: EmbeddedLogs) -> list[int]:
    start, end = start_and_end(logs)
    [piece] = await logs.read([Read(LOG, start, 1 << 20)], 1 << 20)
    found = [offset for offset, _ in values(piece.records)]
    while found[-1] + 1 < end:
        [piece] = await logs.read([Read(LOG, found[-1] + 1, 1 << 20)], 1 << 20)
        found += [offset for offset, _ in values(piece.records)]
    return found
