"""Data directories for the tests of the embedded store, and a disk that lies."""

import errno
import functools
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event, RLock
from typing import NamedTuple, ParamSpec, TypeVar

import trio
import trio.testing
from batches import LOG, values
from catalogues import catalogue_of

from kafkapy.clock import Clock, ManualClock
from kafkapy.storage.base import Bounds, LogSettings, Read
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.embedded.files import Buffer, Disk
from kafkapy.storage.embedded.store import EmbeddedLogs

P = ParamSpec("P")
T = TypeVar("T")

FOLDER = "t-0"
SYNCED = LogSettings(segment_bytes=2000, index_interval_bytes=200, flush_messages=1)


@asynccontextmanager
async def opened(
    directory: Path, disk: Disk | None = None, node_id: int = 1, clock: Clock | None = None
) -> AsyncIterator[EmbeddedLogs]:
    async with open_embedded(directory, clock=clock or ManualClock(), node_id=node_id, disk=disk) as logs:
        catalogue_of(logs)
        yield logs


async def come_back(logs: EmbeddedLogs, clock: ManualClock) -> None:
    """Let the time pass after which the disk is tried again, and the store find it sound."""
    with trio.fail_after(30):
        while any(directory.offline for directory in logs.directories.values()):
            clock.advance_ms(1000)
            await trio.sleep(0)
            await trio.testing.wait_all_tasks_blocked()


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


class Rename(NamedTuple):
    """A file's names before and after, what it holds, and what had the name before."""

    source: str
    target: str
    content: bytes | None
    replaced: bytes | None


def _changes(method: Callable[P, T]) -> Callable[P, T]:
    """One change at a time, of which the disk's `before_change` hears first."""

    @functools.wraps(method)
    def one(*args: P.args, **options: P.kwargs) -> T:
        disk = args[0]
        assert isinstance(disk, LyingDisk)
        with disk.changing:
            disk.before_change()
            return method(*args, **options)

    return one


