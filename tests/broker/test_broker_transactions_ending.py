"""Transactions whose end is disturbed: the coordinator is killed before the markers are there, or topic or group goes.

The coordinator is the broker's own. A test may hold what it asks the leaders for, before they hear of it or after.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from disks import LyingDisk

from kafkapy.broker import Broker
from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error
from kafkapy.handlers.peers import LocalPeers
from kafkapy.protocol.messages.add_offsets_to_txn import AddOffsetsToTxnRequest
from kafkapy.protocol.messages.delete_groups import DeleteGroupsRequest
from kafkapy.protocol.messages.delete_topics import DeleteTopicsRequest
from kafkapy.protocol.messages.describe_producers import DescribeProducersRequest
from kafkapy.protocol.messages.find_coordinator import FindCoordinatorRequest
from kafkapy.protocol.messages.offset_fetch import OffsetFetchRequest
from kafkapy.protocol.messages.txn_offset_commit import TxnOffsetCommitRequest
from kafkapy.protocol.messages.write_txn_markers import WriteTxnMarkersRequest
from tests.broker.conftest import StartBroker
from tests.broker.test_broker_transaction_apis import add, described, end, producer, topics
from tests.broker.test_broker_transactions import brought, come_back_as, fetch, outcomes, produce
from tests.broker.wire import Wire
from tests.scale.asking import make_topic

SETTINGS = {
    "log.flush.interval.messages": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "kafkapy.auto.create.wait": "true",
}
TV1, TV2 = 4, 5
"""The versions of EndTxn that end a transaction by the rules of these transaction versions."""


class HeldPeers(LocalPeers):
    """Holds requests for markers until they may go on: before they are carried out, or after."""

    before: bool
    held: int
    go_on: trio.Event

    async def ask(self, node_id: int, request: Any) -> Any:
        if not isinstance(request, WriteTxnMarkersRequest):
            return await super().ask(node_id, request)
        type(self).held += 1
        if self.before:
            await self.go_on.wait()
        answer = await super().ask(node_id, request)
        await self.go_on.wait()
        return answer


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> type[HeldPeers]:
    HeldPeers.before, HeldPeers.held, HeldPeers.go_on = True, 0, trio.Event()
    monkeypatch.setattr("kafkapy.broker.LocalPeers", HeldPeers)
    return HeldPeers


@asynccontextmanager
async def begun(start_broker: StartBroker, **options: Any) -> AsyncIterator[tuple[Broker, Wire, ProducerEpoch]]:
    """A broker, and a transaction that has written to both partitions of "t", and committed an offset for group "g"."""
    options = {"memory": True, "settings": SETTINGS, **options}
    async with start_broker(**options) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", 2)
        for key, key_type in (("x", 1), ("g", 0)):
            await wire.ask(FindCoordinatorRequest(key=key, key_type=key_type), 1)
        who = await producer(wire)
        await write_some(wire, who)
        yield broker, wire, who


async def write_some(wire: Wire, who: ProducerEpoch, sequence: int = 0) -> None:
    assert set((await add(wire, who, topics(0, 1))).values()) == {Error.NONE}
    asked = AddOffsetsToTxnRequest(
        transactional_id="x", producer_id=who.producer_id, producer_epoch=who.epoch, group_id="g"
    )
    assert (await wire.ask(asked, 3)).error_code == Error.NONE
    batch = produce(sequence, partitions=(0, 1), producer=who.producer_id, epoch=who.epoch)
    assert [error for error, _ in outcomes(await wire.ask(batch, 9))] == [Error.NONE] * 2
    partition = TxnOffsetCommitRequest.TxnOffsetCommitRequestPartition(partition_index=0, committed_offset=7)
    commit = TxnOffsetCommitRequest(
        transactional_id="x",
        group_id="g",
        producer_id=who.producer_id,
        producer_epoch=who.epoch,
        topics=[TxnOffsetCommitRequest.TxnOffsetCommitRequestTopic(name="t", partitions=[partition])],
    )
    [topic] = (await wire.ask(commit, 3)).topics
    assert topic.partitions[0].error_code == Error.NONE


async def stable_offset(wire: Wire) -> tuple[int, Error]:
    """Asked again while the group is being loaded."""
    topic = OffsetFetchRequest.OffsetFetchRequestTopic(name="t", partition_indexes=[0])
    with trio.fail_after(30):
        while True:
            answer = await wire.ask(OffsetFetchRequest(group_id="g", require_stable=True, topics=[topic]), 7)
            if answer.error_code == Error.NONE:
                [partition] = answer.topics[0].partitions
                return partition.committed_offset, Error.of(partition.error_code)
            await trio.lowlevel.checkpoint()


async def open_producers(wire: Wire) -> list[int]:
    wanted = DescribeProducersRequest.TopicRequest(name="t", partition_indexes=[0, 1])
    [topic] = (await wire.ask(DescribeProducersRequest(topics=[wanted]), 0)).topics
    return [
        row.producer_id
        for partition in topic.partitions
        for row in partition.active_producers
        if row.current_txn_start_offset >= 0
    ]


async def is_held(peers: type[HeldPeers]) -> None:
    with trio.fail_after(10):
        while not peers.held:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("version", [TV1, TV2])
@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("way", ["kill", "power cut"])
async def test_what_was_decided_is_carried_out_by_a_coordinator_that_comes_back(
    start_broker: StartBroker,
    peers: type[HeldPeers],
    tmp_path: Path,
    way: str,
    before: bool,
    committed: bool,
    version: int,
) -> None:
    """It is killed when the decision is in its log, and the markers are not, or nobody has noted that they are."""
    peers.before, disk = before, LyingDisk()
    async with begun(start_broker, memory=False, disk=disk) as (_, wire, who):
        after = await end(wire, who, version, committed=committed)
        assert after.error_code == Error.NONE
        await is_held(peers)
        if before:
            assert len(await open_producers(wire)) == 2
            assert await stable_offset(wire) == (-1, Error.UNSTABLE_OFFSET_COMMIT)
        come_back = come_back_as(disk, tmp_path / "data", way)
    come_back()
    peers.go_on.set()
    async with start_broker(settings=SETTINGS) as broker, await Wire.connect(broker.port) as wire:
        await wire.ask(FindCoordinatorRequest(key="x", key_type=1), 1)
        state = await until_described(wire)
        assert state.transaction_state == ("CompleteCommit" if committed else "CompleteAbort")
        assert await open_producers(wire) == []
        offsets, stable, aborted = brought(await wire.ask(fetch(), 12))
        assert (offsets[0], stable, bool(aborted)) == (0, offsets[-1] + 1, not committed)
        assert await stable_offset(wire) == (7 if committed else -1, Error.NONE)
        again = await end(wire, who, version, committed=committed)
        assert (again.error_code, again.producer_epoch) == (Error.NONE, after.producer_epoch)
        who = who if version == TV1 else ProducerEpoch(who.producer_id, after.producer_epoch)
        await write_some(wire, who, 1 if version == TV1 else 0)
        assert (await end(wire, who, version)).error_code == Error.NONE


async def until_described(wire: Wire) -> Any:
    with trio.fail_after(30):
        while (state := await described(wire)).error_code != Error.NONE:
            await trio.lowlevel.checkpoint()
    return state


async def delete_topic(wire: Wire) -> None:
    [result] = (await wire.ask(DeleteTopicsRequest(topic_names=["t"], timeout_ms=10_000), 5)).responses
    assert result.error_code == Error.NONE


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("prepared", [True, False])
async def test_a_topic_may_go_under_its_transaction_and_another_of_its_name_come(
    start_broker: StartBroker, peers: type[HeldPeers], prepared: bool, again: bool, committed: bool
) -> None:
    """Before the end or between it and the markers: nothing hangs, and nothing of the old one shows in the new one."""
    async with begun(start_broker) as (_, wire, who):
        if prepared:
            assert (await end(wire, who, TV2, committed=committed)).error_code == Error.NONE
            await is_held(peers)
        await delete_topic(wire)
        if again:
            await make_topic(wire, "t", 2)
        peers.go_on.set()
        if not prepared:
            assert (await end(wire, who, TV2, committed=committed)).error_code == Error.NONE
        assert (await described(wire)).transaction_state == ("CompleteCommit" if committed else "CompleteAbort")
        if again:
            assert await open_producers(wire) == []
            offsets, stable, aborted = brought(await wire.ask(fetch(), 12))
            assert stable == len(offsets), "it is stable to its end; a marker is all that may be in it"
            assert not aborted
            assert await stable_offset(wire) == (-1, Error.NONE)
            await write_some(wire, await producer(wire))


@pytest.mark.parametrize("committed", [True, False])
async def test_a_group_may_go_under_a_transaction(
    start_broker: StartBroker, peers: type[HeldPeers], committed: bool
) -> None:
    peers.go_on.set()
    async with begun(start_broker) as (_, wire, who):
        assert await stable_offset(wire) == (-1, Error.UNSTABLE_OFFSET_COMMIT)
        [result] = (await wire.ask(DeleteGroupsRequest(groups_names=["g"]), 2)).results
        assert result.error_code == Error.NONE
        assert await stable_offset(wire) == (-1, Error.NONE)
        after = await end(wire, who, TV2, committed=committed)
        assert after.error_code == Error.NONE
        assert (await described(wire)).transaction_state == ("CompleteCommit" if committed else "CompleteAbort")
        assert await stable_offset(wire) == (-1, Error.NONE)
        who = ProducerEpoch(who.producer_id, after.producer_epoch)
        await write_some(wire, who)
        assert (await end(wire, who, TV2)).error_code == Error.NONE
        await described(wire)
        assert await stable_offset(wire) == (7, Error.NONE)
