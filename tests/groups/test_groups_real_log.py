"""A `__consumer_offsets` partition that Apache Kafka 4.3.1 wrote, replayed here.

In it: a stable classic group with a static member, a classic group whose member left, a group that only committed, a
deleted group, a group of the newer consumer protocol, and offsets committed in transactions of either end.
"""

from pathlib import Path

import pytest

from kafkapy.clock import ManualClock
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error
from kafkapy.groups.commands import DescribeGroup, FetchOffsets, ListGroups
from kafkapy.groups.facts import CommittedOffset, GroupRemoved, OffsetRemoved, OffsetStored
from kafkapy.groups.journal import GroupJournal
from kafkapy.groups.machine import GroupMachine
from kafkapy.groups.settings import GroupSettings
from kafkapy.model import LogId
from kafkapy.records.batch import read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.control import header_view
from kafkapy.records.record import Record
from kafkapy.storage.base import LogSettings, Origin, Write
from kafkapy.storage.memory import open_memory
from tests.storage.catalogues import create

DATA = Path(__file__).parent / "data" / "kafka_4_3_1_consumer_offsets.bin"
LOG = LogId("__consumer_offsets", 0, bytes(16))


@pytest.fixture
async def shard(nursery):
    clock = ManualClock(1_795_464_100_000)
    async with open_memory(clock) as logs:
        await create(logs, LOG, LogSettings())
        data = DATA.read_bytes()
        for position, header in walk(data):
            batch = data[position : position + header.size_bytes]
            [outcome] = await logs.append(
                [Write(LOG, batch, [header_view(header, batch)], origin=Origin.COORDINATOR)]
            ).wait()
            assert outcome.error is Error.NONE
        shard = Shard(
            "groups", ShardType(lambda: GroupMachine(GroupSettings()), GroupJournal()), ShardLog(logs, LOG), clock
        )
        await nursery.start(shard.run)
        yield shard


async def offsets(shard, group):
    return {
        (topic.topic, partition): (found.offset, found.metadata)
        for topic in await shard.execute(FetchOffsets(group, None))
        for partition, found in topic.partitions
    }


async def test_groups_are_what_they_were(shard):
    listed = await shard.execute(ListGroups(frozenset(), frozenset()))
    states = {group.group_id: (group.state, group.protocol_type) for group in listed}
    assert states["classic"] == ("Stable", "consumer")
    assert states["left"] == ("Empty", "consumer")
    assert states["simple"] == ("Empty", "")
    assert "gone" not in states
    group = await shard.execute(DescribeGroup("classic"))
    [member] = group.members
    assert (member.instance_id, member.client_id, member.client_host) == ("pod-1", "me", "/127.0.0.1")
    assert member.member_id.startswith("pod-1-")
    assert b"t" in member.metadata
    assert b"t" in member.assignment


async def test_offsets_are_what_they_were(shard):
    assert await offsets(shard, "classic") == {("t", 0): (5, "note\0"), ("t", 1): (7, "")}  # the client's own NUL
    assert await offsets(shard, "left") == {("t", 0): (1, "")}
    assert await offsets(shard, "simple") == {("t", 0): (11, "")}
    assert await offsets(shard, "modern") == {("t", 2): (3, "")}
    assert await offsets(shard, "gone") == {}


async def test_of_transactions_only_the_committed_count(shard):
    assert await offsets(shard, "exact-tx1") == {("t", 1): (4, "")}
    assert await offsets(shard, "exact-tx2") == {}


async def test_a_group_that_is_removed_and_comes_back_within_a_few_records_is_there(nursery):
    """Of a key only the last record counts, and it counts where that one stands."""
    stored, removed = OffsetStored("g", "t", 0, CommittedOffset(1)), OffsetRemoved("g", "t", 0)
    facts = [stored, removed, GroupRemoved("g"), stored]
    entries = [entry for fact in facts for entry in GroupJournal().encode(fact)]
    batch = build_batch([Record(offset, 1, key, value, []) for offset, (key, value) in enumerate(entries)])
    async with open_memory(ManualClock()) as logs:
        await create(logs, LOG, LogSettings())
        await logs.append([Write(LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR)]).wait()
        replay = Replay(logs, LOG, ShardType(lambda: GroupMachine(GroupSettings()), GroupJournal()))
        await replay.load()
    assert set(replay.machine.groups) == {"g"}
    assert replay.machine.offsets.committed("g", "t", 0) == CommittedOffset(1)
