"""The pool of open log files: few descriptors for many files, and for all who wait to be sent from them.

Invariants
 1. Never are more descriptors open than `limit`, whatever is read, appended to, removed, or waits to be sent.
 2. A region holds its file, not a descriptor: the file is opened again when its turn to be sent has come.
 3. What was allocated ahead for a file is known until it is given back, also while the file is closed.

Used on the event loop alone. Worker threads open what they need by themselves (`Spares`): nothing that the loop closes
is pulled from under them.
"""

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

_REMOVED_PART: Final = 4
"""A quarter of the descriptors may belong to removed files that somebody is yet to be sent."""

_NO_DESCRIPTOR: Final = (errno.EMFILE, errno.ENFILE)


class LogFile:
    """A log file, open or not. For what lies before `allocated_end` blocks were asked for; 0: for nothing.

    `regions` of it are yet to be sent. One that is `gone` from its place is there for them alone.
    """

    __slots__ = ("allocated_end", "descriptor", "gone", "path", "regions")

    def __init__(self, path: str) -> None:
        self.path = path
        self.descriptor = -1
        self.allocated_end = 0
        self.gone = False
        self.regions = 0

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


class OpenFiles:
    """Log files by their paths, of which at most `limit` are open; who was not used for longest is closed first."""

    def __init__(self, limit: int) -> None:
        self.limit = max(limit, 1)
        self._open: OrderedDict[str, LogFile] = OrderedDict()
        self._removed: set[LogFile] = set()  # open, and of no path any more
        self._known: dict[str, dict[str, LogFile]] = {}  # by folder and path, open or not

    def __len__(self) -> int:
        """How many descriptors are open."""
        return len(self._open) + len(self._removed)

    def get(self, path: str, make: bool = False) -> LogFile:
        """The file, open until the next call; `make`: it need not be there yet. Raises OSError."""
        file = self._open.get(path)
        if file is not None:
            self._open.move_to_end(path)
            return file
        files = self._known.get(os.path.dirname(path), {})
        file = files.get(path)
        if file is None:
            file = LogFile(path)
        self._open_again(file, make)
        files[path] = file
        self._known[os.path.dirname(path)] = files
        return file

    def descriptor(self, file: LogFile) -> int:
        """The descriptor of a file that was got before. Raises OSError, also when the file has been removed."""
        if file.descriptor < 0:
            self._open_again(file)
        elif file.path in self._open:
            self._open.move_to_end(file.path)
        return file.descriptor

    @contextlib.contextmanager
    def briefly(self, path: str) -> Iterator[int]:
        """A descriptor for the length of the block, of a file that is seldom written to, or new. Raises OSError."""
        descriptor = self._descriptor(path, os.O_RDWR | os.O_CREAT)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def forget(self, path: str) -> None:
        """The file is about to be removed: who waits to be sent from it finds it open."""
        folder = os.path.dirname(path)
        files = self._known.get(folder, {})
        file = files.pop(path, None)
        if file is None:
            return
        file.gone = True
        if not files:
            del self._known[folder]
        is_wanted = file.regions > 0 and len(self._removed) < self.limit // _REMOVED_PART
        if is_wanted:
            with contextlib.suppress(OSError):  # then who waits loses its connection
                self.descriptor(file)
        self._open.pop(path, None)
        file.path = ""
        if is_wanted and file.descriptor >= 0:
            self._removed.add(file)
        else:
            file.close()

    def move(self, source: str, target: str) -> None:
        """The folder has another name now: who waits to be sent from its files finds them there."""
        for path, file in self._known.pop(source, {}).items():
            self._move(file, os.path.join(target, os.path.basename(path)))

    def move_file(self, source: str, target: str) -> None:
        """The file has another name now, in the same sense."""
        folder = os.path.dirname(source)
        files = self._known.get(folder, {})
        file = files.pop(source, None)
        if file is not None:
            self._move(file, target)
            if not files:
                del self._known[folder]

    def _move(self, file: LogFile, target: str) -> None:
        is_open = self._open.pop(file.path, None) is not None
        file.gone = True
        if file.regions:
            file.path = target
            if is_open:
                self._open[target] = file
        else:
            file.close()

    def left(self, file: LogFile) -> None:
        """Nobody waits to be sent from this file any longer, which is gone from its place."""
        self._open.pop(file.path, None)
        self._removed.discard(file)
        file.close()

    def give_back(self) -> None:
        """Give back all blocks that nothing was written to, and close everything."""
        for files in self._known.values():
            for file in files.values():
                if file.allocated_end:
                    with contextlib.suppress(OSError):  # then they stay; the data is not touched
                        descriptor = self.descriptor(file)
                        os.ftruncate(descriptor, os.fstat(descriptor).st_size)
        for file in self._open.values():
            file.close()
        self._open.clear()
        self._known.clear()

    def _open_again(self, file: LogFile, make: bool = False) -> None:
        file.descriptor = self._descriptor(file.path, os.O_RDWR | os.O_CREAT if make else os.O_RDWR)
        self._open[file.path] = file

    def _descriptor(self, path: str, flags: int) -> int:
        while len(self) >= self.limit and self._close_one():
            pass
        while True:
            try:
                return os.open(path, flags, 0o644)
            except OSError as failure:
                # The process, or the machine, has no more of them: what this pool can spare is the first to go.
                if failure.errno not in _NO_DESCRIPTOR or not self._close_one():
                    raise

    def _close_one(self) -> bool:
        """Close the file that was not used for longest; false when none is open."""
        if not self._open:
            return False
        self._open.popitem(last=False)[1].close()
        return True


class Spares:
    """Descriptors for worker threads, which cannot close what the pool can spare: some are kept for when there are no
    others, so that a sync does not fail for want of one.
    """

    def __init__(self, count: int) -> None:
        self._kept: list[LogFile] = []
        for _ in range(count):
            self._keep()

    @contextlib.contextmanager
    def open(self, path: str, flags: int) -> Iterator[int]:
        """A descriptor of the file for the length of the block. Raises OSError."""
        spent = False
        while True:
            try:
                descriptor = os.open(path, flags)
                break
            except OSError as failure:
                if failure.errno not in _NO_DESCRIPTOR or not self._kept:
                    raise
                self._kept.pop().close()
                spent = True
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            if spent:
                with contextlib.suppress(OSError):
                    self._keep()

    def _keep(self) -> None:
        spare = LogFile(os.devnull)
        spare.descriptor = os.open(os.devnull, os.O_RDONLY)
        self._kept.append(spare)


class FileRegion:
    """A part of a log file that is sent from where it lies, also when the file has been removed or moved meanwhile."""

    __slots__ = ("_files", "file", "position", "size")

    def __init__(self, files: OpenFiles, file: LogFile, position: int, size: int) -> None:
        self._files = files
        self.file = file
        self.position = position
        self.size = size
        file.regions += 1

    def __len__(self) -> int:
        return self.size

    def fileno(self) -> int:
        """See `storage.base.Region`."""
        return self._files.descriptor(self.file)

    def read(self, size: int) -> bytes:
        return os.pread(self._files.descriptor(self.file), min(size, self.size), self.position)

    def advance(self, count: int) -> None:
        self.position += count
        self.size -= count

    def __del__(self) -> None:
        file = self.file
        file.regions -= 1
        if file.gone and not file.regions:
            self._files.left(file)
