"""Reading for consumers: when an answer is enough, over the store that people use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, append, batch
from disks import opened

from kafkapy.delayed import Delayed
from kafkapy.log.fetching import Diverged, Target, fetch
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import LogSettings

BATCH = batch(bytes(10_000))


@pytest.mark.parametrize("min_bytes", [1, 3 * len(BATCH) + 500])
async def test_whole_batches_are_enough_where_part_of_one_more_would_be(tmp_path: Path, min_bytes: int) -> None:
    """A consumer that wants as many bytes as it takes must not wait for ever because its last batch is cut off."""
    async with opened(tmp_path) as logs:
        await logs.create(LOG, LogSettings(index_interval_bytes=100))
        for _ in range(10):
            await append(logs, LOG, BATCH)
        found = await fetch(
            logs,
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
