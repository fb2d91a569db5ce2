"""The periodic duty of removing delegation tokens that have expired."""

import logging
from collections.abc import Awaitable, Callable

from kafkapy.clock import Clock
from kafkapy.errors import Error, KafkaError

_log = logging.getLogger(__name__)


async def expire_tokens(remove: Callable[[], Awaitable[int]], clock: Clock, *, interval_ms: int) -> None:
    """Call `remove` until nothing is left to it, every `interval_ms`, for ever."""
    while True:
        await clock.sleep(interval_ms / 1000)
        try:
            while count := await remove():
                _log.info("removed %d expired delegation tokens", count)
        except KafkaError as refusal:
            if refusal.error is not Error.NOT_CONTROLLER:  # who is sees to it
                raise
