"""What a share group gives up is in its dead-letter queue, and goes there once more rather than never (KIP-1191)."""

import logging
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.protocol.messages.create_topics import CreateTopicsRequest
from kafkapy.protocol.messages.fetch import FetchRequest
from kafkapy.protocol.messages.incremental_alter_configs import IncrementalAlterConfigsRequest
from kafkapy.protocol.messages.update_features import UpdateFeaturesRequest
from kafkapy.protocol.messages.write_share_group_state import WriteShareGroupStateRequest
from kafkapy.records.batch import Compression, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from kafkapy.sharing.letters import GivenUp, Origin, Originals, originals_in, packed
from kafkapy.turns import run
from tests.broker.conftest import StartBroker, start_broker  # noqa: F401
from tests.broker.wire import Wire
from tests.sharing.conftest import SETTINGS, MakeMember, open_topic
from tests.sharing.members import Member, Topic

ACCEPT, RELEASE, REJECT = 1, 2, 3
GROUP, BROKER = 32, 4
QUEUE = "errors.deadletterqueue.topic.name"
COPIES = "errors.deadletterqueue.copy.record.enable"
CREATES = "errors.deadletterqueue.auto.create.topics.enable"
REJECTED, TOO_OFTEN = "Offset rejected by client.", "Offset delivery count exceeded the threshold."
ORIGIN = Origin("g", "t", 0)


async def set_up(wire: Wire, kind: int, name: str, settings: dict[str, str]) -> None:
    cls = IncrementalAlterConfigsRequest
    changes = [cls.AlterableConfig(name=key, config_operation=0, value=value) for key, value in settings.items()]
    resource = cls.AlterConfigsResource(resource_type=kind, resource_name=name, configs=changes)
    [answer] = (await wire.ask(cls(resources=[resource]), 1)).responses
    assert answer.error_code == 0, answer.error_message


async def make_queue(wire: Wire, name: str = "dlq.q", partitions: int = 1, **settings: str) -> None:
    cls = CreateTopicsRequest
    own = {"errors.deadletterqueue.group.enable": "true"} | {k.replace("_", "."): v for k, v in settings.items()}
    configs = [cls.CreatableTopicConfig(name=key, value=value) for key, value in own.items()]
    topic = cls.CreatableTopic(name=name, num_partitions=partitions, replication_factor=1, configs=configs)
    [answer] = (await wire.ask(cls(topics=[topic], timeout_ms=10_000), 7)).topics
    assert answer.error_code == 0, answer.error_message


async def letters(wire: Wire, count: int, name: str = "dlq.q", partition: int = 0) -> list[Record]:
    """So many records of the queue, once they are there."""
    cls = FetchRequest
    with trio.fail_after(20):
        while True:
            one = cls.FetchPartition(partition=partition, fetch_offset=0, partition_max_bytes=1 << 20)
            asked = cls(
                max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, topics=[cls.FetchTopic(topic=name, partitions=[one])]
            )
            data = bytes((await wire.ask(asked, 12)).responses[0].partitions[0].records or b"")
            found = [record for at, _ in walk(data) for record in read_records(memoryview(data)[at:])]
            if len(found) >= count:
                return found
            await trio.sleep(0)


def told(record: Record) -> tuple[str, str, str]:
    """Offset, delivery count and reason."""
    headers = dict(record.headers)
    offset, count, message = (headers[f"__dlq.errors.{name}"] for name in ("offset", "delivery.count", "message"))
    assert offset is not None and count is not None and message is not None
    return offset.decode(), count.decode(), message.decode()


async def group_is_done(topic: Topic, member: Member) -> None:
    """The group has come to the end of the topic: a record that is produced now is the next that it gets."""
    offset = await topic.produce(1)
    assert await member.take(max_wait_ms=60_000) == [(offset, offset, 1)]


