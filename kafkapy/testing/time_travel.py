"""The time of a broker in another thread, moved from the test's."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kafkapy.clock import TravelClock


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

    def now_ms(self) -> int:
        """The broker's time, in milliseconds since the epoch."""
        return self._clock.now_ms()

    def freeze(self) -> None:
        """Stop it: from now on it moves only by `advance` and `set`."""
        self._call(self._clock.freeze)

    def thaw(self) -> None:
        """Have it go on from where it is."""
        self._call(self._clock.thaw)

    def advance(self, seconds: float) -> None:
        """Move it forward; whatever becomes due begins at once. Raises ValueError for less than nothing."""
        self._call(lambda: self._clock.advance_ms(round(seconds * 1000)))

    def set(self, moment: datetime) -> None:
        """Move it forward to that moment. Raises ValueError for one that is past."""
        self._call(lambda: self._clock.advance_ms(round(moment.timestamp() * 1000) - self._clock.now_ms()))
