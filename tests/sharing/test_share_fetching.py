"""Members of a share group fetch and acknowledge, over the wire."""

import gc
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.protocol.messages.delete_records import DeleteRecordsRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.sharing.fetching import ShareFetch
from tests.sharing.conftest import MakeMember
from tests.sharing.members import Topic, acquired

GAP, ACCEPT, RELEASE, REJECT, RENEW = range(5)


async def set_group(topic: Topic, group: str, name: str, value: str) -> None:
    cls = IncrementalAlterConfigsRequest
    config = cls.AlterableConfig(name=name, config_operation=0, value=value)
    resource = cls.AlterConfigsResource(resource_type=32, resource_name=group, configs=[config])
    assert (await topic.wire.ask(cls(resources=[resource]), 1)).responses[0].error_code == 0


@pytest.mark.parametrize(("reset", "first"), [(None, 2), ("latest", 2), ("earliest", 0)])
async def test_a_group_without_an_offset_begins_at_the_end_if_it_is_not_told_otherwise(
    topic: Topic, make_member: MakeMember, reset: str | None, first: int
) -> None:
    if reset is not None:
        await set_group(topic, "new", "share.auto.offset.reset", reset)
    assert await topic.initialize("new", -1) is Error.NONE
    await topic.produce(2)
    member = await make_member(group="new", opens=False)
    given = await member.take(None, [0])
    await wait_all_tasks_blocked(0.05)  # by now it is known where the group begins
    await topic.produce(1)
    given += await member.take(max_wait_ms=60_000)
    assert given[0][0] == first


async def test_another_partition_comes_first_with_each_epoch(topic: Topic, make_member: MakeMember) -> None:
    for partition in range(2):
        await topic.produce(1, partition=partition)
    member = await make_member(opens=False)
    await member.fetch(None, [0, 1], max_records=0)
    given = []
    for _ in range(2):
        answer = await member.fetch(max_records=1, max_wait_ms=500)
        given += [partition for partition in range(2) if acquired(answer, partition)]
    assert given == [1, 0]


async def test_a_fetch_that_was_answered_is_forgotten(topic: Topic, make_member: MakeMember) -> None:
    member = await make_member()
    for offset in range(10):
        await member.send_fetch(max_wait_ms=60_000)
        await topic.produce(1)
        assert acquired(await member.wire.receive()) == [(offset, offset, 1)]
    gc.collect()
    assert len([each for each in gc.get_objects() if isinstance(each, ShareFetch)]) <= 1


async def test_what_is_acknowledged_comes_no_more(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(3)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 2, 1)]
    assert await member.told(0, 2, ACCEPT) is Error.NONE
    await topic.produce(2)
    assert await member.take(max_wait_ms=500) == [(3, 4, 1)]


async def test_a_member_may_have_whole_batches_or_no_more_than_it_asks_for(
    topic: Topic, make_member: MakeMember
) -> None:
    for partition in range(2):
        await topic.produce(4, partition=partition)
    member = await make_member()
    assert await member.take(max_records=2, share_acquire_mode=1, max_wait_ms=500) == [(0, 1, 1)]
    assert await member.take(max_records=1, max_wait_ms=500) == [(2, 3, 1)]
    other = await make_member("other", group="g2", opens=False)
    for partition in range(2):
        await topic.initialize("g2", partition=partition)
    await other.fetch(None, [0, 1], max_records=0)
    answer = await other.fetch(max_records=5, share_acquire_mode=1, max_wait_ms=500)
    given = [acquired(answer, partition) for partition in range(2)]
    assert sum(last - first + 1 for ranges in given for first, last, _ in ranges) == 5, "of both partitions together"


async def test_what_a_member_holds_for_too_long_is_given_to_another(
    topic: Topic, make_member: MakeMember, clock: ManualClock
) -> None:
    await topic.produce(3)
    slow, other = await make_member("slow"), await make_member("other")
    assert await slow.take(max_wait_ms=500) == [(0, 2, 1)]
    assert await other.take() == []
    await other.send_fetch(max_wait_ms=60_000)
    clock.advance_ms(30_000)
    assert acquired(await other.wire.receive()) == [(0, 2, 2)]
    assert await slow.told(0, 2, ACCEPT) is Error.INVALID_RECORD_STATE
    assert await other.told(0, 2, ACCEPT) is Error.NONE


