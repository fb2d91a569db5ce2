"""The embedded store after crashes, on damaged files, and on a disk that lies."""

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, append, batch, sent, values
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.storage.base import Bounds, LogSettings, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.store import DirectoryInUse, DirectoryMismatch, EmbeddedLogs, open_embedded

FOLDER = "t-0"
SYNCED = LogSettings(segment_bytes=2000, index_interval_bytes=200, flush_messages=1)


def opened(directory: Path, disk: Disk | None = None, node_id: int = 1):  # type: ignore[no-untyped-def]
    return open_embedded(directory, clock=ManualClock(), node_id=node_id, disk=disk)


async def fill(directory: Path, count: int = 50) -> None:
    async with opened(directory) as logs:
        await logs.create(LOG, SMALL)
        for number in range(count):
            assert (await append(logs, LOG, sent(number, b"value %d" % number))).error is Error.NONE


async def everything(logs: EmbeddedLogs) -> list[tuple[int, bytes | None]]:
    bounds = logs.bounds(LOG)
    assert bounds is not None
    found: list[tuple[int, bytes | None]] = []
    while not found or found[-1][0] + 1 < bounds.high_watermark:
        [piece] = await logs.read([Read(LOG, found[-1][0] + 1 if found else bounds.log_start_offset, 1 << 20)], 1 << 20)
        if not piece.records:
            break
        found += values(piece.records)
    return found


def crash(directory: Path) -> list[Path]:
    """Make a cleanly closed directory look like one after kill -9; its log files."""
    (directory / ".kafka_cleanshutdown").unlink()
    (directory / "recovery-point-offset-checkpoint").unlink()
    return sorted((directory / FOLDER).glob("*.log"))


async def test_a_clean_stop_leaves_everything(tmp_path: Path) -> None:
    await fill(tmp_path)
    assert list(check(tmp_path)) == []
    async with opened(tmp_path) as logs:
        assert await everything(logs) == [(n, b"value %d" % n) for n in range(50)]
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50


@pytest.mark.parametrize("torn", [b"\x00" * 100, b"\x00", os.urandom(500), sent(50, b"half")[:-5]])
async def test_a_torn_tail_is_cut(tmp_path: Path, torn: bytes) -> None:
    await fill(tmp_path)
    last = crash(tmp_path)[-1]
    size = last.stat().st_size
    with last.open("ab") as file:
        file.write(torn)
    async with opened(tmp_path) as logs:
        assert last.stat().st_size == size
        assert len(await everything(logs)) == 50
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
        assert (await append(logs, LOG, sent(50, b"x"))).base_offset == 50
    assert list(check(tmp_path)) == []


async def test_a_flipped_bit_ends_the_log_before_it(tmp_path: Path) -> None:
    await fill(tmp_path)
    last = crash(tmp_path)[-1]
    data = bytearray(last.read_bytes())
    data[-3] ^= 1
    last.write_bytes(data)
    async with opened(tmp_path) as logs:
        assert [offset for offset, _ in await everything(logs)] == list(range(49))
        assert (await append(logs, LOG, sent(49, b"again"))).base_offset == 49
    assert list(check(tmp_path)) == []


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("suffix", ["index", "timeindex", "snapshot"])
@pytest.mark.parametrize("damage", [None, b"", b"garbage of some length"])
async def test_derived_files_are_rebuilt(tmp_path: Path, clean: bool, suffix: str, damage: bytes | None) -> None:
    await fill(tmp_path)
    if not clean:
        crash(tmp_path)
    for path in (tmp_path / FOLDER).glob(f"*.{suffix}"):
        path.unlink() if damage is None else path.write_bytes(damage)
    async with opened(tmp_path) as logs:
        assert len(await everything(logs)) == 50
        assert (await logs.find_time(LOG, 1000)) is not None
        assert (await append(logs, LOG, sent(49, b"value 49"))).duplicate
    assert list(check(tmp_path)) == []


