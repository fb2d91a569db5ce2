"""Transactions of several producers, interleaved in one log, through stops, kills and power cuts: seeded rounds."""

import random
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, append, marker, sent, values
from catalogues import create
from disks import LyingDisk, everything, opened

from kafkapy.errors import Error
from kafkapy.model import NO_SEQUENCE, IsolationLevel
from kafkapy.storage.base import Bounds, LogSettings, Origin, Read
from kafkapy.storage.embedded.check import check
from kafkapy.storage.embedded.store import EmbeddedLogs

PRODUCERS = (11, 12, 13, 14)
ROUNDS, STEPS = 8, 20
WAYS = ("stop", "kill", "power cut", "power cut")


class Step(NamedTuple):
    """What was appended: a batch of a transaction, or the marker that ends one (with the epoch after it)."""

    producer: int
    epoch: int
    sequence: int
    base: int
    end: int
    committed: bool | None = None


class Known:
    """What follows from the steps that are in the log, reckoned from the first one on."""

    def __init__(self, steps: list[Step]) -> None:
        self.open: dict[int, int] = {}
        self.aborted: list[tuple[int, int, int]] = []
        self.last: dict[int, Step] = {}
        for step in steps:
            self.last[step.producer] = step
            if step.committed is None:
                self.open.setdefault(step.producer, step.base)
            else:
                first = self.open.pop(step.producer)
                if not step.committed:
                    self.aborted.append((step.producer, first, step.base))

    def next_of(self, producer: int) -> tuple[int, int]:
        """The epoch and the sequence number with which the producer goes on."""
        if (last := self.last.get(producer)) is None:
            return 0, 0
        return last.epoch, 0 if last.committed is not None else last.sequence + last.end - last.base


async def take_a_step(logs: EmbeddedLogs, steps: list[Step], chance: random.Random) -> None:
    known = Known(steps)
    producer = chance.choice(PRODUCERS)
    epoch, sequence = known.next_of(producer)
    base = steps[-1].end if steps else 0
    if producer in known.open and chance.random() < 0.35:
        committed = chance.random() < 0.5
        data = marker(producer, committed=committed, epoch=epoch + 1)
        outcome = await append(logs, LOG, data, origin=Origin.COORDINATOR)
        steps.append(Step(producer, epoch + 1, NO_SEQUENCE, base, base + 1, committed))
    else:
        count = chance.randrange(1, 4)
        contents = [b"%d" % base + b"." * chance.randrange(200) for _ in range(count)]
        data = sent(sequence, *contents, producer=producer, epoch=epoch, transactional=True)
        outcome = await append(logs, LOG, data)
        steps.append(Step(producer, epoch, sequence, base, base + count))
    assert (outcome.error, outcome.base_offset) == (Error.NONE, base)


async def what_is_left(logs: EmbeddedLogs, steps: list[Step]) -> list[Step]:
    """The steps that are in the log: the first ones, each of them whole."""
    end = (await everything(logs) or [(-1, None)])[-1][0] + 1
    left = [step for step in steps if step.end <= end]
    assert (left[-1].end if left else 0) == end
    return left


async def check_readers(logs: EmbeddedLogs, known: Known, end: int) -> None:
    stable = min(known.open.values(), default=end)
    assert logs.bounds(LOG) == Bounds(0, end, stable, end)
    offset = 0
    while offset < stable:
        [piece] = await logs.read([Read(LOG, offset, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
        begin, offset = offset, values(piece.records)[-1][0] + 1
        assert piece.aborted is not None
        needed = [row[:2] for row in known.aborted if row[1] < offset and row[2] >= begin]
        assert sorted(piece.aborted) == sorted(needed)
    assert offset == stable


async def check_producers(logs: EmbeddedLogs, steps: list[Step], known: Known) -> None:
    """Each is known as it was, and recognised when it sends its last batch again; a zombie is not let in."""
    found = logs.producers(LOG)
    assert not isinstance(found, Error)
    assert {row.producer_id: (row.epoch, row.transaction_start) for row in found} == {
        producer: (last.epoch, known.open.get(producer, -1)) for producer, last in known.last.items()
    }
    for producer, last in known.last.items():
        batch = next(step for step in reversed(steps) if step.producer == producer and step.committed is None)
        contents = [b"again"] * (batch.end - batch.base)
        data = sent(batch.sequence, *contents, producer=producer, epoch=batch.epoch, transactional=True)
        outcome = await append(logs, LOG, data)
        if last is batch:
            assert (outcome.duplicate, outcome.base_offset) == (True, batch.base)
        else:
            assert outcome.error is Error.INVALID_PRODUCER_EPOCH


@pytest.mark.parametrize("may_wait", [0, 4])
@pytest.mark.parametrize("seed", range(4))
async def test_transactions_are_as_the_log_has_them_after_any_end(tmp_path: Path, seed: int, may_wait: int) -> None:
    chance = random.Random(seed)
    topic = LogSettings(segment_bytes=900, index_interval_bytes=100, flush_messages=may_wait + 1)
    steps: list[Step] = []
    directory, disk, acknowledged = tmp_path / "0", LyingDisk(), 0
    for number in range(1, ROUNDS + 1):
        async with opened(directory, disk) as logs:
            await create(logs, LOG, topic)
            steps = await what_is_left(logs, steps)
            known, end = Known(steps), steps[-1].end if steps else 0
            assert end >= acknowledged
            await check_readers(logs, known, end)
            await check_producers(logs, steps, known)
            for _ in range(chance.randrange(STEPS)):
                await take_a_step(logs, steps, chance)
            acknowledged = steps[-1].end if steps else 0
            following = tmp_path / str(number)
            if (way := chance.choice(WAYS)) == "kill":
                disk = disk.after_kill(directory, following)
            elif way == "power cut":
                disk = disk.after_crash(directory, following, chance.random)
                acknowledged -= may_wait
        if way != "stop":
            directory = following
    async with opened(directory, disk) as logs:
        await create(logs, LOG, topic)
        steps = await what_is_left(logs, steps)
        known = Known(steps)
        for producer in known.open:
            epoch, _ = known.next_of(producer)
            await append(logs, LOG, marker(producer, committed=True, epoch=epoch + 1), origin=Origin.COORDINATOR)
        bounds = logs.bounds(LOG)
        assert isinstance(bounds, Bounds)
        assert bounds.last_stable_offset == bounds.high_watermark
    assert list(check(directory)) == []