@pytest.mark.parametrize(
    "batches",
    [
        [(2, 1, [ACCEPT])],
        [(1, 2, [ACCEPT]), (0, 0, [ACCEPT])],
        [(0, 2, [ACCEPT]), (1, 1, [ACCEPT])],
        [(0, 1, [])],
        [(0, 2, [ACCEPT, ACCEPT])],
        [(0, 0, [5])],
        [(0, 0, [-1])],
        [(0, 0, [RENEW])],
        [(0, 0, [ACCEPT]), (1, 1, [5])],
    ],
    ids=str,
)
async def test_a_bad_batch_is_its_partitions_error(topic: Topic, make_member: MakeMember, batches: list) -> None:  # type: ignore[type-arg]
    await topic.produce(3)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 2, 1)]
    [found] = (await member.acknowledge({0: batches})).responses
    assert found.partitions[0].error_code == Error.INVALID_REQUEST
    assert await member.told(0, 2, ACCEPT) is Error.NONE, "nothing of it counted"


async def test_version_1_knows_no_renewal(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(1)
    member = await make_member(version=1)
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    assert await member.told(0, 0, RENEW) is Error.INVALID_REQUEST
    assert await member.told(0, 0, REJECT) is Error.NONE


async def test_what_comes_too_late_or_from_another_is_told_apart(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(3)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 2, 1)]
    assert await other.told(0, 0, ACCEPT) is Error.INVALID_RECORD_STATE
    assert await member.told(0, 0, ACCEPT) is Error.NONE
    assert await member.told(0, 0, ACCEPT) is Error.NONE, "below the start nothing is refused"
    assert await member.told(1, 7, ACCEPT) is Error.INVALID_REQUEST
    assert await member.told(5, 7, ACCEPT) is Error.INVALID_REQUEST
    assert await member.told(2, 2, RELEASE) is Error.NONE
    assert await member.told(2, 2, ACCEPT) is Error.INVALID_RECORD_STATE


async def test_one_bad_batch_takes_back_all_of_its_partition(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(4)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 3, 1)]
    answer = await member.acknowledge({0: [(0, 1, [ACCEPT]), (2, 9, [ACCEPT])]})
    assert answer.responses[0].partitions[0].error_code == Error.INVALID_REQUEST
    assert await member.told(0, 3, ACCEPT) is Error.NONE


async def test_a_bad_partition_is_no_others_trouble(topic: Topic, make_member: MakeMember) -> None:
    member = await make_member()
    for partition in range(2):
        await topic.produce(1, partition=partition)
        assert await member.take(None, [partition], partition=partition, max_wait_ms=500) == [(0, 0, 1)]
    answer = await member.acknowledge({0: [(0, 0, [5])], 1: [(0, 0, [ACCEPT])]})
    told = {each.partition_index: each.error_code for each in answer.responses[0].partitions}
    assert told == {0: Error.INVALID_REQUEST, 1: Error.NONE}
    assert await topic.start_offset("g", partition=1) == 0, "what a write says is from before it"
    await topic.produce(1, partition=1)
    assert await member.take(partition=1, max_wait_ms=500) == [(1, 1, 1)]


async def test_who_renews_may_not_wait_for_records(topic: Topic, make_member: MakeMember, clock: ManualClock) -> None:
    await topic.produce(2)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    nothing = {"max_bytes": 0, "min_bytes": 0, "max_records": 0, "max_wait_ms": 0}
    for name in nothing:
        answer = await member.fetch({0: [(0, 1, [RENEW])]}, epoch=99, is_renew_ack=True, **nothing | {name: 1})
        assert answer.error_code == Error.INVALID_REQUEST
    clock.advance_ms(20_000)
    answer = await member.fetch({0: [(0, 1, [RENEW])]}, is_renew_ack=True, **nothing)
    assert acquired(answer) == []
    clock.advance_ms(20_000)
    assert await other.take() == [], "the member has more time"
    assert (await member.acknowledge({0: [(0, 0, [RENEW])]}, renews=True)).acquisition_lock_timeout_ms == 30_000
    await other.send_fetch(max_wait_ms=60_000)
    clock.advance_ms(10_000)
    assert acquired(await other.wire.receive()) == [(1, 1, 2)]


