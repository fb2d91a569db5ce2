"""The only door to the disk.

Everything that the embedded store does to files goes through a `Disk`, so that tests can hand it one that tears writes,
loses what was not synced, or is full. Open files are kept in a pool of bounded size: ten thousand partitions do not
need ten thousand descriptors.

Work that may block for long (syncing, cold reads) opens its file by itself, in a worker thread: then nothing that the
event loop closes can be pulled from under it. A sync through another descriptor of the same file covers all its data.
"""

import contextlib
import ctypes
import errno
import os
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, cast

Buffer = bytes | bytearray | memoryview

_LOAD_STEP_BYTES: Final = 1 << 20

MAX_OPEN_FILES: Final = 512
"""Leaves room for connections under the usual limit of 1,024 descriptors."""

_ONE_BYTE: Final = bytearray(1)

_ALLOCATED_PART: Final = 4
_MIN_ALLOCATED_BYTES: Final = 64 << 10
_MAX_ALLOCATED_BYTES: Final = 4 << 20
"""Blocks are allocated ahead for a quarter of what a file holds, within these limits."""

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


class _OpenFile:
    """A descriptor that is closed once nobody holds it: neither the pool, nor a region that is yet to be sent.

    For what lies before `allocated_end` blocks were asked for through this descriptor; 0 when it asked for none.
    """

    __slots__ = ("allocated_end", "descriptor")

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.allocated_end = 0

    def cut(self, size: int) -> None:
        """Cut the file at `size`; blocks beyond it are given back, even where the size stays."""
        os.ftruncate(self.descriptor, size)
        self.allocated_end = 0

    def leave(self) -> None:
        """Give back the blocks that nothing was written to."""
        if self.allocated_end:
            with contextlib.suppress(OSError):  # then they stay; the data is not touched
                self.cut(os.fstat(self.descriptor).st_size)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


class FileRegion:
    """A part of a file that is sent from where it lies, even if the file is removed before."""

    __slots__ = ("file", "position", "size")

    def __init__(self, file: _OpenFile, position: int, size: int) -> None:
        self.file = file
        self.position = position
        self.size = size

    def __len__(self) -> int:
        return self.size

    def fileno(self) -> int:
        return self.file.descriptor

    def read(self, size: int) -> bytes:
        """See `storage.base.Region`."""
        return os.pread(self.file.descriptor, min(size, self.size), self.position)

    def advance(self, count: int) -> None:
        self.position += count
        self.size -= count


