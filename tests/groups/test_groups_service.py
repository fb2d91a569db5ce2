"""Group coordinators come and go with the leases on their logs."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trio.testing import wait_all_tasks_blocked

from kafkapy.broker import Broker, open_broker
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    CommitOffsets,
    FetchOffsets,
    Join,
    ListGroups,
    PartitionCommit,
    Protocol,
    TopicCommit,
)
from kafkapy.groups.facts import CommittedOffset, OffsetStored
from kafkapy.groups.journal import GroupJournal
from kafkapy.model import ZERO_UUID, LogId
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Origin, Write
from tests.waiting import answered


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    flags = {"listeners": "PLAINTEXT://127.0.0.1:0", "offsets.topic.num.partitions": "2"}
    flags["group.initial.rebalance.delay.ms"] = "60000"
    flags["kafkapy.auto.create.wait"] = "true"
    async with open_broker(BrokerConfig.load(flags=flags), data_dir=None) as running:
        yield running


def commands(offset: int = 1) -> CommitOffsets:
    topic = TopicCommit("t", ZERO_UUID, [PartitionCommit(0, offset, -1, None)])
    return CommitOffsets("g", "", None, -1, -1, [topic], True)


async def commit(broker: Broker, offset: int) -> None:
    assert await broker.rooms.groups.commit_offsets(commands(offset)) == [[Error.NONE]]


async def committed(broker: Broker) -> list[int]:
    topics = await broker.rooms.groups.fetch_offsets(FetchOffsets("g", None))
    return [found.offset for topic in topics for _, found in topic.partitions if found is not None]


async def log_of_g(broker: Broker) -> LogId:
    return await broker.rooms.groups.coordinating_log("g")


def leases(broker: Broker) -> Any:
    return broker.rooms.logs.leases  # type: ignore[attr-defined]


async def refused(asking: Any) -> Error:
    with pytest.raises(KafkaError) as refusal:
        await asking
    return refusal.value.error


async def test_who_waits_when_the_log_is_lost_is_told_and_who_asks_later_too(broker, nursery):
    log = await log_of_g(broker)
    await commit(broker, 1)
    told: list[Error] = []

    async def join() -> None:
        protocols = (Protocol("range", b""),)
        command = Join("g", "", None, "c", "/h", 10_000, 60_000, "consumer", protocols, "", False, True)
        told.append(await refused(answered(await broker.rooms.groups.join(command))))

    nursery.start_soon(join)
    await wait_all_tasks_blocked()
    assert not told
    leases(broker).lose([log])
    await wait_all_tasks_blocked()
    assert told == [Error.NOT_COORDINATOR]
    assert await refused(committed(broker)) is Error.NOT_COORDINATOR
    assert await refused(broker.rooms.groups.commit_offsets(commands())) is Error.NOT_COORDINATOR
    assert await broker.rooms.groups.list_groups(ListGroups(frozenset(), frozenset())) == []


async def test_a_log_that_is_gained_again_is_read_again(broker):
    log = await log_of_g(broker)
    await commit(broker, 1)
    leases(broker).lose([log])
    await append(broker, log, 17)  # by whoever had it meanwhile
    leases(broker).gain({log: 0})
    listed = await broker.rooms.groups.list_groups(ListGroups(frozenset(), frozenset()))
    assert [group.group_id for group in listed] == ["g"]  # at once: nobody had to ask for it
    assert await committed(broker) == [17]
    await commit(broker, 18)
    assert await committed(broker) == [18]


async def test_a_log_that_is_lost_and_gained_at_once_goes_on(broker):
    log = await log_of_g(broker)
    await commit(broker, 1)
    leases(broker).lose([log])
    leases(broker).gain({log: 0})
    assert await committed(broker) == [1]
    await wait_all_tasks_blocked()
    await commit(broker, 2)
    assert await committed(broker) == [2]


async def test_a_shard_that_another_wrote_under_begins_anew_while_the_log_is_ours(broker):
    log = await log_of_g(broker)
    await commit(broker, 1)
    await append(broker, log, 17)
    assert await refused(broker.rooms.groups.commit_offsets(commands(2))) is Error.NOT_COORDINATOR
    await wait_all_tasks_blocked()
    assert await committed(broker) == [17]
    await commit(broker, 3)
    assert await committed(broker) == [3]


async def test_an_empty_log_has_no_shard_before_somebody_asks(broker):
    await log_of_g(broker)
    await wait_all_tasks_blocked()
    assert not broker.rooms.groups._shards.running()
    await commit(broker, 1)
    assert len(broker.rooms.groups._shards.running()) == 1


async def test_writes_carry_the_epoch_of_the_lease(broker):
    log = await log_of_g(broker)
    leases(broker).lose([log])
    leases(broker).gain({log: 5})
    await commit(broker, 1)
    found = await broker.rooms.logs.epoch_end(log, 5)
    assert found is not None
    assert (found.leader_epoch, found.end_offset) == (5, 1)


async def append(broker: Broker, log: LogId, offset: int) -> None:
    [entry] = GroupJournal().encode(OffsetStored("g", "t", 0, CommittedOffset(offset, -1, "", 1)))
    batch = build_batch([Record(0, 1, entry.key, entry.value, [])])
    pending = broker.rooms.logs.append([Write(log, batch, [read_header(batch)], origin=Origin.COORDINATOR)])
    [outcome] = await pending.wait()
    assert outcome.error is Error.NONE
