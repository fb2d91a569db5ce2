"""The embedded store over several directories: where logs go, and what becomes of one that fails or is gone."""

import logging
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import SMALL, append, batch, values
from catalogues import catalogue_of, create, delete
from disks import LyingDisk, come_back

from kafkapy.clock import ManualClock
from kafkapy.config.properties import parse_properties
from kafkapy.errors import Error
from kafkapy.model import METADATA_TOPIC, LogId
from kafkapy.storage.base import Bounds, LogSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.directory import DirectoryInUse, DirectoryLost, DirectoryMismatch, open_embedded
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.store import EmbeddedLogs

LOGS = [LogId("t", number, b"1" * 16) for number in range(9)]
METADATA = LogId(METADATA_TOPIC, 0, bytes(15) + b"\x01")


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [tmp_path / name for name in ("a", "b", "c")]


@asynccontextmanager
async def over(
    paths: list[Path],
    disk: Disk | None = None,
    clock: ManualClock | None = None,
    metadata_path: Path | None = None,
    logs: list[LogId] | None = None,
) -> AsyncIterator[EmbeddedLogs]:
    """The store, with these logs in its catalogue from the start."""
    async with open_embedded(
        *paths, clock=clock or ManualClock(), node_id=1, disk=disk, metadata_path=metadata_path
    ) as store:
        catalogue_of(store).known.update((log, SMALL) for log in logs or ())
        await store.catalogue_changed(None)
        yield store


async def fill(logs: EmbeddedLogs) -> None:
    await create(logs, METADATA, SMALL)
    for log in LOGS:
        await create(logs, log, SMALL)
        assert (await append(logs, log, batch(b"v%d" % log.partition))).error is Error.NONE


async def found(logs: EmbeddedLogs, log: LogId) -> list[tuple[int, bytes | None]] | Error:
    [piece] = await logs.read([Read(log, 0, 10_000)], 10_000)
    return piece.error or values(piece.records)


def placed(paths: list[Path]) -> list[int]:
    return [len(list(path.glob("t-?"))) for path in paths]


def lying_in(path: Path) -> set[LogId]:
    return {log for log in LOGS if (path / str(log)).exists()}


async def test_a_log_is_made_where_the_fewest_are(paths: list[Path]) -> None:
    async with over(paths) as logs:
        await fill(logs)
        assert placed(paths) == [3, 3, 3]
        assert (paths[0] / "__cluster_metadata-0").exists()
        await delete(logs, *lying_in(paths[1]))
        more = [LogId("u", number, b"2" * 16) for number in range(3)]
        for log in more:
            await create(logs, log, SMALL)
        assert len(list(paths[1].glob("u-?"))) == 3
        described = {Path(log_dir.path): log_dir for log_dir in logs.log_dirs()}
        assert list(described) == paths
        for path, log_dir in described.items():
            there = Counter(str(replica.log) for replica in log_dir.replicas)
            assert there == Counter(folder.name for folder in path.glob("*-?") if folder.is_dir())
            assert all(replica.size_bytes == logs.size_bytes(replica.log) for replica in log_dir.replicas)
            assert 0 < log_dir.usable_bytes <= log_dir.total_bytes


async def test_every_directory_is_found_again(paths: list[Path]) -> None:
    async with over(paths) as logs:
        await fill(logs)
        await logs.trim(LOGS[4], 1)
    before = placed(paths)
    async with over(paths, logs=[METADATA, *LOGS]) as logs:
        assert [await found(logs, log) for log in LOGS if log != LOGS[4]] == [
            [(0, b"v%d" % number)] for number in range(9) if number != 4
        ]
        assert logs.bounds(LOGS[4]) == Bounds(1, 1, 1, 1)
    assert placed(paths) == before
    for path in paths:
        assert list(check(path)) == []
        assert (path / ".kafka_cleanshutdown").exists()


async def test_each_directory_says_whose_it_is(paths: list[Path]) -> None:
    async with over(paths):
        for path in paths:
            with pytest.raises(DirectoryInUse):
                await over([path]).__aenter__()
    said = [parse_properties((path / "meta.properties").read_text()) for path in paths]
    assert {(one["version"], one["cluster.id"], one["node.id"]) for one in said} == {("1", said[0]["cluster.id"], "1")}
    assert len({one["directory.id"] for one in said}) == 3
    async with over([*paths, paths[0].with_name("new")]) as logs:
        assert logs.cluster_id == said[0]["cluster.id"]


async def test_a_copy_or_another_clusters_directory_is_refused(paths: list[Path], tmp_path: Path) -> None:
    async with over(paths[:1]) as logs:
        await create(logs, LOGS[0], SMALL)
    async with over(paths[1:2]):
        pass
    with pytest.raises(DirectoryMismatch, match="cluster"):
        await over(paths[:2]).__aenter__()
    shutil.copytree(paths[0], tmp_path / "copy")
    with pytest.raises(DirectoryMismatch, match="copy"):
        await over([paths[0], tmp_path / "copy"]).__aenter__()
    (tmp_path / "copy" / "meta.properties").unlink()
    with pytest.raises(DirectoryMismatch, match="t-0 lies in"):
        await over([paths[0], tmp_path / "copy"]).__aenter__()


