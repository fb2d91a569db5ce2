"""Logs that are moved from one directory to another while they are written to, and what a crash leaves of that."""

import random
import shutil
import sys
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, batch, end, sent, values
from catalogues import catalogue_of, create, delete
from disks import LyingDisk
from test_compaction import CLEANER

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import Bounds, Checkpoint, LogSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.embedded.store import EmbeddedLogs

TOPIC = LogSettings(segment_bytes=2000, index_interval_bytes=200, flush_messages=1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / "disks" / name for name in "ab"]


async def found(logs: EmbeddedLogs) -> list[tuple[int, bytes | None]]:
    bounds = logs.bounds(LOG)
    assert isinstance(bounds, Bounds)
    offset, records = bounds.log_start_offset, []
    while offset < bounds.high_watermark:
        [piece] = await logs.read([Read(LOG, offset, 1 << 20)], 1 << 20)
        assert piece.error is Error.NONE
        records += values(piece.records)
        offset = records[-1][0] + 1
    return records


async def until_at(logs: EmbeddedLogs, path: Path) -> None:
    with trio.fail_after(60):
        while not (path / "t-0").exists() or any(replica.is_future for d in logs.log_dirs() for replica in d.replicas):
            await trio.sleep(0.001)


async def fill(logs: EmbeddedLogs, count: int, begin: int = 0) -> None:
    for number in range(begin, begin + count):
        with trio.fail_after(60):
            while (await append(logs, LOG, sent(number, b"%d" % number + b"." * 100))).error:
                await trio.sleep(0.001)  # as a producer tries again


