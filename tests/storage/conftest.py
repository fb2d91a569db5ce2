"""Stores to test, and batches to put into them."""

import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL
from catalogues import create
from postgres import database, schema  # noqa: F401  fixtures

from kafkapy.clock import ManualClock
from kafkapy.storage.base import Logs
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.memory import open_memory
from kafkapy.storage.shared.store import open_shared


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["memory", "embedded", "shared"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> AsyncIterator[Logs]:
    """An open store with the empty logs LOG and OTHER."""
    opened: AbstractAsyncContextManager[Logs]
    if request.param == "memory":
        opened = open_memory(clock)
    elif request.param == "embedded":
        opened = open_embedded(tmp_path, clock=clock, node_id=1)
    else:
        url, name = request.getfixturevalue("database"), request.getfixturevalue("schema")
        opened = open_shared(url, clock=clock, cluster_id="c", schema=name)
    async with opened as store:
        await create(store, LOG, SMALL)
        await create(store, OTHER, SMALL)
        yield store
