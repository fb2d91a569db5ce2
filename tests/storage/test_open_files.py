"""The pool of open log files, and what becomes of those who wait to be sent from them."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, SMALL, append, batch
from catalogues import create
from disks import SYNCED, everything, opened

from kafkapy.errors import Error
from kafkapy.storage.base import Read
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.open_files import FileRegion
from kafkapy.storage.embedded.waiting import WaitingBytes


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def sent(region: FileRegion) -> bytes:
    return os.pread(region.fileno(), len(region), region.position)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Until the end of the block nothing can be opened in this process, unless something is closed before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 1, hard))
    try:
        while True:
            try:
                taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    paths = []
    for number in range(20):
        folder = tmp_path / f"t-{number}"
        folder.mkdir()
        (folder / "0.log").write_bytes(b"%02d" % number)
        paths.append(str(folder / "0.log"))
    return paths


def test_no_more_is_open_than_may_be_whoever_waits(files: list[str]) -> None:
    disk, before = Disk(max_open_files=4), descriptors()
    regions = [disk.region(path, 0, 2) for path in files]
    assert descriptors() - before == len(disk.open_files) == 4
    assert [sent(region) for region in regions] == [b"%02d" % number for number in range(20)]
    assert descriptors() - before == 4


def test_who_waits_gets_a_removed_file_as_it_was(files: list[str]) -> None:
    disk = Disk(max_open_files=8)
    regions = [disk.region(path, 0, 2) for path in files]
    before = descriptors()
    for path in files[:2]:
        disk.remove(path)
        Path(path).write_bytes(b"another file of that name")
        assert disk.read(path, 0, 7) == b"another"
    assert [sent(region) for region in regions[:3]] == [b"00", b"01", b"02"]
    del regions
    assert descriptors() <= before
    assert disk.read(files[0], 0, 7) == b"another"
    assert len(disk.open_files) <= 8


def test_too_many_removed_files_are_not_all_kept_open(files: list[str]) -> None:
    """Who waits for one of them loses its connection."""
    disk = Disk(max_open_files=8)
    regions = [disk.region(path, 0, 2) for path in files]
    for path in files:
        disk.remove(path)
    assert len(disk.open_files) == 2
    assert sent(regions[0]) == b"00"
    with pytest.raises(OSError):
        sent(regions[19])


def test_who_waits_finds_files_in_a_folder_of_another_name(files: list[str], tmp_path: Path) -> None:
    disk = Disk(max_open_files=4)
    regions = [disk.region(path, 0, 2) for path in files]
    before = descriptors()
    for number in range(20):
        disk.rename(tmp_path / f"t-{number}", tmp_path / f"gone-{number}")
    (tmp_path / "t-0").mkdir()
    disk.append(files[0], [b"namesake"], 8, 0)
    assert [sent(region) for region in regions] == [b"%02d" % number for number in range(20)]
    assert disk.read(files[0], 0, 8) == b"namesake"
    assert descriptors() <= before
    del regions
    assert len(disk.open_files) == 1


def test_when_the_process_has_no_more_descriptors_the_pool_gives_some(files: list[str]) -> None:
    disk = Disk(max_open_files=10)
    for path in files[:5]:
        disk.read(path, 0, 2)
    with no_descriptor_left():
        assert disk.read(files[9], 0, 2) == b"09"
        assert len(disk.open_files) == 5


async def test_what_could_not_be_opened_is_refused_for_this_once(tmp_path: Path) -> None:
    disk = Disk()
    async with opened(tmp_path, disk) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"before"))
        disk.open_files.give_back()
        with no_descriptor_left():
            assert (await append(logs, LOG, batch(b"refused"))).error is Error.KAFKA_STORAGE_ERROR
            [piece] = await logs.read([Read(LOG, 0, 1000)], 1000)
            assert piece.error is Error.KAFKA_STORAGE_ERROR
        assert (await append(logs, LOG, batch(b"after"))).base_offset == 1
        assert await everything(logs) == [(0, b"before"), (1, b"after")]


async def test_a_sync_does_not_fail_for_want_of_a_descriptor(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, SYNCED)
        assert (await append(logs, LOG, batch(b"a"))).error is Error.NONE
        for _ in range(3):
            with no_descriptor_left():
                assert (await append(logs, LOG, batch(b"a"))).error is Error.NONE


def test_bytes_count_until_their_last_view_is_gone() -> None:
    waiting = WaitingBytes(limit=1000)
    buffer = waiting.buffer(600)
    assert buffer is not None
    assert waiting.buffer(600) is None
    view = memoryview(buffer)[100:]
    del buffer
    assert waiting.buffer(600) is None
    del view
    assert waiting.size == 0
    assert waiting.buffer(600) is not None