async def test_a_log_moves_with_all_it_has(paths: list[Path]) -> None:
    clock = ManualClock()
    async with open_embedded(*paths, clock=clock, node_id=1) as logs:
        await create(logs, LOG, TOPIC)
        await fill(logs, 40)
        await append(logs, LOG, sent(0, b"aborted", producer=8, transactional=True))
        await end(logs, LOG, 8, committed=False)
        await logs.trim(LOG, 25)
        await logs.save_checkpoint(LOG, Checkpoint(30, b"state"))
        before, bounds = await found(logs), logs.bounds(LOG)
        assert logs.alter_log_dir(LOG, str(paths[1])) is Error.NONE
        await until_at(logs, paths[1])
        assert not (paths[0] / "t-0").exists()
        assert len(list(paths[0].glob("t-0.*-delete"))) == 1
        assert (await found(logs), logs.bounds(LOG)) == (before, bounds)
        assert [[str(replica.log) for replica in log_dir.replicas] for log_dir in logs.log_dirs()] == [[], ["t-0"]]
        assert await logs.load_checkpoints(LOG) == [Checkpoint(30, b"state")]
        [piece] = await logs.read([Read(LOG, 40, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
        assert piece.aborted == [(8, 40)]
        assert (await append(logs, LOG, sent(39, b"39" + b"." * 100))).duplicate
        await fill(logs, 20, begin=40)
        after = await found(logs)
        await trio.testing.wait_all_tasks_blocked()
        clock.advance_ms(60_000)
        with trio.fail_after(30):
            while list(paths[0].glob("t-0*")):
                await trio.sleep(0.001)
        assert not (paths[1] / "t-0" / ".kafkapy-moved").exists()
    for path in paths:
        assert list(check(path)) == []
    async with open_embedded(*paths, clock=clock, node_id=1) as logs:
        await create(logs, LOG, TOPIC)
        assert await found(logs) == after
        assert logs.alter_log_dir(LOG, str(paths[0])) is Error.NONE
        await until_at(logs, paths[0])
        assert await found(logs) == after
        await fill(logs, 20, begin=60)


async def test_a_move_is_shown_while_it_goes_on_and_may_be_taken_back(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, copy_may_go_on = LyingDisk(), trio.Event()
    async with open_embedded(*paths, clock=ManualClock(), node_id=1, disk=disk) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=600_000))
        for _ in range(10):
            await append(logs, LOG, batch(bytes(100_000)))
        copy, token = disk.copy, trio.lowlevel.current_trio_token()

        def slow(source: str, target: str, position: int, size: int) -> None:
            copy(source, target, position, size)
            trio.from_thread.run(copy_may_go_on.wait, trio_token=token)

        monkeypatch.setattr(disk, "copy", slow)
        assert logs.alter_log_dir(LOG, str(paths[1])) is Error.NONE
        await trio.testing.wait_all_tasks_blocked(0.1)
        [future] = logs.log_dirs()[1].replicas
        assert (future.log, future.is_future, future.offset_lag) == (LOG, True, 10)
        [present] = logs.log_dirs()[0].replicas
        assert (present.log, present.is_future) == (LOG, False)
        assert (await append(logs, LOG, batch(b"meanwhile"))).base_offset == 10
        assert logs.alter_log_dir(LOG, str(paths[0])) is Error.NONE
        copy_may_go_on.set()
        with trio.fail_after(30):
            while logs.log_dirs()[1].replicas:
                await trio.sleep(0.001)
        assert not list(paths[1].glob("t-0*"))
        assert len(await found(logs)) == 11


async def test_what_cannot_be_moved_is_told(paths: list[Path]) -> None:
    long = LOG._replace(topic="n" * 240)
    disk = LyingDisk()
    async with open_embedded(*paths, clock=ManualClock(), node_id=1, disk=disk) as logs:
        for log in (LOG, long):
            await create(logs, log, TOPIC)
        assert logs.alter_log_dir(LOG, "/nowhere") is Error.LOG_DIR_NOT_FOUND
        assert logs.alter_log_dir(OTHER, str(paths[0])) is Error.UNKNOWN_TOPIC_OR_PARTITION
        assert logs.alter_log_dir(long, str(paths[0])) is Error.INVALID_TOPIC_EXCEPTION
        logs.directories[paths[1]].go_offline("a test")
        assert logs.alter_log_dir(LOG, str(paths[1])) is Error.KAFKA_STORAGE_ERROR


async def test_a_move_that_fails_leaves_the_log_where_it_was(paths: list[Path]) -> None:
    disk = LyingDisk()
    async with open_embedded(*paths, clock=ManualClock(), node_id=1, disk=disk) as logs:
        await create(logs, LOG, TOPIC)
        await fill(logs, 30)
        disk.broken = paths[1]
        assert logs.alter_log_dir(LOG, str(paths[1])) is Error.NONE
        with trio.fail_after(30):
            while logs.directories[paths[1]].futures or logs._mover._wanted:
                await trio.sleep(0.001)
        disk.broken = None
        assert not list(paths[1].glob("t-0*"))
        await fill(logs, 10, begin=30)
        assert len(await found(logs)) == 40


async def test_a_deleted_topic_is_moved_no_further(paths: list[Path]) -> None:
    async with open_embedded(*paths, clock=ManualClock(), node_id=1) as logs:
        await create(logs, LOG, TOPIC)
        await fill(logs, 30)
        logs.alter_log_dir(LOG, str(paths[1]))
        await delete(logs, LOG)
        with trio.fail_after(30):
            while logs._mover._wanted:
                await trio.sleep(0.001)
        assert not list(paths[1].glob("t-0*"))


@pytest.mark.parametrize("seed", range(25))
async def test_a_crash_at_any_moment_of_a_move_costs_nothing(paths: list[Path], tmp_path: Path, seed: int) -> None:
    chance, disk = random.Random(seed), LyingDisk()
    left: list[tuple[Path, int]] = []
    acknowledged = 0
    async with open_embedded(*paths, clock=ManualClock(), node_id=1, disk=disk) as logs:
        await create(logs, LOG, TOPIC)
        await fill(logs, 30)
        acknowledged, seen = 30, 0

        def before_change() -> None:
            nonlocal seen
            seen += 1
            is_twice = all((path / "t-0").exists() for path in paths)  # the moment that few would find
            if chance.random() < 1 / seen or (is_twice and seed % 5 == 0):
                seen = 1 << 62 if is_twice and seed % 5 == 0 else seen
                copy = tmp_path / f"left-{seen}"
                shutil.copytree(paths[0].parent, copy)
                left[:] = [(copy, acknowledged)]

        disk.before_change = before_change
        logs.alter_log_dir(LOG, str(paths[1]))
        for number in range(30, 50):
            await fill(logs, 1, begin=number)
            acknowledged = number + 1
        await until_at(logs, paths[1])
        disk.before_change = lambda: None
    [(copy, count)] = left
    copies = [copy / path.name for path in paths]
    for clean in (False, True):
        async with open_embedded(*copies, clock=ManualClock(), node_id=1) as logs:
            catalogue_of(logs).known[LOG] = TOPIC
            await logs.catalogue_changed(None)
            records = await found(logs)
            assert [offset for offset, _ in records] == list(range(len(records)))
            assert len(records) >= count
            assert sum((path / "t-0").exists() for path in copies) == 1
            if not clean:
                await fill(logs, 5, begin=len(records))
            with trio.fail_after(30):
                while logs._mover._wanted:  # what was interrupted begins anew
                    await trio.sleep(0.001)
            assert not await logs.clean(CLEANER)
        for path in copies:
            assert list(check(path)) == []
