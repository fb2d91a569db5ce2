"""What is acknowledged and shown while a disk is busy, and what a power cut leaves of it for the next start."""

import shutil
import sys
from pathlib import Path
from threading import Semaphore

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import sent
from disks import LyingDisk

from kafkapy.records.batch import walk
from tests.broker.conftest import StartBroker
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, fetch, make_topic, produce

KAFKA_STORAGE_ERROR = 56
NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 20_000
"""Late enough to begin a segment, where `segment.ms` is 10,000."""


class Turnstile:
    """As an event, which lets one through each time it is set."""

    def __init__(self) -> None:
        self._permits = Semaphore(0)

    def set(self) -> None:
        self._permits.release()

    def wait(self, timeout: float) -> bool:
        return self._permits.acquire(timeout=timeout)


class SteppedDisk(LyingDisk):
    """Ends its syncs one by one, once `hold` was called, and when `let_one_end` is."""

    def hold(self) -> None:
        self.sync_begun, self.sync_may_end = Turnstile(), Turnstile()  # type: ignore[assignment]

    async def begins(self) -> None:
        assert await trio.to_thread.run_sync(self.sync_begun.wait, 20)

    def let_one_end(self) -> None:
        self.sync_may_end.set()

    def let_all_end(self) -> None:
        for _ in range(100):
            self.sync_may_end.set()


async def appended(wire: Wire, sequence: int, *, at: int = NOW_MS) -> int:
    """The offset that a producer's next record is acknowledged with; it is larger than a block of the disk."""
    with trio.fail_after(20):
        answer = await wire.ask(produce("t", [0], record(sequence, at)), PRODUCE)
    [found] = answer.responses[0].partition_responses
    assert found.error_code == 0
    return int(found.base_offset)


def record(sequence: int, at: int) -> bytes:
    return sent(sequence, b"record %d" % sequence + bytes(500), at=at)


async def offsets(wire: Wire) -> list[int]:
    """The offsets of the batches that a consumer finds."""
    answer = await wire.ask(fetch("t", {0: 0}), FETCH)
    found = [header.base_offset for _, header in walk(bytes(answer.responses[0].partitions[0].records))]
    while found:
        answer = await wire.ask(fetch("t", {0: found[-1] + 1}), FETCH)
        [partition] = answer.responses[0].partitions
        assert partition.error_code == 0
        more = [header.base_offset for _, header in walk(bytes(partition.records))]
        if not more:
            assert partition.high_watermark == found[-1] + 1, "nobody can read on from here"
            break
        found += more
    return found


PART = 0.65
"""So much of the end of each log that was not synced is left by a power cut: not a whole number of batches."""


def lose(directory: Path, left: Path) -> None:
    """Put what a power cut left in the place of what was there."""
    shutil.rmtree(directory)
    left.rename(directory)


async def test_nobody_sees_what_is_not_synced_yet(start_broker: StartBroker) -> None:
    disk = SteppedDisk()
    async with (
        start_broker(disk=disk) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as first,
        await Wire.connect(broker.port) as second,
        trio.open_nursery() as nursery,
    ):
        await make_topic(first, "t", 1, flush_messages="1")
        disk.hold()
        nursery.start_soon(appended, first, 0)
        await disk.begins()
        await second.send(produce("t", [0], record(1, NOW_MS)), PRODUCE)
        assert await offsets(reader) == []
        disk.let_one_end()
        await disk.begins()  # for the second, which came too late for the first
        assert await offsets(reader) == [0]
        disk.let_all_end()
        with trio.fail_after(20):
            assert (await second.receive()).responses[0].partition_responses[0].base_offset == 1
        assert await offsets(reader) == [0, 1]


@pytest.mark.parametrize("acks", [1, -1])
async def test_what_could_not_be_synced_is_neither_acknowledged_nor_shown(start_broker: StartBroker, acks: int) -> None:
    """And nothing is taken any more: what the kernel dropped, another sync would not bring back."""
    disk = LyingDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, flush_messages="1")
        assert await appended(wire, 0) == 0
        disk.syncs_fail = True
        for sequence in (1, 2):
            answer = await wire.ask(produce("t", [0], record(sequence, NOW_MS), acks=acks), PRODUCE)
            disk.syncs_fail = False
            assert answer.responses[0].partition_responses[0].error_code == KAFKA_STORAGE_ERROR
            assert await offsets(wire) == [0]


async def test_what_came_while_a_sync_ran_is_not_taken_for_synced(start_broker: StartBroker, tmp_path: Path) -> None:
    """Else the next start believes what a power cut has torn, and everybody who reads it is stuck there."""
    disk, directory, left = SteppedDisk(), tmp_path / "data", tmp_path / "left"
    async with (
        start_broker(disk=disk) as broker,
        await Wire.connect(broker.port) as reader,
        await Wire.connect(broker.port) as first,
        await Wire.connect(broker.port) as second,
        await Wire.connect(broker.port) as third,
    ):
        await make_topic(reader, "t", 1, flush_messages="1", segment_ms="10000")
        assert await appended(reader, 0) == 0
        disk.hold()
        await first.send(produce("t", [0], record(1, LATER_MS)), PRODUCE)  # begins a segment
        await disk.begins()
        for wire, sequence, at in (second, 2, LATER_MS), (third, 3, LATER_MS + 20_000):  # the third begins one more
            await wire.send(produce("t", [0], record(sequence, at)), PRODUCE)
            await reader.ask(fetch("t", {0: 0}), FETCH)
        disk.let_one_end()
        await disk.begins()
        assert await offsets(reader) == [0, 1]
        after = disk.after_crash(directory, left, lambda: PART)
        disk.let_all_end()
    lose(directory, left)
    async with start_broker(disk=after) as broker, await Wire.connect(broker.port) as wire:
        assert await offsets(wire) == [0, 1]
        assert await appended(wire, 2, at=LATER_MS) == 2
        assert await offsets(wire) == [0, 1, 2]


async def test_a_producer_may_send_again_what_a_power_cut_took(start_broker: StartBroker, tmp_path: Path) -> None:
    """Its state was written further on than the log goes now: then that state is of no use."""
    disk, directory, left = SteppedDisk(), tmp_path / "data", tmp_path / "left"
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 1, segment_ms="10000")
        disk.hold()
        for sequence in range(10):
            assert await appended(wire, sequence) == sequence
        assert await appended(wire, 10, at=LATER_MS) == 10  # begins a segment, and writes the state
        await disk.begins()
        after = disk.after_crash(directory, left, lambda: PART)
        disk.let_all_end()
    (left / "t-0" / f"{10:020}.log").unlink()  # a new file may be lost as a whole
    lose(directory, left)
    async with start_broker(disk=after) as broker, await Wire.connect(broker.port) as wire:
        assert await offsets(wire) == list(range(6))
        for sequence in range(6, 10):
            assert await appended(wire, sequence) == sequence
        assert await offsets(wire) == list(range(10))
