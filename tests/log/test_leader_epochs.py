"""One rule about leader epochs for Fetch and OffsetForLeaderEpoch, over both stores: the answers are Apache Kafka's."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, append, batch
from catalogues import create
from disks import opened

from kafkapy.clock import ManualClock, SystemClock
from kafkapy.delayed import Delayed
from kafkapy.errors import Error
from kafkapy.log.fetching import Diverged, LogToRead, fetch, leaders_only
from kafkapy.log.offsets import LogAtEpoch, find_epoch_end
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import EpochEnd, Logs, LogSettings
from kafkapy.storage.memory import open_memory


@pytest.fixture(params=["memory", "embedded"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    async with open_memory(ManualClock()) if request.param == "memory" else opened(tmp_path) as store:
        await create(store, LOG, LogSettings())
        yield store


async def fetched(logs: Logs, offset: int, epoch: int, *, present: int) -> Error | EpochEnd:
    """What a consumer hears that has read up to `offset`, the last of it from `epoch`."""
    found = await fetch(
        logs,
        SystemClock(),
        leaders_only(lambda log: present),
        [LogToRead(LOG, offset, 1 << 20, last_fetched_epoch=epoch)],
        isolation=IsolationLevel.READ_UNCOMMITTED,
        max_bytes=1 << 20,
        min_bytes=0,
        max_wait_ms=0,
    )
    assert not isinstance(found, Delayed)
    [piece] = found
    return piece.end if isinstance(piece, Diverged) else piece.error


async def looked_up(logs: Logs, epoch: int, *, present: int) -> tuple[int, int]:
    return await find_epoch_end(logs, LogAtEpoch(LOG, present), epoch)


@pytest.mark.parametrize("present", [0, 3])
async def test_an_empty_log_has_the_epoch_that_it_is_led_in(logs: Logs, present: int) -> None:
    assert await fetched(logs, 0, present, present=present) is Error.NONE
    for offset in (1, 5):
        assert await fetched(logs, offset, present, present=present) == EpochEnd(present, 0)
    assert await looked_up(logs, present, present=present) == (present, 0)


async def test_an_epoch_that_is_yet_to_come_is_unknown(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"), leader_epoch=2)
    assert await fetched(logs, 0, 3, present=2) is Error.OFFSET_OUT_OF_RANGE
    assert await looked_up(logs, 3, present=2) == (-1, -1)
    assert await looked_up(logs, -1, present=2) == (-1, -1)


async def test_an_epoch_before_all_that_is_left_ended_where_the_log_begins(logs: Logs) -> None:
    assert await looked_up(logs, 1, present=3) == (1, 0)
    assert await fetched(logs, 0, 1, present=3) is Error.NONE
    assert await fetched(logs, 2, 1, present=3) == EpochEnd(1, 0)
    for epoch in (1, 1, 3):
        await append(logs, LOG, batch(b"a", b"b"), leader_epoch=epoch)
    assert await looked_up(logs, 0, present=3) == (0, 0)
    assert await looked_up(logs, 1, present=3) == (1, 4)
    await logs.trim(LOG, 4)
    assert await looked_up(logs, 1, present=3) == (1, 4)
    assert await looked_up(logs, 2, present=3) == (2, 4)
    assert await looked_up(logs, -5, present=3) == (-5, 4)
    await logs.trim(LOG, 6)
    assert await looked_up(logs, 1, present=3) == (1, 6)
    assert await looked_up(logs, 3, present=3) == (3, 6)


async def test_an_epoch_in_which_nothing_was_written_ends_with_the_one_before(logs: Logs) -> None:
    for epoch in (1, 4):
        await append(logs, LOG, batch(b"a", b"b"), leader_epoch=epoch)
    assert await looked_up(logs, 3, present=6) == (1, 2)
    assert await looked_up(logs, 5, present=6) == (4, 4)
    assert await looked_up(logs, 6, present=6) == (6, 4)
    assert await fetched(logs, 2, 3, present=6) == EpochEnd(1, 2)
    assert await fetched(logs, 4, 4, present=6) is Error.NONE