class Disk:
    """The machine's file system."""

    def __init__(self, max_open_files: int = MAX_OPEN_FILES) -> None:
        self._max_open_files = max_open_files
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()
        self._reads_without_waiting = hasattr(os, "RWF_NOWAIT")

    # -- log files: appended to and read at positions

    def append(self, path: str, buffers: Sequence[Buffer], size: int, position: int) -> None:
        """Write the buffers, `size` bytes in all, at `position`, the file's end; OSError when not all could be written.

        Blocks are asked for ahead of what is written, up to a quarter of the file: that costs the file system less than
        to find them write by write. `truncate` gives back what is left, and so does closing.
        """
        file = self._file(path)
        if position + size > file.allocated_end:
            ahead = max(size, min(position // _ALLOCATED_PART, _MAX_ALLOCATED_BYTES))
            if ahead >= _MIN_ALLOCATED_BYTES:
                # What cannot be had is not missed: the write says itself whether the disk is full.
                allocate(file.descriptor, _KEEP_SIZE, position, ahead)
                file.allocated_end = position + ahead
        written = os.pwritev(file.descriptor, buffers, position)
        if written != size:
            raise OSError(f"only {written} of {size} bytes were written to {path}")

    def allocate(self, path: str, size: int) -> None:
        """Have blocks for the file's first `size` bytes, where the file system can do that. OSError without room."""
        file = self._file(path)
        file.allocated_end = size
        if allocate(file.descriptor, _KEEP_SIZE, 0, size) and (failure := ctypes.get_errno()) not in _CANNOT_ALLOCATE:
            raise OSError(failure, os.strerror(failure), path)

    def read(self, path: str, position: int, size: int) -> bytes:
        """Up to `size` bytes at `position`; waits for the disk if it must."""
        return os.pread(self._file(path).descriptor, size, position)

    def read_cached(self, path: str, position: int, size: int) -> memoryview | None:
        """The same if the bytes are in memory already; None when the disk would have to be waited for."""
        buffer = bytearray(size)
        return memoryview(buffer) if self._read_now(self._file(path), buffer, position) else None

    def _read_now(self, file: _OpenFile, buffer: bytearray, position: int) -> bool:
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
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size, position)
        finally:
            os.close(descriptor)

    def region(self, path: str, position: int, size: int) -> FileRegion:
        """The same bytes, left in the file until they are sent."""
        return FileRegion(self._file(path), position, size)

    def is_cached(self, region: FileRegion) -> bool:
        """Whether the bytes, of which the first were just read or written, seem to be in memory: the last one is."""
        return self._read_now(region.file, _ONE_BYTE, region.position + region.size - 1)

    def load(self, path: str, position: int, size: int) -> None:
        """Bring the bytes into memory; for worker threads."""
        for begin in range(position, position + size, _LOAD_STEP_BYTES):
            self.read_waiting(path, begin, min(_LOAD_STEP_BYTES, position + size - begin))

    def truncate(self, path: str, size: int) -> None:
        """Cut the file at `size`, and give back the blocks beyond it."""
        self._file(path).cut(size)

    def size(self, path: str) -> int:
        """The file's size; 0 when there is none."""
        try:
            return os.stat(path).st_size
        except FileNotFoundError:
            return 0

    def sync(self, paths: Sequence[str]) -> None:
        """Have the files' data on the medium before returning; for worker threads. OSError when that fails."""
        for path in paths:
            with contextlib.suppress(FileNotFoundError):  # deleted in the meantime: nothing left to keep
                descriptor = os.open(path, os.O_RDWR)
                try:
                    os.fdatasync(descriptor)
                finally:
                    os.close(descriptor)

    # -- small files: read and replaced as a whole

    def read_file(self, path: Path) -> bytes | None:
        """The whole file; None when there is none."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def write_file(self, path: Path, data: bytes) -> None:
        """Replace the file in one step: a reader, or a crash, finds the old content or the new one."""
        part = path.with_name(path.name + ".tmp")
        part.write_bytes(data)
        os.replace(part, path)

    # -- folders

    def make_folder(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)

    def names(self, folder: Path) -> list[str]:
        """What the folder holds."""
        return os.listdir(folder)

    def room(self, folder: Path) -> tuple[int, int]:
        """The bytes of the file system that the folder is on: in all, and free for this process."""
        system = os.statvfs(folder)
        return system.f_blocks * system.f_frsize, system.f_bavail * system.f_frsize

    def rename(self, source: Path, target: Path) -> None:
        """Give a folder, of which no file is open, another name."""
        os.rename(source, target)

    def remove(self, path: str) -> None:
        """Remove a file if it is there."""
        self.forget(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)

    def remove_folder(self, path: Path) -> None:
        """Remove a folder with all it holds; for worker threads."""
        shutil.rmtree(path, ignore_errors=True)

    # -- descriptors

    def forget(self, path: str) -> None:
        """Close this file if it is open, as soon as what is being sent from it is sent."""
        self._open.pop(path, None)

    def close(self) -> None:
        """Close everything."""
        for file in self._open.values():
            file.leave()
        self._open.clear()

    def _file(self, path: str) -> _OpenFile:
        file = self._open.get(path)
        if file is not None:
            self._open.move_to_end(path)
            return file
        if len(self._open) >= self._max_open_files:
            _, oldest = self._open.popitem(last=False)
            oldest.leave()
        file = self._open[path] = _OpenFile(path)
        return file
