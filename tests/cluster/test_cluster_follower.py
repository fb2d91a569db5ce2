"""What a broker makes of facts that others have written: it follows the metadata log, and what it reads there acts."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from kafkapy.clock import ManualClock
from kafkapy.cluster.core import Core, Onlooker
from kafkapy.cluster.image import METADATA_LOG, Change
from kafkapy.cluster.journal import MetadataFact, MetadataJournal
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.coordination.replaying import DamagedLog
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.journal.cluster_metadata import (
    ConfigRecord,
    FeatureLevelRecord,
    PartitionChangeRecord,
    PartitionRecord,
    RemoveTopicRecord,
    TopicRecord,
)
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Origin, Write
from kafkapy.storage.memory import open_memory
from tests.membership import alone

ID = b"0123456789abcdef"


class Cluster:
    """A broker that follows, and the controller of another one, which writes what it likes."""

    def __init__(self, logs: Any, settings: dict[str, str] | None = None) -> None:
        self.logs = logs
        self.changes: list[Change] = []
        config = BrokerConfig.load(file=settings)
        self.service = ClusterService("c", config, logs, alone(logs, None), ManualClock())
        self.service.on_change(self.changes.append)

    async def write(self, *facts: MetadataFact) -> None:
        """Have these facts in the log, and followed."""
        entries = [entry for fact in facts for entry in MetadataJournal().encode(fact)]
        batch = build_batch([Record(n, 1000, entry.key, entry.value, []) for n, entry in enumerate(entries)])
        [outcome] = await self.logs.append(
            [Write(METADATA_LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR)]
        ).wait()
        assert not outcome.error
        await trio.testing.wait_all_tasks_blocked()

    def set(self, kind: ConfigResource, resource: str, name: str, value: str | None) -> Any:
        return self.write(ConfigRecord(resource_type=kind, resource_name=resource, name=name, value=value))


@pytest.fixture
async def logs() -> AsyncIterator[Any]:
    async with open_memory(ManualClock()) as store:
        yield store


@pytest.fixture
async def cluster(logs: Any, nursery: trio.Nursery) -> Cluster:
    one = Cluster(logs, {"message.max.bytes": "1000"})
    await nursery.start(one.service.run)
    await trio.testing.wait_all_tasks_blocked()  # a new cluster settles on its features
    one.changes.clear()
    return one


def topic_facts(count: int, name: str = "t", topic_id: bytes = ID) -> list[Any]:
    partitions = [PartitionRecord(partition_id=n, topic_id=topic_id, replicas=[1]) for n in range(count)]
    return [TopicRecord(name=name, topic_id=topic_id), *partitions]


async def test_a_topic_that_another_broker_made_appears_with_its_logs(cluster: Cluster) -> None:
    await cluster.write(*topic_facts(2))
    topic = cluster.service.image.topic("t")
    assert topic is not None
    assert [partition.log for partition in topic.partitions] == [LogId("t", 0, ID), LogId("t", 1, ID)]
    assert all(not cluster.logs.bounds(partition.log)[3] for partition in topic.partitions)
    assert [[t.name for t in change.created] for change in cluster.changes] == [["t"]]


async def test_partitions_are_numbered_in_whatever_order_their_facts_come(cluster: Cluster) -> None:
    topic, *partitions = topic_facts(3)
    await cluster.write(topic, *reversed(partitions))
    assert [p.log.partition for p in cluster.service.image.topics["t"].partitions] == [0, 1, 2]


async def test_a_change_says_what_came_what_is_other_and_what_went(cluster: Cluster) -> None:
    await cluster.write(*topic_facts(1))
    await cluster.write(*topic_facts(1, "u", b"u" * 16), PartitionRecord(partition_id=1, topic_id=ID, replicas=[1]))
    await cluster.write(RemoveTopicRecord(topic_id=ID), *topic_facts(3, "t", b"again, another t"))
    told = [
        [[(t.name, len(t.partitions)) for t in topics] for topics in (change.created, change.changed, change.deleted)]
        for change in cluster.changes
    ]
    assert told == [
        [[("t", 1)], [], []],
        [[("u", 1)], [("t", 2)], []],
        [[("t", 3)], [], [("t", 2)]],
    ]
    assert cluster.service.image.topic_by_id(ID) is None
    assert isinstance(cluster.logs.bounds(LogId("t", 0, ID)), int), "its log has gone"


async def test_a_topics_setting_acts_when_it_is_changed(cluster: Cluster) -> None:
    await cluster.write(*topic_facts(1))
    before = cluster.service.image.topics["t"]
    await cluster.set(ConfigResource.TOPIC, "t", "max.message.bytes", "77")
    after = cluster.service.image.topics["t"]
    assert (before.config["max.message.bytes"], after.config["max.message.bytes"]) == (1000, 77)
    await cluster.set(ConfigResource.TOPIC, "t", "max.message.bytes", None)
    assert cluster.service.image.topics["t"].config["max.message.bytes"] == 1000


async def test_a_brokers_settings_act_in_kafkas_order(cluster: Cluster) -> None:
    """A topic's own, then this broker's, then those of all brokers, then the file's."""
    await cluster.write(*topic_facts(1), *topic_facts(1, "own", b"o" * 16))
    await cluster.set(ConfigResource.TOPIC, "own", "max.message.bytes", "1")

    def seen() -> tuple[int, int, int]:
        image = cluster.service.image
        sizes = [image.topics[name].config["max.message.bytes"] for name in ("own", "t")]
        return image.config["message.max.bytes"], *sizes

    assert seen() == (1000, 1, 1000)
    await cluster.set(ConfigResource.BROKER, "", "message.max.bytes", "200")
    assert seen() == (200, 1, 200)
    await cluster.set(ConfigResource.BROKER, "1", "message.max.bytes", "100")
    await cluster.set(ConfigResource.BROKER, "2", "message.max.bytes", "5")
    assert seen() == (100, 1, 100)
    await cluster.set(ConfigResource.BROKER, "1", "message.max.bytes", None)
    await cluster.set(ConfigResource.BROKER, "", "message.max.bytes", None)
    assert seen() == (1000, 1, 1000)


