"""A data directory that is not this broker's alone: Apache Kafka's, somebody else's files, or taken away."""

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, batch
from catalogues import catalogue_of, create
from disks import everything, opened

from kafkapy.clock import ManualClock
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.errors import Error
from kafkapy.storage.base import Bounds, Checkpoint, LogSettings
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.directory import DirectoryInUse, DirectoryLost, DirectoryMismatch, open_embedded


def contents(directory: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in directory.rglob("*") if path.is_file()}


# -- whose it is


async def test_kafkas_snapshots_of_metadata_are_handed_out_as_they_are(tmp_path: Path) -> None:
    metadata = tmp_path / "__cluster_metadata-0"
    names = {0: "formatted", 43: "earlier", 10_000_000: "later"}
    async with open_embedded(tmp_path, clock=ManualClock(), node_id=1) as logs:
        await create(logs, METADATA_LOG, LogSettings())
        for offset, content in names.items():
            (metadata / f"{offset:020d}-0000000001.checkpoint").write_text(content)
        (metadata / f"{44:020d}-0000000001.checkpoint.part").write_text("not whole")
        found = await logs.load_checkpoints(METADATA_LOG)
        assert found == [Checkpoint(10_000_000, b"later"), Checkpoint(43, b"earlier")]
        await logs.drop_checkpoint(METADATA_LOG, found[0])
    assert len(list(metadata.glob("*.checkpoint*"))) == 4


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("version=1\ncluster.id=abc\nnode.id=1\n", None),
        ("version=1\ncluster.id=abc\nnode.id=2\n", "node 2, not to 1"),
        ("version=0\ncluster.id=abc\nbroker.id=1\n", None),
        ("version=0\ncluster.id=abc\nbroker.id=7\n", "node 7, not to 1"),
        ("version=0\ncluster.id=abc\nnode.id=1\n", "does not say whose"),
        ("version=1\ncluster.id=abc\nbroker.id=1\n", "does not say whose"),
        ("version=0\nbroker.id=1\n", "does not say whose"),
        ("version=1\nnode.id=1\n", "does not say whose"),
        ("something else\n", "does not say whose"),
    ],
)
async def test_a_directory_is_its_node_s_whichever_kafka_wrote_it(
    tmp_path: Path, text: str, refused: str | None
) -> None:
    (tmp_path / "meta.properties").write_text(text)
    before = contents(tmp_path)
    if refused is None:
        async with opened(tmp_path) as logs:
            assert logs.cluster_id == "abc"
    else:
        with pytest.raises(DirectoryMismatch, match=refused):
            await opened(tmp_path).__aenter__()
    path = tmp_path / "meta.properties"
    assert contents(tmp_path)[path] == before[path]


