"""The metadata log stays small, and whatever is answered for survives any end: seeded rounds on a disk that lies."""

import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "storage"))

from disks import LyingDisk
from reproducible import reproducible

from kafkapy.clock import ManualClock
from kafkapy.cluster import logs as topic_logs
from kafkapy.cluster.image import METADATA_LOG, Change
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.machine import NewPartitions, NewTopic, ResourceAlteration
from kafkapy.cluster.service import ClusterService
from kafkapy.config.altering import Alteration, Op
from kafkapy.config.layers import BrokerConfig
from kafkapy.config.setting import ConfigResource
from kafkapy.coordination import checkpointing
from kafkapy.coordination.replaying import LostBeginning, UnfitSnapshot
from kafkapy.coordination.shard import Entry
from kafkapy.errors import Error, KafkaError
from kafkapy.records.batch import walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Bounds, Checkpoint, LogSettings
from kafkapy.storage.embedded.checkpoints import decode_coordinator
from kafkapy.storage.embedded.directory import open_embedded
from kafkapy.storage.memory import open_memory
from tests.membership import alone

ROUNDS, STEPS = 8, 12
CHANGES_A_ROUND = 120
"""About so many things are written in a round's steps: the end comes before any of them, or not at all."""

Topics = dict[str, tuple[int, str | None]]
"""By name how many partitions there are, and what retention.ms is."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint is due after 8 records, and a segment has room for some."""
    monkeypatch.setattr(checkpointing, "MIN_RECORDS", 8)
    monkeypatch.setattr(topic_logs, "_METADATA_SETTINGS", LogSettings(flush_messages=1, segment_bytes=400))


def service(logs: Any) -> ClusterService:
    config = BrokerConfig.load()
    rooms: Any = SimpleNamespace(config=config)
    rooms.cluster = ClusterService("c", config, logs, alone(logs, rooms), ManualClock())
    cluster: ClusterService = rooms.cluster
    return cluster


def topics(cluster: ClusterService) -> Topics:
    return {
        name: (len(topic.partitions), topic.overrides.get("retention.ms"))
        for name, topic in cluster.image.topics.items()
    }


def bounds(logs: Any) -> Bounds:
    found = logs.bounds(METADATA_LOG)
    assert isinstance(found, Bounds)
    return found


class Step:
    """One change, and what there is after it."""

    def __init__(self, known: Topics, chance: random.Random) -> None:
        self.name = chance.choice("abcdef")
        self.after = dict(known)
        if self.name not in known:
            self.kind, self.number = "create", chance.randrange(1, 4)
            self.after[self.name] = (self.number, None)
        else:
            count, retention = known[self.name]
            self.kind = chance.choice(["delete", "grow", "set", "set"])
            self.number = count + 1 if self.kind == "grow" else chance.randrange(1, 9)
            if self.kind == "delete":
                del self.after[self.name]
            else:
                grows = self.kind == "grow"
                self.after[self.name] = (self.number, retention) if grows else (count, str(self.number))

    async def take(self, cluster: ClusterService) -> None:
        results: list[Any]
        if self.kind == "create":
            results = await cluster.create_topics([NewTopic(self.name, self.number)])
        elif self.kind == "grow":
            results = await cluster.create_partitions([NewPartitions(self.name, self.number)])
        elif self.kind == "set":
            change = Alteration("retention.ms", Op.SET, str(self.number))
            results = await cluster.alter_configs([ResourceAlteration(ConfigResource.TOPIC, self.name, [change])])
        else:
            results = await cluster.delete_topics([cluster.image.topics[self.name].topic_id])
        assert not isinstance(results[0], KafkaError), results


class Ending:
    """Ends a broker's life before one of the things that it writes: by a copy of what the next start finds then."""

    def __init__(self, disk: LyingDisk, directory: Path, copy: Path, chance: random.Random) -> None:
        self.possible: list[Topics] = []
        """What the cluster may be as things stand."""
        self.found: tuple[LyingDisk, list[Topics]] | None = None
        self.copy = copy
        self._disk = disk
        self._directory = directory
        self._chance = chance
        self._is_power_cut = chance.random() < 0.5
        self._left = chance.randrange(CHANGES_A_ROUND)

    def before_change(self) -> None:
        self._left -= 1
        if self._left == 0:
            if self._is_power_cut:
                after = self._disk.after_crash(self._directory, self.copy, self._chance.random)
            else:
                after = self._disk.after_kill(self._directory, self.copy)
            self.found = after, self.possible


@pytest.mark.parametrize("seed", range(6))
async def test_what_was_answered_for_survives_any_end(tmp_path: Path, seed: int) -> None:
    with reproducible(seed):
        assert await survive(tmp_path, seed) > 1


