"""A limit on how many connections an IP address opens by second (KIP-612).

Pure. Addresses are text, as connections come with them; what the default limits, it limits for each address by itself.

Invariant: what nobody limits is not counted, and what was not used for an hour is forgotten.
"""

from collections.abc import Mapping
from typing import Final

from kafkapy.quotas.rates import Rate, Windows

_UNUSED_KEPT_MS: Final = 3_600_000
_SWEEP_EVERY_MS: Final = 30_000


class ConnectionQuota:
    """The limits of all addresses, and what they used."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._longest_ms = windows.length_ms
        self._limits: Mapping[str | None, float] = {}
        self._rates: dict[str, tuple[Rate, int]] = {}
        self._next_sweep_ms = 0

    def follow(self, limits: Mapping[str | None, float]) -> None:
        """Hold these addresses to these limits from now on, and with None whatever is not named."""
        self._limits = limits
        if not limits:
            self._rates.clear()

    def record(self, address: str, now_ms: int) -> int:
        """A connection is there: how many milliseconds it is to be held and then closed; 0 when it may stay."""
        limit = self._limits.get(address, self._limits.get(None))
        if limit is None:
            return 0
        self._sweep(now_ms)
        rate = self._rates[address][0] if address in self._rates else Rate(self._windows, now_ms)
        self._rates[address] = rate, now_ms
        rate.record(1, now_ms)
        excess_ms = min(rate.excess_ms(limit, now_ms), self._longest_ms)
        if excess_ms:
            rate.record(-1, now_ms)  # it was not let in
        return excess_ms

    def _sweep(self, now_ms: int) -> None:
        if now_ms >= self._next_sweep_ms:
            self._next_sweep_ms = now_ms + _SWEEP_EVERY_MS
            for address, (_, last_ms) in list(self._rates.items()):
                if now_ms - last_ms >= _UNUSED_KEPT_MS:
                    del self._rates[address]