async def test_the_metadata_log_may_lie_apart(paths: list[Path], tmp_path: Path) -> None:
    apart = tmp_path / "meta"
    async with over(paths, metadata_path=apart) as logs:
        await fill(logs)
        assert [path.name for path in apart.glob("*-?")] == ["__cluster_metadata-0"]
        assert placed(paths) == [3, 3, 3]
        assert [Path(log_dir.path) for log_dir in logs.log_dirs()] == paths
    async with over(paths, metadata_path=paths[2], logs=LOGS) as logs:
        await create(logs, METADATA, SMALL)
        assert (paths[2] / "__cluster_metadata-0").exists()


async def test_a_directory_that_fails_is_offline_and_others_go_on(
    paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk, clock = LyingDisk(), ManualClock()
    async with over(paths, disk, clock) as logs:
        await fill(logs)
        sick = lying_in(paths[1])
        disk.broken = paths[1]
        errors = {log: (await append(logs, log, batch(b"more"))).error for log in LOGS}
        errors |= {log: (await append(logs, log, batch(b"more"))).error for log in LOGS}
        assert {log for log, error in errors.items() if error is Error.KAFKA_STORAGE_ERROR} == sick
        assert {error for log, error in errors.items() if log not in sick} == {Error.NONE}
        assert [log_dir.error for log_dir in logs.log_dirs()] == [Error.NONE, Error.KAFKA_STORAGE_ERROR, Error.NONE]
        assert logs.log_dirs()[1].replicas == ()
        assert await found(logs, next(iter(sick))) == [(0, b"v%d" % next(iter(sick)).partition)]
        for number in range(3):
            await create(logs, LogId("u", number, b"2" * 16), SMALL)
        assert [len(list(path.glob("u-?"))) for path in paths] in ([2, 0, 1], [1, 0, 2])
        assert len([r for r in caplog.records if r.levelno >= logging.ERROR]) == 2
        disk.broken = None
        await come_back(logs, clock)
        assert [(await append(logs, log, batch(b"more"))).base_offset for log in sick] == [1] * 3
        assert logs.log_dirs()[1].error is Error.NONE


async def test_a_log_in_a_directory_that_cannot_be_opened_is_not_made_elsewhere(paths: list[Path]) -> None:
    async with over(paths) as logs:
        await fill(logs)
    sick = lying_in(paths[1])
    paths[1].rename(paths[1].with_name("elsewhere"))
    paths[1].write_text("a file")
    new = LogId("u", 0, b"2" * 16)
    async with over(paths, logs=[METADATA, *LOGS]) as logs:
        assert {log for log in LOGS if logs.bounds(log) is Error.KAFKA_STORAGE_ERROR} == sick
        await create(logs, new, SMALL)
        assert (await append(logs, new, batch(b"v"))).error is Error.NONE
        assert [log_dir.error for log_dir in logs.log_dirs()] == [Error.NONE, Error.KAFKA_STORAGE_ERROR, Error.NONE]
    paths[1].unlink()
    paths[1].with_name("elsewhere").rename(paths[1])
    async with over(paths, logs=[METADATA, new, *LOGS]) as logs:
        assert [await found(logs, log) for log in LOGS] == [[(0, b"v%d" % number)] for number in range(9)]


async def test_the_first_directory_is_needed(paths: list[Path]) -> None:
    paths[0].write_text("a file")
    with pytest.raises(NotADirectoryError):
        await over(paths).__aenter__()


async def test_one_that_is_taken_away_is_given_up_and_the_first_ends_the_store(paths: list[Path]) -> None:
    clock = ManualClock()
    with pytest.raises(DirectoryLost, match=str(paths[0])):
        async with over(paths, clock=clock) as logs:
            await fill(logs)
            sick = lying_in(paths[1])
            await trio.testing.wait_all_tasks_blocked()
            shutil.rmtree(paths[1])
            clock.advance_ms(5000)
            await trio.testing.wait_all_tasks_blocked()
            errors = {log: (await append(logs, log, batch(b"more"))).error for log in LOGS}
            assert {log for log, error in errors.items() if error is Error.KAFKA_STORAGE_ERROR} == sick
            assert not paths[1].exists()
            shutil.rmtree(paths[0])
            clock.advance_ms(5000)
            with trio.fail_after(30):
                await trio.sleep_forever()


async def test_a_topic_id_that_a_power_cut_took_is_given_back_where_the_log_lies(paths: list[Path]) -> None:
    async with over(paths) as logs:
        await fill(logs)
    [log, *_] = lying_in(paths[2])
    (paths[2] / str(log) / "partition.metadata").write_bytes(b"")
    async with over(paths, logs=[METADATA, *LOGS]) as logs:
        assert await found(logs, log) == [(0, b"v%d" % log.partition)]
        assert placed(paths) == [3, 3, 3]


async def test_settings_of_a_log_act_wherever_it_lies(paths: list[Path]) -> None:
    async with over(paths) as logs:
        await fill(logs)
        for log in LOGS:
            await create(logs, log, LogSettings(segment_bytes=10))
            await append(logs, log, batch(b"more"))
    assert all(len(list(path.glob("t-?/*.log"))) == 6 for path in paths)
