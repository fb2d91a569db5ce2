"""Reading for consumers: when an answer is enough, over the store that people use."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, OTHER, append, batch, end, sent
from catalogues import create, delete
from disks import opened

from kafkapy.clock import ManualClock, SystemClock
from kafkapy.delayed import Delayed
from kafkapy.errors import Error
from kafkapy.log.fetching import Diverged, EpochOf, Found, LogToRead, fetch, leaders_only, refused
from kafkapy.model import IsolationLevel, LogId
from kafkapy.storage.base import Logs, LogSettings

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
            leaders_only(lambda log: 0),
            [LogToRead(LOG, 0, 3 * len(BATCH) + 500)],
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
            leaders_only(lambda log: 0),
            [LogToRead(LOG, offset, 1 << 20)],
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
            leaders_only(lambda log: 0),
            [LogToRead(LOG, 0, 1 << 20)],
            isolation=IsolationLevel.READ_COMMITTED,
            max_bytes=1 << 20,
            min_bytes=1 << 20,
            max_wait_ms=500,
        )
        assert isinstance(found, Delayed)


class Poll:
    """A fetch that has begun to wait, from offset 0 of the logs unless another is given."""

    def __init__(self, waiting: Delayed[list[Found]]) -> None:
        self.waiting = waiting
        self.woken = 0
        waiting.begin(self.wake)

    def wake(self) -> None:
        self.woken += 1

    async def answer(self) -> list[Found] | None:
        return await self.waiting.attempt()

    @classmethod
    async def begin(
        cls,
        logs: Logs,
        *wanted: LogToRead,
        min_bytes: int,
        clock: ManualClock | None = None,
        committed: bool = False,
        epoch_of: EpochOf = lambda log: 0,
    ) -> "Poll":
        found = await fetch(
            logs,
            clock or ManualClock(),
            leaders_only(epoch_of),
            wanted,
            isolation=IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED,
            max_bytes=1 << 20,
            min_bytes=min_bytes,
            max_wait_ms=500,
        )
        assert isinstance(found, Delayed)
        return cls(found)


def wanted(log: LogId, offset: int = 0, **options: int) -> LogToRead:
    return LogToRead(log, offset, **{"max_bytes": 1 << 20, **options})


def sizes(found: list[Found] | None) -> list[int]:
    assert found is not None
    return [piece.size_bytes for piece in found if not isinstance(piece, Diverged)]


def errors(found: list[Found] | None) -> list[Error]:
    assert found is not None
    return [piece.error for piece in found if not isinstance(piece, Diverged)]


async def test_who_waits_is_woken_once_there_is_enough(tmp_path: Path) -> None:
    """What was there is counted with what came, over all logs; nobody is woken, and nothing is read, before."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        await append(logs, LOG, BATCH)
        poll = await Poll.begin(logs, wanted(LOG), wanted(OTHER), min_bytes=4 * len(BATCH))
        await append(logs, LOG, BATCH)
        await append(logs, OTHER, BATCH)
        assert not poll.woken
        assert await poll.answer() is None
        await append(logs, OTHER, BATCH)
        assert poll.woken == 1
        await append(logs, LOG, BATCH)
        assert poll.woken == 1
        assert sizes(await poll.answer()) == [3 * len(BATCH), 2 * len(BATCH)]
        poll.waiting.close()


async def test_a_log_counts_for_no_more_than_is_taken_of_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        some = len(BATCH) + 100
        poll = await Poll.begin(logs, wanted(LOG, max_bytes=some), wanted(OTHER), min_bytes=2 * len(BATCH) + 100)
        for _ in range(5):
            await append(logs, LOG, BATCH)
        assert not poll.woken
        await append(logs, OTHER, BATCH)
        assert poll.woken
        poll.waiting.close()


