"""The shared store beside others of its kind: taken over, fenced, cut off, lied to. Nothing acknowledged is lost."""

import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, append, batch, end, sent, values, write
from catalogues import create, delete
from proxies import proxied

from kafkapy.clock import Clock, ManualClock, SystemClock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import Endpoint, IsolationLevel, LogId
from kafkapy.storage.base import Bounds, Checkpoint, LiveBroker, Logs, LogSettings, Outcome, Read
from kafkapy.storage.shared.check import check
from kafkapy.storage.shared.committer import COMMIT
from kafkapy.storage.shared.database import Link, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.folding import FOLDED_BATCHES
from kafkapy.storage.shared.problems import DatabaseInUse, UnfitDatabase
from kafkapy.storage.shared.store import SharedLogs, open_shared

TTL_MS = 2000
"""Long enough for a loaded machine: who is alive is not to be taken for gone."""

BROKEN_FENCE = Statement(
    """
    with i as (insert into commits (lane, seq, epoch, writer, index, data)
               select w.lane, w.seq, w.epoch, $6, w.index, w.data
               from unnest($1::int[], $2::bigint[], $3::int[], $4::bytea[], $5::bytea[])
                 as w(lane, seq, epoch, index, data)
               on conflict (lane, seq) do nothing returning lane, seq)
    update lanes l set seq = greatest(l.seq, i.seq) from i where l.lane = i.lane returning l.lane
    """,
    COMMIT.takes,
)
"""What others have used for a fence: that an entry's number is taken once. Until the entry is trimmed."""


NO_LOGS: Mapping[LogId, int] = MappingProxyType({})


class Opened:
    """A store that can be left as a process leaves it that is killed."""

    def __init__(self, logs: SharedLogs, clock: Clock, scope: trio.CancelScope) -> None:
        self.logs = logs
        self.clock = clock
        self._scope = scope
        self._told_to_stop = trio.Event()
        self.ended = trio.Event()

    def kill(self) -> None:
        self._scope.cancel()

    async def stop(self) -> None:
        """As a process does that is told to."""
        self._told_to_stop.set()
        await self.ended.wait()

    async def until_told_to_stop(self) -> None:
        await self._told_to_stop.wait()
        await self.logs.leave()


@asynccontextmanager
async def stores(
    url: str, schema: str, followed: LogId | None = None, ttl_ms: int = TTL_MS, also: Mapping[LogId, int] = NO_LOGS
) -> AsyncIterator[Callable[..., Any]]:
    """Opens stores over the same tables, each in a task of its own, until it has its share of the lanes.

    `also`: more logs, which count their epochs from there.
    """
    async with trio.open_nursery() as nursery:

        async def run(clock: Clock, statement: Statement, at: str, *, task_status: trio.TaskStatus[Opened]) -> None:
            with trio.CancelScope() as scope:
                async with open_shared(
                    at,
                    clock=clock,
                    node_id=None,
                    cluster_id="c",
                    schema=schema,
                    ttl_ms=ttl_ms,
                    alone=False,
                    followed=followed,
                    statement=statement,
                ) as logs:
                    await create(logs, LOG, SMALL)
                    await create(logs, OTHER, SMALL)
                    for log, epoch_origin in also.items():
                        await create(logs, log, SMALL, epoch_origin)
                    endpoint = Endpoint("PLAINTEXT", "broker.test", 9000 + logs.brokers.node_id, "PLAINTEXT")
                    await logs.announce(LiveBroker(logs.brokers.node_id, None, (endpoint,)))
                    await logs.settled()
                    opened = Opened(logs, clock, scope)
                    task_status.started(opened)
                    await opened.until_told_to_stop()
            opened.ended.set()

        async def open_one(clock: Clock | None = None, statement: Statement = COMMIT, at: str = url) -> Opened:
            return await nursery.start(run, clock or SystemClock(), statement, at)

        yield open_one
        nursery.cancel_scope.cancel()


def epoch_of(logs: SharedLogs, log: LogId = LOG) -> int:
    epoch = logs.leases.epoch(log)
    assert epoch is not None
    return epoch


async def contents(logs: Logs, log: LogId = LOG, *, committed: bool = False) -> list[tuple[int, bytes | None]]:
    """Everything that a reader gets."""
    bounds = logs.bounds(log)
    assert isinstance(bounds, Bounds)
    found: list[tuple[int, bytes | None]] = []
    offset = bounds.log_start_offset
    isolation = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    while True:
        [piece] = await logs.read([Read(log, offset, 1 << 20, isolation)], 1 << 20)
        assert piece.error is Error.NONE
        if not piece.records:
            return found
        found += [one for one in values(piece.records) if one[0] >= bounds.log_start_offset]
        offset = found[-1][0] + 1


