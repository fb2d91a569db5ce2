"""The shard runtime over the reference store: order, durability, failure, timers."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.coordination.replaying import DamagedLog, Replay
from kafkapy.coordination.runtime import Shard, ShardLog
from kafkapy.coordination.shard import Decision, Entry, Moment, ShardType
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.records.batch import Compression, read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import LogSettings, Origin, Write
from kafkapy.storage.memory import open_memory
from tests.coordination.shards import LOG, Door, Sum, SumJournal, Table, TableJournal, TrioClock, gather
from tests.storage.catalogues import create
from tests.waiting import answered


@pytest.fixture
async def logs():
    async with open_memory(TrioClock()) as store:
        await create(store, LOG, LogSettings())
        yield Door(store)


@pytest.fixture
def make_shard(logs, nursery) -> Callable[..., Any]:
    async def make(**options: Any) -> Shard:
        shard = Shard("numbers", ShardType(Sum, SumJournal(), **options), ShardLog(logs, LOG), TrioClock())
        await nursery.start(shard.run)
        return shard

    return make


async def test_answers_and_refusals_reach_their_caller(make_shard):
    shard = await make_shard()
    assert await shard.execute(("add", 2)) == 2
    assert await shard.execute(("add", 3)) == 5
    with pytest.raises(KafkaError, match="no way"):
        await shard.execute(("refuse", "way"))


async def test_a_question_on_an_idle_shard_is_answered_without_yielding(make_shard):
    shard = await make_shard()
    await shard.execute(("add", 2))
    await wait_all_tasks_blocked()
    asking = shard.execute(("total", 0))
    with pytest.raises(StopIteration) as done:
        asking.send(None)
    assert done.value.value == 2


async def test_no_answer_leaves_before_its_facts_are_written(make_shard, logs, nursery):
    shard = await make_shard()
    logs.open = trio.Event()
    answers = await gather(nursery, shard, ("add", 2), ("total", 0))
    assert answers == [None, None]
    logs.open.set()
    await wait_all_tasks_blocked()
    assert answers == [2, 2]


async def test_what_is_decided_during_a_write_shares_the_next(make_shard, logs, nursery):
    shard = await make_shard()
    logs.open = trio.Event()
    answers = await gather(nursery, shard, *(("add", 1) for _ in range(50)))
    logs.open.set()
    await wait_all_tasks_blocked()
    assert answers == list(range(1, 51))
    assert len(logs.writes) == 2


async def test_a_restart_brings_everything_back(make_shard):
    shard = await make_shard()
    for number in range(1, 101):
        await shard.execute(("add", number))
    assert (await make_shard()).machine.total == 5050


async def test_a_log_of_many_pieces_is_replayed_whole(make_shard, logs, monkeypatch):
    monkeypatch.setattr("kafkapy.coordination.replaying.LOAD_SIZE_BYTES", 100)
    shard = await make_shard()
    for number in range(1, 101):
        await shard.execute(("add", number))
    assert (await make_shard()).machine.total == 5050


async def test_records_of_other_kinds_are_passed_over(make_shard, logs):
    batch = build_batch([Record(0, 1, b"other", b"?", []), Record(1, 1, None, b"7", []), Record(2, 1, None, None, [])])
    await logs.append([Write(LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR)]).wait()
    assert (await make_shard()).machine.total == 7


async def test_what_cannot_be_replayed_is_named(logs):
    batch = build_batch([Record(0, 1, None, b"not a number", [])])
    await logs.append([Write(LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR)]).wait()
    with pytest.raises(DamagedLog, match=r"^__numbers-0: the batch at offset 0 is damaged: invalid literal"):
        await Shard("numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LOG), TrioClock()).run()


async def test_commands_are_refused_while_loading(logs):
    shard = Shard("numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LOG), TrioClock())
    assert not shard.loaded
    with pytest.raises(KafkaError) as refusal:
        await shard.execute(("total", 0))
    assert refusal.value.error is Error.COORDINATOR_LOAD_IN_PROGRESS


async def test_a_caller_that_gives_up_changes_nothing(make_shard, logs, nursery):
    shard = await make_shard()
    logs.open = trio.Event()
    with trio.CancelScope() as scope:
        scope.cancel()
        await shard.execute(("add", 3))
    assert scope.cancelled_caught
    logs.open.set()
    assert await shard.execute(("total", 0)) == 3


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (Error.KAFKA_STORAGE_ERROR, Error.NOT_COORDINATOR),
        (Error.NOT_ENOUGH_REPLICAS, Error.COORDINATOR_NOT_AVAILABLE),
    ],
)
async def test_a_refused_write_is_as_if_it_had_never_been_asked_for(make_shard, logs, nursery, cause, told):
    shard = await make_shard()
    await shard.execute(("add", 1))
    waiting = await gather(nursery, shard, ("wait", 0))
    logs.open = trio.Event()
    answers = await gather(nursery, shard, ("add", 10), ("add", 100), ("total", 0))
    logs.refuse_with = cause
    logs.open.set()
    await wait_all_tasks_blocked()
    assert [*answers, *waiting] == [told] * 4
    assert await shard.execute(("total", 0)) == 1
    assert await shard.execute(("add", 1)) == 2
    assert (await make_shard()).machine.total == 2


async def test_a_shard_that_lost_its_log_to_another_is_over(make_shard):
    deposed = await make_shard()
    await deposed.execute(("add", 1))
    await (await make_shard()).execute(("add", 10))
    with pytest.raises(KafkaError) as refusal:
        await deposed.execute(("add", 100))
    assert refusal.value.error is Error.NOT_COORDINATOR
    await wait_all_tasks_blocked()
    assert not deposed.loaded
    with pytest.raises(KafkaError) as refusal:
        await deposed.execute(("total", 0))
    assert refusal.value.error is Error.NOT_COORDINATOR
    assert await (await make_shard()).execute(("total", 0)) == 11


async def test_the_view_never_shows_what_is_not_written(make_shard, logs, nursery):
    shard = await make_shard(view=lambda machine: machine.total)
    await shard.execute(("add", 1))
    logs.open = trio.Event()
    await gather(nursery, shard, ("add", 10), ("add", 100))
    assert (shard.machine.total, shard.view) == (111, 1)
    logs.open.set()
    await wait_all_tasks_blocked()
    assert shard.view == 111
    assert (await make_shard(view=lambda machine: machine.total)).view == 111


async def test_timers_fire_when_they_are_due(make_shard, nursery, autojump_clock):
    shard = await make_shard()
    await shard.execute(("later", 5_000))
    assert trio.current_time() == pytest.approx(5.0, abs=0.01)


async def test_a_timer_can_be_moved_and_cancelled(make_shard, nursery, autojump_clock):
    shard = await make_shard()
    nursery.start_soon(shard.execute, ("later", 5_000))
    await trio.sleep(3)
    nursery.start_soon(shard.execute, ("later", 5_000))
    await trio.sleep(4)
    assert len(shard.machine.waiting) == 2
    await shard.execute(("never", 0))
    await trio.sleep(60)
    assert len(shard.machine.waiting) == 2
    await shard.execute(("release", 0))


async def test_an_earlier_timer_wakes_a_sleeping_shard(make_shard, nursery, autojump_clock):
    shard = await make_shard()
    nursery.start_soon(shard.execute, ("later", 60_000))
    await wait_all_tasks_blocked()
    await shard.execute(("later", 1_000))
    assert trio.current_time() == pytest.approx(1.0, abs=0.01)


async def test_a_broken_invariant_ends_the_shard(logs):
    with pytest.raises(BaseExceptionGroup) as ended:
        async with trio.open_nursery() as nursery:
            shard = Shard("numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LOG), TrioClock())
            await nursery.start(shard.run)
            with pytest.raises(AssertionError):
                await shard.execute(("break", 0))
            await trio.sleep_forever()
    assert ended.group_contains(AssertionError, match="invariant")


async def test_callers_are_told_when_the_shard_stops(logs, nursery):
    async with trio.open_nursery() as rooms:
        shard = Shard("numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LOG), TrioClock())
        await rooms.start(shard.run)
        answers = await gather(nursery, shard, ("wait", 0))
        rooms.cancel_scope.cancel()
    await wait_all_tasks_blocked()
    assert answers == [Error.NOT_COORDINATOR]  # as Kafka has it when a coordinator is unloaded


async def test_a_missing_log_is_an_error(logs):
    nowhere = Shard(
        "numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LogId("nowhere", 0, bytes(16))), TrioClock()
    )
    with pytest.raises(KafkaError) as refusal:
        await nowhere.run()
    assert refusal.value.error is Error.UNKNOWN_TOPIC_OR_PARTITION


async def test_what_is_submitted_is_answered_at_once_where_that_can_be(make_shard):
    shard = await make_shard()
    await shard.execute(("add", 2))
    await wait_all_tasks_blocked()
    assert shard.submit(("total", 0)) == 2
    with pytest.raises(KafkaError, match="no way"):
        shard.submit(("refuse", "way"))


async def test_what_is_submitted_and_has_to_wait_is_delayed(make_shard, nursery):
    shard = await make_shard()
    waiting = shard.submit(("wait", 0))
    woken = []
    waiting.begin(lambda: woken.append(await_nothing(waiting.attempt())))
    assert (await waiting.attempt(), woken) == (None, [])
    assert await shard.execute(("release", 7)) == 7
    assert woken == [7]
    assert await waiting.attempt() == 7
    waiting.close()


async def test_an_answer_that_comes_before_it_is_waited_for_is_not_missed(make_shard):
    shard = await make_shard()
    waiting = shard.submit(("add", 7))
    assert isinstance(waiting, Delayed)
    await wait_all_tasks_blocked()
    woken = []
    waiting.begin(lambda: woken.append(await_nothing(waiting.attempt())))
    assert woken == [7]


async def test_who_no_longer_wants_an_answer_is_forgotten_and_what_was_decided_stays(make_shard):
    shard = await make_shard()
    waiting, other = shard.submit(("wait", 0)), shard.submit(("wait", 0))
    waiting.begin(lambda: pytest.fail("nobody wants it"))
    waiting.close()
    assert list(shard._waiting.values()) == [other]
    assert len(shard.machine.waiting) == 2
    await shard.execute(("release", 7))
    assert await answered(other) == 7
    assert shard.submit(("total", 0)) == 7
    assert not shard._waiting
    shard.submit(("add", 1)).close()
    await wait_all_tasks_blocked()
    assert isinstance(shard.submit(("wait", 0)), Delayed)  # its answer is not the one that nobody took


async def test_a_refusal_that_comes_later_is_raised(make_shard, logs):
    shard = await make_shard()
    waiting, adding = shard.submit(("wait", 0)), shard.submit(("add", 7))
    logs.refuse_with = Error.NOT_LEADER_OR_FOLLOWER
    await wait_all_tasks_blocked()
    for answer in (waiting, adding):
        with pytest.raises(KafkaError) as refusal:
            await answered(answer)
        assert refusal.value.error is Error.NOT_COORDINATOR


def await_nothing(attempt):
    """The outcome of an attempt that does not wait."""
    with pytest.raises(StopIteration) as done:
        attempt.send(None)
    return done.value.value


async def test_a_shard_ends_by_itself_when_its_log_is_lost(logs, make_shard, nursery):
    deposed = Shard("numbers", ShardType(Sum, SumJournal()), ShardLog(logs, LOG), TrioClock())
    ended = trio.Event()

    async def run(task_status: trio.TaskStatus[None]) -> None:
        await deposed.run(task_status)
        ended.set()

    await nursery.start(run)
    await (await make_shard()).execute(("add", 10))
    with pytest.raises(KafkaError):
        await deposed.execute(("add", 100))
    await wait_all_tasks_blocked()
    assert ended.is_set()


async def test_the_view_is_what_it_was_after_a_refused_write(make_shard, logs, nursery):
    shard = await make_shard(view=lambda machine: machine.total)
    await shard.execute(("add", 1))
    logs.refuse_with = Error.NOT_ENOUGH_REPLICAS
    assert await gather(nursery, shard, ("add", 10)) == [Error.COORDINATOR_NOT_AVAILABLE]
    assert shard.view == 1


async def test_the_machine_is_told_what_the_cluster_is_like(logs, nursery):
    """With each command, and with what is taken back."""

    class Looking(Sum):
        seen: ClassVar[list[Any]] = []

        def decide(self, command: tuple[str, Any], ticket: int, moment: Moment) -> Decision:
            self.seen.append(moment.image)
            return super().decide(command, ticket, moment)

        def revert(self, undos: list[int], error: KafkaError, moment: Moment) -> Decision:
            self.seen.append(moment.image)
            return super().revert(undos, error, moment)

    images = iter(["loading", "deciding", "reverting"])
    shard = Shard("numbers", ShardType(Looking, SumJournal()), ShardLog(logs, LOG), TrioClock(), images.__next__)
    await nursery.start(shard.run)
    logs.refuse_with = Error.NOT_ENOUGH_REPLICAS
    assert await gather(nursery, shard, ("add", 10)) == [Error.COORDINATOR_NOT_AVAILABLE]
    assert Looking.seen == ["deciding", "reverting"]


async def test_batches_bear_the_epoch_of_the_tenure_and_the_codec_of_the_topic(logs, nursery):
    shard_log = ShardLog(logs, LOG, leader_epoch=5, compression=Compression.GZIP)
    shard = Shard("table", ShardType(Table, TableJournal()), shard_log, TrioClock())
    await nursery.start(shard.run)
    await shard.execute(("put", "a", "1"))
    await shard.execute(("put in transaction", 1, 0, "a", "2"))
    await shard.execute(("end", 1, 0, True))
    headers = [write.headers[0] for write in logs.writes]
    assert [header.leader_epoch for header in headers] == [5, 5, 5]
    assert [header.compression for header in headers] == [Compression.GZIP, Compression.GZIP, Compression.NONE]


class Narrow(SumJournal):
    """Has no room for three digits."""

    def encode(self, fact: int) -> list[Entry]:
        if fact > 99:
            raise ProtocolError(f"{fact} is too long")
        return super().encode(fact)


async def test_what_fits_into_no_record_costs_whoever_asked_for_it(logs, nursery):
    shard = Shard("numbers", ShardType(Sum, Narrow()), ShardLog(logs, LOG), TrioClock())
    await nursery.start(shard.run)
    await shard.execute(("add", 1))
    with pytest.raises(KafkaError, match="numbers cannot write this down: 100 is too long") as refusal:
        await shard.execute(("add", 100))
    assert refusal.value.error is Error.UNKNOWN_SERVER_ERROR
    assert await shard.execute(("total", 0)) == 1
    waiting = await gather(nursery, shard, ("wait", 0))
    logs.open = trio.Event()
    answers = await gather(nursery, shard, ("add", 10), ("release", 100), ("add", 20))
    assert [*answers, *waiting] == [None, Error.UNKNOWN_SERVER_ERROR, None, Error.UNKNOWN_SERVER_ERROR]
    logs.open.set()
    await wait_all_tasks_blocked()
    assert answers == [11, Error.UNKNOWN_SERVER_ERROR, 31]
    assert (await replayed_total(logs)) == 31


async def replayed_total(logs: Any) -> int:
    replay = Replay(logs, LOG, ShardType(Sum, SumJournal()))
    await replay.load()
    return int(replay.machine.total)
