"""The log's periodic duties come when their time has come, and not before."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, append, batch, sent, values
from catalogues import create

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.log.housekeeping import apply_retention, clean_logs, expire_producers
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import CleanerSettings, Logs, LogSettings, Read
from kafkapy.storage.memory import open_memory


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(now_ms=1_000_000)


@pytest.fixture
async def logs(clock: ManualClock) -> AsyncIterator[Logs]:
    async with open_memory(clock) as store:
        yield store


async def advance(clock: ManualClock, duration_ms: int) -> None:
    clock.advance_ms(duration_ms)
    await wait_all_tasks_blocked()


async def remembered(logs: Logs) -> list[int]:
    producers = logs.producers(LOG)
    assert not isinstance(producers, Error)
    return [producer.producer_id for producer in producers]


async def test_producers_that_fell_silent_are_forgotten(logs: Logs, clock: ManualClock, nursery: trio.Nursery) -> None:
    await create(logs, LOG, LogSettings())
    await append(logs, LOG, sent(0, b"a", producer=7, at=clock.now_ms()))
    limits = iter([1001, 1001])
    nursery.start_soon(lambda: expire_producers(logs, clock, expiration_ms=limits.__next__, interval_ms=1000))
    await wait_all_tasks_blocked()
    await append(logs, LOG, sent(0, b"b", producer=8, at=clock.now_ms() + 1000))
    await advance(clock, 1000)
    assert await remembered(logs) == [7, 8]
    await advance(clock, 999)
    assert await remembered(logs) == [7, 8]
    await advance(clock, 1)
    assert await remembered(logs) == [8]


async def test_what_is_kept_no_longer_goes_first_after_the_delay(
    logs: Logs, clock: ManualClock, nursery: trio.Nursery
) -> None:
    size = len(batch(b"x"))
    await create(logs, LOG, LogSettings(segment_bytes=size, retention_bytes=2 * size))

    def start() -> int:
        bounds = logs.bounds(LOG)
        return bounds.log_start_offset  # type: ignore[union-attr]

    nursery.start_soon(lambda: apply_retention(logs, clock, delay_ms=300, interval_ms=1000))
    for _ in range(4):
        await append(logs, LOG, batch(b"x"))
    await wait_all_tasks_blocked()
    await advance(clock, 299)
    assert start() == 0
    await advance(clock, 1)
    assert start() == 2
    await append(logs, LOG, batch(b"x"))
    await advance(clock, 999)
    assert start() == 2
    await advance(clock, 1)
    assert start() == 3


async def test_the_cleaner_goes_on_while_there_is_something_to_clean(
    logs: Logs, clock: ManualClock, nursery: trio.Nursery
) -> None:
    size = len(batch(b"x"))
    settings = LogSettings(compacts=True, segment_bytes=size, min_cleanable_dirty_ratio=0.01)
    await create(logs, LOG, settings)

    async def left() -> list[int]:
        [piece] = await logs.read([Read(LOG, 0, 1 << 20, IsolationLevel.READ_UNCOMMITTED)], 1 << 20)
        return [offset for offset, _ in values(piece.records)]

    nursery.start_soon(lambda: clean_logs(logs, clock, settings=CleanerSettings, backoff_ms=lambda: 500))
    await wait_all_tasks_blocked()
    for _ in range(3):
        await append(logs, LOG, batch(b"x"))
    await advance(clock, 499)
    assert await left() == [0, 1, 2]
    await advance(clock, 1)
    assert await left() == [1, 2]
