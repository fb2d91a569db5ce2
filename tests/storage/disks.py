"""Data directories for the tests of the embedded store, and a disk that lies."""

import errno
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

from batches import LOG, values
from catalogues import catalogue_of

from kafkapy.clock import Clock, ManualClock
from kafkapy.storage.base import Bounds, LogSettings, Read
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.embedded.files import Buffer, Disk
from kafkapy.storage.embedded.store import EmbeddedLogs

FOLDER = "t-0"
SYNCED = LogSettings(segment_bytes=2000, index_interval_bytes=200, flush_messages=1)


@asynccontextmanager
async def opened(
    directory: Path, disk: Disk | None = None, node_id: int = 1, clock: Clock | None = None
) -> AsyncIterator[EmbeddedLogs]:
    async with open_embedded(directory, clock=clock or ManualClock(), node_id=node_id, disk=disk) as logs:
        catalogue_of(logs)
        yield logs


async def everything(logs: EmbeddedLogs) -> list[tuple[int, bytes | None]]:
    bounds = logs.bounds(LOG)
    assert isinstance(bounds, Bounds)
    found: list[tuple[int, bytes | None]] = []
    while not found or found[-1][0] + 1 < bounds.high_watermark:
        [piece] = await logs.read([Read(LOG, found[-1][0] + 1 if found else bounds.log_start_offset, 1 << 20)], 1 << 20)
        if not piece.records:
            break
        found += values(piece.records)
    return found


class LyingDisk(Disk):
    """Forgets what was not synced, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: dict[str, bytes] = {}
        self.appends_left: int | None = None
        self.small_files_fail = False
        self.cuts_fail = False
        self.removals_fail = False
        self.renames_fail = False
        self.reads_fail = False
        self.syncs_fail = False
        self.sync_begun = Event()
        self.sync_may_end = Event()
        self.sync_may_end.set()

    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        if self.appends_left == 0:
            super().append(path, [b"".join(buffers)[:40]], 40, position)  # torn in the middle of a batch
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.appends_left is not None:
            self.appends_left -= 1
        super().append(path, buffers, size, position)

    def truncate(self, path: str, size: int) -> None:
        if self.cuts_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().truncate(path, size)

    def remove(self, path: str) -> None:
        if self.removals_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().remove(path)

    def rename(self, source: Path, target: Path) -> None:
        if self.renames_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().rename(source, target)

    def write_file(self, path: Path, data: bytes) -> None:
        if self.small_files_fail:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_file(path, data)

    def read_cached(self, path: str, position: int, size: int, buffer: bytearray | None = None) -> memoryview | None:
        if self.reads_fail:
            raise OSError(errno.EIO, "Input/output error")
        return super().read_cached(path, position, size, buffer)

    def sync(self, paths: Sequence[str]) -> None:
        if self.syncs_fail:
            raise OSError(errno.EIO, "Input/output error")
        contents = {path: Path(path).read_bytes() for path in paths if Path(path).exists()}
        self.sync_begun.set()
        self.sync_may_end.wait(5)  # not for ever: a test that fails must end
        super().sync(paths)
        self.synced |= contents

    def after_crash(self, directory: Path, copy: Path, kept: Callable[[], float]) -> "LyingDisk":
        """Make a copy of the directory as the next start finds it; the disk that holds the copy.

        `kept` is asked once a file how much (0 to 1) of what was not synced reached the medium all the same: of a log
        that much of its unsynced end, of a file that is replaced as a whole the new content or the last synced one.
        """
        shutil.copytree(directory, copy)
        for path in directory.glob("*/*"):
            if path.name != "partition.metadata" and path.is_file():
                now, synced, part = path.read_bytes(), self.synced.get(str(path), b""), kept()
                if path.suffix == ".log":
                    content = now[: len(synced) + int(part * (len(now) - len(synced)))]
                else:
                    content = now if part >= 0.5 else synced
                (copy / path.relative_to(directory)).write_bytes(content)
        disk = LyingDisk()
        disk.synced = {str(path): path.read_bytes() for path in copy.glob("*/*") if path.is_file()}
        return disk