async def test_a_poll_that_waits_at_the_end_of_a_segment_goes_on_in_the_next(tmp_path: Path) -> None:
    """It is over with the first batch there: what it counted from lies in another segment."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings(segment_bytes=3 * len(BATCH)))
        for _ in range(3):
            await append(logs, LOG, BATCH)
        early = await Poll.begin(logs, wanted(LOG, 1), min_bytes=1 << 20)
        late = await Poll.begin(logs, wanted(LOG, 3), min_bytes=1 << 20)
        assert not early.woken
        await append(logs, LOG, BATCH)
        assert (early.woken, late.woken) == (1, 1)
        assert sizes(await early.answer()) == [2 * len(BATCH)]
        assert sizes(await late.answer()) == [len(BATCH)]
        early.waiting.close()
        late.waiting.close()


async def test_what_a_reader_may_not_see_does_not_count(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        first, plain = sent(0, b"1", transactional=True), batch(bytes(1000))
        poll = await Poll.begin(logs, wanted(LOG), min_bytes=len(plain) + len(first), committed=True)
        await append(logs, LOG, first)
        await append(logs, LOG, plain)
        await append(logs, LOG, sent(0, b"2", producer=8, transactional=True))
        assert not poll.woken
        await end(logs, LOG, 7, committed=False)
        assert poll.woken  # it sees what lies before the other transaction
        assert sizes(await poll.answer()) == [len(first) + len(plain)]
        poll.waiting.close()


async def test_who_waits_beyond_the_stable_end_waits_until_that_has_come_by(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await append(logs, LOG, sent(0, b"1", transactional=True))
        await append(logs, LOG, BATCH)
        poll = await Poll.begin(logs, wanted(LOG, 1), min_bytes=1, committed=True)
        await append(logs, LOG, BATCH)
        assert not poll.woken
        await end(logs, LOG, 7, committed=True)
        assert poll.woken
        poll.waiting.close()


async def test_a_log_that_is_cut_short_or_deleted_ends_the_wait_with_its_error(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        for log in (LOG, LOG, OTHER):
            await append(logs, log, BATCH)
        trimmed = await Poll.begin(logs, wanted(LOG, 1), wanted(OTHER), min_bytes=1 << 20)
        deleted = await Poll.begin(logs, wanted(LOG, 2), wanted(OTHER, 1, last_fetched_epoch=0), min_bytes=1 << 20)
        await logs.trim(LOG, 1)
        assert not trimmed.woken
        await logs.trim(LOG, 2)
        assert (trimmed.woken, deleted.woken) == (1, 0)
        assert errors(await trimmed.answer()) == [Error.OFFSET_OUT_OF_RANGE, Error.NONE]
        await delete(logs, OTHER)
        assert deleted.woken
        assert errors(await deleted.answer()) == [Error.NONE, Error.UNKNOWN_TOPIC_OR_PARTITION]
        trimmed.waiting.close()
        deleted.waiting.close()


async def test_who_waits_no_longer_is_not_woken(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        poll = await Poll.begin(logs, wanted(LOG), min_bytes=1)
        poll.waiting.close()
        await append(logs, LOG, BATCH)
        assert not poll.woken


async def test_at_the_deadline_it_is_what_there_is(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        poll = await Poll.begin(logs, wanted(LOG), min_bytes=1 << 20, clock=clock)
        await append(logs, LOG, BATCH)
        clock.advance_ms(499)
        assert await poll.answer() is None
        clock.advance_ms(1)
        assert sizes(await poll.answer()) == [len(BATCH)]
        poll.waiting.close()


@pytest.mark.parametrize(("epoch", "error"), [(1, Error.FENCED_LEADER_EPOCH), (None, Error.NOT_LEADER_OR_FOLLOWER)])
async def test_who_has_waited_is_answered_by_the_epoch_of_then(tmp_path: Path, epoch: int | None, error: Error) -> None:
    clock = ManualClock()
    epochs: dict[LogId, int | None] = {LOG: 0, OTHER: 0}
    async with opened(tmp_path) as logs:
        await create(logs, LOG)
        await create(logs, OTHER)
        log, other = wanted(LOG, current_leader_epoch=0), wanted(OTHER, current_leader_epoch=0)
        poll = await Poll.begin(logs, log, other, min_bytes=1 << 20, clock=clock, epoch_of=epochs.__getitem__)
        epochs[LOG] = epoch
        clock.advance_ms(500)
        assert errors(await poll.answer()) == [error, Error.NONE]
        poll.waiting.close()


async def test_what_all_logs_bring_together_is_enough(tmp_path: Path) -> None:
    async with opened(tmp_path) as logs:
        for log in (LOG, OTHER):
            await create(logs, log, LogSettings())
            await append(logs, log, BATCH)
        found = await fetch(
            logs,
            ManualClock(),
            leaders_only(lambda log: 0),
            [wanted(LOG), wanted(OTHER)],
            isolation=IsolationLevel.READ_UNCOMMITTED,
            max_bytes=1 << 20,
            min_bytes=2 * len(BATCH),
            max_wait_ms=500,
        )
        assert not isinstance(found, Delayed)
        assert sizes(found) == [len(BATCH)] * 2


async def test_an_error_comes_without_offsets(tmp_path: Path) -> None:
    """As in Kafka: a client that is told where the log lies would not look its offset up."""
    async with opened(tmp_path) as logs:
        await create(logs, LOG, LogSettings())
        await append(logs, LOG, BATCH)
        found = await fetch(
            logs,
            ManualClock(),
            leaders_only(lambda log: 0),
            [wanted(LOG, 5)],
            isolation=IsolationLevel.READ_COMMITTED,
            max_bytes=1 << 20,
            min_bytes=1,
            max_wait_ms=500,
        )
        assert found == [refused(Error.OFFSET_OUT_OF_RANGE)]


def test_of_a_log_that_is_not_there_no_transactions_were_aborted() -> None:
    here, gone = refused(Error.OFFSET_OUT_OF_RANGE), refused(Error.UNKNOWN_TOPIC_ID, is_there=False)
    assert not isinstance(here, Diverged) and not isinstance(gone, Diverged)
    assert (here.aborted, gone.aborted) == (None, [])
