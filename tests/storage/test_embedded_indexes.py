"""The files of the indexes, as tools find them while the store runs, and as they are found after it stopped."""

import errno
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, append, batch
from catalogues import create
from disks import FOLDER, LyingDisk, come_back, opened
from hypothesis import given, settings
from hypothesis import strategies as st

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.storage.base import Bounds, LogSettings
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.files import Buffer, Disk
from kafkapy.storage.embedded.index import OFFSET_ROW_SIZE, OffsetIndex, TimeIndex
from kafkapy.storage.embedded.segment import Segment


class WatchedDisk(Disk):
    """Counts what is written to indexes, and has no room when told so."""

    writes = 0
    fails_after: int | None = None

    def put(self, path: str, data: Buffer, position: int) -> None:
        if data and self.fails_after is not None:
            if not self.fails_after:
                super().put(path, data[:5], position)
                raise OSError(errno.ENOSPC, "No space left on device")
            self.fails_after -= 1
        self.writes += 1
        super().put(path, data, position)


def files(directory: Path) -> Iterator[tuple[Segment, OffsetIndex, TimeIndex]]:
    """What a tool that knows nothing of the store makes of each segment and its indexes."""
    disk = Disk()
    for path in sorted((directory / FOLDER).glob("*.log")):
        segment = Segment(disk, path.parent, int(path.stem))
        offsets = OffsetIndex.decode(path.with_suffix(".index").read_bytes(), max(path.stat().st_size, 1))
        times = TimeIndex.decode(path.with_suffix(".timeindex").read_bytes())
        for index in (offsets, times):
            assert index.written_bytes == index.size_bytes, "no empty or torn rows at the end"
        segment.size = path.stat().st_size
        yield segment, offsets, times


def assert_sane(directory: Path) -> int:
    """Every row is right about the log; how many there are for offsets."""
    count = 0
    for segment, offsets, times in files(directory):
        headers = dict(segment.scan())
        for relative, position in offsets.rows():
            assert headers[position].last_offset == segment.base_offset + relative
            count += 1
        for row in times.rows():
            [header] = [h for h in headers.values() if h.last_offset == segment.base_offset + row.relative_offset]
            assert header.max_timestamp == row.timestamp
    return count


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=60),
    times=st.lists(st.integers(0, 5), min_size=1),
    interval=st.sampled_from([0, 100, 1000]),
)
async def test_they_are_there_and_sane_after_every_append(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], times: list[int], interval: int
) -> None:
    directory = tmp_path_factory.mktemp("live")
    async with opened(directory) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=6000, index_interval_bytes=interval))
        for number, size in enumerate(sizes):
            await append(logs, LOG, batch(b"v" * size, at=1000 + times[number % len(times)]))
            assert_sane(directory)
        copy = directory.with_name(f"{directory.name}-killed")
        shutil.copytree(directory, copy)
    for end in (directory, copy):
        async with opened(end):
            assert_sane(end)
        assert list(check(end)) == []


async def test_they_follow_closely_for_few_writes(tmp_path: Path) -> None:
    disk = WatchedDisk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, LogSettings(index_interval_bytes=0))
        for number in range(1, 5001):
            await append(logs, LOG, batch(b"v", at=1000 + number))
            if number % 500 == 0:
                rows = (tmp_path / FOLDER / f"{0:020}.index").stat().st_size // OFFSET_ROW_SIZE
                assert rows >= min(number * 7 // 8, number - 300), "too far behind"
        assert disk.writes <= 2 * 80, "of two files, for 5,000 rows in each"


@pytest.mark.parametrize("room", range(4))
async def test_a_row_that_finds_no_room_takes_its_batch_along(tmp_path: Path, room: int) -> None:
    disk, clock = WatchedDisk(), ManualClock()
    async with opened(tmp_path, disk, clock=clock) as logs:
        await create(logs, LOG, LogSettings(index_interval_bytes=100))
        disk.fails_after = room
        errors = [(await append(logs, LOG, batch(b"v" * 80, at=1000 + n))).error for n in range(10)]
        assert Error.KAFKA_STORAGE_ERROR in errors
        assert_sane(tmp_path)
        disk.fails_after = None
        await come_back(logs, clock)
        for number in range(20):
            assert (await append(logs, LOG, batch(b"v" * 80, at=2000 + number))).error is Error.NONE
        assert assert_sane(tmp_path) >= 12
        assert await logs.find_time(LOG, 2019) is not None
    assert list(check(tmp_path)) == []


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.7, 1.0])
async def test_after_a_clean_stop_times_are_found_whatever_a_power_cut_took(tmp_path: Path, kept: float) -> None:
    directory, disk = tmp_path / "data", LyingDisk()
    async with opened(directory, disk) as logs:
        await create(logs, LOG, LogSettings(index_interval_bytes=0))
        for number in range(40):
            await append(logs, LOG, batch(b"v", at=1000 + number))
    survivor = disk.after_crash(directory, tmp_path / "after", lambda: kept)
    assert (tmp_path / "after" / ".kafka_cleanshutdown").exists()
    async with opened(tmp_path / "after", survivor) as logs:
        await create(logs, LOG)
        for number in range(40):
            found = await logs.find_time(LOG, 1000 + number)
            assert found is not None
            assert found.offset == number
        assert await logs.find_time(LOG, 1040) is None


async def test_a_log_that_retention_emptied_has_them_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(retention_ms=1000))
        for _ in range(3):
            await append(logs, LOG, batch(b"v", at=1000))
        await logs.apply_retention(1_000_000)
        assert logs.bounds(LOG) == Bounds(3, 3, 3, 3)
        *_, (segment, offsets, times) = files(tmp_path)
        assert (segment.base_offset, segment.size, list(offsets.rows()), list(times.rows())) == (3, 0, [], [])