async def fold(logs: SharedLogs, log: LogId = LOG) -> None:
    lane = logs.tenure.owned[logs.lanes.by_log[log]]
    await logs.folder.fold(lane)
    assert lane.checkpoint_seq == lane.seq


@pytest.mark.parametrize("folded", ["nothing", "all", "half"])
async def test_whoever_comes_after_a_kill_has_it_all(database: str, schema: str, folded: str) -> None:
    async with stores(database, schema) as open_one:
        first = await open_one()
        logs = first.logs
        await append(logs, LOG, batch(b"a", b"b"))
        await append(logs, LOG, sent(0, b"c", transactional=True))
        await end(logs, LOG, 7, committed=False)
        await append(logs, LOG, sent(1, b"d", b"e", transactional=True, at=4000))
        await logs.trim(LOG, 1)
        if folded != "nothing":
            await fold(logs)
        if folded != "all":
            await append(logs, LOG, sent(0, b"f", producer=8), leader_epoch=2)
            await append(logs, LOG, sent(0, b"g", producer=9, transactional=True), leader_epoch=2)
        seen, found = logs.bounds(LOG), await contents(logs)
        reach = logs.reach(LOG, IsolationLevel.READ_COMMITTED)
        first.kill()
        second = (await open_one()).logs
        assert second.bounds(LOG) == seen
        assert await contents(second) == found
        assert second.reach(LOG, IsolationLevel.READ_COMMITTED) == reach
        [piece] = await second.read([Read(LOG, 1, 1 << 20, IsolationLevel.READ_COMMITTED)], 1 << 20)
        assert piece.aborted == [(7, 2)]
        again = await append(second, LOG, sent(1, b"d", b"e", transactional=True), leader_epoch=9)
        assert (again.duplicate, again.base_offset, again.repeated_timestamp) == (True, 4, 4001)
        if folded != "all":
            assert (await append(second, LOG, sent(0, b"f", producer=8), leader_epoch=9)).duplicate
            assert await second.epoch_end(LOG, 2) == (2, seen.end_offset)  # type: ignore[union-attr]


async def test_what_is_left_in_order_is_there_at_once(database: str, schema: str) -> None:
    for number in range(3):
        async with open_shared(
            database, clock=ManualClock(), cluster_id=f"c{number}", schema=schema, ttl_ms=3_600_000
        ) as logs:
            assert logs.cluster_id == "c0"
            await create(logs, LOG, SMALL)
            assert [value for _, value in await contents(logs)] == [b"%d" % n for n in range(number)]
            epoch = logs.leases.epoch(LOG)
            assert epoch is not None
            await append(logs, LOG, batch(b"%d" % number), leader_epoch=epoch)


