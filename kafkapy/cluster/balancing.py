"""The periodic duty of giving leadership back to the preferred replicas of partitions."""

import logging
from collections.abc import Awaitable, Callable

from kafkapy.clock import Clock
from kafkapy.errors import KafkaError

_log = logging.getLogger(__name__)


async def balance_leaders(balance: Callable[[], Awaitable[int]], clock: Clock, *, interval_seconds: int) -> None:
    """Call `balance` until it has moved nothing more, every so many seconds, for ever."""
    while True:
        await clock.sleep(interval_seconds)
        try:
            while count := await balance():
                _log.info("%d partitions are led by their preferred replicas again", count)
        except KafkaError as refusal:  # another process has the controller, or the log takes no writes now
            _log.debug("leaders were not balanced: %s", refusal)
