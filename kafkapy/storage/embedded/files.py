"""The only door to the disk.

Everything that the embedded store does to files goes through a `Disk`, so that tests can hand it one that tears writes,
loses what was not synced, or is full. Open log files are kept in a pool of bounded size (`open_files`).

Work that may block for long (syncing, cold reads) opens its file by itself, in a worker thread: then nothing that the
event loop closes can be pulled from under it. A sync through another descriptor of the same file covers all its data.
"""

import contextlib
import ctypes
import errno
import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

from kafkapy.storage.embedded.open_files import FileRegion, LogFile, OpenFiles, Spares
from kafkapy.storage.embedded.waiting import WaitingBytes

Buffer = bytes | bytearray | memoryview

_LOAD_STEP_BYTES: Final = 1 << 20
_SMALL_FILE_BYTES: Final = 4096

MAX_OPEN_FILES: Final = 448
"""What leaves room for as many connections under the usual limit of 1,024 descriptors."""

DELETED_FILE_SUFFIX: Final = ".deleted"
"""Of a log's file that is to go, as Kafka names it."""

_SPARE_DESCRIPTORS: Final = 8
"""One for each thread that syncs."""

UNFINISHED_SUFFIX: Final = ".tmp"
"""Of a small file that is being written, before it takes the place of the one before."""

PROBE: Final = ".kafkapy-probe"
_PROBE_BYTES: Final = 1 << 20
"""So much must be written before a disk that failed is called sound again."""

_ONE_BYTE: Final = bytearray(1)

_ALLOCATED_PART: Final = 4
_MIN_ALLOCATED_BYTES: Final = 64 << 10
_MAX_ALLOCATED_BYTES: Final = 4 << 20
"""Blocks are allocated ahead for a quarter of what a file holds, if that is so much at least, and at most."""

_KEEP_SIZE: Final = 1
"""FALLOC_FL_KEEP_SIZE: the blocks lie beyond the file's end. Python's posix_fallocate would move the end."""

_CANNOT_ALLOCATE: Final = (0, errno.ENOSYS, errno.EOPNOTSUPP)


def _allocator() -> Callable[[int, int, int, int], int]:
    """fallocate(2) of Linux: descriptor, mode, position, size; 0 says that it was done. Elsewhere it never is."""
    system = ctypes.CDLL(None, use_errno=True)
    for name in ("fallocate64", "fallocate"):  # glibc's with 64-bit positions everywhere, musl's only one
        if (found := getattr(system, name, None)) is not None:
            found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
            return cast("Callable[[int, int, int, int], int]", found)
    return lambda descriptor, mode, position, size: -1


allocate: Final = _allocator()


