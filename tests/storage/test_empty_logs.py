"""Logs that nothing was written to: a start after a clean stop knows them without a look, unless somebody was there."""

import os
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, batch
from catalogues import create, delete
from disks import FOLDER, everything, opened

from kafkapy.errors import Error
from kafkapy.storage.base import Bounds
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.files import Disk

EMPTY_LOGS = ".kafkapy-empty-logs"
NAMESAKE = LOG._replace(topic_id=b"9" * 16)


class Watched(Disk):
    """Notes which folders were looked into."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_into: set[str] = set()

    def names(self, folder: Path) -> list[str]:
        self.looked_into.add(folder.name)
        return super().names(folder)


async def made(directory: Path) -> None:
    """An empty log, and one that is not, made a while ago."""
    async with opened(directory) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        await append(logs, OTHER, batch(b"value"))
        for log in (LOG, OTHER):
            os.utime(directory / str(log), (1_700_000_000, 1_700_000_000))


async def test_a_log_that_is_empty_is_there_without_a_look(tmp_path: Path) -> None:
    await made(tmp_path)
    for _ in range(2):  # what one stop leaves, and what is left of it by the next
        disk = Watched()
        async with opened(tmp_path, disk) as logs:
            assert logs.bounds(LOG) == Bounds(0, 0, 0, 0)
            assert logs.bounds(OTHER) == Bounds(0, 1, 1, 1)
        assert disk.looked_into == {str(OTHER)}
    async with opened(tmp_path) as logs:
        assert (await append(logs, LOG, batch(b"first"))).base_offset == 0
    async with opened(tmp_path) as logs:
        assert await everything(logs) == [(0, b"first")]
    assert list(check(tmp_path)) == []


async def test_what_was_put_there_meanwhile_is_found(tmp_path: Path) -> None:
    before, directory = tmp_path / "before", tmp_path / "data"
    async with opened(before) as logs:
        await create(logs, LOG)
        await append(logs, LOG, batch(b"from a backup"))
    await made(directory)
    for path in (before / FOLDER).iterdir():
        shutil.copy(path, directory / FOLDER)
    async with opened(directory) as logs:
        assert await everything(logs) == [(0, b"from a backup")]


async def test_nothing_of_it_is_believed_after_a_crash(tmp_path: Path) -> None:
    await made(tmp_path)
    (tmp_path / ".kafka_cleanshutdown").unlink()
    text = (tmp_path / EMPTY_LOGS).read_text()
    disk = Watched()
    async with opened(tmp_path, disk) as logs:
        assert logs.bounds(LOG) == Bounds(0, 0, 0, 0)
    assert disk.looked_into == {str(LOG), str(OTHER)}
    assert (tmp_path / EMPTY_LOGS).read_text() == text


async def test_a_damaged_list_says_nothing(tmp_path: Path) -> None:
    await made(tmp_path)
    text = (tmp_path / EMPTY_LOGS).read_text()
    for damage in (text.replace(str(LOG), str(LOG) + " x"), text.replace("0\n1\n", "0\nmany\n"), "", "\xff\x00"):
        (tmp_path / EMPTY_LOGS).write_text(damage)
        disk = Watched()
        async with opened(tmp_path, disk) as logs:
            assert logs.bounds(LOG) == Bounds(0, 0, 0, 0)
        assert str(LOG) in disk.looked_into


async def test_a_folder_that_was_taken_away_is_not_missed_by_the_stop(tmp_path: Path) -> None:
    await made(tmp_path)
    async with opened(tmp_path) as logs:
        assert isinstance(logs.bounds(LOG), Bounds)
        shutil.rmtree(tmp_path / FOLDER)
    assert (tmp_path / ".kafka_cleanshutdown").exists()
    async with opened(tmp_path) as logs:
        assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
        await create(logs, LOG)
        assert logs.bounds(LOG) == Bounds(0, 0, 0, 0)


async def test_a_namesake_is_told_from_the_one_before(tmp_path: Path) -> None:
    await made(tmp_path)
    async with opened(tmp_path) as logs:
        await delete(logs, LOG)
        await create(logs, NAMESAKE)
    async with opened(tmp_path) as logs:
        assert logs.bounds(NAMESAKE) == Bounds(0, 0, 0, 0)
        assert logs.bounds(LOG) is Error.UNKNOWN_TOPIC_OR_PARTITION
