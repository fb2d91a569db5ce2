"""Several stores that share the lanes of one database: who comes, who goes, and what they know of each other."""

import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parent))

from batches import LOG, OTHER, SMALL, batch, sent, values
from batches import write as write_to
from catalogues import create
from proxies import proxied
from test_shared import TTL_MS, Opened, append, contents, epoch_of, stores

from kafkapy.clock import ManualClock, SystemClock, TravelClock
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.storage.base import Bounds, Checkpoint, EpochEnd, Holder, LogSettings, Outcome, Read
from kafkapy.storage.shared.check import check
from kafkapy.storage.shared.database import Link, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.lane import lane_of
from kafkapy.storage.shared.leases import LaneLeases
from kafkapy.storage.shared.preparing import prepare
from kafkapy.storage.shared.problems import DatabaseInUse
from kafkapy.storage.shared.rendezvous import in_order
from kafkapy.storage.shared.store import SharedLogs, open_shared
from kafkapy.storage.shared.tenure import TAKE


class Leaders:
    """Who of these stores says that it leads a log."""

    def __init__(self) -> None:
        self.stores: list[Opened] = []
        self._changed = trio.Event()

    def add(self, opened: Opened) -> Opened:
        self.stores.append(opened)
        opened.logs.leases.watch(self._note, self._note)
        return opened

    def remove(self, opened: Opened) -> None:
        self.stores.remove(opened)
        self._note([])

    def _note(self, logs: Sequence[LogId]) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def of(self, log: LogId) -> list[Opened]:
        while not (found := [one for one in self._awake() if one.logs.leases.epoch(log) is not None]):
            await self._changed.wait()
        return found

    def _awake(self) -> list[Opened]:
        """Whose time goes on: a process that stands still answers nobody."""
        return [one for one in self.stores if not (isinstance(one.clock, TravelClock) and one.clock.is_frozen)]

    async def is_only(self, log: LogId, opened: Opened) -> None:
        while [one for one in self.stores if one.logs.leases.epoch(log) is not None] != [opened]:
            await self._changed.wait()


def lanes_of(opened: Opened) -> set[int]:
    return set(opened.logs.tenure.owned)


def log_beside(log: LogId) -> LogId:
    """Another log of the same lane."""
    others = (LogId("beside", partition, b"\x09" * 16) for partition in range(1000))
    lane = lane_of(LogKey(log.topic_id, log.partition), 64)
    return next(other for other in others if lane_of(LogKey(other.topic_id, other.partition), 64) == lane)


async def write(logs: SharedLogs, value: bytes, log: LogId = LOG) -> Outcome:
    return await append(logs, log, batch(value), leader_epoch=epoch_of(logs, log))


