"""Stores to test, and batches to put into them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kafkapy.clock import ManualClock
from kafkapy.model import LogId
from kafkapy.storage.base import Logs, LogSettings
from kafkapy.storage.embedded.store import open_embedded
from kafkapy.storage.memory import open_memory

LOG = LogId("t", 0, b"1" * 16)
OTHER = LogId("u", 3, b"2" * 16)
SMALL = LogSettings(segment_bytes=2000, index_interval_bytes=200)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "embedded"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Logs]:
    """An open store with the empty logs LOG and OTHER."""
    opened = open_memory(clock) if request.param == "memory" else open_embedded(tmp_path, clock=clock, node_id=1)
    async with opened as store:
        await store.create(LOG, SMALL)
        await store.create(OTHER, SMALL)
        yield store
