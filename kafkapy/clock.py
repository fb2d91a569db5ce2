"""Time, as a value to be handed around.

Wall-clock milliseconds stamp records and expire facts; the monotonic clock measures waits. Nothing in kafkapy reads
the time except through a `Clock`, so that a test, or a user of the embedded broker, can move it by hand.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What tells the time."""

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary point; never goes backwards."""


class SystemClock:
    """The machine's own clock."""

    __slots__ = ()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that moves only when told to."""

    __slots__ = ("_now_ms",)

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._now_ms / 1000

    def advance_ms(self, duration_ms: int) -> None:
        """Move forward by `duration_ms`, which may not be negative."""
        if duration_ms < 0:
            raise ValueError("a clock does not go backwards")
        self._now_ms += duration_ms
