"""A cluster settles on the levels of its features once, and writes them down, as Kafka's tools do for a new one."""

from typing import Any

import pytest
import trio

from kafkapy.clock import ManualClock
from kafkapy.cluster.features import SUPPORTED, finalized
from kafkapy.cluster.image import METADATA_LOG
from kafkapy.cluster.journal import MetadataJournal
from kafkapy.cluster.service import ClusterService
from kafkapy.config.layers import BrokerConfig
from kafkapy.coordination.shard import Entry
from kafkapy.protocol.journal.cluster_metadata import FeatureLevelRecord
from kafkapy.records.batch import read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, keys_and_values
from kafkapy.storage.base import Origin, Read, Write
from kafkapy.storage.memory import open_memory
from tests.membership import alone


async def run_once(logs: Any) -> dict[str, int]:
    """Run a broker's cluster for a moment; the levels that it then shows."""
    service = ClusterService("c", BrokerConfig.load(), logs, alone(logs, None), ManualClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return finalized(service.image.kinds.features)


async def told(logs: Any) -> list[tuple[str, int]]:
    """The levels that the metadata log tells of, in its order."""
    [piece] = await logs.read([Read(METADATA_LOG, 0, 1 << 20)], 1 << 20)
    facts = []
    for position, header in walk(piece.records):
        batch = memoryview(piece.records)[position : position + header.size_bytes]
        facts += [MetadataJournal().decode(Entry(key, value)) for key, value in keys_and_values(batch, header)]
    return [(fact.name, fact.feature_level) for fact in facts if isinstance(fact, FeatureLevelRecord)]


@pytest.mark.parametrize("starts", [1, 3])
async def test_a_new_cluster_writes_its_levels_down_once(starts: int) -> None:
    async with open_memory(ManualClock()) as logs:
        for _ in range(starts):
            levels = await run_once(logs)
        written = await told(logs)
        assert dict(written) == levels == {name: known.default for name, known in SUPPORTED.items()}
        assert len(written) == len(levels)
        assert written[0][0] == "metadata.version", "without which Kafka reads no further"


async def test_what_was_settled_before_stays() -> None:
    async with open_memory(ManualClock()) as logs:
        await run_once(logs)
        await write(logs, FeatureLevelRecord(name="group.version", feature_level=0))
        assert "group.version" not in await run_once(logs)
        assert (await told(logs))[-1] == ("group.version", 0)


async def write(logs: Any, fact: FeatureLevelRecord) -> None:
    entries = MetadataJournal().encode(fact)
    batch = build_batch([Record(n, 1000, entry.key, entry.value, []) for n, entry in enumerate(entries)])
    [outcome] = await logs.append([Write(METADATA_LOG, batch, [read_header(batch)], origin=Origin.COORDINATOR)]).wait()
    assert not outcome.error
