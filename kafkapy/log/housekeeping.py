"""The log's periodic duties: forgetting idempotent producers that fell silent."""

from typing import NoReturn

from kafkapy.clock import Clock
from kafkapy.storage.base import Logs


async def expire_producers(logs: Logs, clock: Clock, *, expiration_ms: int, interval_ms: int) -> NoReturn:
    """Every `interval_ms`, drop the state of producers that wrote nothing for `expiration_ms`."""
    while True:
        await clock.sleep(interval_ms / 1000)
        logs.expire_producers(clock.now_ms(), expiration_ms)