async def test_one_process_at_a_time(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        await open_one()
        with pytest.raises(DatabaseInUse, match="has the cluster in this database"):
            async with open_shared(database, clock=SystemClock(), cluster_id="c", schema=schema, ttl_ms=TTL_MS):
                pass


async def zombie(open_one: Callable[..., Any], statement: Statement) -> tuple[Outcome, list[bytes | None]]:
    """What a process hears that stood still while another took over, wrote and trimmed; and what the log has then."""
    asleep = (await open_one(ManualClock(), statement)).logs
    await append(asleep, LOG, batch(b"before"), leader_epoch=epoch_of(asleep))
    awake = (await open_one(statement=statement)).logs
    for value in (b"one", b"two", b"three"):
        outcome = await append(awake, LOG, batch(value), leader_epoch=epoch_of(awake))
        assert outcome.error is Error.NONE
    await fold(awake)
    outcome = await append(asleep, LOG, batch(b"zombie"), leader_epoch=epoch_of(asleep))
    await append(awake, LOG, batch(b"after"), leader_epoch=epoch_of(awake))
    return outcome, [value for _, value in await contents(awake)]


async def test_who_has_been_taken_over_is_refused_whatever_was_trimmed(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        outcome, found = await zombie(open_one, COMMIT)
        assert outcome.error is Error.NOT_LEADER_OR_FOLLOWER
        assert found == [b"before", b"one", b"two", b"three", b"after"]


async def test_the_checker_sees_through_a_broken_fence(database: str, schema: str) -> None:
    """The negative control: with the fence that the design rejects, the same story loses what was acknowledged."""
    async with stores(database, schema) as open_one:
        outcome, found = await zombie(open_one, BROKEN_FENCE)
        assert outcome.error is Error.NONE
        assert b"zombie" not in found


async def test_who_has_been_taken_over_says_so(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        asleep = (await open_one(ManualClock())).logs
        woken: list[LogId] = []
        asleep.watch([LOG], woken.append)
        await open_one()
        assert (await append(asleep, LOG, batch(b"late"), leader_epoch=9)).error is Error.NOT_LEADER_OR_FOLLOWER
        assert asleep.bounds(LOG) is Error.NOT_LEADER_OR_FOLLOWER
        assert asleep.leases.epoch(LOG) is None
        [piece] = await asleep.read([Read(LOG, 0, 100)], 100)
        assert piece.error is Error.NOT_LEADER_OR_FOLLOWER
        assert woken == [LOG]


@pytest.mark.parametrize("loses", ["the statement", "its answer"])
async def test_a_commit_without_an_answer_is_asked_about(
    database: str, schema: str, tmp_path: Path, loses: str
) -> None:
    async with proxied(database, tmp_path) as proxy, stores(proxy.url, schema) as open_one:
        logs = (await open_one()).logs
        for number in range(6):
            if number % 2:
                proxy.lose(b"payload", answer=loses == "its answer")
            outcome = await append(logs, LOG, sent(number, b"payload %d" % number), leader_epoch=9)
            assert (outcome.error, outcome.base_offset, outcome.duplicate) == (Error.NONE, number, False)
        assert proxy.lost_count == 3
        assert [value for _, value in await contents(logs)] == [b"payload %d" % number for number in range(6)]


async def test_a_server_that_does_not_answer_is_passed_by(database: str) -> None:
    """One of two whose machine is gone; and who answered last time is asked first."""
    [directory] = parse_qs(urlsplit(database).query)["host"]
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://postgres@/postgres?host=127.0.0.1,{directory}&port={silent.getsockname()[1]},5432"
        link = Link(f"{url}&target_session_attrs=read-write", "public", SystemClock())
        for _ in range(3):
            assert await link.run(Statement("select 1")) == [(1,)]
            link.close()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()


async def test_what_waits_for_the_database_goes_on_when_it_is_back(database: str, schema: str, tmp_path: Path) -> None:
    async with proxied(database, tmp_path) as proxy, stores(proxy.url, schema) as open_one:
        logs = (await open_one()).logs
        await append(logs, LOG, batch(b"there"), leader_epoch=9)
        proxy.is_cut = True
        proxy.cut()
        async with trio.open_nursery() as nursery:
            outcomes: list[Outcome] = []

            async def write() -> None:
                outcomes.append(await append(logs, LOG, batch(b"waited"), leader_epoch=9))

            nursery.start_soon(write)
            await proxy.refused.wait()
            assert not outcomes
            assert await contents(logs) == [(0, b"there")]  # which is in memory
            proxy.is_cut = False
        assert outcomes[0].error is Error.NONE


async def test_a_database_that_lost_what_it_acknowledged_is_not_served_from(database: str, schema: str) -> None:
    """As one does that was an asynchronous standby."""
    with pytest.RaisesGroup(UnfitDatabase, flatten_subgroups=True, allow_unwrapped=True):
        async with stores(database, schema) as open_one:
            logs = (await open_one()).logs
            await append(logs, LOG, batch(b"a"), leader_epoch=9)
            link = Link(database, schema, SystemClock())
            await link.run(Statement("update lanes set seq = 0"))
            await link.run(Statement("delete from commits"))
            link.close()
            with trio.fail_after(20):
                await trio.sleep_forever()


async def test_a_log_that_went_leaves_nothing(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        logs = (await open_one()).logs
        lane = logs.tenure.owned[logs.lanes.by_log[LOG]]
        await append(logs, LOG, batch(b"v" * 1000), leader_epoch=9)
        await fold(logs)
        await append(logs, LOG, batch(b"v" * 1000), leader_epoch=9)
        await delete(logs, LOG)
        await append(logs, OTHER, batch(b"other"), leader_epoch=9)  # which waits for what came before
        await logs.folder.fold(lane)
        link = Link(database, schema, SystemClock())
        assert await link.run(Statement("select count(*) from pieces")) == [(0,)]
        assert await link.run(Statement(f"select count(*) from commits where lane = {lane.number}")) == [(0,)]
        link.close()
        assert LogKey(LOG.topic_id, LOG.partition) not in lane.logs


async def test_a_coordinators_checkpoints_are_its_lane_owners_to_change(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        asleep = (await open_one(ManualClock())).logs
        for offset in (1, 2, 3):
            await asleep.save_checkpoint(LOG, Checkpoint(offset, b"%d" % offset))
        assert await asleep.load_checkpoints(LOG) == [(3, b"3"), (2, b"2")]
        awake = (await open_one()).logs
        await awake.save_checkpoint(LOG, Checkpoint(5, b"5"))
        for change in (asleep.save_checkpoint, asleep.drop_checkpoint):
            with pytest.raises(KafkaError) as refusal:
                await change(LOG, Checkpoint(3, b"3"))
            assert refusal.value.error is Error.NOT_LEADER_OR_FOLLOWER
        assert await awake.load_checkpoints(LOG) == [(5, b"5"), (3, b"3")]
        await awake.drop_checkpoint(LOG, Checkpoint(5, b"5"))
        assert await awake.load_checkpoints(LOG) == [(3, b"3")]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("", ""),
        ("update lanes set seq = seq + 1 where seq > 0", "its head says"),
        ("delete from commits", "its head says"),
        ("update commits set data = overlay(data placing '\\x00' from 70)", "fails its CRC"),
        ("update commits set data = data || '\\x00'", "bytes, and has"),
        ("update commits set epoch = 77", "in a lane of epoch 0"),
        ("update pieces set data = overlay(data placing '\\x00' from 70)", "fails its CRC"),
        ("delete from pieces", "bytes of offset 2 follow those that end at 0"),
        ("update checkpoints set state = '\\x02'", "of version 2, and this kafkapy knows 1"),
        ("update checkpoints set seq = 77", "its checkpoint is not that of"),
    ],
)
async def test_the_check_names_what_is_wrong(database: str, schema: str, damage: str, said: str) -> None:
    async with open_shared(database, clock=ManualClock(), cluster_id="c", schema=schema) as logs:
        await create(logs, LOG, SMALL)
        await append(logs, LOG, batch(b"a" * 100, b"b"))
        await fold(logs)
        await append(logs, LOG, sent(0, b"c" * 100))
        # which are of one entry, and numbered though they have no producer, as aiokafka's are
        both = [write(LOG, batch(value, base_sequence=0), leader_epoch=9) for value in (b"d", b"e")]
        await logs.append(both).wait()
        link = Link(database, schema, SystemClock())
        if damage:
            await link.script(damage)
        link.close()
        findings = [problem async for problem in check(database, schema, SystemClock())]
    if said:
        assert any(said in finding for finding in findings), findings
    else:
        assert findings == []


async def test_whoever_takes_a_lane_over_reads_few_batches(database: str, schema: str) -> None:
    """However many small ones were written: those since its last checkpoint, which never was long ago."""
    async with stores(database, schema) as open_one:
        first = await open_one()
        logs, at_once, count = first.logs, 125, 10_000
        most = 0
        for _ in range(count // at_once):
            await logs.append([write(LOG, batch(b"v"), leader_epoch=9) for _ in range(at_once)]).wait()
            lane = logs.tenure.owned[logs.lanes.by_log[LOG]]
            most = max(most, lane.unfolded_batches)
            if lane.unfolded_batches == at_once:  # a fold has begun, which is not to lag behind on a slow machine
                await fold(logs)
        assert most <= FOLDED_BATCHES + at_once
        first.kill()
        second = (await open_one()).logs
        lane = second.tenure.owned[second.lanes.by_log[LOG]]
        assert second.bounds(LOG) == Bounds(0, count, count, count)
        assert lane.unfolded_batches <= FOLDED_BATCHES + at_once
        assert lane.seq - lane.checkpoint_seq <= FOLDED_BATCHES // at_once + 1


async def test_small_pieces_are_joined(database: str, schema: str) -> None:
    """However often a log is folded, its pieces are few, and each byte is moved a few times."""
    async with stores(database, schema) as open_one:
        logs = (await open_one()).logs
        await create(logs, LOG, LogSettings())
        for number in range(40):
            await append(logs, LOG, batch(b"%d" % number), leader_epoch=9)
            await fold(logs)
        places = logs.tenure.owned[logs.lanes.by_log[LOG]].logs[LogKey(LOG.topic_id, LOG.partition)].places
        assert len(places) <= 7
        assert [value for _, value in await contents(logs)] == [b"%d" % number for number in range(40)]
