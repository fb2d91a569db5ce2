"""What transactions write to a coordinator's log, and their markers, go through its shard."""

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error
from kafkapy.records.batch import BatchHeader, walk
from kafkapy.storage.base import Read
from kafkapy.storage.memory import open_memory
from tests.coordination.shards import LOG, Door, Table, TableJournal, TrioClock, gather
from tests.storage.catalogues import create

TABLE = ShardType(Table, TableJournal())


@pytest.fixture
async def logs():
    async with open_memory(TrioClock()) as store:
        await create(store, LOG)
        yield Door(store)


@pytest.fixture
async def shard(logs, nursery) -> Shard:
    shard = Shard("table", TABLE, ShardLog(logs, LOG), TrioClock())
    await nursery.start(shard.run)
    return shard


async def headers(logs: Any) -> list[BatchHeader]:
    [piece] = await logs.read([Read(LOG, 0, 1 << 20)], 1 << 20)
    return [header for _, header in walk(piece.records)]


async def replayed(logs: Any) -> dict[str, str]:
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    return dict(replay.machine.values)


async def test_facts_of_a_transaction_count_from_its_commit_on(shard, logs):
    await shard.execute(("put in transaction", 1, 0, "a", "1"))
    await shard.execute(("put in transaction", 2, 0, "a", "2"))
    assert await shard.execute(("get", "a")) is None
    await shard.execute(("end", 1, 0, True))
    await shard.execute(("end", 2, 0, False))
    assert await shard.execute(("get", "a")) == "1"
    assert await replayed(logs) == {"a": "1"}


async def test_a_marker_is_no_lost_log(shard, logs):
    await shard.execute(("put in transaction", 1, 0, "a", "1"))
    await shard.execute(("end", 1, 0, True))
    assert await shard.execute(("put", "a", "2")) == "2"
    assert await replayed(logs) == {"a": "2"}
    assert logs.bounds(LOG).last_stable_offset == logs.bounds(LOG).end_offset == 3


async def test_one_append_carries_a_batch_a_producer_in_the_decided_order(shard, logs, nursery):
    logs.open = trio.Event()
    await gather(
        nursery,
        shard,
        ("put", "x", "0"),
        ("put", "a", "1"),
        ("put", "b", "2"),
        ("put in transaction", 1, 5, "c", "3"),
        ("put in transaction", 1, 5, "d", "4"),
        ("put in transaction", 2, 6, "e", "5"),
        ("end", 1, 5, True),
        ("put", "c", "6"),
    )
    logs.open.set()
    await wait_all_tasks_blocked()
    assert logs.appends == 2
    found = [(h.producer_id, h.producer_epoch, h.is_control, h.record_count) for h in await headers(logs)]
    assert found == [
        (-1, -1, False, 1),
        (-1, -1, False, 2),
        (1, 5, False, 2),
        (2, 6, False, 1),
        (1, 5, True, 1),
        (-1, -1, False, 1),
    ]
    assert shard.machine.values == await replayed(logs) == {"x": "0", "a": "1", "b": "2", "c": "6", "d": "4"}


async def test_a_fenced_producer_hears_so_and_what_came_before_it_stands(shard, logs, nursery):
    await shard.execute(("put in transaction", 1, 5, "a", "1"))
    logs.open = trio.Event()
    answers = await gather(
        nursery,
        shard,
        ("put", "x", "0"),
        ("put", "b", "2"),
        ("put in transaction", 1, 4, "a", "old"),
        ("put", "c", "3"),
        ("end", 1, 5, True),
    )
    logs.open.set()
    await wait_all_tasks_blocked()
    told = [Error.INVALID_PRODUCER_EPOCH, Error.COORDINATOR_NOT_AVAILABLE, Error.COORDINATOR_NOT_AVAILABLE]
    assert answers == ["0", "2", *told]
    assert shard.machine.values == await replayed(logs) == {"x": "0", "b": "2"}
    await shard.execute(("end", 1, 5, True))
    assert shard.machine.values == await replayed(logs) == {"x": "0", "b": "2", "a": "1"}


@pytest.mark.parametrize("committed", [True, False])
async def test_a_refused_marker_leaves_its_transaction_open(shard, logs, nursery, committed):
    await shard.execute(("put", "a", "0"))
    await shard.execute(("put in transaction", 1, 0, "a", "1"))
    logs.refuse_with = Error.KAFKA_STORAGE_ERROR
    answers = await gather(nursery, shard, ("end", 1, 0, committed))
    assert answers == [Error.NOT_COORDINATOR]
    assert shard.machine.values == {"a": "0"}
    await shard.execute(("put in transaction", 1, 0, "b", "2"))
    await shard.execute(("end", 1, 0, True))
    assert shard.machine.values == await replayed(logs) == {"a": "1", "b": "2"}


async def test_refused_facts_of_a_transaction_are_not_committed_with_it(shard, logs, nursery):
    await shard.execute(("put in transaction", 1, 0, "a", "1"))
    logs.refuse_with = Error.KAFKA_STORAGE_ERROR
    await gather(nursery, shard, ("put in transaction", 1, 0, "b", "refused"))
    await shard.execute(("end", 1, 0, True))
    assert shard.machine.values == await replayed(logs) == {"a": "1"}
