"""Two brokers over one store: the broker under test, number 1, leads only what the test leaves it of its logs."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from kafkapy.model import Endpoint, LogId
from kafkapy.storage.base import Holder, LiveBroker, Watch

US, THEM = 1, 2

BROKERS = (
    LiveBroker(
        US, None, (Endpoint("PLAINTEXT", "", 0, "PLAINTEXT"), Endpoint("INSIDE", "one.inside", 19, "PLAINTEXT"))
    ),
    LiveBroker(
        THEM, "r", (Endpoint("PLAINTEXT", "two", 9, "PLAINTEXT"), Endpoint("INSIDE", "two.inside", 29, "PLAINTEXT"))
    ),
)


class SharedLeases:
    """The leases of broker 1: one of `theirs` has moved to broker 2, in the next epoch, one of `nobodys` to nobody."""

    def __init__(self, leases: Any) -> None:
        self._leases = leases
        self._told: list[tuple[Callable[..., None], Callable[..., None]]] = []
        self.theirs: set[LogId] = set()
        self.nobodys: set[LogId] = set()
        self._moves = 0

    @property
    def moves(self) -> int:
        return self._moves + self._leases.moves

    def epoch(self, log: LogId) -> int | None:
        return None if log in self.theirs or log in self.nobodys else self._leases.epoch(log)

    def holder(self, log: LogId) -> Holder | None:
        if log in self.nobodys:
            return None
        return Holder(THEM, 1) if log in self.theirs else self._leases.holder(log)

    def watch(self, gained: Callable[..., None], lost: Callable[..., None]) -> Watch:
        self._told.append((gained, lost))
        return self._leases.watch(gained, lost)

    def lose(self, logs: Sequence[LogId]) -> None:
        """Broker 2 takes these over."""
        self.theirs.update(logs)
        self._moves += 1
        for _, lost in self._told:
            lost(logs)

    def gain(self, logs: Sequence[LogId]) -> None:
        """Broker 1 has these again."""
        self.theirs.difference_update(logs)
        self._moves += 1
        for gained, _ in self._told:
            gained(logs)


class LiveBrokers:
    """Who is there."""

    def __init__(self, brokers: Sequence[LiveBroker] = BROKERS) -> None:
        self._live = tuple(brokers)
        self._wakes: list[Callable[[], None]] = []

    def live(self) -> Sequence[LiveBroker]:
        return self._live

    def watch(self, wake: Callable[[], None]) -> Any:
        self._wakes.append(wake)
        return SimpleNamespace(close=lambda: self._wakes.remove(wake))

    def change(self, brokers: Sequence[LiveBroker]) -> None:
        self._live = tuple(brokers)
        for wake in self._wakes:
            wake()