async def test_sealed_segments_are_not_read_again_after_a_crash(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await logs.create(LOG, SYNCED)
        for number in range(60):
            await append(logs, LOG, sent(number, b"v" * 50))
        points = (tmp_path / "recovery-point-offset-checkpoint").read_text().split()
        copy = tmp_path.with_name("crashed")
        shutil.copytree(tmp_path, copy)
    segments = sorted((copy / FOLDER).glob("*.log"))
    assert int(points[-1]) >= int(segments[-1].stem) > 0
    # Damage that a second reading would find, in a segment that needs none.
    data = bytearray(segments[0].read_bytes())
    data[-10] ^= 1
    segments[0].write_bytes(data)
    async with opened(copy) as logs:
        assert len(await everything(logs)) == 60
    assert [finding.problem for finding in check(copy)] != []


async def test_a_lost_epoch_file_is_learned_from_the_batches(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await logs.create(LOG, SMALL)
        for epoch in (2, 2, 5):
            await append(logs, LOG, batch(b"a"), leader_epoch=epoch)
    (tmp_path / FOLDER / "leader-epoch-checkpoint").unlink()
    async with opened(tmp_path) as logs:
        assert await logs.epoch_end(LOG, 4) == (2, 2)


async def test_a_lost_topic_id_is_taken_from_the_metadata(tmp_path: Path) -> None:
    await fill(tmp_path, 3)
    (tmp_path / FOLDER / "partition.metadata").write_bytes(b"")
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) is None
        await logs.create(LOG, SMALL)
        assert logs.bounds(LOG) == Bounds(0, 3, 3, 3)


async def test_trimming_and_deleting_survive(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with opened(tmp_path) as logs:
        await logs.create(OTHER, SMALL)
        await logs.trim(LOG, 30)
        await logs.delete(OTHER)
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) == Bounds(30, 50, 50, 50)
        assert logs.logs() == [LOG]


async def test_a_directory_has_one_owner(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(DirectoryInUse):
            async with opened(tmp_path):
                pass
    with pytest.raises(DirectoryMismatch):
        async with opened(tmp_path, node_id=2):
            pass


async def test_segments_roll_by_size_and_by_age(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await logs.create(LOG, LogSettings(segment_bytes=1000))
        for _ in range(3):
            await append(logs, LOG, batch(b"v" * 600))
        await logs.create(OTHER, LogSettings(segment_ms=1000))
        for at in (1000, 1900, 2100):
            await append(logs, OTHER, batch(b"v", at=at))
        names = [sorted(path.name[:20] for path in (tmp_path / f).glob("*.log")) for f in (FOLDER, "u-3")]
    assert [[int(name) for name in part] for part in names] == [[0, 1, 2], [0, 2]]


class LyingDisk(Disk):
    """Forgets what was not synced, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: dict[str, bytes] = {}
        self.room_bytes: int | None = None
        self.syncs_fail = False

    def append(self, path: str, buffers: Sequence[bytes | bytearray | memoryview], position: int) -> None:
        if self.room_bytes is not None and sum(map(len, buffers)) > self.room_bytes:
            super().append(path, [b"".join(buffers)[: self.room_bytes]], position)
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(path, buffers, position)

    def sync(self, paths: Sequence[str]) -> None:
        if self.syncs_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().sync(paths)
        for path in paths:
            self.synced[path] = Path(path).read_bytes()

    def lose_power(self, directory: Path) -> None:
        (directory / ".kafka_cleanshutdown").unlink(missing_ok=True)
        for path in directory.glob("*/*.log"):
            path.write_bytes(self.synced.get(str(path), b""))


async def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await logs.create(LOG, SMALL)
        await append(logs, LOG, sent(0, b"before"))
        disk.room_bytes = 40
        assert (await append(logs, LOG, sent(1, b"lost"))).error is Error.KAFKA_STORAGE_ERROR
        assert logs.bounds(LOG) == Bounds(0, 1, 1, 1)
        disk.room_bytes = None
        assert (await append(logs, LOG, sent(1, b"after"))).base_offset == 1
        assert await everything(logs) == [(0, b"before"), (1, b"after")]
    assert list(check(tmp_path)) == []


async def test_after_a_failed_sync_the_log_takes_no_more(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await logs.create(LOG, SYNCED)
        await append(logs, LOG, batch(b"safe"))
        disk.syncs_fail = True
        assert (await append(logs, LOG, batch(b"doubtful"))).error is Error.KAFKA_STORAGE_ERROR
        disk.syncs_fail = False
        assert (await append(logs, LOG, batch(b"more"))).error is Error.KAFKA_STORAGE_ERROR
        assert await everything(logs) == [(0, b"safe")]
    assert not (tmp_path / ".kafka_cleanshutdown").exists()


async def test_what_was_acknowledged_outlives_a_power_cut(tmp_path: Path) -> None:
    disk = LyingDisk()
    async with opened(tmp_path, disk) as logs:
        await logs.create(LOG, SYNCED)
        for number in range(60):
            assert (await append(logs, LOG, sent(number, b"%d" % number))).error is Error.NONE
        disk.lose_power(tmp_path)
        copy = tmp_path.with_name("after")
        shutil.copytree(tmp_path, copy)
    async with opened(copy) as logs:
        assert await everything(logs) == [(n, b"%d" % n) for n in range(60)]
        assert (await append(logs, LOG, sent(59, b"59"))).duplicate


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.integers(1, 400)),
        st.tuples(st.just("repeat"), st.just(0), st.just(0)),
        st.tuples(st.just("reopen"), st.booleans(), st.integers(0, 80)),
    ),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
async def test_any_history_reads_back(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    directory = tmp_path_factory.mktemp("model")
    model: list[bytes] = []
    sequence, last = 0, b""
    manager = opened(directory)
    logs = await manager.__aenter__()
    await logs.create(LOG, SMALL)
    for step, first, second in steps:
        if step == "append":
            contents = [b"%d" % (len(model) + i) + b"." * second for i in range(first)]
            last = sent(sequence, *contents)
            assert (await append(logs, LOG, last)).base_offset == len(model)
            model += contents
            sequence += first
        elif step == "repeat" and last:
            assert (await append(logs, LOG, last)).duplicate
        elif step == "reopen":
            await manager.__aexit__(None, None, None)
            if first:
                (directory / ".kafka_cleanshutdown").unlink()
                for path in sorted(directory.glob("t-0/*.log"))[-1:]:
                    with path.open("ab") as file:
                        file.write(b"\x01" * second)
            manager = opened(directory)
            logs = await manager.__aenter__()
            await logs.create(LOG, SMALL)
        assert await everything(logs) == list(enumerate(model))
    await manager.__aexit__(None, None, None)
    assert list(check(directory)) == []
