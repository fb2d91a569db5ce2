"""The cluster service over the reference store: topics and their logs stay in step, whatever happens on the way."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from kafkapy.clock import ManualClock
from kafkapy.cluster.image import METADATA_LOG, Change, TopicInfo
from kafkapy.cluster.machine import NewPartitions, NewTopic
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, format_uuid
from kafkapy.protocol.journal.cluster_metadata import RemoveTopicRecord
from kafkapy.records.batch import read_header
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Catalogue, Outcome, Pending, Read, Write
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.memory import open_memory
from tests.membership import alone

BATCH = build_batch([Record(0, 1000, b"k", b"v", [])])


class Store:
    """A store that can be slow to follow the topics, or refuse to write."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.gate = trio.Event()
        self.gate.set()
        self.broken = False
        self.there: set[LogId] = set()
        logs.leases.watch(self.there.update, self.there.difference_update)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    def adopt(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._logs.adopt(catalogue)

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        await self.gate.wait()
        await self._logs.catalogue_changed(logs)

    def append(self, writes: Any) -> Pending:
        if self.broken:
            return Pending([Outcome(error=Error.KAFKA_STORAGE_ERROR) for _ in writes])
        return self._logs.append(writes)

    def of(self, topic: str) -> list[LogId]:
        return sorted(log for log in self.there if log.topic == topic)


def new_service(config: BrokerConfig, logs: Any, clock: ManualClock) -> ClusterService:
    rooms: Any = SimpleNamespace(config=config)
    rooms.cluster = ClusterService("c", config, logs, alone(logs, rooms), clock)
    return rooms.cluster


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_memory(ManualClock()) as logs:
        yield Store(logs)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(store: Store, clock: ManualClock, nursery: trio.Nursery) -> Callable[..., Any]:
    """Run a service over the store; once more is a restart."""
    running: list[trio.CancelScope] = []

    async def run(service: ClusterService, task_status: Any) -> None:
        with trio.CancelScope() as scope:
            running.append(scope)
            await service.run(task_status)

    async def start_one(settings: dict[str, str] | None = None) -> ClusterService:
        for scope in running:
            scope.cancel()
        config = BrokerConfig.load(file=settings)
        service = new_service(config, store, clock)
        await nursery.start(run, service)
        return service

    return start_one


@pytest.fixture
async def cluster(start: Any) -> ClusterService:
    return await start()


async def create(cluster: ClusterService, *names: str, **fields: Any) -> list[TopicInfo]:
    made = await cluster.create_topics([NewTopic(name, **fields) for name in names])
    assert all(isinstance(topic, TopicInfo) for topic in made), made
    return made


def facts(topic: TopicInfo) -> tuple:
    return topic.name, topic.topic_id, topic.partitions, dict(topic.overrides)


async def test_topics_their_ids_and_settings_survive_a_restart(start: Any, store: Store) -> None:
    cluster = await start()
    await create(cluster, "t", partition_count=2, overrides={"retention.ms": "1000"})
    await create(cluster, "gone")
    await cluster.delete_topics([cluster.image.topic("gone").topic_id])
    await cluster.create_partitions([NewPartitions("t", 3)])
    before = facts(cluster.image.topic("t"))
    again = await start()
    assert [facts(topic) for topic in again.image.topics.values()] == [before]
    assert again.image.topic_by_id(before[1]).config["retention.ms"] == 1000
    assert [log.partition for log in store.of("t")] == [0, 1, 2]


async def test_producer_ids_are_never_given_again(start: Any) -> None:
    blocks = []
    for _ in range(3):
        cluster = await start()
        blocks += [await cluster.allocate_producer_ids(), await cluster.allocate_producer_ids()]
    assert blocks == [range(first, first + 1000) for first in range(0, 6000, 1000)]


async def test_a_log_is_made_with_the_settings_of_its_topic(cluster: ClusterService, store: Store) -> None:
    await create(cluster, "t", overrides={"segment.bytes": "2097152", "flush.messages": "7", "segment.ms": "60000"})
    settings = store.catalogue.settings(store.of("t")[0])
    assert (settings.segment_bytes, settings.flush_messages, settings.segment_ms) == (2097152, 7, 60000)
    assert store.catalogue.settings(METADATA_LOG).flush_messages == 1, "metadata is synced at every write"


async def test_ids_are_unlike_and_never_look_like_an_option(cluster: ClusterService) -> None:
    made = await create(cluster, *(f"t{number}" for number in range(500)))
    texts = {format_uuid(topic.topic_id) for topic in made}
    assert len(texts) == 500
    assert not any(text.startswith("-") for text in texts)
    assert {(topic.topic_id[6] >> 4, topic.topic_id[8] >> 6) for topic in made} == {(4, 2)}, "UUIDs of version 4"


async def test_a_topic_appears_once_its_logs_exist(cluster: ClusterService, store: Store, nursery: Any) -> None:
    store.gate = trio.Event()
    nursery.start_soon(create, cluster, "t")
    await trio.testing.wait_all_tasks_blocked()
    assert cluster.image.topic("t") is None
    store.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert cluster.image.topic("t") is not None
    assert store.of("t")


async def test_a_topic_has_gone_before_its_logs_do(cluster: ClusterService, store: Store, nursery: Any) -> None:
    [topic] = await create(cluster, "t")
    store.gate = trio.Event()
    nursery.start_soon(cluster.delete_topics, [topic.topic_id])
    await trio.testing.wait_all_tasks_blocked()
    assert cluster.image.topic("t") is None
    assert store.of("t")
    store.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert not store.of("t")


@pytest.mark.parametrize("steps", range(8))
async def test_a_caller_who_leaves_leaves_no_topic_without_logs(
    cluster: ClusterService, store: Store, steps: int
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(create, cluster, "t")
        for _ in range(steps):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    assert (cluster.image.topic("t") is not None) == bool(store.of("t"))
    if cluster.image.topic("t") is None:
        await create(cluster, "t")


async def test_a_caller_whose_time_is_up_is_told_and_the_change_goes_on(
    cluster: ClusterService, store: Store, clock: ManualClock, nursery: trio.Nursery
) -> None:
    store.gate = trio.Event()
    told = trio.Event()

    async def ask() -> None:
        with pytest.raises(KafkaError) as refusal:
            await cluster.create_topics([NewTopic("t")], timeout_ms=5000)
        assert refusal.value.error is Error.REQUEST_TIMED_OUT
        told.set()

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    clock.advance_ms(4999)
    await trio.testing.wait_all_tasks_blocked()
    assert not told.is_set()
    clock.advance_ms(1)
    await told.wait()
    store.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert cluster.image.topic("t") is not None


async def test_many_callers_who_want_the_same_topic_all_get_it_ready(cluster: ClusterService, store: Store) -> None:
    got: list[TopicInfo] = []

    async def want() -> None:
        [topic] = await cluster.auto_create(["__consumer_offsets"])
        assert len(store.of("__consumer_offsets")) == len(topic.partitions) == 50
        got.append(topic)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(want)
    assert len({topic.topic_id for topic in got}) == 1


async def test_internal_topics_have_the_settings_that_kafka_gives_them(start: Any) -> None:
    cluster = await start({"offsets.topic.segment.bytes": "1048576", "offsets.topic.num.partitions": "2"})
    expected = {
        "__consumer_offsets": {
            "cleanup.policy": "compact",
            "compression.type": "producer",
            "segment.bytes": "1048576",
        },
        "__transaction_state": {
            "cleanup.policy": "compact",
            "compression.type": "uncompressed",
            "min.insync.replicas": "1",
            "segment.bytes": "104857600",
            "unclean.leader.election.enable": "false",
        },
    }
    for name, overrides in expected.items():
        [topic] = await cluster.auto_create([name])
        assert topic.is_internal
        assert dict(topic.overrides) == overrides
    assert len(cluster.image.topic("__consumer_offsets").partitions) == 2


async def test_who_wants_to_know_hears_of_each_topic_that_goes(cluster: ClusterService, store: Store) -> None:
    heard: list[tuple[str, bool, bool]] = []

    def hear(change: Change) -> None:
        names = [topic.name for topic in change.deleted]
        heard.extend((name, name in cluster.image.topics, bool(store.of(name))) for name in names)

    cluster.on_change(hear)
    made = await create(cluster, "t", "u", "v")
    results = await cluster.delete_topics([made[0].topic_id, b"an unknown topic", made[2].topic_id])
    assert heard == [("t", False, False), ("v", False, False)]
    assert isinstance(results[1], KafkaError)
    assert results[1].error is Error.UNKNOWN_TOPIC_ID


async def test_topics_whose_logs_are_gone_leave_nothing_in_a_checkpoint(cluster: ClusterService, store: Store) -> None:
    """Until then it tells that they are to go, since a crash may come before."""
    [topic] = await create(cluster, "t")
    machine = cluster._core.controller._shard.machine
    before = len(list(machine.snapshot()))
    store.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cluster.delete_topics, [topic.topic_id])
        await trio.testing.wait_all_tasks_blocked()
        assert RemoveTopicRecord(topic_id=topic.topic_id) in list(machine.snapshot())
        store.gate.set()
    assert len(list(machine.snapshot())) == before - 2, "neither the topic, nor its partition, nor its end"


# What goes wrong


class FullDisk(Disk):
    """Has no room for another folder as long as it is full."""

    full = False

    def make_folder(self, path: Path, *, parents: bool = False) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().make_folder(path, parents=parents)


async def test_a_topic_whose_log_cannot_be_made_is_there_once_there_is_room(tmp_path: Path) -> None:
    """As in Kafka the topic exists, and its partition says what is wrong with it until it can be had."""
    disk, clock = FullDisk(), ManualClock()
    async with open_embedded(tmp_path, clock=clock, node_id=1, disk=disk) as logs, trio.open_nursery() as tasks:
        config = BrokerConfig.load()
        cluster = new_service(config, logs, ManualClock())
        await tasks.start(cluster.run)
        disk.full = True
        [topic] = await create(cluster, "t")
        log = topic.partitions[0].log
        write = Write(log, BATCH, [read_header(BATCH)])
        assert logs.bounds(log) is Error.KAFKA_STORAGE_ERROR
        assert [outcome.error for outcome in await logs.append([write]).wait()] == [Error.KAFKA_STORAGE_ERROR]
        [piece] = await logs.read([Read(log, 0, 100)], 100)
        assert piece.error is Error.KAFKA_STORAGE_ERROR
        disk.full = False
        with trio.fail_after(30):
            while logs.log_dirs()[0].error:
                clock.advance_ms(1000)
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert [outcome.error for outcome in await logs.append([write]).wait()] == [Error.NONE]
        tasks.cancel_scope.cancel()


async def test_metadata_that_cannot_be_written_changes_nothing(start: Any, store: Store) -> None:
    cluster = await start()
    await create(cluster, "t")
    store.broken = True
    for change in (
        cluster.create_topics([NewTopic("u")]),
        cluster.create_partitions([NewPartitions("t", 2)]),
        cluster.delete_topics([cluster.image.topic("t").topic_id]),
    ):
        with pytest.raises(KafkaError) as refusal:
            await change
        assert refusal.value.error is Error.NOT_CONTROLLER, "what makes a client of topics try again"
        await trio.testing.wait_all_tasks_blocked()
    assert list(cluster.image.topics) == ["t"]
    assert (len(store.of("t")), store.of("u")) == (1, [])
    store.broken = False
    await create(cluster, "u")
    assert store.of("u")


async def test_a_start_after_a_crash_completes_what_was_half_done(tmp_path: Path) -> None:
    """Logs that are missing are made, those of deleted topics go; one that nobody knows is kept, out of the way."""

    @asynccontextmanager
    async def started() -> AsyncIterator[ClusterService]:
        async with open_embedded(tmp_path, clock=ManualClock(), node_id=1) as logs, trio.open_nursery() as tasks:
            config = BrokerConfig.load()
            cluster = new_service(config, logs, ManualClock())
            await tasks.start(cluster.run)
            yield cluster
            tasks.cancel_scope.cancel()

    async with started() as cluster:
        topic, other, doomed = await create(cluster, "t", "u", "doomed", partition_count=2)
        shutil.copytree(tmp_path / "doomed-1", tmp_path / "kept")
        await cluster.delete_topics([doomed.topic_id])
    (tmp_path / ".kafka_cleanshutdown").unlink()
    shutil.rmtree(tmp_path / "t-1")
    (tmp_path / "kept").rename(tmp_path / "doomed-1")
    for folder, topic_id in (("stray-0", b"an unknown topic"), ("u-0", b"the u of earlier")):
        (tmp_path / folder).mkdir(exist_ok=True)
        metadata = f"version: 0\ntopic_id: {format_uuid(topic_id)}"
        (tmp_path / folder / "partition.metadata").write_text(metadata)
    (tmp_path / "stray-0" / "00000000000000000000.log").write_bytes(BATCH)
    async with started() as cluster:
        assert cluster.image.topic("t").partitions == topic.partitions
        assert cluster.image.topic("u").partitions == other.partitions
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert {"t-0", "t-1", "u-0", "u-1", "__cluster_metadata-0"} <= folders
    assert not {"stray-0", "doomed-0", "doomed-1"} & folders
    strays = sorted(path for path in tmp_path.iterdir() if path.name.endswith("-stray"))
    assert [path.name.partition(".")[0] for path in strays] == ["stray-0", "u-0"]
    assert (strays[0] / "00000000000000000000.log").read_bytes() == BATCH