class Disk:
    """The machine's file system."""

    def __init__(self, max_open_files: int = MAX_OPEN_FILES) -> None:
        self.open_files = OpenFiles(max_open_files)
        self.waiting = WaitingBytes()
        self._spares = Spares(_SPARE_DESCRIPTORS)
        self._ticks = itertools.count(1)
        self._changed: dict[str, int] = {}  # by folder, when an entry of it came or went, in ticks
        self._folders_synced: dict[str, int] = {}  # up to which change
        self._reads_without_waiting = hasattr(os, "RWF_NOWAIT")

    # -- log files: appended to and read at positions

    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        """Write the buffers, `size` bytes in all, at `position`, the file's end; OSError when not all could be written.

        Blocks are asked for ahead of what is written, a quarter of the file: that costs the file system less than to
        find them write by write, for a file that goes on growing. `truncate` gives back what is left, and `close`.
        """
        file = self.open_files.get(path, make=True)
        if not position:
            self.note_change(os.path.dirname(path))
        if position + size > file.allocated_end:
            ahead = min(position // _ALLOCATED_PART, _MAX_ALLOCATED_BYTES)
            if ahead >= _MIN_ALLOCATED_BYTES and ahead >= size:
                # What cannot be had is not missed: the write says itself whether the disk is full.
                allocate(file.descriptor, _KEEP_SIZE, position, ahead)
                file.allocated_end = position + ahead
        written = os.pwritev(file.descriptor, buffers, position)
        if written != size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def put(self, path: str, data: Buffer, position: int) -> None:
        """Have `data` at `position` of a small file that is made if need be, and ends behind it. Raises OSError.

        It is not kept open: log files have better use for descriptors.
        """
        with self.open_files.briefly(path) as descriptor:
            if os.pwrite(descriptor, data, position) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            os.ftruncate(descriptor, position + len(data))
        if not position:
            self.note_change(os.path.dirname(path))

    def make_file(self, path: str) -> None:
        """Have the file, empty if it is not there yet. Raises OSError."""
        self.open_files.get(path, make=True)
        self.note_change(os.path.dirname(path))

    def allocate(self, path: str, size: int) -> None:
        """Have blocks for the file's first `size` bytes, where the file system can do that. OSError without room."""
        file = self.open_files.get(path, make=True)
        file.allocated_end = size
        if allocate(file.descriptor, _KEEP_SIZE, 0, size) and (failure := ctypes.get_errno()) not in _CANNOT_ALLOCATE:
            raise OSError(failure, os.strerror(failure), path)

    def read(self, path: str, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; waits for the disk if it must."""
        return os.pread(self.open_files.get(path).descriptor, size, position)

    def read_cached(self, path: str, position: int, size: int, buffer: bytearray | None = None) -> memoryview | None:
        """The same if the bytes are in memory already; None when the disk would have to be waited for.

        They come in the buffer, if there is one: it must be as large.
        """
        if buffer is None:
            buffer = bytearray(size)
        return memoryview(buffer) if self._read_now(self.open_files.get(path), buffer, position) else None

    def _read_now(self, file: LogFile, buffer: bytearray, position: int) -> bool:
        """Fill the buffer from what is in memory; false when it is not all there."""
        if not self._reads_without_waiting:
            return False
        try:
            return os.preadv(file.descriptor, (buffer,), position, os.RWF_NOWAIT) == len(buffer)
        except BlockingIOError:
            return False
        except OSError:
            self._reads_without_waiting = False  # this file system cannot tell
            return False

    def read_waiting(self, path: str, position: int, size: int) -> bytes:
        """The same through a descriptor of its own: for worker threads."""
        with self._spares.open(path, os.O_RDONLY) as descriptor:
            return os.pread(descriptor, size, position)

    def region(self, path: str, position: int, size: int) -> FileRegion:
        """The same bytes, left in the file until they are sent."""
        return FileRegion(self.open_files, self.open_files.get(path), position, size)

    def is_cached(self, region: FileRegion) -> bool:
        """Whether a new region's bytes, of which the first were just read, seem to be in memory: the last one is."""
        return self._read_now(region.file, _ONE_BYTE, region.position + region.size - 1)

    def load(self, path: str, position: int, size: int) -> None:
        """Bring the bytes into memory; for worker threads."""
        for begin in range(position, position + size, _LOAD_STEP_BYTES):
            self.read_waiting(path, begin, min(_LOAD_STEP_BYTES, position + size - begin))

    def copy(self, source: str, target: str, position: int, size: int) -> None:
        """Have the same bytes at the same position of another file; for worker threads. Raises OSError."""
        with (
            self._spares.open(source, os.O_RDONLY) as reading,
            self._spares.open(target, os.O_RDWR | os.O_CREAT) as writing,
        ):
            data = os.pread(reading, size, position)
            if len(data) != size or os.pwrite(writing, data, position) != size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), target)

    def write_again(self, path: str, data: Buffer, position: int) -> None:
        """Have the same bytes written to the medium that were read here; for worker threads. Raises OSError."""
        with self._spares.open(path, os.O_RDWR) as descriptor:
            if os.pwrite(descriptor, data, position) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def truncate(self, path: str, size: int) -> None:
        """Cut the file at `size`; blocks beyond it are given back, even where the size stays."""
        file = self.open_files.get(path)
        os.ftruncate(file.descriptor, size)
        file.allocated_end = 0

    def size(self, path: str) -> int:
        """The file's size; 0 when there is none."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def set_modified_ms(self, path: str, time_ms: int) -> None:
        """Have the file say that it was written to last at this time. Raises OSError."""
        os.utime(path, ns=(time_ms * 1_000_000,) * 2)

    def modified_ms(self, path: str) -> int:
        """When the file was written to last. Raises OSError."""
        return os.stat(path).st_mtime_ns // 1_000_000

    def sync(self, paths: Sequence[str]) -> None:
        """Have the files' data on the medium before returning, and the entries by which they are found, if any has
        changed; for worker threads. OSError when that fails.
        """
        folders: dict[str, None] = {}
        for path in paths:
            with (
                contextlib.suppress(FileNotFoundError),  # deleted in the meantime: nothing left to keep
                self._spares.open(path, os.O_RDWR) as descriptor,
            ):
                os.fdatasync(descriptor)
            folder = os.path.dirname(path)
            folders[folder] = folders[os.path.dirname(folder)] = None
        for folder in folders:
            change = self._changed.get(folder)
            if change != self._folders_synced.get(folder):
                self.sync_folder(folder)
                assert change is not None
                self._folders_synced[folder] = change

    def sync_folder(self, folder: str) -> None:
        """Have the folder's entries on the medium, not what they stand for. OSError when that fails."""
        with (
            contextlib.suppress(FileNotFoundError),
            self._spares.open(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor,
        ):
            os.fsync(descriptor)

    def note_change(self, folder: str) -> None:
        """An entry of the folder came or went: the next sync of a file at or below it takes the folder along."""
        self._changed[folder] = next(self._ticks)

    # -- small files: read and replaced as a whole

    def read_file(self, path: Path | str) -> bytes | None:
        """The whole file; None when there is none."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        # A start reads one for each log: no more calls of the system than it takes.
        try:
            data = os.read(descriptor, _SMALL_FILE_BYTES)
            if len(data) < _SMALL_FILE_BYTES:
                return data
            pieces = [data]
            while piece := os.read(descriptor, _LOAD_STEP_BYTES):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(descriptor)

    def write_file(self, path: Path, data: bytes, *, sync: bool = False) -> None:
        """Replace the file in one step: a reader, or a crash, finds the old content or the new one.

        After a power cut that is so with `sync` only, and then the new content is on the medium on return. Without it a
        file may be empty, until a sync of its log has taken it along.
        """
        part = path.with_name(path.name + UNFINISHED_SUFFIX)
        try:
            with part.open("wb") as file:
                file.write(data)
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
        if sync:
            self.sync_folder(str(path.parent))
        else:
            self.note_change(str(path.parent))

    # -- folders

    def probe(self, folder: Path) -> None:
        """Raise OSError unless a file can be written and synced there; for worker threads."""
        path = folder / PROBE
        try:
            with path.open("wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def make_folder(self, path: Path, *, parents: bool = False) -> None:
        """Make the folder, and with `parents` those it is in, unless it is there."""
        if not path.exists():
            path.mkdir(parents=parents, exist_ok=True)
            self.note_change(str(path.parent))

    def identity(self, path: Path) -> tuple[int, int] | None:
        """What tells a file or folder from another one in its place; None when there is none, or it cannot be seen."""
        try:
            found = os.stat(path)
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def names(self, folder: Path) -> list[str]:
        """What the folder holds."""
        return os.listdir(folder)

    def folder_names(self, folder: Path) -> list[str]:
        """The folders that it holds."""
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]

    def room(self, folder: Path) -> tuple[int, int]:
        """The bytes of the file system that the folder is on: in all, and free for this process."""
        system = os.statvfs(folder)
        return system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize

    def rename(self, source: Path, target: Path) -> None:
        """Give a folder another name: who waits to be sent from its files finds them there."""
        os.rename(source, target)
        self.open_files.move(str(source), str(target))
        self._changed.pop(str(source), None)
        self._folders_synced.pop(str(source), None)
        self.note_change(str(target.parent))

    def rename_file(self, source: str, target: str) -> None:
        """Give a log's file another name, which nobody keeps: who waits to be sent from the file finds it there.

        Raises OSError.
        """
        os.rename(source, target)
        self.open_files.move_file(source, target)
        self.note_change(os.path.dirname(source))

    def set_aside(self, path: str) -> Path | None:
        """Give a log's file the name of one that is to go. The new name, None when there is no such file."""
        target = path + DELETED_FILE_SUFFIX
        others = itertools.count(1)
        while os.path.lexists(target):  # of a segment that was replaced lately, and may still be read
            target = f"{path}.{next(others)}{DELETED_FILE_SUFFIX}"
        try:
            self.rename_file(path, target)
        except FileNotFoundError:
            return None
        return Path(target)

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        self.open_files.forget(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            self.note_change(os.path.dirname(path))

    def remove_set_aside(self, path: Path) -> None:
        """Remove what was set aside, a file or a folder with all it holds; for worker threads."""
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # the next start tries again
                path.unlink()

    def close(self) -> None:
        """Close everything, and give back what was allocated ahead."""
        self.open_files.give_back()
