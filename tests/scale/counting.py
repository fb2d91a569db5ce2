"""What the scale tests count: work that does not depend on the machine.

Calls to the disk and the bytes they carried, steps of the loop's tasks, calls of the broker's functions, round trips of
one client during something that another asked for, descriptors. Never seconds.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import trio

import kafkapy
from kafkapy.storage.embedded.files import MAX_OPEN_FILES, Disk

T = TypeVar("T")

_PACKAGE = str(Path(kafkapy.__file__).parent)

SCALE = int(os.environ.get("KAFKAPY_SCALE", "1"))
"""How many times larger than in CI a run by hand is."""


class CountingDisk(Disk):
    """The machine's file system, which keeps count: `calls` by the method's name, `written` and `read` in bytes.

    Each public method is wrapped, whatever a disk learns to do.
    """

    def __init__(self, max_open_files: int = MAX_OPEN_FILES) -> None:
        super().__init__(max_open_files)
        self._counting = threading.Lock()  # worker threads use the disk, too
        self.reset()

    def reset(self) -> None:
        """Count from here on."""
        self.calls: Counter[str] = Counter()
        self.written = 0
        self.read_bytes = 0

    def count(self, name: str, arguments: tuple[Any, ...], found: object) -> None:
        with self._counting:
            self.calls[name] += 1
            if name in ("append", "write_file"):
                self.written += _size(arguments)
            elif name.startswith("read"):
                self.read_bytes += _size((found,))


def _size(values: tuple[Any, ...] | list[Any]) -> int:
    """The bytes that these hold, in lists or alone."""
    buffers = (bytes, bytearray, memoryview)
    return sum(
        len(value) if isinstance(value, buffers) else _size(value) if isinstance(value, (tuple, list)) else 0
        for value in values
    )


def _counted(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(self: CountingDisk, *arguments: Any, **options: Any) -> Any:
        found = method(self, *arguments, **options)
        self.count(name, arguments, found)
        return found

    return call


for _name, _method in vars(Disk).items():
    if callable(_method) and not _name.startswith("_") and _name != "note_change":  # which touches nothing
        setattr(CountingDisk, _name, _counted(_name, _method))


class Steps(trio.abc.Instrument):
    """How often each task was resumed, by the name of its function; and how often the loop looked for I/O."""

    def __init__(self) -> None:
        self.by_task: Counter[str] = Counter()
        self.turns = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.by_task[task.name] += 1

    def before_io_wait(self, timeout: float) -> None:
        self.turns += 1

    @property
    def total(self) -> int:
        return self.by_task.total()


@contextmanager
def counted_steps() -> Iterator[Steps]:
    """Counts the steps of this loop's tasks while the block runs; the test's own tasks are among them."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


@contextmanager
def counted_calls(*, native: bool = False) -> Iterator[Counter[str]]:
    """How often each of kafkapy's functions is called, or goes on, in this thread while the block runs, by its name;
    with `native` also, under one name, how often these call something that is not written in Python.

    A step of the loop may do any amount of work; this tells how much.
    """
    calls: Counter[str] = Counter()

    def called(frame: FrameType, event: str, _: object) -> None:
        if event == "call" or (native and event == "c_call"):
            code = frame.f_code
            if code.co_filename.startswith(_PACKAGE):
                calls[code.co_qualname if event == "call" else "native"] += 1

    sys.setprofile(called)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@contextmanager
def counted_lines() -> Iterator[Counter[str]]:
    """How many lines of each of kafkapy's functions run in this thread, each pass through a loop counting anew: what
    calls do not tell of a function that goes round and round by itself.
    """
    lines: Counter[str] = Counter()

    def ran(frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == "line":
            lines[frame.f_code.co_qualname] += 1
        return ran

    before = sys.gettrace()
    sys.settrace(ran)
    try:
        yield lines
    finally:
        sys.settrace(before)


async def meanwhile(large: Callable[[], Awaitable[T]], small: Callable[[], Awaitable[object]]) -> tuple[T, int]:
    """Do something large, and something small again and again until the large one is done: how often it was.

    A large request that holds the loop lets nobody else through: one or two round trips, however long it takes.
    """
    found: list[T] = []
    count = 0

    async def run() -> None:
        found.append(await large())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while not found:
            await small()
            count += not found
    return found[0], count


def descriptors() -> int:
    """How many files, sockets and so on this process has open."""
    return len(os.listdir("/proc/self/fd"))
