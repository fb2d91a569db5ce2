"""A coordinator's log that is damaged: one partition's trouble, said once, found by the checker, with a way out."""

import logging
import re
from pathlib import Path

import pytest
import trio

from kafkapy.broker import Broker
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.coordination.shards import partition_for
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import CommitOffsets, FetchOffsets, ListGroups, PartitionCommit, TopicCommit
from kafkapy.model import ZERO_UUID
from kafkapy.storage.embedded.check import check
from tests.broker.conftest import StartBroker

SETTINGS = {"offsets.topic.num.partitions": "3", "kafkapy.auto.create.wait": "true"}
GROUPS = {partition_for(group, 3): group for group in ("a", "b", "c")}
COMMITS = 5


async def commit(broker: Broker, group: str, offset: int) -> list[list[Error]]:
    await broker.rooms.groups.coordinating_log(group)
    topic = TopicCommit("t", ZERO_UUID, [PartitionCommit(0, offset, -1, "some words")])
    return await broker.rooms.groups.commit_offsets(CommitOffsets(group, "", None, -1, -1, [topic], True))


async def committed(broker: Broker, group: str) -> int:
    [topic] = await broker.rooms.groups.fetch_offsets(FetchOffsets(group, None))
    [(_, found)] = topic.partitions
    assert found is not None
    return found.offset


async def filled(start_broker: StartBroker) -> None:
    assert sorted(GROUPS) == [0, 1, 2]
    async with start_broker(settings=SETTINGS) as broker:
        for group in GROUPS.values():
            for offset in range(COMMITS):
                assert await commit(broker, group, offset) == [[Error.NONE]]


def damage(file: Path) -> int:
    """Change a byte in the middle of a log; where the batch begins in which it lies."""
    data = bytearray(file.read_bytes())
    size = 12 + int.from_bytes(data[8:12], "big")  # all batches are alike
    position = size * 3
    data[position + size - 10] ^= 0x55
    file.write_bytes(data)
    return position


@pytest.fixture
async def damaged(tmp_path: Path, start_broker: StartBroker) -> tuple[Path, int]:
    """A log with a damaged batch in it, and where that begins."""
    await filled(start_broker)
    file = tmp_path / "data" / "__consumer_offsets-1" / f"{0:020}.log"
    return file, damage(file)


async def test_the_others_are_served(damaged, start_broker, caplog):
    async with start_broker(settings=SETTINGS) as broker:
        for _ in range(3):
            with pytest.raises(KafkaError) as refusal:
                await committed(broker, GROUPS[1])
            assert refusal.value.error is Error.NOT_COORDINATOR
            assert await commit(broker, GROUPS[0], COMMITS) == [[Error.NONE]]
        assert await committed(broker, GROUPS[2]) == COMMITS - 1
        listed = await broker.rooms.groups.list_groups(ListGroups(frozenset(), frozenset()))
        assert {group.group_id for group in listed} == {GROUPS[0], GROUPS[2]}
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "__consumer_offsets-1: the batch at offset 3 is damaged: it fails its CRC" in line


async def test_the_checker_names_it(damaged, tmp_path):
    file, position = damaged
    [finding] = check(tmp_path / "data")
    assert (finding.path, finding.problem) == (str(file), f"position {position}: offset 3 fails its CRC")


async def test_the_log_can_be_cut_before_the_damage(damaged, tmp_path, start_broker):
    file, position = damaged
    with file.open("r+b") as log:
        log.truncate(position)
    async with start_broker(settings=SETTINGS) as broker:
        assert await committed(broker, GROUPS[1]) == 2
        assert await commit(broker, GROUPS[1], 17) == [[Error.NONE]]
        assert await committed(broker, GROUPS[0]) == COMMITS - 1
    assert list(check(tmp_path / "data")) == []
    async with start_broker(settings=SETTINGS) as broker:
        assert await committed(broker, GROUPS[1]) == 17


async def test_the_partition_can_be_moved_away(damaged, tmp_path, start_broker):
    damaged[0].parent.rename(tmp_path / "kept elsewhere")
    async with start_broker(settings=SETTINGS) as broker:
        assert await broker.rooms.groups.fetch_offsets(FetchOffsets(GROUPS[1], None)) == []
        assert await commit(broker, GROUPS[1], 17) == [[Error.NONE]]
        assert await committed(broker, GROUPS[0]) == COMMITS - 1


async def test_a_topic_that_is_deleted_and_made_again_takes_the_damage_along(damaged, start_broker):
    async with start_broker(settings=SETTINGS) as broker:
        topic = broker.rooms.cluster.image.topic("__consumer_offsets")
        assert topic is not None
        await broker.rooms.cluster.delete_topics([topic.topic_id])
        await broker.rooms.groups.coordinating_log(GROUPS[1])
        with trio.fail_after(10):
            assert await commit(broker, GROUPS[1], 1) == [[Error.NONE]]


async def test_damaged_metadata_is_refused_at_the_start(tmp_path, start_broker):
    await filled(start_broker)
    file = tmp_path / "data" / "__cluster_metadata-0" / f"{0:020}.log"
    data = bytearray(file.read_bytes())
    data[-5] ^= 0x55
    file.write_bytes(data)
    started = False
    with pytest.raises(BaseExceptionGroup) as refusal:
        async with start_broker(settings=SETTINGS):
            started = True
    assert not started
    found = refusal.value.exceptions[0]
    while isinstance(found, BaseExceptionGroup):
        [found] = found.exceptions
    assert isinstance(found, DamagedLog)
    assert re.fullmatch(r"__cluster_metadata-0: the batch at offset \d+ is damaged: it fails its CRC", str(found))