async def test_who_comes_takes_a_share_and_who_goes_leaves_it_to_the_others(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        first = await open_one()
        assert len(lanes_of(first)) == 64
        await write(first.logs, b"a")
        await write(first.logs, b"b", OTHER)
        epochs = {log: epoch_of(first.logs, log) for log in (LOG, OTHER)}
        second = await open_one()
        third = await open_one()
        all_three = (first, second, third)
        for opened in all_three:
            await opened.logs.settled()
        for opened in all_three:
            node_id = opened.logs.brokers.node_id
            assert lanes_of(opened) == {lane for lane in range(64) if in_order(lane, (1, 2, 3))[0] == node_id}
        for log in (LOG, OTHER):
            [leader] = [opened for opened in all_three if opened.logs.leases.epoch(log) is not None]
            holder = leader.logs.leases.holder(log)
            assert holder is not None
            assert holder.epoch >= epochs[log]
            for opened in all_three:
                assert opened.logs.leases.holder(log) == holder
                assert [broker.node_id for broker in opened.logs.brokers.live()] == [1, 2, 3]
                if opened is not leader:
                    assert opened.logs.bounds(log) is Error.NOT_LEADER_OR_FOLLOWER
        await third.stop()
        await second.stop()
        await first.logs.settled()
        assert len(lanes_of(first)) == 64
        assert [value for _, value in await contents(first.logs)] == [b"a"]
        assert [value for _, value in await contents(first.logs, OTHER)] == [b"b"]
        assert [broker.node_id for broker in first.logs.brokers.live()] == [1]
    assert [problem async for problem in check(database, schema, SystemClock())] == []


async def test_what_a_killed_process_had_is_taken_when_its_lease_has_run_out(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        opened = [leaders.add(await open_one()) for _ in range(3)]
        for each in opened:
            await each.logs.settled()
        [victim] = await leaders.of(LOG)
        await write(victim.logs, b"before")
        epoch = epoch_of(victim.logs)
        leaders.remove(victim)
        victim.kill()
        [heir] = await leaders.of(LOG)
        assert epoch_of(heir.logs) > epoch
        assert (await write(heir.logs, b"after")).error is Error.NONE
        assert [value for _, value in await contents(heir.logs)] == [b"before", b"after"]


async def test_a_log_counts_its_epochs_from_when_it_came_into_being(database: str, schema: str) -> None:
    """Be its lane in whichever: so for whoever leads it, and whoever is asked, and in what is written to it."""
    young = log_beside(LOG)
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        for _ in range(3):  # so that lanes have moved before
            await (await open_one()).stop()
        opened = [leaders.add(await open_one()) for _ in range(2)]
        for each in opened:
            await each.logs.settled()
        [leader] = await leaders.of(LOG)
        [origin] = {each.logs.epoch_origin(young) for each in opened}
        old_epoch = epoch_of(leader.logs)
        assert origin == old_epoch > 0
        for each in opened:
            await create(each.logs, young, SMALL, origin)
            assert each.logs.leases.holder(young) == Holder(leader.logs.brokers.node_id, 0)
        outcome = await write(leader.logs, b"of the first leader", young)
        assert (outcome.error, await leader.logs.epoch_end(young, 0)) == (Error.NONE, EpochEnd(0, 1))

        leaders.remove(leader)
        leader.kill()
        [heir] = await leaders.of(young)
        await create(heir.logs, young, LogSettings(), origin)
        assert epoch_of(heir.logs) == old_epoch + 1, "one that came into being earlier goes on as it was"
        assert epoch_of(heir.logs, young) == 1
        late = await append(heir.logs, young, batch(b"of the first leader, late"), leader_epoch=0)
        assert late.error is Error.NOT_LEADER_OR_FOLLOWER
        assert (await write(heir.logs, b"of the second", young)).error is Error.NONE
        assert [await heir.logs.epoch_end(young, epoch) for epoch in (0, 1)] == [EpochEnd(0, 1), EpochEnd(1, 2)]


async def test_a_log_never_goes_back_behind_the_epochs_of_other_leaders(database: str, schema: str) -> None:
    """Several brokers of one process lead in epochs of their own, also where a log counts from a later one."""
    young = log_beside(LOG)
    async with stores(database, schema) as open_one:
        for _ in range(3):
            await (await open_one()).stop()
    async with open_shared(database, clock=SystemClock(), cluster_id="c", schema=schema, ttl_ms=TTL_MS) as alone:
        origin = alone.epoch_origin(young)
        await create(alone, young, SMALL, origin)
        assert epoch_of(alone, young) == 0
        await append(alone, young, batch(b"of the eighth broker"), leader_epoch=7)
    async with stores(database, schema, also={young: origin}) as open_one:
        assert epoch_of((await open_one()).logs, young) == 8


async def test_a_hand_over_that_was_lost_is_made_good(database: str, schema: str, tmp_path: Path) -> None:
    async with proxied(database, tmp_path) as proxy, stores(database, schema) as open_one:
        first = await open_one(at=proxy.url)
        proxy.lose(b"set owner = null", answer=False)
        with trio.fail_after(30):
            second = await open_one()  # which waits for its share
        assert proxy.lost_count == 1
        await first.logs.settled()
        assert lanes_of(first) | lanes_of(second) == set(range(64))


async def test_a_lane_taken_unknowingly_goes_to_who_is_to_have_it_by_now(
    database: str, schema: str, tmp_path: Path
) -> None:
    """Whoever took it never heard that it has; and somebody has come since."""
    async with proxied(database, tmp_path) as proxy, stores(database, schema) as open_one:
        first, second = await open_one(at=proxy.url), await open_one()
        await first.logs.settled()
        due = lanes_of(second)
        proxy.hold(TAKE.sql, answer=True)
        second.kill()
        await proxy.held.wait()
        watching = Link(database, schema, SystemClock())
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(open_one)
                while await watching.run(Statement("select count(*) from brokers where state = 'there'")) != [(2,)]:
                    await trio.sleep(0.01)
                proxy.cut()
            await first.logs.settled()
        watching.close()
        assert lanes_of(first) == set(range(64)) - due


async def test_who_is_late_leads_nothing_and_goes_on_when_it_is_not(database: str, schema: str, tmp_path: Path) -> None:
    """Cut off from the database, with nobody to take its lanes over."""
    async with proxied(database, tmp_path) as proxy, stores(proxy.url, schema) as open_one:
        opened = await open_one()
        logs = opened.logs
        await write(logs, b"before")
        epoch, told = epoch_of(logs), trio.Event()
        back = trio.Event()
        logs.leases.watch(lambda gained: (told.is_set() and back.set()) or None, lambda lost: told.set())
        proxy.is_cut = True
        proxy.cut()
        await told.wait()
        assert logs.leases.epoch(LOG) is None
        assert logs.leases.holder(LOG) == (1, epoch)  # as far as anybody knows
        assert await contents(logs) == [(0, b"before")]  # which may still be read
        proxy.is_cut = False
        await back.wait()
        assert epoch_of(logs) == epoch
        assert (await write(logs, b"after")).base_offset == 1


async def test_when_the_database_was_gone_for_all_nothing_moves(database: str, schema: str, tmp_path: Path) -> None:
    """Whoever is back first does not take the others for gone."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with (
        proxied(database, tmp_path / "a") as first_proxy,
        proxied(database, tmp_path / "b") as second_proxy,
        stores(first_proxy.url, schema) as open_one,
    ):
        opened = [await open_one(), await open_one(at=second_proxy.url)]
        for each in opened:
            await each.logs.settled()

        def held() -> list[dict[int, int]]:
            return [{lane.number: lane.epoch for lane in each.logs.tenure.owned.values()} for each in opened]

        before = held()
        for proxy in (first_proxy, second_proxy):
            proxy.is_cut = True
            proxy.cut()
        link = Link(database, schema, SystemClock())
        while await link.run(Statement("select node_id from brokers where expires >= now()")):
            pass
        link.close()
        for each, proxy in zip(opened, (first_proxy, second_proxy), strict=True):
            back = trio.Event()
            each.logs.leases.watch(lambda gained, back=back: back.set(), lambda lost: None)  # type: ignore[misc]
            assert not back.is_set()
            proxy.is_cut = False
            await back.wait()
            await each.logs.settled()
            assert held() == before


async def test_a_lease_counts_from_before_its_renewal_was_sent(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        clock = ManualClock()
        opened = await open_one(clock)
        leases = opened.logs.leases
        clock.advance_ms(TTL_MS * 9 // 10 - 1)
        assert leases.epoch(LOG) is not None
        clock.advance_ms(1)
        assert leases.epoch(LOG) is None  # whether or not anything has run since


def watched(leases: LaneLeases) -> list[str]:
    told: list[str] = []
    leases.watch(lambda logs: told.append("gained"), lambda logs: told.append("lost"))
    return told


def test_a_lease_that_was_over_before_it_was_renewed_is_another_one() -> None:
    """Whoever has asked meanwhile has heard that nothing is led, and is to hear that something is."""
    clock = ManualClock()
    leases = LaneLeases(1, clock, lambda log: 0, lambda log, lane_epoch: lane_epoch)
    told = watched(leases)
    leases.gain({LOG: 5})
    leases.extend(clock.monotonic() + 1)
    clock.advance_ms(500)
    leases.extend(clock.monotonic() + 1)
    assert told == ["gained"]
    clock.advance_ms(1000)
    assert leases.epoch(LOG) is None
    leases.extend(clock.monotonic() + 1)
    assert leases.epoch(LOG) == 5
    assert told == ["gained", "lost", "gained"]


def test_a_renewal_that_comes_too_late_is_none() -> None:
    """It took longer than the lease lasts: what it says was true once."""
    clock = ManualClock()
    leases = LaneLeases(1, clock, lambda log: 0, lambda log, lane_epoch: lane_epoch)
    told = watched(leases)
    leases.gain({LOG: 5})
    leases.extend(clock.monotonic())
    assert (leases.epoch(LOG), told) == (None, [])
    leases.extend(clock.monotonic() + 1)
    leases.extend(clock.monotonic() + 1)
    clock.advance_ms(2000)
    leases.extend(clock.monotonic() - 1)
    assert (leases.epoch(LOG), told) == (None, ["gained", "lost"])


async def test_who_comes_back_begins_anew(database: str, schema: str) -> None:
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        asleep = leaders.add(await open_one(TravelClock()))
        await write(asleep.logs, b"before")
        asleep.clock.freeze()
        awake = leaders.add(await open_one())
        await write(awake.logs, b"meanwhile")
        assert (await write(asleep.logs, b"zombie")).error is Error.NOT_LEADER_OR_FOLLOWER
        asleep.clock.thaw()
        for opened in (asleep, awake):
            await opened.logs.settled()
        assert lanes_of(asleep) | lanes_of(awake) == set(range(64))
        assert not lanes_of(asleep) & lanes_of(awake)
        [leader] = await leaders.of(LOG)
        assert [value for _, value in await contents(leader.logs)] == [b"before", b"meanwhile"]


async def test_node_ids(database: str, schema: str) -> None:
    """Given out where none is wanted; one that somebody has is refused, and had again after a kill."""
    async with stores(database, schema) as open_one:
        opened = [await open_one() for _ in range(2)]
        assert [each.logs.brokers.node_id for each in opened] == [1, 2]
        with pytest.raises(DatabaseInUse, match="must be another one"):
            async with open_shared(
                database, clock=SystemClock(), node_id=2, cluster_id="c", schema=schema, ttl_ms=TTL_MS, alone=False
            ):
                pass
        opened[1].kill()
        async with open_shared(
            database, clock=SystemClock(), node_id=2, cluster_id="c", schema=schema, ttl_ms=TTL_MS, alone=False
        ) as logs:
            assert logs.brokers.node_id == 2


async def test_who_shares_with_nobody_is_alone(database: str, schema: str) -> None:
    async with open_shared(database, clock=SystemClock(), cluster_id="c", schema=schema, ttl_ms=TTL_MS):
        with pytest.raises(DatabaseInUse, match="it does not share it"):
            async with open_shared(
                database, clock=SystemClock(), node_id=7, cluster_id="c", schema=schema, ttl_ms=TTL_MS, alone=False
            ):
                pass
    async with stores(database, schema) as open_one:
        await open_one()
        with pytest.raises(DatabaseInUse, match="this one would not share it"):
            async with open_shared(database, clock=SystemClock(), node_id=7, cluster_id="c", schema=schema):
                pass


async def test_a_log_is_read_where_others_own_it(database: str, schema: str) -> None:
    """However it is folded, trimmed and handed over meanwhile."""
    async with stores(database, schema, followed=LOG) as open_one:
        leaders = Leaders()
        opened = [leaders.add(await open_one()) for _ in range(2)]
        for each in opened:
            await each.logs.settled()
        [leader] = await leaders.of(LOG)
        [reader] = [each.logs for each in opened if each is not leader]
        assert reader.leases.epoch(LOG) is None
        grown = trio.Event()
        reader.watch([LOG], lambda log: grown.set())

        async def has(end: int) -> None:
            nonlocal grown
            while not (isinstance(bounds := reader.bounds(LOG), Bounds) and bounds.end_offset == end):
                grown = trio.Event()
                await grown.wait()

        beside = log_beside(LOG)
        await create(leader.logs, beside)
        for number in range(6):
            epoch = epoch_of(leader.logs)
            await leader.logs.append(
                [
                    write_to(beside, batch(b"something else"), leader_epoch=epoch),
                    write_to(LOG, batch(b"%d" % number), leader_epoch=epoch),
                ]
            ).wait()
            if number == 3:
                await leader.logs.folder.fold(leader.logs.tenure.owned[leader.logs.lanes.by_log[LOG]])
        await has(6)
        assert [value for _, value in await contents(reader)] == [b"%d" % number for number in range(6)]
        await leader.logs.folder.fold(leader.logs.tenure.owned[leader.logs.lanes.by_log[LOG]])
        assert [value for _, value in await contents(reader)] == [b"%d" % number for number in range(6)]
        await leader.logs.save_checkpoint(LOG, Checkpoint(4, b"state"))
        await leader.logs.trim(LOG, 4)
        assert await reader.load_checkpoints(LOG) == [(4, b"state")]
        assert reader.bounds(LOG) == Bounds(4, 6, 6, 6)
        await reader.drop_checkpoint(LOG, Checkpoint(4, b"state"))
        assert await reader.load_checkpoints(LOG) == [(4, b"state")]
        for refused in (reader.trim(LOG, 5), reader.save_checkpoint(LOG, Checkpoint(5, b""))):
            with pytest.raises(KafkaError) as refusal:
                await refused
            assert refusal.value.error is Error.NOT_LEADER_OR_FOLLOWER
        assert (await append(reader, LOG, batch(b"no"), leader_epoch=99)).error is Error.NOT_LEADER_OR_FOLLOWER
        leaders.remove(leader)
        grown = trio.Event()
        await leader.stop()
        assert (await leaders.of(LOG))[0].logs is reader
        assert grown.is_set(), "what came last may have come to this one with the lane only"
        assert [value for _, value in await contents(reader)] == [b"4", b"5"]
        assert (await write(reader, b"6")).base_offset == 6


async def test_lanes_are_handed_over_with_what_was_under_way(database: str, schema: str) -> None:
    """Whoever writes to whoever leads loses nothing, and what it is refused is not there."""
    async with stores(database, schema) as open_one:
        leaders = Leaders()
        first = leaders.add(await open_one())
        acknowledged: list[tuple[int, bytes]] = []
        is_over = False

        async def producer() -> None:
            number = 0
            while not is_over:
                leader = (await leaders.of(LOG))[0].logs
                value = b"%d" % number
                outcome = await append(leader, LOG, sent(number, value), leader_epoch=leader.leases.epoch(LOG) or 0)
                assert outcome.error in (Error.NONE, Error.NOT_LEADER_OR_FOLLOWER)
                assert not outcome.duplicate
                if outcome.error is Error.NONE:
                    acknowledged.append((outcome.base_offset, value))
                    number += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(producer)
            second = leaders.add(await open_one())
            third = leaders.add(await open_one())
            for leaving in (first, third, second):
                if leaving is second:
                    leaders.add(await open_one())
                await leaving.stop()
                leaders.remove(leaving)
            is_over = True
        [last] = leaders.stores
        await leaders.is_only(LOG, last)
        found = [one for one in await contents(last.logs) if one[1] is not None]
        assert found == acknowledged


async def test_what_nobody_dropped_is_found_and_dropped(database: str, schema: str) -> None:
    """A log whose topic was deleted while its lane was on its way; and none of which only nothing is known yet."""
    gone, unheard_of = (LogId("gone", 0, b"\x08" * 16), LogId("unheard of", 0, b"\x09" * 16))
    async with stores(database, schema) as open_one:
        first = await open_one()
        for log in (gone, unheard_of):
            await create(first.logs, log)
            await write(first.logs, b"x", log)
        await first.stop()
        second = await open_one()
        strangers = second.logs.lanes.strangers()
        assert strangers == {LogKey(log.topic_id, log.partition) for log in (gone, unheard_of)}
        await create(second.logs, unheard_of)
        second.logs.lanes.drop(strangers)
        await write(second.logs, b"y", unheard_of)
        assert second.logs.lanes.strangers() == set()
        assert [value for _, value in await contents(second.logs, unheard_of)] == [b"x", b"y"]


async def test_who_comes_waits_for_nobody_who_reads_or_writes(database: str, schema: str) -> None:
    """A lock on a table that others use would also be waited for in a circle, and one of all would be ended."""
    link = Link(database, schema, SystemClock())
    async with stores(database, schema) as open_one:
        opened = await open_one()
        await write(opened.logs, b"kept")
        await link.script("begin; select from commits; select from pieces; select from lanes; select from cluster")
        another = Link(database, schema, SystemClock())
        assert (await prepare(another, schema, "c")).lanes == 64
        another.close()
        await link.script("rollback")
    assert await link.run(
        Statement(
            "select attname::text, attstorage::text from pg_attribute where attrelid = 'commits'::regclass"
            " and attname in ('data', 'index') order by attname"
        )
    ) == [("data", "e"), ("index", "e")]
    link.close()


async def test_tables_of_before_are_brought_up_to_date(database: str, schema: str) -> None:
    link = Link(database, schema, SystemClock())
    async with stores(database, schema) as open_one:
        opened = await open_one()
        await write(opened.logs, b"kept")
        await opened.stop()
    # as format 1 had it
    await link.script(
        "update cluster set format = 1; alter table cluster drop column moves; alter table lanes add column node_id"
        " int, add column expires timestamptz not null default '-infinity'; drop table brokers; create table brokers"
        " (incarnation text primary key, node_id int not null, host text not null, seen timestamptz not null);"
    )
    await link.script("update lanes set owner = 'former', expires = now() + interval '1 hour'")
    with pytest.raises(DatabaseInUse, match="earlier kafkapy"):
        async with open_shared(database, clock=SystemClock(), cluster_id="c", schema=schema):
            pass
    await link.script("update lanes set expires = now() - interval '1 second'")
    async with stores(database, schema) as open_one:
        assert await contents((await open_one()).logs) == [(0, b"kept")]
    assert await link.run(Statement("select format from cluster")) == [(3,)]
    # as format 2 had it: with the same tables, and processes that count epochs otherwise
    async with stores(database, schema) as open_one:
        opened = await open_one()
        await link.script("update cluster set format = 2")
        with pytest.raises(DatabaseInUse, match="earlier kafkapy"):
            await open_one()
        await opened.stop()
    async with stores(database, schema) as open_one:
        assert await contents((await open_one()).logs) == [(0, b"kept")]
    assert await link.run(Statement("select format from cluster")) == [(3,)]
    link.close()


@pytest.mark.parametrize("seed", range(2 * int(os.environ.get("KAFKAPY_SCALE", "1"))))
async def test_chaos(database: str, schema: str, tmp_path: Path, seed: int) -> None:
    """Idempotent producers, processes that come, go, are killed or stand still, cuts, lost answers, folds and trims."""
    chance = random.Random(seed)
    acknowledged: dict[int, bytes] = {}
    written = {7: 0, 8: 0}
    last_epoch = -1
    async with proxied(database, tmp_path) as proxy, stores(proxy.url, schema, LOG, ttl_ms=400) as open_one:
        leaders = Leaders()
        leaders.add(await open_one(TravelClock()))

        async def write_one() -> None:
            nonlocal last_epoch
            producer = chance.choice(list(written))
            value = b"value %d of %d" % (written[producer], producer)
            while True:
                leader = chance.choice(await leaders.of(LOG)).logs
                epoch = leader.leases.epoch(LOG)
                assert epoch is not None
                record = sent(written[producer], value, producer=producer)
                outcome = await append(leader, LOG, record, leader_epoch=epoch)
                if outcome.error is Error.NONE:
                    break
                assert outcome.error is Error.NOT_LEADER_OR_FOLLOWER, outcome
            assert epoch >= last_epoch, "a leader epoch went back"
            assert not outcome.duplicate, "it was refused before, and yet there"
            assert outcome.base_offset not in acknowledged, "an offset was given twice"
            last_epoch = epoch
            acknowledged[outcome.base_offset] = value
            written[producer] += 1

        for _ in range(6):
            for _ in range(15):
                event = chance.random()
                leader = chance.choice(await leaders.of(LOG)).logs
                if event < 0.1:
                    proxy.cut()
                elif event < 0.2:
                    proxy.lose(b"value", answer=chance.random() < 0.5)
                elif event < 0.3:
                    lane = leader.tenure.owned.get(leader.lanes.by_log[LOG])
                    if lane is not None:
                        await leader.folder.fold(lane)
                elif event < 0.35:
                    try:
                        await leader.trim(LOG, len(acknowledged) // 2)
                    except KafkaError as refusal:
                        assert refusal.error is Error.NOT_LEADER_OR_FOLLOWER
                await write_one()
            awake = [one for one in leaders.stores if not one.clock.is_frozen]
            frozen = [one for one in leaders.stores if one.clock.is_frozen]
            event = chance.random()
            if len(awake) < 2 or event < 0.3:
                leaders.add(await open_one(TravelClock()))
            elif event < 0.5:
                chance.choice(awake).clock.freeze()
            elif event < 0.7 and frozen:
                frozen[0].clock.thaw()
            else:
                victim = chance.choice(awake)
                if event < 0.85:
                    await victim.stop()
                else:
                    victim.kill()
                leaders.remove(victim)
        for one in list(leaders.stores):
            if one.clock.is_frozen:
                one.kill()
                leaders.remove(one)
        await write_one()
        leader = (await leaders.of(LOG))[0].logs
        bounds = leader.bounds(LOG)
        assert isinstance(bounds, Bounds)
        start = bounds.log_start_offset
        expected = sorted((offset, value) for offset, value in acknowledged.items() if offset >= start)
        assert await contents(leader) == expected
        for one in leaders.stores:  # those that follow the log have the same
            [piece] = await one.logs.read([Read(LOG, expected[-1][0], 1 << 20)], 1 << 20)
            if piece.error is Error.NONE and piece.records:
                assert values(piece.records)[-1] == expected[-1]
    assert [problem async for problem in check(database, schema, SystemClock())] == []
