"""The cluster service over the reference store: topics and their logs stay in step, whatever happens on the way."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trio
import trio.testing

from kafkapy.clock import ManualClock
from kafkapy.cluster.image import METADATA_LOG, TopicInfo
from kafkapy.cluster.machine import NewPartitions, NewTopic
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId, format_uuid
from kafkapy.storage.base import LogSettings, Outcome
from kafkapy.storage.memory import open_memory


class Store:
    """A store that can be slow to make and delete logs, refuse to, or refuse to write."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.gate = trio.Event()
        self.gate.set()
        self.full = False
        self.broken = False
        self.settings: dict[LogId, LogSettings] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    async def create(self, log: LogId, settings: LogSettings) -> None:
        await self.gate.wait()
        if self.full:
            raise OSError(28, "No space left on device")
        self.settings[log] = settings
        await self._logs.create(log, settings)

    async def delete(self, log: LogId) -> None:
        await self.gate.wait()
        await self._logs.delete(log)

    async def append(self, writes: Any) -> list[Outcome]:
        if self.broken:
            return [Outcome(error=Error.KAFKA_STORAGE_ERROR) for _ in writes]
        return await self._logs.append(writes)

    def of(self, topic: str) -> list[LogId]:
        return sorted(log for log in self._logs.logs() if log.topic == topic)


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
        service = ClusterService(cluster_id="c", node_id=1, config=config, logs=store, clock=clock)
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
    settings = store.settings[store.of("t")[0]]
    assert (settings.segment_bytes, settings.flush_messages, settings.segment_ms) == (2097152, 7, 60000)
    assert store.settings[METADATA_LOG].flush_messages == 1, "metadata is synced at every write"


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
        topic = await cluster.ensure_internal_topic("__consumer_offsets")
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
        topic = await cluster.ensure_internal_topic(name)
        assert topic.is_internal
        assert dict(topic.overrides) == overrides
    assert len(cluster.image.topic("__consumer_offsets").partitions) == 2


async def test_who_wants_to_know_hears_of_each_topic_that_goes(cluster: ClusterService, store: Store) -> None:
    heard: list[tuple[str, bool, bool]] = []
    cluster.on_topic_deleted(
        lambda topic: heard.append((topic.name, topic.name in cluster.image.topics, bool(store.of(topic.name))))
    )
    made = await create(cluster, "t", "u", "v")
    results = await cluster.delete_topics([made[0].topic_id, b"an unknown topic", made[2].topic_id])
    assert heard == [("t", False, False), ("v", False, False)]
    assert isinstance(results[1], KafkaError)
    assert results[1].error is Error.UNKNOWN_TOPIC_ID


# What goes wrong


async def test_a_full_disk_costs_the_topic_and_the_next_start_makes_its_log(start: Any, store: Store) -> None:
    cluster = await start()
    store.full = True
    [refusal] = await cluster.create_topics([NewTopic("t")])
    assert isinstance(refusal, KafkaError)
    assert refusal.error is Error.KAFKA_STORAGE_ERROR
    store.full = False
    await create(cluster, "u")
    assert not store.of("t")
    await start()
    assert store.of("t")


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


async def test_a_start_after_a_crash_completes_what_was_half_done(start: Any, store: Store) -> None:
    cluster = await start()
    [topic, other] = await create(cluster, "t", "u", partition_count=2)
    await store.delete(topic.partitions[1].log)
    stray = LogId("stray", 0, b"an unknown topic")
    namesake = LogId("u", 0, b"the u of earlier")
    await store.create(stray, LogSettings())
    await store.create(namesake, LogSettings())
    await start()
    assert store.of("t") == [partition.log for partition in topic.partitions]
    assert store.of("u") == [partition.log for partition in other.partitions]
    assert not store.of("stray")
    assert METADATA_LOG in store.logs()