async def test_what_cannot_change_while_a_broker_runs_does_not(cluster: Cluster) -> None:
    await cluster.set(ConfigResource.BROKER, "1", "num.partitions", "9")
    assert cluster.service.image.config["num.partitions"] == 1


async def test_a_dynamic_broker_setting_reaches_the_store(cluster: Cluster) -> None:
    await cluster.write(*topic_facts(1))
    log = cluster.service.image.topics["t"].partitions[0].log
    catalogue = cluster.logs._catalogue
    version = catalogue.version
    await cluster.set(ConfigResource.BROKER, "", "log.flush.interval.messages", "3")
    assert catalogue.settings(log).flush_messages == 3
    assert catalogue.version != version, "who keeps settings is to ask again"


async def test_settings_of_groups_and_subscriptions_and_features_are_in_the_image(cluster: Cluster) -> None:
    await cluster.set(ConfigResource.GROUP, "g", "consumer.session.timeout.ms", "50000")
    await cluster.set(ConfigResource.CLIENT_METRICS, "m", "interval.ms", "100")
    await cluster.write(FeatureLevelRecord(name="group.version", feature_level=1))
    image = cluster.service.image
    assert image.overrides_of(ConfigResource.GROUP, "g") == {"consumer.session.timeout.ms": "50000"}
    assert image.overrides_of(ConfigResource.CLIENT_METRICS, "m") == {"interval.ms": "100"}
    assert image.overrides_of(ConfigResource.GROUP, "m") == {}
    assert image.kinds.features["group.version"] == 1
    await cluster.write(FeatureLevelRecord(name="group.version", feature_level=0))
    assert cluster.service.image.kinds.features["group.version"] == 0


