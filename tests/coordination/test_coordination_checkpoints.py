"""A shard's state beside its log: what it spares, and when it is not believed."""

import struct
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.coordination import checkpointing
from kafkapy.coordination.replaying import Replay
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.control import header_view
from kafkapy.records.record import Record
from kafkapy.storage.base import Checkpoint, Origin, Write
from kafkapy.storage.memory import open_memory
from tests.coordination.shards import LOG, Door, Table, TableJournal, TrioClock, gather
from tests.storage.catalogues import create

TABLE = ShardType(Table, TableJournal(), lambda machine: dict(machine.values))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A checkpoint is due after 20 records."""
    monkeypatch.setattr(checkpointing, "MIN_RECORDS", 20)


@pytest.fixture
async def logs():
    async with open_memory(TrioClock()) as store:
        await create(store, LOG)
        yield Door(store)


async def start(nursery: trio.Nursery, logs: Any, log: LogId = LOG) -> Shard:
    shard = Shard("table", TABLE, ShardLog(logs, log), TrioClock())
    await nursery.start(shard.run)
    return shard


async def put(shard: Shard, count: int, keys: int = 5) -> None:
    for number in range(count):
        await shard.execute(("put", f"k{number % keys}", str(number)))
    await wait_all_tasks_blocked()


async def write(logs: Any, *facts: tuple[str, str]) -> None:
    records = [Record(offset, 1, key.encode(), value.encode(), []) for offset, (key, value) in enumerate(facts)]
    batch = build_batch(records)
    [outcome] = await logs.append(
        [Write(LOG, batch, [header_view(read_header(batch), batch)], origin=Origin.COORDINATOR)]
    ).wait()
    assert outcome.error is Error.NONE


async def replayed(logs: Any) -> dict[str, str]:
    """What the log alone says."""
    replay = Replay(_WithoutCheckpoints(logs), LOG, TABLE)
    await replay.load()
    return dict(replay.machine.values)


class _WithoutCheckpoints:
    def __init__(self, logs: Any) -> None:
        self._logs = logs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    async def load_checkpoints(self, log: LogId) -> list[Checkpoint]:
        return []


async def test_loading_costs_the_state_and_what_came_since(logs, nursery):
    await put(await start(nursery, logs), 1_000)
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert replay.machine.values == await replayed(logs) != {}
    assert replay.checkpoint_size == 5
    assert replay.record_count <= 21


async def test_a_large_state_is_not_written_anew_for_every_few_facts(logs, nursery, monkeypatch):
    shard = await start(nursery, logs)
    await shard.execute(("fill", [(f"k{number}", "?") for number in range(500)]))
    await wait_all_tasks_blocked()
    saved = []
    keep = logs.save_checkpoint

    async def save(log: LogId, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint.offset)
        await keep(log, checkpoint)

    logs.save_checkpoint = save
    await put(shard, 1_100, keys=500)
    assert len(saved) == 2


async def test_a_long_log_without_a_checkpoint_gets_one_when_it_is_loaded(logs, nursery):
    await write(logs, *((f"k{number}", "v") for number in range(100)))
    await start(nursery, logs)
    await wait_all_tasks_blocked()
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert (replay.checkpoint_size, replay.record_count) == (100, 0)


async def test_commands_go_on_while_a_checkpoint_is_written_and_do_not_show_in_it(logs, nursery, monkeypatch):
    monkeypatch.setattr(checkpointing, "_RECORDS_A_BATCH", 10)
    shard = await start(nursery, logs)
    saved: list[Checkpoint] = []
    keep = logs.save_checkpoint

    async def save(log: LogId, checkpoint: Checkpoint) -> None:
        saved.append(checkpoint)
        await keep(log, checkpoint)

    logs.save_checkpoint = save
    await shard.execute(("fill", [(f"k{number}", "old") for number in range(1_000)]))
    rounds = 0
    while not saved:
        rounds += 1
        await shard.execute(("fill", [(f"k{number}", "new") for number in range(1_000)]))
        await trio.lowlevel.checkpoint()
    assert rounds > 10
    replay = Replay(logs, LOG, TABLE)
    content = await checkpointing.open_checkpoint(logs, LOG, saved[0])
    assert content is not None
    await replay._take_batches(content.batches)
    assert saved[0].offset == 1_000
    assert set(replay.machine.values.values()) == {"old"}
    await replay.load()
    assert set(replay.machine.values.values()) == {"new"}


async def test_what_is_refused_does_not_get_into_a_checkpoint(logs, nursery):
    shard = await start(nursery, logs)
    await put(shard, 20)
    before = dict(shard.machine.values)
    logs.refuse_with = Error.KAFKA_STORAGE_ERROR
    await gather(nursery, shard, ("fill", [(f"k{number}", "refused") for number in range(10)]))
    assert await logs.load_checkpoints(LOG) == []
    await put(shard, 5)
    await put(shard, 5)
    [checkpoint] = await logs.load_checkpoints(LOG)
    assert checkpoint.offset == 21
    assert b"refused" not in checkpoint.data
    assert set(before) == set(shard.machine.values)


async def test_of_a_write_under_way_the_checkpoint_holds_all_or_nothing(logs, nursery):
    """Under a load that never pauses, a checkpoint is begun with a write, and counts once that is in the log."""
    shard = await start(nursery, logs)
    await put(shard, 21)
    logs.open = trio.Event()
    answers = await gather(nursery, shard, ("put", "a", "1"), ("put", "b", "2"))
    logs.open.set()
    await wait_all_tasks_blocked()
    assert answers == ["1", "2"]
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert await logs.load_checkpoints(LOG)
    assert replay.machine.values == await replayed(logs)


async def test_open_transactions_are_kept(logs, nursery):
    shard = await start(nursery, logs)
    await shard.execute(("put in transaction", 7, 0, "t", "committed later"))
    await shard.execute(("put in transaction", 8, 0, "t", "aborted later"))
    await put(shard, 30)
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert replay.checkpoint_size
    assert "t" not in replay.machine.values
    await shard.execute(("end", 8, 0, False))
    await shard.execute(("end", 7, 0, True))
    await replay.catch_up()
    assert replay.machine.values["t"] == "committed later"
    assert replay.machine.values == shard.machine.values == await replayed(logs)


async def test_a_checkpoint_that_cannot_be_saved_is_tried_again_later(logs, nursery, caplog):
    keep = logs.save_checkpoint

    async def refuse(log: LogId, checkpoint: Checkpoint) -> None:
        raise KafkaError(Error.KAFKA_STORAGE_ERROR)

    logs.save_checkpoint = refuse
    shard = await start(nursery, logs)
    await put(shard, 22)
    assert "no checkpoint of __numbers-0 was written" in caplog.text
    logs.save_checkpoint = keep
    await put(shard, 22)
    [checkpoint] = await logs.load_checkpoints(LOG)
    assert checkpoint.offset == 42


# What is not believed


@pytest.fixture
async def checkpoint(logs) -> Checkpoint:
    """Of a shard whose log has 30 records by now."""
    async with trio.open_nursery() as nursery:
        await put(await start(nursery, logs), 30)
        nursery.cancel_scope.cancel()
    [found] = await logs.load_checkpoints(LOG)
    assert found.offset == 21
    assert isinstance(found, Checkpoint)
    return found


async def load_over(batches: list[tuple[str, str]], checkpoint: Checkpoint, *, trim: int = 0) -> tuple[Replay, Any]:
    """Load a log of these records, one a batch, that has this checkpoint."""
    async with open_memory(TrioClock()) as store:
        await create(store, LOG)
        for key, value in batches:
            await write(store, (key, value))
        if trim:
            await store.trim(LOG, trim)
        await store.save_checkpoint(LOG, checkpoint)
        replay = Replay(store, LOG, TABLE)
        await replay.load()
        return replay, await store.load_checkpoints(LOG)


async def test_of_a_log_that_a_power_cut_shortened(checkpoint, caplog):
    replay, left = await load_over([("k", str(number)) for number in range(10)], checkpoint)
    assert replay.machine.values == {"k": "9"}
    assert left == []
    assert "the checkpoint of __numbers-0 is not used" in caplog.text


async def test_of_a_log_that_grew_again_after_a_power_cut(checkpoint):
    replay, left = await load_over([("k", str(number)) for number in range(40)], checkpoint)
    assert replay.machine.values == {"k": "39"}
    assert left == []  # nor will it be believed later


@pytest.mark.parametrize("log_start", [21, 25])
async def test_of_a_log_whose_records_before_it_were_deleted(logs, nursery, checkpoint, log_start):
    await logs.trim(LOG, log_start)
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert replay.checkpoint_size == 0
    assert replay.record_count == 30 - log_start


@pytest.mark.parametrize(
    "data",
    [b"", b"?", struct.pack(">hqI", 2, 20, 0), struct.pack(">hqI", 1, 20, 0), struct.pack(">hqI", 1, 21, 0)],
    ids=["nothing", "too short", "another version", "another batch", "beyond its offset"],
)
async def test_of_what_is_not_one(logs, checkpoint, data):
    await logs.save_checkpoint(LOG, Checkpoint(21, data))
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert replay.checkpoint_size == 0
    assert replay.machine.values == await replayed(logs)


async def test_of_one_that_is_damaged_inside(logs, checkpoint, caplog):
    foreign = build_batch([Record(0, 1, b"foreign", b"?", [])])
    damaged = bytearray(checkpoint.data[:14] + foreign + checkpoint.data[14:])
    damaged[-3] ^= 1
    await logs.save_checkpoint(LOG, Checkpoint(21, bytes(damaged)))
    replay = Replay(logs, LOG, TABLE)
    await replay.load()
    assert replay.checkpoint_size == 0
    assert replay.machine.values == await replayed(logs)
    assert "fails its CRC" in caplog.text


async def test_a_log_is_followed_without_a_shard(logs, nursery):
    shard = await start(nursery, logs)
    follower = Replay(logs, LOG, TABLE)
    await follower.load()
    await put(shard, 30)
    await follower.catch_up()
    await put(shard, 7)
    await follower.catch_up()
    assert follower.machine.values == shard.machine.values