async def test_a_waiting_fetch_is_woken_by_what_comes_free_or_is_produced(
    topic: Topic, make_member: MakeMember
) -> None:
    await topic.produce(2)
    member, other = await make_member("m"), await make_member("other")
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    await other.send_fetch(max_wait_ms=60_000)
    assert await member.told(0, 0, RELEASE) is Error.NONE
    assert acquired(await other.wire.receive()) == [(0, 0, 2)]
    await other.send_fetch(max_wait_ms=60_000)
    await topic.produce(1)
    assert acquired(await other.wire.receive()) == [(2, 2, 1)]


class SlowDisk:
    """Holds what is read of the broker's logs until it is told to let it go."""

    def __init__(self, broker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self._logs = broker.rooms.logs
        self._read = self._logs.read
        self.asked = trio.Event()
        self.count = 0
        self.go_on = trio.Event()
        monkeypatch.setattr(self._logs, "read", self.read)

    async def read(self, *arguments: Any) -> Any:
        self.count += 1
        self.asked.set()
        await self.go_on.wait()
        return await self._read(*arguments)


async def test_who_comes_while_another_reads_is_given_what_that_one_leaves(
    topic: Topic, make_member: MakeMember, broker: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await make_member("m"), await make_member("other")
    for _ in range(2):
        await topic.produce(1)
    disk = SlowDisk(broker, monkeypatch)
    await first.send_fetch(max_records=1, batch_size=1, max_wait_ms=60_000)
    await disk.asked.wait()
    await second.send_fetch(max_records=1, batch_size=1, max_wait_ms=60_000)
    await wait_all_tasks_blocked(0.05)
    assert disk.count == 1, "two that read at once would read the same"
    disk.go_on.set()
    assert acquired(await first.wire.receive()) == [(0, 0, 1)]
    assert acquired(await second.wire.receive()) == [(1, 1, 1)]


async def test_fewer_bytes_than_asked_for_are_waited_for(
    topic: Topic, make_member: MakeMember, clock: ManualClock
) -> None:
    await topic.produce(1)
    member = await make_member()
    await member.send_fetch(max_wait_ms=60_000, min_bytes=200)
    await topic.produce(1)
    with trio.move_on_after(0.1) as at_once:
        await member.wire.begin_to_receive()
    assert at_once.cancelled_caught
    await topic.produce(1)
    assert acquired(await member.wire.receive()) == [(0, 2, 1)]
    await member.send_fetch({0: [(0, 2, [ACCEPT])]}, max_wait_ms=5_000, min_bytes=200)
    await topic.produce(1)
    await wait_all_tasks_blocked(0.05)
    clock.advance_ms(5_000)
    assert acquired(await member.wire.receive()) == [(3, 3, 1)], "what there is, when the time is over"


async def test_a_log_that_begins_later_moves_the_start(topic: Topic, make_member: MakeMember) -> None:
    await topic.produce(3)
    await topic.produce(3)
    member = await make_member()
    request = DeleteRecordsRequest(
        topics=[
            DeleteRecordsRequest.DeleteRecordsTopic(
                name="t", partitions=[DeleteRecordsRequest.DeleteRecordsPartition(partition_index=0, offset=4)]
            )
        ],
        timeout_ms=1000,
    )
    assert (await topic.wire.ask(request, 2)).topics[0].partitions[0].error_code == 0
    answer = await member.fetch(max_wait_ms=60_000)
    assert acquired(answer) == [], "told at once that there is nothing"
    assert await member.take(max_wait_ms=500) == [(4, 5, 1)]


async def test_what_an_aborted_transaction_wrote_is_given_to_nobody(topic: Topic, make_member: MakeMember) -> None:
    await set_group(topic, "g", "share.isolation.level", "read_committed")
    await topic.produce(1)
    for committed in (False, True):
        await topic.transact(2, committed=committed)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1), (3, 6, 1)], "offsets 1 and 2 were aborted"
    assert (await member.acknowledge({0: [(0, 0, [ACCEPT]), (3, 6, [GAP, ACCEPT, ACCEPT, GAP])]})).error_code == 0
    assert await topic.start_offset("g") == 0, "what a write says is from before it"
    await topic.produce(1)
    assert await member.take(max_wait_ms=500) == [(7, 7, 1)]
    assert await member.told(7, 7, ACCEPT) is Error.NONE
    assert await topic.start_offset("g") == 7
