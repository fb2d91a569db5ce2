"""Long work, cut into steps, beside those who must not wait for it.

What Python does with every record of a large batch holds the event loop up, and from a worker thread it would take the
interpreter from it for 5 ms at each turn. So it is done on the loop, a step of about a millisecond at a time, and all
who do such work take turns: however many there are, the others wait for one step. Only what C does by itself goes to
threads. One `Turns` belongs to one event loop.
"""

from collections.abc import Callable, Generator
from typing import Final, TypeVar

import trio

T = TypeVar("T")

_AT_ONCE: Final = 8
"""So many may be under way, and hold what they need: as many as Apache Kafka has request threads by default."""

_THREADS: Final = 2

Steps = Generator[None, None, T]
"""Work that yields where others may go on, and returns its result."""


def run(steps: Steps[T]) -> T:
    """Do all of the work at once, where nobody waits for the loop."""
    try:
        while True:
            next(steps)
    except StopIteration as done:
        result: T = done.value
        return result


class Turns:
    """Who may do the next step."""

    def __init__(self) -> None:
        self._under_way = trio.CapacityLimiter(_AT_ONCE)
        self._turn = trio.Lock()
        self._threads = trio.CapacityLimiter(_THREADS)

    async def finish(self, steps: Steps[T]) -> T:
        """Do the work; the first step at once, so that small work costs nothing more."""
        try:
            next(steps)
            async with self._under_way:
                while True:
                    async with self._turn:
                        next(steps)
        except StopIteration as done:
            result: T = done.value
            return result

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Have a thread do work that is done in C, which leaves the interpreter to others."""
        return await trio.to_thread.run_sync(work, limiter=self._threads)
