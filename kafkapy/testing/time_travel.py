"""The time of a broker in another thread, moved from the test's."""

from collections.abc import Callable
from datetime import MAXYEAR, UTC, datetime
from typing import Any, Final

from kafkapy.clock import TravelClock

_LAST_MS: Final = int(datetime(MAXYEAR, 1, 1, tzinfo=UTC).timestamp() * 1000)


class TimeTravel:
    """What a test does with its broker's clock. It goes as the machine's does until it is told otherwise.

    All of the broker obeys it: retention, session and transaction timeouts, long polls, delays of faults. Clients have
    clocks of their own.
    """

    def __init__(self, call: Callable[[Callable[[], Any]], Any]) -> None:
        self._call = call  # runs a function in the broker's event loop
        self._clock = TravelClock()

    def begin(self) -> TravelClock:
        """The clock of a broker that starts now."""
        self._clock = TravelClock()
        return self._clock

    @property
    def is_frozen(self) -> bool:
        """Whether it moves only when told to."""
        return self._clock.is_frozen

    def now_ms(self) -> int:
        """The broker's time, in milliseconds since the epoch."""
        return self._clock.now_ms()

    def freeze(self) -> None:
        """Stop it: from now on it moves only by `advance` and `set`."""
        self._call(self._clock.freeze)

    def thaw(self) -> None:
        """Have it go on from where it is."""
        if self.is_frozen:
            self._call(self._clock.thaw)

    def advance(self, seconds: float) -> None:
        """Move it forward; whatever becomes due begins at once. Raises ValueError for what is not forward."""
        if not 0 <= seconds * 1000 <= _LAST_MS:
            raise ValueError(f"a clock does not go backwards, nor beyond the year {MAXYEAR}: {seconds} s")
        self._call(lambda: self._advance_ms(round(seconds * 1000)))

    def set(self, moment: datetime) -> None:
        """Move it forward to that moment. Raises ValueError for one that is past."""
        self._call(lambda: self._advance_ms(round(moment.timestamp() * 1000) - self._clock.now_ms()))

    def _advance_ms(self, duration_ms: int) -> None:
        if self._clock.now_ms() + duration_ms > _LAST_MS:
            raise ValueError(f"a clock does not go beyond the year {MAXYEAR}")
        self._clock.advance_ms(duration_ms)