KAFKA = """
import fcntl, sys
lock = open(sys.argv[1], "a+")
try:
    fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    print("refused", flush=True)
else:
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def kafka_in(directory: Path) -> Iterator[str]:
    """Another process that locks the directory as Java does, and what became of that."""
    process = subprocess.Popen(
        [sys.executable, "-c", KAFKA, str(directory / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        yield process.stdout.readline().strip()
        process.stdin.close()


async def test_a_directory_that_apache_kafka_uses_is_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        with kafka_in(tmp_path) as said:
            assert said == "refused"
    with kafka_in(tmp_path) as said:
        assert said == "locked"
        with pytest.raises(DirectoryInUse):
            await opened(tmp_path).__aenter__()
        with pytest.raises(DirectoryInUse):
            list(check(tmp_path))
    assert list(check(tmp_path)) == []


async def test_a_check_leaves_no_lock_behind(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    (tmp_path / ".lock").unlink()  # as Kafka does at a stop
    assert list(check(tmp_path)) == []
    assert not (tmp_path / ".lock").exists()


# -- what lies in it


FOREIGN = [
    "backup-2024/notes.txt",
    "backup-2024/2024.log",
    "photos/a.jpg",
    "t-1/readme.md",
    "lost+found/x",
    "my-delete/precious",
    "t-0.backup-delete/precious",
    f"{'a' * 32}-delete/precious",
    "t-007/00000000000000000000.log",
    "year-99999999999999999999/00000000000000000000.log",
    "²-²/x",
    "loose.log",
    "00000000000000000000.log",
    f"t-0.{'a' * 32}-delete",
]


async def test_foreign_files_are_not_touched(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await append(logs, LOG, batch(b"ours"))
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty-0").mkdir()
    before = {path: found for path, found in contents(tmp_path).items() if str(path.relative_to(tmp_path)) in FOREIGN}
    clock = ManualClock()
    for clean in (True, False):
        if not clean:
            (tmp_path / ".kafka_cleanshutdown").unlink()
        async with opened(tmp_path, clock=clock) as logs:
            catalogue_of(logs).known[LOG] = LogSettings()
            await logs.catalogue_changed(None)
            clock.advance_ms(120_000)
            await trio.testing.wait_all_tasks_blocked()
            assert await everything(logs) == [(0, b"ours")]
    after = contents(tmp_path)
    assert {path: after[path] for path in before} == before
    folders = {str(Path(name).parent) for name in FOREIGN}
    for folder in folders - {"."}:
        there = {str(path.relative_to(tmp_path)) for path in (tmp_path / folder).iterdir()}
        assert there <= set(FOREIGN), "something was dropped into it"
    assert list((tmp_path / "empty-0").iterdir()) == []


async def test_a_log_does_not_move_in_with_foreign_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "t-0").mkdir()
    (tmp_path / "t-0" / "thesis.txt").write_text("years of work")
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        assert (await append(logs, LOG, batch(b"v"))).error is Error.KAFKA_STORAGE_ERROR
        assert (await append(logs, OTHER, batch(b"v"))).error is Error.NONE
        assert "files that are not a log's are in its place" in caplog.text
        assert [path.name for path in (tmp_path / "t-0").iterdir()] == ["thesis.txt"]
        (tmp_path / "t-0").rename(tmp_path / "thesis")
        assert (await append(logs, LOG, batch(b"v"))).error is Error.NONE


@pytest.mark.parametrize("lost", ["the whole metadata", "also the topic ids"])
@pytest.mark.parametrize("clean", [True, False])
async def test_logs_that_no_topic_has_are_kept_and_told_of_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lost: str, clean: bool
) -> None:
    logs_of_t = [LOG._replace(partition=number) for number in range(3)]
    async with opened(tmp_path) as logs:
        for log in (*logs_of_t, OTHER):
            await create(logs, log)
            await append(logs, log, batch(b"precious"))
    if not clean:
        (tmp_path / ".kafka_cleanshutdown").unlink()
    if lost == "also the topic ids":
        (tmp_path / "t-1" / "partition.metadata").unlink()
    kept = sorted(path.read_bytes() for path in tmp_path.glob("*/*.log"))
    caplog.clear()
    clock = ManualClock()
    async with opened(tmp_path, clock=clock) as logs:
        await logs.catalogue_changed(None)
        clock.advance_ms(10 * 60_000)  # ten times file.delete.delay.ms
        await trio.testing.wait_all_tasks_blocked()
    strays = [path.name.rpartition(".")[0] for path in tmp_path.glob("*-stray")]
    assert sorted(strays) == ["t-0", "t-1", "t-2", "u-3"]
    assert sorted(path.read_bytes() for path in tmp_path.glob("*-stray/*.log")) == kept
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "t (3), u (1)" in line
    async with opened(tmp_path) as logs:  # and at the next start
        await logs.catalogue_changed(None)
    assert sorted(path.read_bytes() for path in tmp_path.glob("*-stray/*.log")) == kept


async def test_a_long_name_keeps_its_partition_when_it_is_set_aside(tmp_path: Path) -> None:
    log = LOG._replace(topic="n" * 249, partition=12345)
    async with opened(tmp_path) as logs:
        await create(logs, log)
    async with opened(tmp_path) as logs:
        await logs.catalogue_changed(None)
    [stray] = tmp_path.glob("*-stray")
    assert (len(stray.name), stray.name.partition("-")[2][:6]) == (255, "12345.")
    assert list(check(tmp_path)) == []


# -- taken away


def remove(directory: Path) -> None:
    shutil.rmtree(directory)


def empty(directory: Path) -> None:
    for path in directory.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def move(directory: Path) -> None:
    directory.rename(directory.with_name("elsewhere"))


def replace(directory: Path) -> None:
    move(directory)
    shutil.copytree(directory.with_name("elsewhere"), directory)


TAKEN_AWAY = pytest.mark.parametrize("take_away", [remove, empty, move, replace])


@TAKEN_AWAY
async def test_a_directory_that_goes_ends_the_store(tmp_path: Path, take_away: Callable[[Path], None]) -> None:
    directory, clock = tmp_path / "data", ManualClock()
    with pytest.raises(DirectoryLost, match=str(directory)):
        async with opened(directory, clock=clock) as logs:
            await create(logs, LOG)
            await append(logs, LOG, batch(b"v"))
            for _ in range(10):
                clock.advance_ms(5000)
                await trio.testing.wait_all_tasks_blocked()  # it is there, and stays so
            take_away(directory)
            clock.advance_ms(5000)
            with trio.fail_after(60):
                await trio.sleep_forever()
    if take_away in (remove, move):
        assert not directory.exists()


@pytest.mark.parametrize("take_away", [remove, move])
async def test_its_loss_is_seen_at_once_where_the_disk_fails_for_it(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    directory = tmp_path / "data"
    with pytest.raises(DirectoryLost):
        async with opened(directory) as logs:
            take_away(directory)
            await create(logs, LOG)
            with trio.fail_after(60):
                await trio.sleep_forever()
    assert not directory.exists()


@TAKEN_AWAY
async def test_nobody_calls_a_stop_clean_whose_directory_is_gone(
    tmp_path: Path, take_away: Callable[[Path], None]
) -> None:
    directory = tmp_path / "data"
    with pytest.raises(DirectoryLost):
        async with opened(directory) as logs:
            await create(logs, LOG)
            take_away(directory)
    assert not (directory / ".kafka_cleanshutdown").exists()


async def test_a_disk_that_fails_is_not_taken_for_a_lost_directory(tmp_path: Path) -> None:
    (tmp_path / "u-3").write_text("a file where a folder must be")
    async with opened(tmp_path) as logs:
        await create(logs, OTHER)
        await create(logs, LOG)
        assert (await append(logs, OTHER, batch(b"v"))).error is Error.KAFKA_STORAGE_ERROR
        await trio.testing.wait_all_tasks_blocked()
        await append(logs, LOG, batch(b"v"))
        assert logs.bounds(LOG) == Bounds(0, 1, 1, 1)
