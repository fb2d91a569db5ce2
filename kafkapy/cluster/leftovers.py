"""The periodic duty of dropping logs whose topics were deleted while their lane was on its way between two processes.

Who owns a log drops it when it hears that its topic is gone. One that had the lane only later has heard that before,
and one that had it earlier no longer owns it. A log comes into being only where its topic is known; so what is still
unknown once everything was read that is in the metadata log now is no topic's any more.
"""

import logging
from collections.abc import Iterable
from typing import Any, Protocol

from kafkapy.clock import Clock
from kafkapy.cluster.core import Core
from kafkapy.errors import KafkaError

_log = logging.getLogger(__name__)


class Store(Protocol):
    """A store whose logs move between processes."""

    def strangers(self) -> set[Any]:
        """Logs that are here, and that the catalogue has not, or not yet."""

    def drop(self, strangers: Iterable[Any]) -> None:
        """Remove those of these logs that the catalogue still has not."""


async def drop_leftovers(core: Core, store: Store, clock: Clock, *, interval_ms: int) -> None:
    """Look for such logs every `interval_ms`, for ever."""
    while True:
        await clock.sleep(interval_ms / 1000)
        if strangers := store.strangers():
            try:
                await core.catch_up()
            except KafkaError as refusal:  # they may be of topics that this broker could not read of
                _log.warning("what logs of no topic there are is looked at later: %s", refusal)
            else:
                store.drop(strangers)