async def test_leaders_and_replicas_are_shown_as_they_change(cluster: Cluster) -> None:
    await cluster.write(*topic_facts(1))
    await cluster.write(PartitionChangeRecord(partition_id=0, topic_id=ID, isr=[2], leader=2))
    [led] = cluster.service.image.topics["t"].partitions
    assert (led.isr, led.leader, led.leader_epoch, led.partition_epoch) == ((2,), 2, 0, 0)
    await cluster.write(PartitionChangeRecord(partition_id=0, topic_id=ID, replicas=[2, 1]))
    [moved] = cluster.service.image.topics["t"].partitions
    assert (moved.replicas, moved.leader, moved.leader_epoch, moved.partition_epoch) == ((2, 1), 2, 0, 1)


async def test_facts_of_a_topic_that_nobody_told_of_are_refused_in_words(logs: Any) -> None:
    one = Cluster(logs)
    await one.service._core._follower.open()
    await one.write(PartitionRecord(partition_id=0, topic_id=ID, replicas=[1]))
    with pytest.RaisesGroup(DamagedLog, allow_unwrapped=True, flatten_subgroups=True) as refusal:
        await one.service.run()
    assert "offset 0 is damaged: no record has told of a topic with the id MDEyMzQ1Njc4OWFiY2RlZg" in repr(
        refusal.value
    )


class SharedLogs:
    """A store whose metadata log others write, too; what is last in it may be damaged, or out of sight."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.is_damaged = False
        self.is_out_of_sight = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    async def refresh(self) -> None:
        """It is as far as it is."""

    def read_again(self) -> None:
        """Nothing is remembered."""

    def bounds(self, log: LogId) -> Any:
        return Error.KAFKA_STORAGE_ERROR if self.is_out_of_sight else self._logs.bounds(log)

    async def read(self, reads: Any, max_bytes: int) -> Any:
        slices = await self._logs.read(reads, max_bytes)
        if not self.is_damaged:
            return slices
        return [
            piece._replace(records=bytes(piece.records[:-1]) + b"\xff") if piece.records else piece for piece in slices
        ]


async def test_damage_that_is_mended_leaves_no_trace(logs: Any, nursery: trio.Nursery) -> None:
    """Also where the same facts came before it, which were read each time."""
    config, clock, shared = BrokerConfig.load(), ManualClock(), SharedLogs(logs)
    core = Core("c", config, shared, logs.leases, clock, shared=shared)
    changes: list[Change] = []
    core.join(Onlooker(lambda image: None, changes.append))
    await nursery.start(core.run)

    async def write(*batches: list[MetadataFact]) -> None:
        writes = []
        for facts in batches:
            entries = [entry for fact in facts for entry in MetadataJournal().encode(fact)]
            batch = build_batch([Record(n, 1000, entry.key, entry.value, []) for n, entry in enumerate(entries)])
            writes.append(Write(METADATA_LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR))
        await logs.append(writes).wait()
        await trio.testing.wait_all_tasks_blocked()

    await write(topic_facts(1))
    changes.clear()
    shared.is_damaged = True
    await write(
        [PartitionRecord(partition_id=1, topic_id=ID, replicas=[1])],
        [RemoveTopicRecord(topic_id=ID)],
        topic_facts(2, "u", b"u" * 16),
    )
    for _ in range(2):
        assert {name: len(topic.partitions) for name, topic in core.image.topics.items()} == {"t": 1}
        with pytest.raises(KafkaError, match="fails its CRC"):
            await core.catch_up()
        clock.advance_ms(30_000)
        await trio.testing.wait_all_tasks_blocked()
    assert not changes
    shared.is_damaged = False
    clock.advance_ms(30_000)
    await trio.testing.wait_all_tasks_blocked()
    await core.catch_up()
    assert {name: len(topic.partitions) for name, topic in core.image.topics.items()} == {"u": 2}
    [change] = changes
    assert [topic.name for topic in change.deleted] == ["t"]
    assert [topic.name for topic in change.created] == ["u"]


async def test_whose_end_is_out_of_sight_is_not_caught_up_with(logs: Any, nursery: trio.Nursery) -> None:
    shared = SharedLogs(logs)
    core = Core("c", BrokerConfig.load(), shared, logs.leases, ManualClock(), shared=shared)
    await nursery.start(core.run)
    await core.catch_up()
    shared.is_out_of_sight = True
    with pytest.raises(KafkaError, match="cannot be seen"):
        await core.catch_up()