async def survive(tmp_path: Path, seed: int) -> int:
    """Live through these rounds; how many of them began with a trimmed log."""
    chance = random.Random(seed)
    directory, disk = tmp_path / "0", LyingDisk()
    possible: list[Topics] = [{}]
    starts_trimmed = 0
    for number in range(1, ROUNDS + 1):
        ending = Ending(disk, directory, tmp_path / str(number), chance)
        async with (
            open_embedded(directory, clock=ManualClock(), node_id=1, disk=disk) as logs,
            trio.open_nursery() as tasks,
        ):
            cluster = service(logs)
            await tasks.start(cluster.run)
            known = topics(cluster)
            assert known in possible
            starts_trimmed += bounds(logs).log_start_offset > 0
            ending.possible = [known]
            disk.before_change = ending.before_change
            for _ in range(STEPS):
                step = Step(known, chance)
                ending.possible = [known, step.after]
                await step.take(cluster)
                known = topics(cluster)
                assert known == step.after
                ending.possible = [known]
            disk.before_change = lambda: None
            tasks.cancel_scope.cancel()
        possible = [known]
        if ending.found is not None:
            directory = ending.copy
            disk, possible = ending.found
    return starts_trimmed


async def test_what_its_checkpoints_hold_goes_from_the_log(tmp_path: Path) -> None:
    """As long as there is as much, it stays as long, however much has changed."""
    chance = random.Random(1)
    async with open_embedded(tmp_path, clock=ManualClock(), node_id=1) as logs, trio.open_nursery() as tasks:
        cluster = service(logs)
        await tasks.start(cluster.run)
        sizes = []
        for _ in range(200):
            await Step(topics(cluster), chance).take(cluster)
            sizes.append(logs.size_bytes(METADATA_LOG))
        assert bounds(logs).log_start_offset > bounds(logs).end_offset / 2
        assert max(sizes[100:]) <= 1.5 * max(sizes[:100])
        tasks.cancel_scope.cancel()


@pytest.fixture
async def trimmed(tmp_path: Path) -> Topics:
    """What a cluster was like whose metadata log was trimmed, and lies in the directory now."""
    chance = random.Random(1)
    async with open_embedded(tmp_path, clock=ManualClock(), node_id=1) as logs, trio.open_nursery() as tasks:
        cluster = service(logs)
        await tasks.start(cluster.run)
        while bounds(logs).log_start_offset < 40:
            await Step(topics(cluster), chance).take(cluster)
        known = topics(cluster)
        tasks.cancel_scope.cancel()
    return known


def checkpoint_files(directory: Path) -> list[Path]:
    """The last one first."""
    files = list((directory / "__cluster_metadata-0").glob("coordinator-checkpoint*"))
    found = {path: decode_coordinator(path.read_bytes()) for path in files}
    assert len(found) == 2
    return sorted(found, key=lambda path: found[path] or Checkpoint(0, b""), reverse=True)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


async def started_again(directory: Path) -> Topics:
    async with open_embedded(directory, clock=ManualClock(), node_id=1) as logs, trio.open_nursery() as tasks:
        cluster = service(logs)
        await tasks.start(cluster.run)
        found = topics(cluster)
        tasks.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("spoil", [damage, Path.unlink])
@pytest.mark.parametrize("which", [0, 1])
async def test_either_of_its_checkpoints_is_enough(
    tmp_path: Path, trimmed: Topics, which: int, spoil: Callable[[Path], None]
) -> None:
    spoil(checkpoint_files(tmp_path)[which])
    for _ in range(2):
        assert await started_again(tmp_path) == trimmed


