"""Coordinators' logs that have grown for long: loading costs the state and what came since, a refusal costs nothing.

Counted are records that are decoded, bytes that are read, and how much of kafkapy's code runs in one step of the loop.
"""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import trio

import kafkapy
from kafkapy.broker import Broker
from kafkapy.coordination.checkpointing import MIN_RECORDS
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, FetchOffsets, PartitionCommit, TopicCommit
from kafkapy.model import ZERO_UUID
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk, counted_calls

COMMITS = 12_000 * SCALE
OFFSETS = 6_000 * SCALE
"""In a shard of many groups."""

CALLS_A_STEP = 6_000
"""A few milliseconds' work."""

SETTINGS = {"offsets.topic.num.partitions": "1", "kafkapy.auto.create.wait": "true"}
LOG = "__consumer_offsets-0"


async def commit(broker: Broker, offsets: list[int], *, group: str = "g") -> list[list[Error]]:
    """Commit these offsets for the partitions of one topic from 0 on."""
    await broker.rooms.groups.coordinating_log(group)
    topic = TopicCommit("t", ZERO_UUID, [PartitionCommit(number, at, -1, None) for number, at in enumerate(offsets)])
    return await broker.rooms.groups.commit_offsets(CommitOffsets(group, "", None, -1, -1, [topic], True))


async def committed(broker: Broker, group: str = "g") -> list[int]:
    topics = await broker.rooms.groups.fetch_offsets(FetchOffsets(group, None))
    return [found.offset for topic in topics for _, found in topic.partitions if found is not None]


async def loaded(broker: Broker) -> None:
    """Return once the shard has been loaded."""
    while True:
        try:
            await committed(broker)
        except KafkaError as refusal:
            assert refusal.error is Error.COORDINATOR_LOAD_IN_PROGRESS
        else:
            return


async def fill(broker: Broker, count: int) -> None:
    """So many records, of ten partitions again and again."""
    for number in range(count // 10):
        await commit(broker, [number] * 10)


async def let_checkpoints_be_written(data: Path) -> None:
    with trio.fail_after(120):
        while not (data / LOG / "coordinator-checkpoint").exists():
            await trio.sleep(0.01)


class FullOnce(CountingDisk):
    """A disk that refuses one append to a log, for a reason that says nothing of the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.full = False

    def append(self, *arguments: Any, **options: Any) -> Any:
        if self.full:
            self.full = False
            raise OSError(errno.ENOMEM, "not now")
        return super().append(*arguments, **options)


@contextmanager
def longest_step() -> Iterator[list[int]]:
    """The most calls of kafkapy's functions in one step of this loop's tasks while the block runs."""
    package = str(Path(kafkapy.__file__).parent)
    found = [0]
    calls = 0

    def called(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event == "call" and frame.f_code.co_filename.startswith(package):
            calls += 1

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal calls
            calls = 0

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            found[0] = max(found[0], calls)

    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    sys.setprofile(called)
    try:
        yield found
    finally:
        sys.setprofile(None)
        trio.lowlevel.remove_instrument(steps)


async def test_loading_a_long_log_costs_its_state_and_what_came_since(
    tmp_path: Path, start_broker: StartBroker
) -> None:
    async with start_broker(settings=SETTINGS) as broker:
        await fill(broker, COMMITS)
        await let_checkpoints_be_written(tmp_path / "data")
    size = (tmp_path / "data" / LOG / f"{0:020}.log").stat().st_size
    disk = CountingDisk()
    with counted_calls() as calls:
        async with start_broker(settings=SETTINGS, disk=disk) as broker:
            assert await committed(broker) == [COMMITS // 10 - 1] * 10
    assert disk.read_bytes < size * (MIN_RECORDS + 1_000) / COMMITS + 200_000
    assert calls["GroupJournal.decode"] < MIN_RECORDS  # of a key, only the last of many


async def test_a_refused_commit_reads_nothing_and_disturbs_nobody(start_broker: StartBroker) -> None:
    disk = FullOnce()
    async with start_broker(settings=SETTINGS, disk=disk) as broker:
        await fill(broker, COMMITS)
        await commit(broker, [1], group="other")
        disk.reset()
        disk.full = True
        with counted_calls() as calls:
            with pytest.raises(KafkaError) as refusal:
                await commit(broker, [7] * 10)
            assert refusal.value.error is Error.NOT_COORDINATOR
            assert await committed(broker) == [COMMITS // 10 - 1] * 10
            assert await commit(broker, [2], group="other") == [[Error.NONE]]
            assert await commit(broker, [8] * 10) == [[Error.NONE] * 10]
        assert disk.read_bytes == 0
        assert calls["GroupMachine.apply"] < 50
        assert await committed(broker) == [8] * 10
    async with start_broker(settings=SETTINGS) as broker:
        assert await committed(broker) == [8] * 10
        assert await committed(broker, "other") == [2]


async def test_no_step_of_a_large_shard_is_long(tmp_path: Path, start_broker: StartBroker) -> None:
    """Neither of loading it from the log, nor of writing its checkpoint, nor of loading that."""
    async with start_broker(settings=SETTINGS) as broker:
        for number in range(OFFSETS // 20):
            await commit(broker, [number] * 20, group=f"group-{number}")
    (tmp_path / "data" / LOG / "coordinator-checkpoint").unlink(missing_ok=True)
    with longest_step() as from_the_log:
        async with start_broker(settings=SETTINGS) as broker:
            await loaded(broker)
            await let_checkpoints_be_written(tmp_path / "data")
    with longest_step() as from_the_checkpoint:
        async with start_broker(settings=SETTINGS) as broker:
            await loaded(broker)
            assert await committed(broker, "group-7") == [7] * 20
    assert from_the_log[0] < CALLS_A_STEP
    assert from_the_checkpoint[0] < CALLS_A_STEP