async def test_what_is_rejected_is_in_the_queue(topic: Topic, make_member: MakeMember) -> None:
    wire = topic.wire
    await make_queue(wire, partitions=3)
    await set_up(wire, GROUP, "g", {QUEUE: "dlq.q"})
    await topic.produce(3, partition=1)
    member = await make_member(opens=False)
    assert await member.take(None, [1], partition=1, max_wait_ms=500) == [(0, 2, 1)]
    await member.acknowledge({1: [(0, 2, [REJECT, ACCEPT, REJECT])]})
    found = await letters(wire, 2, partition=1)
    assert [(record.key, record.value) for record in found] == [(None, None), (None, None)]
    assert [told(record) for record in found] == [("0", "1", REJECTED), ("2", "1", REJECTED)]
    assert [name for name, _ in found[0].headers] == [
        f"__dlq.errors.{name}" for name in ("topic", "partition", "offset", "group", "delivery.count", "message")
    ]
    assert dict(found[0].headers)["__dlq.errors.topic"] == b"t"


@pytest.mark.parametrize("codec", [Compression.NONE, Compression.GZIP])
async def test_keys_and_values_are_copied_if_the_group_wants_them(
    topic: Topic, make_member: MakeMember, codec: Compression
) -> None:
    wire = topic.wire
    await make_queue(wire)
    await set_up(wire, GROUP, "g", {QUEUE: "dlq.q", COPIES: "true"})
    records = [Record(0, 1_700_000_000_000, b"k", b"v", [("own", b"x")]), Record(1, 1_700_000_000_000, None, None, [])]
    await topic.produce(batch=build_batch(records, compression=codec))
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 1, 1)]
    assert await member.told(0, 1, REJECT) is Error.NONE
    found = await letters(wire, 2)
    assert [(record.key, record.value) for record in found] == [(b"k", b"v"), (None, None)]
    assert "own" not in dict(found[0].headers)
    await group_is_done(topic, member)


async def test_what_was_given_too_often_is_in_the_queue(
    topic: Topic, make_member: MakeMember, clock: ManualClock
) -> None:
    wire = topic.wire
    await make_queue(wire)
    await set_up(wire, GROUP, "g", {QUEUE: "dlq.q", "share.delivery.count.limit": "2"})
    await topic.produce(3)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 2, 1)]
    clock.advance_ms(30_000)
    assert await member.take(max_wait_ms=60_000) == [(0, 2, 2)]
    assert await member.told(0, 0, RELEASE) is Error.NONE
    assert await member.told(1, 1, REJECT) is Error.NONE
    await wait_all_tasks_blocked()  # a write that is under way would be late by that much
    clock.advance_ms(30_000)
    found = await letters(wire, 3)
    assert sorted(told(record) for record in found) == [
        ("0", "2", TOO_OFTEN),
        ("1", "2", REJECTED),
        ("2", "2", TOO_OFTEN),
    ]
    await group_is_done(topic, member)


