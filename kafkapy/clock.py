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


class TravelClock(_Sleeping):
    """A clock that goes as the machine's does until it is told otherwise: frozen, moved forward, set to a date.

    Only from within its event loop. What waits for a moment is woken when this clock reaches it, however it gets there.
    """

    __slots__ = ("_ahead", "_ahead_ms", "_frozen_at", "_waiting")

    def __init__(self) -> None:
        self._ahead = 0.0  # of the event loop's clock, in seconds
        self._ahead_ms = 0  # of the machine's clock
        self._frozen_at: tuple[float, int] | None = None
        self._waiting: dict[trio.CancelScope, float] = {}

    @property
    def is_frozen(self) -> bool:
        """Whether time moves only when told to."""
        return self._frozen_at is not None

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms if self._frozen_at is None else self._frozen_at[1]

    def monotonic(self) -> float:
        return trio.current_time() + self._ahead if self._frozen_at is None else self._frozen_at[0]

    @contextmanager
    def until(self, deadline: float) -> Iterator[trio.CancelScope]:
        scope = trio.CancelScope(deadline=self._alarm_of(deadline))
        self._waiting[scope] = deadline
        try:
            with scope:
                yield scope
        finally:
            del self._waiting[scope]

    def freeze(self) -> None:
        """Stop here."""
        self._frozen_at = (self.monotonic(), self.now_ms())
        self._wake()

    def thaw(self) -> None:
        """Go on from here."""
        if self._frozen_at is not None:
            monotonic, now_ms = self._frozen_at
            self._frozen_at = None
            self._ahead = monotonic - trio.current_time()
            self._ahead_ms = now_ms - time.time_ns() // 1_000_000
            self._wake()

    def advance_ms(self, duration_ms: int) -> None:
        """Move forward by `duration_ms`, which may not be negative."""
        if duration_ms < 0:
            raise ValueError("a clock does not go backwards")
        if self._frozen_at is None:
            self._ahead += duration_ms / 1000
            self._ahead_ms += duration_ms
        else:
            monotonic, now_ms = self._frozen_at
            self._frozen_at = (monotonic + duration_ms / 1000, now_ms + duration_ms)
        self._wake()

    def _alarm_of(self, deadline: float) -> float:
        """When the event loop's clock has to ring for that moment of ours."""
        if self._frozen_at is None:
            return deadline - self._ahead
        return inf if deadline > self._frozen_at[0] else trio.current_time()

    def _wake(self) -> None:
        for scope, deadline in self._waiting.items():
            scope.deadline = self._alarm_of(deadline)
