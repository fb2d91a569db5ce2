"""Reading for consumers: when an answer is enough, over the store that people use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, append, batch, sent
from catalogues import create
from disks import opened

from kafkapy.clock import SystemClock
from kafkapy.delayed import Delayed
from kafkapy.log.fetching import Diverged, Target, fetch
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import LogSettings

BATCH = batch(bytes(10_000))


@pytest.mark.parametrize("min_bytes", [1, 3 * len(BATCH) + 500])
async def test_whole_batches_are_enough_where_part_of_one_more_would_be(tmp_path: Path, min_bytes: int) -> None:
    """A consumer that wants as many bytes as it takes must not wait for ever because its last batch is cut off."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(index_interval_bytes=100))
        for _ in range(10):
            await append(logs, LOG, BATCH)
        found = await fetch(
            logs,
            SystemClock(),
            [Target(LOG, 0, 0, 3 * len(BATCH) + 500)],
            isolation=IsolationLevel.READ_UNCOMMITTED,
            max_bytes=1 << 20,
            min_bytes=min_bytes,
            max_wait_ms=500,
        )
        assert not isinstance(found, Delayed)
        [piece] = found
        assert not isinstance(piece, Diverged)
        assert piece.size_bytes == 3 * len(BATCH)


@pytest.mark.parametrize(("offset", "is_enough"), [(0, True), (8, False)])
async def test_a_fetch_from_an_older_segment_does_not_wait_for_what_it_cannot_bring(
    tmp_path: Path, offset: int, is_enough: bool
) -> None:
    """As in Kafka: the read ends with its segment, however much lies behind."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=5 * len(BATCH)))
        for _ in range(9):
            await append(logs, LOG, BATCH)
        found = await fetch(
            logs,
            SystemClock(),
            [Target(LOG, 0, offset, 1 << 20)],
            isolation=IsolationLevel.READ_UNCOMMITTED,
            max_bytes=1 << 20,
            min_bytes=1 << 20,
            max_wait_ms=500,
        )
        assert isinstance(found, Delayed) is not is_enough


async def test_a_segment_whose_rest_is_not_stable_yet_may_bring_more(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=5 * len(BATCH)))
        for _ in range(3):
            await append(logs, LOG, BATCH)
        await append(logs, LOG, sent(0, b"undecided", transactional=True))
        for _ in range(5):
            await append(logs, LOG, BATCH)
        found = await fetch(
            logs,
            SystemClock(),
            [Target(LOG, 0, 0, 1 << 20)],
            isolation=IsolationLevel.READ_COMMITTED,
            max_bytes=1 << 20,
            min_bytes=1 << 20,
            max_wait_ms=500,
        )
        assert isinstance(found, Delayed)
