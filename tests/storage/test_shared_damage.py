"""A lane that cannot be read: the trouble of its partitions alone, said once, found by the checker, with ways out."""

import logging
import re
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, append, batch, headers, sent
from batches import write as write_to
from test_shared import Opened, contents, fold, stores
from test_shared_lanes import Leaders, write

from kafkapy.clock import SystemClock, TravelClock
from kafkapy.errors import Error
from kafkapy.storage.base import Bounds, Read
from kafkapy.storage.shared.check import check
from kafkapy.storage.shared.database import Link
from kafkapy.storage.shared.entries import BadEntry, Chunk, Entry, LogKey, Start, decode_entry, encode_entry
from kafkapy.storage.shared.lane import BadCheckpoint, Lane, lane_of
from kafkapy.storage.shared.lanes import key_of

LANE = lane_of(key_of(LOG), 64)

GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"

UNREADABLE_PAGE = f"""
    create function broken() returns bytea language plpgsql as
      $$ begin raise exception 'invalid page in block 3' using errcode = 'XX001'; end $$;
    alter table checkpoints rename to sound_checkpoints;
    create view checkpoints as
      select lane, seq, case when lane = {LANE} then broken() else state end as state from sound_checkpoints
"""
"""What PostgreSQL says of a page that its disk has damaged."""

DAMAGES = {
    "a checkpoint of a later version": (f"update checkpoints set state = '\\x02' where lane = {LANE}", "of version 2"),
    "a checkpoint that is cut off": (
        f"update checkpoints set state = substring(state for length(state) / 2) where lane = {LANE}",
        "its checkpoint cannot be read",
    ),
    "a checkpoint that is gone": (f"delete from checkpoints where lane = {LANE}", "not that of entry 2"),
    "an older checkpoint": (f"update checkpoints set seq = 1 where lane = {LANE}", "not that of entry 2"),
    "an entry of a later version": (
        f"update commits set index = '\\x09' where lane = {LANE} and seq = 3",
        "entry 3 cannot be read: entry version 9",
    ),
    "an entry that is cut off": (
        f"update commits set index = substring(index for 12) where lane = {LANE} and seq = 3",
        "entry 3 cannot be read",
    ),
    "an entry that is another one": (
        f"update commits set index = (select index from commits where lane = {LANE} and seq = 4)"
        f" where lane = {LANE} and seq = 3",
        "entry 3 does not go on where a log ends",
    ),
    "an entry without all of its bytes": (
        f"update commits set data = substring(data for 20) where lane = {LANE} and seq = 3",
        "entry 3 tells of",
    ),
    "an entry that is gone": (f"delete from commits where lane = {LANE} and seq = 3", "entry 4 follows entry 2"),
    "the last entry that is gone": (
        f"delete from commits where lane = {LANE} and seq = 4",
        "its last entry is 3, and its head says 4",
    ),
    "an entry beyond the head": (
        f"insert into commits select lane, 5, epoch, writer, '\\x0100'::bytea, ''::bytea from commits"
        f" where lane = {LANE} and seq = 4",
        "its last entry is 5, and its head says 4",
    ),
    "a page that cannot be read": (UNREADABLE_PAGE, "invalid page in block 3"),
}


async def done(database: str, schema: str, sql: str) -> None:
    """Have this done by hand."""
    link = Link(database, schema, SystemClock())
    try:
        await link.script(sql)
    finally:
        link.close()


async def two_and_two(logs: Opened) -> None:
    """Two entries in a checkpoint, and two after it; something in another lane, too."""
    await write(logs.logs, b"a")
    await write(logs.logs, b"b")
    await fold(logs.logs)
    await write(logs.logs, b"c")
    await write(logs.logs, b"d")
    await write(logs.logs, b"other", OTHER)


