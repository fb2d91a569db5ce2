"""Time, as a value to be handed around: the only module that asks for it, waits for it, or sleeps.

Wall-clock milliseconds stamp records and expire facts; the monotonic clock measures waits. Whatever has a deadline
takes it from a `Clock`, so that a test, or a user of the embedded broker, can move all of a broker's time by hand.
"""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from typing import Protocol

import trio


class Clock(Protocol):
    """What tells the time, and waits for it. Of one event loop, but for `now_ms`."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary point; never goes backwards."""

    def until(self, deadline: float) -> AbstractContextManager[trio.CancelScope]:
        """A block that is cancelled when `monotonic()` reaches `deadline`; an infinite one never comes."""

    async def sleep_until(self, deadline: float) -> None:
        """Return when `monotonic()` has reached `deadline`."""

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have passed."""


class _Sleeping:
    """What every clock does by its `until`."""

    __slots__ = ()

    async def sleep_until(self: Clock, deadline: float) -> None:
        with self.until(deadline):
            await trio.sleep_forever()

    async def sleep(self: Clock, seconds: float) -> None:
        await self.sleep_until(self.monotonic() + seconds)


class SystemClock(_Sleeping):
    """The machine's own clock, and the event loop's for what is measured."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    monotonic = staticmethod(trio.current_time)  # asked for several times a request

    def until(self, deadline: float) -> AbstractContextManager[trio.CancelScope]:
        return trio.CancelScope(deadline=deadline)


class ThreadClock:
    """The system's time for a thread that has no event loop, such as a test's: it blocks where it waits."""

    __slots__ = ()

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """Let that time pass."""
        time.sleep(seconds)


class ManualClock(_Sleeping):
    """A clock that moves only when told to, from within its event loop."""

    __slots__ = ("_now_ms", "_waiting")

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms
        self._waiting: dict[trio.CancelScope, float] = {}

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    @contextmanager
    def until(self, deadline: float) -> Iterator[trio.CancelScope]:
        scope = trio.CancelScope()
        if deadline <= self.monotonic():
            scope.cancel()
        elif deadline < inf:
            self._waiting[scope] = deadline
        try:
            with scope:
                yield scope
        finally:
            self._waiting.pop(scope, None)

    def advance_ms(self, duration_ms: int) -> None:
        """Move forward by `duration_ms`, which may not be negative; whoever's deadline has come is woken."""
        if duration_ms < 0:
            raise ValueError("a clock does not go backwards")
        self._now_ms += duration_ms
        now = self.monotonic()
        for scope in [scope for scope, deadline in self._waiting.items() if deadline <= now]:
            scope.cancel()