class LyingDisk(Disk):
    """Forgets what was not synced, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: dict[str, bytes] = {}
        self.entries: dict[str, set[str]] = {}  # by folder, those that were synced
        self.renames: dict[str, list[Rename]] = {}  # by folder, since it was synced
        self.folders: set[str] = set()  # whatever was one once
        self.moved_folders: dict[str, list[tuple[str, str]]] = {}  # by folder, since it was synced: from, to
        self.changing = RLock()
        self.before_change: Callable[[], None] = lambda: None  # called before anything that a power cut may take
        self.appends_left: int | None = None
        self.small_files_fail = False
        self.cuts_fail = False
        self.removals_fail = False
        self.renames_fail = False
        self.reads_fail = False
        self.broken: Path | None = None  # a directory of which the disk takes nothing
        self.syncs_fail = False
        self.lost_pages: dict[str, int] = {}  # by file, where what a failed sync has dropped begins
        self.sync_fails_at_its_end = False
        self.sync_failed = Event()
        self.sync_begun = Event()
        self.sync_may_end = Event()
        self.sync_may_end.set()

    @_changes
    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        self._refuse(path)
        if self.appends_left == 0:
            super().append(path, [b"".join(buffers)[:40]], 40, position)  # torn in the middle of a batch
            raise OSError(errno.ENOSPC, "No space left on device")
        if self.appends_left is not None:
            self.appends_left -= 1
        super().append(path, buffers, size, position)

    @_changes
    def put(self, path: str, data: Buffer, position: int) -> None:
        super().put(path, data, position)

    def truncate(self, path: str, size: int) -> None:
        if self.cuts_fail:
            raise OSError(errno.EIO, "Input/output error")
        with self.changing:
            super().truncate(path, size)

    @_changes
    def remove(self, path: str) -> None:
        if self.removals_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().remove(path)

    @_changes
    def rename_file(self, source: str, target: str) -> None:
        if self.renames_fail:
            raise PermissionError(errno.EACCES, "Permission denied")
        there = [Path(path).read_bytes() if os.path.exists(path) else None for path in (source, target)]
        super().rename_file(source, target)
        names = os.path.basename(source), os.path.basename(target)
        self.renames.setdefault(os.path.dirname(source), []).append(Rename(*names, *there))
        self.synced[target] = self.synced.get(source, b"")

    @_changes
    def remove_set_aside(self, path: Path) -> None:
        super().remove_set_aside(path)

    def rename(self, source: Path, target: Path) -> None:
        if self.renames_fail:
            raise PermissionError(errno.EACCES, "Permission denied")
        with self.changing:
            super().rename(source, target)
            self.folders |= {str(source), str(target)}
            self.moved_folders.setdefault(str(source.parent), []).append((source.name, target.name))

    @_changes
    def write_file(self, path: Path, data: bytes, *, sync: bool = False) -> None:
        self._refuse(path)
        if self.small_files_fail:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write_file(path, data, sync=sync)
        if sync:
            self.synced[str(path)] = data

    @_changes
    def sync_folder(self, folder: str) -> None:
        names = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        renamed, moved = len(self.renames.get(folder, ())), len(self.moved_folders.get(folder, ()))
        super().sync_folder(folder)
        self.entries[folder] = names
        del self.renames.get(folder, [])[:renamed]
        del self.moved_folders.get(folder, [])[:moved]

    def write_again(self, path: str, data: Buffer, position: int) -> None:
        super().write_again(path, data, position)
        if position <= self.lost_pages.get(path, position) <= position + len(data):
            self.lost_pages.pop(path, None)

    def make_folder(self, path: Path, *, parents: bool = False) -> None:
        self._refuse(path)
        with self.changing:
            super().make_folder(path, parents=parents)
            self.folders.add(str(path))

    def _refuse(self, path: Path | str) -> None:
        if self.broken is not None and Path(path).is_relative_to(self.broken):
            raise OSError(errno.EIO, "Input/output error")

    def probe(self, folder: Path) -> None:
        self._refuse(folder)
        if self.appends_left == 0 or self.small_files_fail or self.syncs_fail:
            raise OSError(errno.EIO, "Input/output error")
        super().probe(folder)

    def read_cached(self, path: str, position: int, size: int, buffer: bytearray | None = None) -> memoryview | None:
        if self.reads_fail:
            raise OSError(errno.EIO, "Input/output error")
        return super().read_cached(path, position, size, buffer)

    def sync(self, paths: Sequence[str]) -> None:
        with self.changing:
            self.before_change()
        contents = {path: Path(path).read_bytes() for path in paths if Path(path).exists()}
        if self.syncs_fail:
            if self.sync_fails_at_its_end:
                self.sync_begun.set()
                self.sync_may_end.wait(5)
            for path in contents:
                self.lost_pages.setdefault(path, len(self.synced.get(path, b"")))
            self.sync_failed.set()
            raise OSError(errno.EIO, "Input/output error")
        for path, begin in self.lost_pages.items():
            if path in contents:  # the system calls them clean: what was written since is on the medium, they are not
                contents[path] = self.synced.get(path, b"")[:begin]
        self.sync_begun.set()
        self.sync_may_end.wait(5)  # not for ever: a test that fails must end
        super().sync(paths)
        self.synced |= contents

    def after_crash(self, directory: Path, copy: Path, kept: Callable[[], float]) -> "LyingDisk":
        """Make a copy of the directory as the next start finds it; the disk that holds the copy.

        `kept` is asked once a file how much (0 to 1) of what was not synced reached the medium all the same: of a log
        and its indexes that much of the unsynced end, of a file that is replaced as a whole the new content or the last
        synced one. It is asked once an entry of a folder, too, that was made or removed since the folder was synced.
        A file or a folder that was given another name since has one of the two.
        """
        shutil.copytree(directory, copy)
        for folder in (directory, *(path for path in sorted(directory.glob("*")) if path.is_dir())):
            synced_names = self.entries.get(str(folder), set())
            there = {path.name for path in folder.iterdir() if not path.name.endswith(".tmp")}
            renamed = self._leave_renamed(folder, copy / folder.relative_to(directory), kept)
            renamed |= self._leave_moved(folder, copy / folder.relative_to(directory), kept)
            for name in sorted((there | synced_names) - renamed):
                path, target = folder / name, copy / folder.relative_to(directory) / name
                if not target.parent.exists() or name == ".lock":
                    continue
                is_kept = kept() >= 0.5
                if name not in (synced_names if not is_kept else there):
                    shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
                elif str(path) in self.folders:
                    target.mkdir(exist_ok=True)
                elif not path.is_dir():
                    self._leave_content(path, target, kept())
        disk = LyingDisk()
        disk.synced = {str(path): path.read_bytes() for path in copy.glob("**/*") if path.is_file()}
        disk.entries = {str(path): set(os.listdir(path)) for path in (copy, *copy.glob("*/"))}
        disk.folders = {str(path) for path in copy.glob("**/")}
        return disk

    def after_kill(self, directory: Path, copy: Path) -> "LyingDisk":
        """The same after the process alone was killed: all is there, and what was not synced still is not."""
        shutil.copytree(directory, copy)
        disk = LyingDisk()

        def moved(path: str) -> str | None:
            there = Path(path)
            return str(copy / there.relative_to(directory)) if there.is_relative_to(directory) else None

        disk.synced = {at: content for path, content in self.synced.items() if (at := moved(path))}
        disk.entries = {at: set(names) for path, names in self.entries.items() if (at := moved(path))}
        disk.folders = {at for path in self.folders if (at := moved(path))}
        disk.moved_folders = {at: list(names) for path, names in self.moved_folders.items() if (at := moved(path))}
        return disk

    def _leave_renamed(self, folder: Path, target: Path, kept: Callable[[], float]) -> set[str]:
        """Leave the files that have other names since the folder was synced; all names that they had."""
        renames = list(self.renames.get(str(folder), ()))
        left: dict[str, bytes] = {}
        known: set[str] = set()
        for rename in renames:
            for name, content in ((rename.source, rename.content), (rename.target, rename.replaced)):
                if name not in known and content is not None:
                    left[name] = content
                known.add(name)
        for rename in renames:
            if rename.source in left and kept() >= 0.5:
                left[rename.target] = left.pop(rename.source)
        for name in known:
            (target / name).unlink(missing_ok=True)
            if name in left:
                (target / name).write_bytes(left[name])
        return known

    def _leave_moved(self, folder: Path, target: Path, kept: Callable[[], float]) -> set[str]:
        """Leave the folders that have other names since this one was synced; all names that are seen to."""
        known: set[str] = set()
        for source, now in reversed(self.moved_folders.get(str(folder), ())):
            if not (target / source).exists() and (target / now).is_dir():
                known |= {source, now}
                if kept() < 0.5:
                    (target / now).rename(target / source)
        return known

    def _leave_content(self, path: Path, target: Path, part: float) -> None:
        synced = self.synced.get(str(path), b"")
        now = path.read_bytes() if path.exists() else synced
        if path.suffix in (".log", ".index", ".timeindex"):
            target.write_bytes(now[: len(synced) + int(part * (len(now) - len(synced)))])
        else:
            target.write_bytes(now if part >= 0.5 else synced)
