"""How much of something there was of late: rates over windows, and buckets of tokens, exactly as Apache Kafka counts.

Pure: the time comes as an argument, in milliseconds of a clock that does not jump.
"""

from math import floor
from typing import Final, NamedTuple

_MS_PER_SECOND: Final = 1000


class Windows(NamedTuple):
    """How many windows are remembered, and how long each is, in milliseconds."""

    number: int
    length_ms: int


class _Sample:
    """What came in one window."""

    __slots__ = ("began_ms", "last_ms", "value")

    def __init__(self, now_ms: int) -> None:
        self.reset(now_ms)

    def reset(self, now_ms: int) -> None:
        self.value = 0.0
        self.began_ms = self.last_ms = now_ms


class Rate:
    """What came in the remembered windows, by second."""

    __slots__ = ("_current", "_samples", "_windows")

    def __init__(self, windows: Windows, now_ms: int) -> None:
        self._windows = windows
        self._samples = [_Sample(now_ms)]
        self._current = 0

    def record(self, value: float, now_ms: int) -> None:
        """Count in what came now."""
        sample = self._samples[self._current]
        if now_ms - sample.began_ms >= self._windows.length_ms:
            sample = self._next(now_ms)
        sample.value += value
        sample.last_ms = now_ms

    def _next(self, now_ms: int) -> _Sample:
        # One more than is remembered: the oldest may overlap the beginning of what is looked at.
        self._current = (self._current + 1) % (self._windows.number + 1)
        if self._current == len(self._samples):
            self._samples.append(_Sample(now_ms))
        else:
            self._samples[self._current].reset(now_ms)
        return self._samples[self._current]

    def measure(self, now_ms: int) -> tuple[float, int]:
        """What came by second, and the milliseconds that this is taken over."""
        number, length_ms = self._windows
        for sample in self._samples:
            if now_ms - sample.last_ms >= number * length_ms:
                sample.reset(now_ms)
        # As if all windows but the last were full from the start, lest what comes first count as a storm.
        window_ms = now_ms - min(sample.began_ms for sample in self._samples)
        window_ms += max(number - 1 - window_ms // length_ms, 0) * length_ms
        window_ms = max(window_ms, 1)
        return sum(sample.value for sample in self._samples) * _MS_PER_SECOND / window_ms, window_ms

    def excess_ms(self, limit: float, now_ms: int) -> int:
        """How long nothing may come for the rate to be at the limit again, by the windows as they are; 0 if it is."""
        rate, window_ms = self.measure(now_ms)
        return floor((rate - limit) / limit * window_ms + 0.5) if rate > limit else 0


class TokenBucket:
    """Tokens that come at a rate, and are kept up to what comes in all windows; more may be taken than there are."""

    __slots__ = ("_last_ms", "_seconds", "_tokens")

    def __init__(self, windows: Windows, limit: float, now_ms: int) -> None:
        self._seconds = windows.number * windows.length_ms / _MS_PER_SECOND
        self._tokens = limit * self._seconds
        self._last_ms = now_ms

    def take(self, tokens: float, limit: float, now_ms: int) -> None:
        """Take these, whether or not they are there."""
        self._refill(limit, now_ms)
        self._tokens = min(self._tokens - tokens, limit * self._seconds)

    def debt_ms(self, limit: float, now_ms: int) -> int:
        """How long it takes until no more were taken than there are; 0 if that is so."""
        self._refill(limit, now_ms)
        return floor(-self._tokens / limit * _MS_PER_SECOND + 0.5) if self._tokens < 0 else 0

    def _refill(self, limit: float, now_ms: int) -> None:
        came = limit * (now_ms - self._last_ms) / _MS_PER_SECOND
        self._tokens = min(self._tokens + came, limit * self._seconds)
        self._last_ms = now_ms