def damaged_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_the_others_are_served(database: str, schema: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    sql, said = DAMAGES[damage]
    async with stores(database, schema) as open_one:
        first = await open_one()
        await two_and_two(first)
        await first.stop()
        await done(database, schema, sql)
        logs = (await open_one()).logs
        assert logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
        assert (await append(logs, LOG, batch(b"e"), leader_epoch=99)).error is Error.KAFKA_STORAGE_ERROR
        assert (await logs.read([Read(LOG, 0, 100)], 100))[0].error is Error.KAFKA_STORAGE_ERROR
        assert [value for _, value in await contents(logs, OTHER)] == [b"other"]
        assert (await write(logs, b"more", OTHER)).base_offset == 1
        [line] = damaged_lines(caplog)
        assert re.match(rf"lane {LANE} cannot be read, and nothing that lies in it is served \(t-0\): .*{said}", line)
        findings = [problem async for problem in check(database, schema, SystemClock())]
        assert findings
        assert all(finding.startswith(f"lane {LANE}: ") for finding in findings)


async def test_whoever_takes_the_lane_lives(database: str, schema: str) -> None:
    """However often it is handed over, or its owner killed."""
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        first = leaders.add(await open_one())
        await two_and_two(first)
        await done(database, schema, DAMAGES["a checkpoint of a later version"][0])
        await first.stop()
        leaders.remove(first)
        for number in range(3):
            leaders.add(await open_one())
            leaders.add(await open_one())
            victim = leaders.stores[0]
            if number % 2:
                victim.kill()
            else:
                await victim.stop()
            leaders.remove(victim)
            for one in leaders.stores:
                await one.logs.settled()
            [owner] = [one for one in leaders.stores if LANE in one.logs.tenure.owned]
            assert owner.logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
            [leader] = await leaders.of(OTHER)
            assert (await write(leader.logs, b"more", OTHER)).error is Error.NONE


async def test_a_lane_that_was_mended_is_served_again(
    database: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with stores(database, schema) as open_one:
        first = await open_one()
        await two_and_two(first)
        await first.stop()
        await done(database, schema, "create table kept as table checkpoints; update checkpoints set state = '\\x02'")
        second = await open_one(TravelClock())
        assert second.logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
        await done(database, schema, "update checkpoints c set state = k.state from kept k where k.lane = c.lane")
        served = Leaders()
        served.add(second)
        while not isinstance(second.logs.bounds(LOG), Bounds):
            second.clock.advance_ms(30_000)
            await second.logs.settled()
        assert [value for _, value in await contents(second.logs)] == [b"a", b"b", b"c", b"d"]
        assert len(damaged_lines(caplog)) == 1


def way_out(title: str, **values: int) -> str:
    """What the guide has people do, with psql's variables set."""
    _, _, section = GUIDE.read_text(encoding="utf-8").partition(title)
    [sql] = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)[:1]
    for name, value in values.items():
        sql = sql.replace(f":{name}", str(value))
    assert not re.search(r"(?<!:):[a-z]", sql)
    return sql


@pytest.mark.parametrize(
    ("damage", "title", "entry", "left"),
    [
        ("an entry of a later version", "what lies before a damaged entry", 3, [b"a", b"b"]),
        ("an entry that is gone", "what lies before a damaged entry", 3, [b"a", b"b"]),
        ("the last entry that is gone", "what lies before a damaged entry", 4, [b"a", b"b", b"c"]),
        ("an entry beyond the head", "what lies before a damaged entry", 5, [b"a", b"b", b"c", b"d"]),
        ("a checkpoint of a later version", "the whole lane is given up", 0, []),
        ("a checkpoint that is gone", "the whole lane is given up", 0, []),
        ("an entry of a later version", "the whole lane is given up", 0, []),
    ],
)
async def test_the_ways_out_that_the_guide_has(
    database: str, schema: str, damage: str, title: str, entry: int, left: list[bytes]
) -> None:
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        first = leaders.add(await open_one())
        await two_and_two(first)
        await first.stop()
        leaders.remove(first)
        await done(database, schema, DAMAGES[damage][0])
        second = leaders.add(await open_one())
        assert second.logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
        await done(database, schema, way_out(title, lane=LANE, entry=entry).replace("kafkapy.", ""))
        while not isinstance(second.logs.bounds(LOG), Bounds):  # which processes hear of
            await second.logs.settled()
        assert [value for _, value in await contents(second.logs)] == left
        assert (await write(second.logs, b"new")).base_offset == len(left)
        await fold(second.logs)
        await second.stop()
        leaders.remove(second)
        third = leaders.add(await open_one())
        assert [value for _, value in await contents(third.logs)] == [*left, b"new"]
        assert [value for _, value in await contents(third.logs, OTHER)] == [b"other"]
    assert [problem async for problem in check(database, schema, SystemClock())] == []


async def test_an_entry_beyond_a_head_costs_its_lane_alone(database: str, schema: str) -> None:
    """Its owner finds it when it writes; what others write beside it goes on."""
    async with stores(database, schema) as open_one:
        opened = await open_one()
        await two_and_two(opened)
        await done(database, schema, DAMAGES["an entry beyond the head"][0])
        logs = opened.logs
        epoch = logs.leases.epoch(LOG)
        assert epoch is not None
        pendings = [logs.append([write_to(log, batch(b"x"), leader_epoch=epoch)]) for log in (LOG, OTHER)]
        lost, kept = [(await pending.wait())[0] for pending in pendings]
        assert (lost.error, kept.error) == (Error.NOT_LEADER_OR_FOLLOWER, Error.NONE)
        while logs.bounds(LOG) is not Error.KAFKA_STORAGE_ERROR:
            await logs.settled()
        assert [value for _, value in await contents(logs, OTHER)] == [b"other", b"x"]


async def test_a_broker_whose_address_makes_no_sense_is_there_without_one(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        first = await open_one()
        for nonsense in ("nonsense", "[[1]]", "7"):
            await done(database, schema, f"update brokers set endpoints = '{nonsense}' where node_id = 1")
            second = await open_one()
            for one in (first, second):
                await one.logs.settled()
                assert [broker.node_id for broker in one.logs.brokers.live()] == [2]
            assert set(first.logs.tenure.owned) | set(second.logs.tenure.owned) == set(range(64))
            await second.stop()
            await first.logs.settled()


async def test_what_all_read_is_told_to_be_unreadable(
    database: str, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The metadata log, for one: who owns its lane does not decide, who reads it goes on with what he has."""
    async with stores(database, schema, followed=LOG) as open_one:
        first = await open_one()
        await two_and_two(first)
        await first.stop()
        await done(database, schema, DAMAGES["a checkpoint of a later version"][0])
        opened = [await open_one(), await open_one()]
        for one in opened:
            await one.logs.settled()
            assert one.logs.bounds(LOG) is Error.KAFKA_STORAGE_ERROR
            assert one.logs.leases.epoch(LOG) is None
        assert any("what all brokers read cannot be read from lane" in line for line in damaged_lines(caplog))


async def test_one_lane_that_cannot_be_folded_holds_up_no_other(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        logs = (await open_one()).logs
        await write(logs, b"a")
        await write(logs, b"b", OTHER)
        logs._reader.forget_lane(LANE)
        await done(database, schema, f"delete from commits where lane = {LANE}")
        await logs.folder.fold(logs.tenure.owned[LANE])
        assert logs.tenure.owned[LANE].checkpoint_seq == 0
        await fold(logs, OTHER)


def an_entry() -> bytes:
    first, second = sent(0, b"a", b"b", transactional=True), batch(b"c")
    return encode_entry(
        Entry(
            1_700_000_000_000,
            [
                Chunk(LogKey(b"1" * 16, 0), True, headers(first)),
                Chunk(LogKey(b"2" * 16, 7), True, headers(second)),
                Start(LogKey(b"1" * 16, 0), 1),
            ],
        )
    )


ENTRY = an_entry()


@given(st.lists(st.tuples(st.integers(0, len(ENTRY) - 1), st.integers(0, 255)), min_size=1), st.integers(0, 200))
@settings(max_examples=300)
def test_no_entry_is_worse_than_bad(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(ENTRY)
    for at, value in changes:
        data[at] = value
    del data[len(data) - min(cut, len(data)) :]
    lane = Lane(0)
    try:
        lane.replay(1, decode_entry(bytes(data)), 200)
    except BadEntry:
        return


@given(st.binary(max_size=200), st.integers(0, 300))
@settings(max_examples=300)
def test_no_checkpoint_is_worse_than_bad(noise: bytes, at: int) -> None:
    lane = Lane(0)
    entry = decode_entry(ENTRY)
    lane.replay(1, entry, sum(change.size_bytes for change in entry.changes if isinstance(change, Chunk)))
    state = zlib.decompress(lane.checkpoint()[1:])
    changed = state[:at] + noise + state[at + len(noise) :]
    try:
        Lane(0).restore(1, b"\x01" + zlib.compress(changed), [])
    except BadCheckpoint:
        return
