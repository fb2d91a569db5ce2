"""The log's periodic duties: dropping what is kept no longer, cleaning what is compacted, forgetting idempotent
producers that fell silent.
"""

from collections.abc import Callable
from typing import NoReturn

from kafkapy.clock import Clock
from kafkapy.storage.base import CleanerSettings, Logs


async def expire_producers(logs: Logs, clock: Clock, *, expiration_ms: Callable[[], int], interval_ms: int) -> NoReturn:
    """Every `interval_ms`, drop the state of producers that wrote nothing for as long as `expiration_ms` says then."""
    while True:
        await clock.sleep(interval_ms / 1000)
        await logs.expire_producers(clock.now_ms(), expiration_ms())


async def apply_retention(logs: Logs, clock: Clock, *, delay_ms: int, interval_ms: int) -> NoReturn:
    """First after `delay_ms`, then every `interval_ms`, drop the segments that are kept no longer."""
    await clock.sleep(delay_ms / 1000)
    while True:
        await logs.apply_retention(clock.now_ms())
        await clock.sleep(interval_ms / 1000)


async def clean_logs(
    logs: Logs, clock: Clock, *, settings: Callable[[], CleanerSettings], backoff_ms: Callable[[], int]
) -> NoReturn:
    """Clean compacted logs, one after the other; when there is none to be cleaned, look again after `backoff_ms`."""
    while True:
        if not await logs.clean(settings()):
            await clock.sleep(backoff_ms() / 1000)