async def test_a_log_whose_beginning_is_lost_is_not_taken_for_an_empty_cluster(tmp_path: Path, trimmed: Topics) -> None:
    """Whose topics' logs would be nobody's then."""
    contents = {path: path.read_bytes() for path in checkpoint_files(tmp_path)}
    for path in contents:
        damage(path)
    for _ in range(2):
        with pytest.RaisesGroup(
            pytest.RaisesExc(LostBeginning, match=r"^__cluster_metadata-0 begins at offset \d+: what came before"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            await started_again(tmp_path)
    assert (tmp_path / "a-0").exists() == ("a" in trimmed)
    for path, content in contents.items():
        path.write_bytes(content)
    assert await started_again(tmp_path) == trimmed


def as_kafka_keeps_it(directory: Path, *, ahead: int = 0) -> Path:
    """Have a snapshot of Apache Kafka in the place of both checkpoints, with what the later one holds."""
    found = [decode_coordinator(path.read_bytes()) for path in checkpoint_files(directory)]
    latest = max((one for one in found if one is not None), key=lambda one: one.offset)
    for path in checkpoint_files(directory):
        path.unlink()
    head = struct.calcsize(">hqI")
    path = directory / "__cluster_metadata-0" / f"{latest.offset + ahead:020d}-0000000001.checkpoint"
    path.write_bytes(about_snapshot(3) + latest.data[head:] + about_snapshot(4))
    return path


def about_snapshot(kind: int) -> bytes:
    """The control batch with which a snapshot begins (3), or ends (4)."""
    return build_batch([Record(0, 0, struct.pack(">hh", 0, kind), bytes(2), [])], control=True)


async def test_a_snapshot_of_apache_kafka_is_as_good_as_a_checkpoint(tmp_path: Path, trimmed: Topics) -> None:
    snapshot = as_kafka_keeps_it(tmp_path)
    for _ in range(2):
        assert await started_again(tmp_path) == trimmed
    assert snapshot.exists()


@pytest.mark.parametrize("ahead", [0, 10_000])
async def test_topics_of_a_snapshot_that_does_not_fit_are_not_taken_for_gone(
    tmp_path: Path, trimmed: Topics, ahead: int
) -> None:
    snapshot = as_kafka_keeps_it(tmp_path, ahead=ahead)
    if not ahead:
        snapshot.write_bytes(snapshot.read_bytes()[:-1])
    content = snapshot.read_bytes()
    for _ in range(2):
        with pytest.RaisesGroup(
            pytest.RaisesExc(
                UnfitSnapshot, match=r"^__cluster_metadata-0: Apache Kafka's snapshot of it at offset \d+ is"
            ),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            await started_again(tmp_path)
    assert (tmp_path / "a-0").exists() == ("a" in trimmed)
    assert snapshot.read_bytes() == content


class SlowToFollow:
    """A store that is long in making logs."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self.open = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logs, name)

    async def catalogue_changed(self, changed: Any) -> None:
        await self.open.wait()
        await self._logs.catalogue_changed(changed)


async def test_who_follows_too_slowly_goes_on_from_a_checkpoint() -> None:
    """While logs are being made the controller goes on, up to where what was not read yet is trimmed."""
    chance = random.Random(1)
    async with open_memory(ManualClock()) as store, trio.open_nursery() as tasks:
        logs = SlowToFollow(store)
        logs.open.set()
        cluster = service(logs)
        told: set[str] = set()

        def note(change: Change) -> None:
            created = {topic.name for topic in change.created}
            assert not created & told
            told.update(created)
            told.difference_update(topic.name for topic in change.deleted)

        cluster.on_change(note)
        await tasks.start(cluster.run)
        await cluster.create_topics([NewTopic("stays", 1), NewTopic("goes", 1)])
        goes = cluster.image.topics["goes"]
        logs.open = trio.Event()
        begun = bounds(logs).end_offset
        number = 1
        async with trio.open_nursery() as changes:
            changes.start_soon(cluster.create_topics, [NewTopic("t0", 3)])
            await trio.testing.wait_all_tasks_blocked()
            changes.start_soon(cluster.delete_topics, [goes.topic_id])
            while bounds(logs).log_start_offset <= begun + 4:
                changes.start_soon(cluster.create_topics, [NewTopic(f"t{number}", 3)])
                number += 1
                await trio.testing.wait_all_tasks_blocked()
            logs.open.set()
        assert set(topics(cluster)) == {"stays", *(f"t{made}" for made in range(number))}
        assert told == set(topics(cluster))
        assert logs.bounds(goes.partitions[0].log) is Error.UNKNOWN_TOPIC_OR_PARTITION
        await Step(topics(cluster), chance).take(cluster)
        tasks.cancel_scope.cancel()


async def test_the_log_is_read_once_at_a_start(
    tmp_path: Path, trimmed: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though two go by it: who follows it, and who decides."""
    decoded = 0
    decode = MetadataJournal.decode

    def count(journal: MetadataJournal, entry: Entry) -> Any:
        nonlocal decoded
        decoded += 1
        return decode(journal, entry)

    monkeypatch.setattr(MetadataJournal, "decode", count)
    async with open_embedded(tmp_path, clock=ManualClock(), node_id=1) as logs, trio.open_nursery() as tasks:
        cluster = service(logs)
        await tasks.start(cluster.run)
        known = bounds(logs)
        checkpoint, _ = await logs.load_checkpoints(METADATA_LOG)
        tasks.cancel_scope.cancel()
    records = sum(header.record_count for _, header in walk(memoryview(checkpoint.data)[14:]))
    assert topics(cluster) == trimmed
    assert decoded == records + known.end_offset - checkpoint.offset
