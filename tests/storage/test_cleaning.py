"""Compaction on the embedded store's disk: whatever happens meanwhile, of each key the last record is there."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, end
from catalogues import create, delete
from disks import FOLDER, LyingDisk, everything, opened
from test_compaction import CLEANER, COMPACTED, batches, clean, keyed, put, roll, rows
from test_retention import check_all, files

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.records.record import read_records
from kafkapy.storage.base import Bounds, CleanerSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.store import EmbeddedLogs

ROUNDS = int(os.environ.get("KAFKAPY_SCALE", "1")) * 20
"""Power cuts to survive."""


async def fill(logs: EmbeddedLogs, count: int = 30, keys: int = 7) -> None:
    for number in range(count):
        await put(logs, (b"k%d" % (number % keys), b"%d" % number + b"." * 60))
    await roll(logs)
    await roll(logs)


async def test_what_was_cleaned_is_there_after_a_start_and_is_clean(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs)
        assert await clean(logs) == 1
        left, bounds = await batches(logs), logs.bounds(LOG)
        assert len(await rows(logs)) == 7
    assert list(check(tmp_path)) == []
    assert "t 0 31" in (tmp_path / "cleaner-offset-checkpoint").read_text().splitlines()
    assert not [name for name in files(tmp_path) if name.endswith((".cleaned", ".swap"))]
    for mark in (None, ".kafka_cleanshutdown", "recovery-point-offset-checkpoint"):
        if mark:
            (tmp_path / ".kafka_cleanshutdown").unlink()
            (tmp_path / mark).unlink(missing_ok=True)
        async with opened(tmp_path) as logs:
            await create(logs, LOG, COMPACTED)
            assert (await batches(logs), logs.bounds(LOG)) == (left, bounds)
            assert await clean(logs) == 0


async def test_replaced_files_stay_for_a_while_and_then_go(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, replace(COMPACTED, file_delete_delay_ms=30_000))
        await fill(logs)
        before = {name for name in files(tmp_path) if name.endswith(".log")}
        await clean(logs)
        assert {f"{name}.deleted" for name in before} > {
            name for name in files(tmp_path) if name.endswith(".log.deleted")
        }
        assert any(name.endswith(".log.deleted") for name in files(tmp_path))
        await roll(logs)
        await clean(logs)  # while the first ones are still there
        assert check_all(tmp_path) == []
        clock.advance_ms(31_000)
        with trio.fail_after(10):
            while any(name.endswith(".deleted") for name in files(tmp_path)):
                await trio.sleep(0.001)
        assert len(await rows(logs)) == 7


async def test_who_is_being_sent_a_replaced_segment_gets_it_whole(tmp_path: Path) -> None:
    large = keyed((b"a", b"1" * 200_000), (b"b", b"1" * 200_000))
    async with opened(tmp_path) as logs:
        await create(logs, LOG, replace(COMPACTED, segment_bytes=len(large)))
        await append(logs, LOG, large)
        await put(logs, (b"a", b"2" * 200_000), (b"c", b"2" * 200_000))
        await put(logs, (b"d", b"2" * 200_000), (b"c", b"2" * 200_000))
        [piece] = await logs.read([Read(LOG, 0, 1 << 20, to_send=True)], 1 << 20)
        assert piece.region is not None
        first = piece.region.read(1000)
        piece.region.advance(1000)
        assert await clean(logs) == 1
        await put(logs, (b"e", b"2" * 200_000), (b"f", b"2" * 200_000))
        assert await clean(logs) == 1
        assert (first + piece.region.read(len(large)))[16:] == large[16:]
        assert [key for _, key, _ in await rows(logs)] == [b"b", b"a", b"d", b"c", b"e", b"f"]


async def test_a_cold_read_that_a_swap_overtakes_is_not_torn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs)
        found = [(offset, value) for offset, value in await everything(logs)]
        monkeypatch.setattr(disk, "read_cached", lambda *args: None)
        waiting = disk.read_waiting
        overtaken = False

        async def read(offset: int) -> None:
            [piece] = await logs.read([Read(LOG, offset, 200)], 200)
            assert piece.error is Error.NONE
            for record in read_records(piece.records):
                assert (record.offset, record.value) in found

        def slow(path: str, position: int, size: int) -> bytes:
            nonlocal overtaken
            if not overtaken:
                overtaken = True
                trio.from_thread.run(clean, logs)
            return waiting(path, position, size)

        monkeypatch.setattr(disk, "read_waiting", slow)
        await read(5)
        assert overtaken
        assert len(await rows(logs)) == 7


async def test_a_log_that_cannot_be_cleaned_is_named_and_left_and_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path) as logs:
        for log in (LOG, OTHER):
            await create(logs, log, COMPACTED)
            for _ in range(4):
                await roll(logs, log)
        path = tmp_path / FOLDER / f"{0:020}.log"
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        size = logs.size_bytes(OTHER)
        for _ in range(4):
            await logs.clean(CLEANER)
        assert logs.size_bytes(OTHER) < size
        assert logs.size_bytes(LOG) == size
        assert len([r for r in caplog.records if "t-0 cannot be cleaned" in r.message]) == 1
        assert not [name for name in files(tmp_path) if name.endswith((".cleaned", ".swap", ".deleted"))]


async def test_a_full_disk_leaves_the_log_as_it_is_and_it_is_tried_again(tmp_path: Path) -> None:
    clock, disk = ManualClock(), LyingDisk()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs)
        left = await rows(logs)
        disk.appends_left = 1
        assert await clean(logs) == 0
        disk.appends_left = None
        assert {key: value for _, key, value in await rows(logs)} == {key: value for _, key, value in left}
        assert not [name for name in files(tmp_path) if name.endswith((".cleaned", ".swap"))]
        assert await clean(logs) == 0
        clock.advance_ms(600_001)
        assert await clean(logs) == 1
        assert len(await rows(logs)) == 7


async def test_a_log_that_is_deleted_meanwhile_is_left_alone_and_so_is_its_namesake(tmp_path: Path) -> None:
    disk = LyingDisk()
    again = LOG._replace(topic_id=b"9" * 16)
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs)
        disk.sync_begun.clear()
        disk.sync_may_end.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(logs.clean, CLEANER)
            with trio.fail_after(5):
                while not disk.sync_begun.is_set():
                    await trio.sleep(0.001)
            await delete(logs, LOG)
            await create(logs, again, COMPACTED)
            disk.sync_may_end.set()
        assert not [name for name in files(tmp_path) if name.endswith((".cleaned", ".swap", ".log"))]
        assert logs.bounds(again) == Bounds(0, 0, 0, 0)
        assert await clean(logs) == 0
        await put(logs, (b"new", b"1"), log=again)


async def test_nothing_goes_before_what_replaces_it_is_on_the_medium(tmp_path: Path) -> None:
    unsynced = replace(COMPACTED, flush_messages=1 << 60)
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, unsynced)
        disk.sync_may_end.clear()
        await fill(logs)
        assert await clean(logs) == 0
        disk.sync_may_end.set()
        with trio.fail_after(10):
            while not await logs.clean(CLEANER):
                await trio.sleep(0.001)
        assert len(await rows(logs)) == 7


async def test_no_snapshot_calls_a_transaction_open_whose_marker_was_cleaned_away(tmp_path: Path) -> None:
    """A power cut may leave any one of the snapshots, which are not synced, and take the others."""
    clock, directory = ManualClock(), tmp_path / "data"
    settings = replace(COMPACTED, segment_bytes=300, delete_retention_ms=1000)
    async with opened(directory, clock=clock) as logs:
        await create(logs, LOG, settings)
        await put(logs, (b"a", b"1"), producer_id=7, producer_epoch=0, base_sequence=0, transactional=True)
        await put(logs, (b"b", b"." * 120))
        assert (await end(logs, LOG, 7, committed=False)).base_offset == 2  # in another segment
        await put(logs, (b"c", b"." * 120))
        await put(logs, (b"d", b"." * 120), producer_id=7, producer_epoch=0, base_sequence=1)
        for _ in range(3):
            await put(logs, (b"e", b"." * 220))
            await put(logs, (b"e", b"." * 220))
            assert await clean(logs)
            clock.advance_ms(2000)
        assert not [header for header, _ in await batches(logs) if header.is_control]
        shutil.copytree(directory, tmp_path / "killed")
    names = [name for name in files(tmp_path / "killed") if name.endswith(".snapshot")]
    assert names
    for left in names:
        copy = tmp_path / f"after-{left}"
        shutil.copytree(tmp_path / "killed", copy)
        for taken in set(names) - {left}:
            (copy / FOLDER / taken).write_bytes(b"")
        async with opened(copy, clock=clock) as logs:
            await create(logs, LOG, settings)
            assert logs.bounds(LOG) == Bounds(0, 11, 11, 11)


async def test_a_log_of_which_all_is_dropped_meanwhile_is_left_alone(tmp_path: Path) -> None:
    clock = ManualClock()
    slow = CleanerSettings(io_buffer_size=400, io_max_bytes_per_second=100.0)
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs)
        found: list[bool] = []
        async with trio.open_nursery() as nursery:

            async def clean_slowly() -> None:
                found.append(await logs.clean(slow))

            nursery.start_soon(clean_slowly)
            await trio.testing.wait_all_tasks_blocked()  # it has begun to read
            await logs.trim(LOG, 31)
            with trio.fail_after(30):
                while not found:
                    clock.advance_ms(10_000)
                    await trio.testing.wait_all_tasks_blocked()
        assert found == [False]
        assert await put(logs, (b"k0", b"-")) == 32


async def test_what_damage_took_does_not_count_as_clean_when_it_is_written_anew(tmp_path: Path) -> None:
    clock = ManualClock()
    settings = replace(COMPACTED, delete_retention_ms=1000)
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, settings)
        await fill(logs)
        assert await clean(logs)
    (tmp_path / ".kafka_cleanshutdown").unlink()
    (tmp_path / "recovery-point-offset-checkpoint").unlink()
    for path in (tmp_path / FOLDER).glob("*.log"):
        path.write_bytes(path.read_bytes()[:50] if path.name == f"{0:020}.log" else b"")
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, settings)
        assert logs.bounds(LOG) == Bounds(0, 0, 0, 0)
        await put(logs, (b"a", b"1"))
        await roll(logs)
        await put(logs, (b"a", None))
        for _ in range(3):
            await fill(logs, 40)
            await clean(logs)
            clock.advance_ms(2000)
        assert b"a" not in {key for _, key, _ in await rows(logs)}


class HastyClock(ManualClock):
    """Sleeps take no time, but are noted."""

    latest = 0.0

    async def sleep_until(self, deadline: float) -> None:
        self.latest = max(self.latest, deadline)
        await trio.lowlevel.checkpoint()


async def test_the_cleaner_takes_no_more_of_the_disk_than_it_may(tmp_path: Path) -> None:
    clock = HastyClock()
    slow = CleanerSettings(io_buffer_size=400, io_max_bytes_per_second=100.0)
    async with opened(tmp_path, clock=clock) as logs:
        await create(logs, LOG, COMPACTED)
        await fill(logs, 60, keys=60)
        size, begun = logs.size_bytes(LOG), clock.monotonic()
        assert await logs.clean(slow)
        assert 2.5 * size / 100 < clock.latest - begun < 3.5 * size / 100  # read twice, written once