@pytest.mark.parametrize("name", ["dlq.missing", "dlq.forbidden", "other"])
async def test_what_can_be_in_no_queue_is_dropped(
    topic: Topic, make_member: MakeMember, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await make_queue(topic.wire, "dlq.forbidden", errors_deadletterqueue_group_enable="false")
    await make_queue(topic.wire, "other")
    await set_up(topic.wire, GROUP, "g", {QUEUE: name})
    await topic.produce(1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    with caplog.at_level(logging.ERROR):
        assert await member.told(0, 0, REJECT) is Error.NONE
        await group_is_done(topic, member)
        while not caplog.messages:
            await topic.start_offset("g")
    assert "Share group g gives up records of t-0 that are in no dead-letter queue" in caplog.text
    if name != "dlq.missing":
        assert await letters(topic.wire, 0, name) == []


async def test_the_queue_is_made_if_that_is_allowed(topic: Topic, make_member: MakeMember, broker: Any) -> None:
    await set_up(topic.wire, BROKER, "", {CREATES: "true"})
    await set_up(topic.wire, GROUP, "g", {QUEUE: "dlq.made"})
    await topic.produce(1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    assert await member.told(0, 0, REJECT) is Error.NONE
    with trio.fail_after(20):
        while broker.rooms.cluster.image.topic("dlq.made") is None:
            await topic.start_offset("g")
    made = broker.rooms.cluster.image.topic("dlq.made")
    assert made.overrides == {"errors.deadletterqueue.group.enable": "true", "message.timestamp.type": "CreateTime"}
    assert [told(record) for record in await letters(topic.wire, 1, "dlq.made")] == [("0", "1", REJECTED)]


async def test_a_cluster_at_level_1_has_no_queues(topic: Topic, make_member: MakeMember) -> None:
    wire = topic.wire
    await make_queue(wire)
    await set_up(wire, GROUP, "g", {QUEUE: "dlq.q"})
    update = UpdateFeaturesRequest.FeatureUpdateKey(feature="share.version", max_version_level=1, upgrade_type=2)
    assert (await wire.ask(UpdateFeaturesRequest(feature_updates=[update], timeout_ms=1000), 1)).error_code == 0
    await topic.produce(1)
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(0, 0, 1)]
    assert await member.told(0, 0, REJECT) is Error.NONE
    assert await topic.start_offset("g") == 0
    await group_is_done(topic, member)
    assert await letters(wire, 0) == []


async def test_whoever_loads_a_partition_puts_into_the_queue_what_is_on_its_way_there(
    topic: Topic, make_member: MakeMember
) -> None:
    wire = topic.wire
    await make_queue(wire, flush_messages="1")
    await set_up(wire, GROUP, "g", {QUEUE: "dlq.q", COPIES: "true"})
    await topic.produce(3)
    cls = WriteShareGroupStateRequest
    batches = [
        cls.StateBatch(first_offset=first, last_offset=last, delivery_state=3, delivery_count=count)
        for first, last, count in ((0, 0, 1), (2, 2, 5))
    ]
    data = cls.PartitionData(partition=0, state_epoch=1, leader_epoch=0, start_offset=0, state_batches=batches)
    asked = cls(group_id="g", topics=[cls.WriteStateData(topic_id=topic.topic_id, partitions=[data])])
    assert (await wire.ask(asked, 1)).results[0].partitions[0].error_code == 0
    member = await make_member()
    assert await member.take(max_wait_ms=500) == [(1, 1, 1)]
    found = await letters(wire, 2)
    assert [(told(record), record.value) for record in found] == [
        (("0", "1", REJECTED), b"v0"),
        (("2", "5", TOO_OFTEN), b"v2"),
    ]
    assert await member.told(1, 1, ACCEPT) is Error.NONE
    await group_is_done(topic, member)


async def test_a_queue_on_a_disk_that_syncs(start_broker: StartBroker, clock: ManualClock) -> None:  # noqa: F811
    """Its leader answers later, and the group is done only then."""
    async with start_broker(settings=SETTINGS, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        topic = await open_topic(wire)
        await topic.initialize("g")
        await make_queue(wire, flush_messages="1")
        await set_up(wire, GROUP, "g", {QUEUE: "dlq.q"})
        await topic.produce(2)
        member = Member(wire, topic)
        assert await member.take(None, [0], max_wait_ms=500) == [(0, 1, 1)]
        assert await member.told(0, 1, REJECT) is Error.NONE
        assert len(await letters(wire, 2)) == 2
        await group_is_done(topic, member)


def test_a_batch_of_the_queue_is_as_large_as_the_queue_takes() -> None:
    records = [GivenUp(offset, 1, True) for offset in range(10)]
    batch, count = packed(ORIGIN, records, None, 0, 1000)
    assert 1 < count < 10
    assert len(batch) <= 1000
    assert len(packed(ORIGIN, records[: count + 1], None, 0, 10_000)[0]) > 1000, "one more did not fit"
    assert packed(ORIGIN, records, None, 0, 1)[1] == 1, "one is tried in any case"


def test_what_was_not_looked_for_yet_is_left_for_another_batch() -> None:
    records = [GivenUp(offset, 1, True) for offset in (3, 4, 9)]
    assert packed(ORIGIN, records, Originals({3: (b"k", b"v")}, 9), 0, 1000)[1] == 2
    assert packed(ORIGIN, records[1:], Originals({}, 5), 0, 1000)[1] == 1


def test_a_batch_that_inflates_too_far_is_passed_over() -> None:
    bomb = build_batch([Record(0, 0, None, bytes(1 << 20), [])], compression=Compression.GZIP)
    plain = build_batch([Record(1, 0, None, b"plain", [])])
    found, next_offset = run(originals_in(bomb + plain, frozenset({0, 1}), 10_000))
    assert (found, next_offset) == ({1: (None, b"plain")}, 2)


def test_no_more_is_held_than_the_queue_could_take() -> None:
    batches = b"".join(build_batch([Record(offset, 0, None, bytes(600), [])]) for offset in range(5))
    found, next_offset = run(originals_in(batches, frozenset(range(5)), 1000))
    assert (sorted(found), next_offset) == ([0, 1], 2)
