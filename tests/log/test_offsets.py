"""Looking up offsets by time and by special marks, over both stores: the answers are Apache Kafka's."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, append, batch, end, sent
from catalogues import create
from disks import opened

from kafkapy.clock import ManualClock
from kafkapy.errors import Error, KafkaError
from kafkapy.log.offsets import (
    EARLIEST,
    EARLIEST_LOCAL,
    EARLIEST_PENDING_UPLOAD,
    LATEST,
    LATEST_TIERED,
    MAX_TIMESTAMP,
    FoundOffset,
    LogAtEpoch,
    find_epoch_end,
    find_offset,
    is_supported,
)
from kafkapy.model import IsolationLevel
from kafkapy.storage.base import Logs, LogSettings
from kafkapy.storage.memory import open_memory

NOTHING = FoundOffset(-1, -1, -1)


@pytest.fixture(params=["memory", "embedded"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    async with open_memory(ManualClock()) if request.param == "memory" else opened(tmp_path) as store:
        await create(store, LOG, LogSettings())
        yield store


async def found(logs: Logs, timestamp: int, isolation: IsolationLevel | None, *, epoch: int = 3) -> FoundOffset:
    return await find_offset(logs, LogAtEpoch(LOG, epoch), timestamp, isolation)


async def looked_up(logs: Logs, timestamp: int, *, epoch: int = 3) -> FoundOffset:
    return await found(logs, timestamp, IsolationLevel.READ_UNCOMMITTED, epoch=epoch)


@pytest.mark.parametrize(
    ("mark", "first"),
    [(MAX_TIMESTAMP, 7), (EARLIEST_LOCAL, 8), (LATEST_TIERED, 9), (EARLIEST_PENDING_UPLOAD, 11)],
)
def test_a_special_mark_is_known_from_its_version_on(mark: int, first: int) -> None:
    assert [version for version in range(1, 12) if is_supported(mark, version)] == list(range(first, 12))


def test_times_and_both_ends_are_always_known_and_other_marks_never() -> None:
    assert all(is_supported(timestamp, 1) for timestamp in (LATEST, EARLIEST, 0, 1_700_000_000_000))
    assert not any(is_supported(timestamp, 11) for timestamp in (-7, -1000))


async def test_both_ends_of_a_log_and_the_epochs_there(logs: Logs) -> None:
    for epoch in (1, 2):
        await append(logs, LOG, batch(b"a", b"b"), leader_epoch=epoch)
    assert await looked_up(logs, LATEST) == FoundOffset(4, -1, 3)
    for mark in (EARLIEST, EARLIEST_LOCAL):
        assert await looked_up(logs, mark, epoch=1) == FoundOffset(0, -1, 1)
    await logs.trim(LOG, 2)
    assert (await looked_up(logs, EARLIEST)).offset == 2
    await logs.trim(LOG, 4)
    for mark in (EARLIEST, EARLIEST_LOCAL, LATEST):
        assert await looked_up(logs, mark) == FoundOffset(4, -1, 3)


async def test_an_empty_log_begins_and_ends_in_the_epoch_that_it_is_led_in(logs: Logs) -> None:
    for mark in (EARLIEST, EARLIEST_LOCAL, LATEST):
        assert await looked_up(logs, mark) == FoundOffset(0, -1, 3)
    assert await looked_up(logs, MAX_TIMESTAMP) == NOTHING
    assert await looked_up(logs, 0) == NOTHING


async def test_nothing_is_in_tiered_storage(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a"))
    for mark in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        assert await looked_up(logs, mark) == NOTHING


async def test_a_time_finds_the_first_record_that_is_not_older(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a", b"b", at=1000), leader_epoch=1)
    await append(logs, LOG, batch(b"c", b"d", at=2000), leader_epoch=2)
    assert await looked_up(logs, 0) == FoundOffset(0, 1000, 1)
    assert await looked_up(logs, 1001) == FoundOffset(1, 1001, 1)
    assert await looked_up(logs, 1002) == FoundOffset(2, 2000, 2)
    assert await looked_up(logs, 2002) == NOTHING
    assert await looked_up(logs, MAX_TIMESTAMP) == FoundOffset(3, 2001, 2)


async def test_a_reader_of_committed_records_is_told_nothing_beyond_the_last_stable_offset(logs: Logs) -> None:
    await append(logs, LOG, batch(b"a", at=1000))
    await append(logs, LOG, sent(0, b"undecided", transactional=True, at=2000))
    committed = IsolationLevel.READ_COMMITTED
    assert (await found(logs, LATEST, committed)).offset == 1
    assert (await found(logs, 1000, committed)).offset == 0
    assert await found(logs, 1001, committed) == NOTHING
    assert await found(logs, MAX_TIMESTAMP, committed) == NOTHING
    for isolation in (IsolationLevel.READ_UNCOMMITTED, None):
        assert (await found(logs, LATEST, isolation)).offset == 2
        assert (await found(logs, 1001, isolation)).offset == 1
        assert (await found(logs, MAX_TIMESTAMP, isolation)).offset == 1
    await end(logs, LOG, 7, committed=True)
    assert (await found(logs, LATEST, committed)).offset == 3
    assert (await found(logs, 1001, committed)).offset == 1


@pytest.mark.parametrize(("believed", "error"), [(2, Error.FENCED_LEADER_EPOCH), (4, Error.UNKNOWN_LEADER_EPOCH)])
async def test_who_believes_in_another_leader_is_told_so(logs: Logs, believed: int, error: Error) -> None:
    asked = LogAtEpoch(LOG, 3, believed)
    with pytest.raises(KafkaError) as raised:
        await find_offset(logs, asked, LATEST, None)
    assert raised.value.error is error
    with pytest.raises(KafkaError) as raised:
        await find_epoch_end(logs, asked, 1)
    assert raised.value.error is error
    assert (await find_offset(logs, LogAtEpoch(LOG, 3, 3), LATEST, None)).offset == 0
