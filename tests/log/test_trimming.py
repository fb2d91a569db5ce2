"""Deleting records from the start of a log, over both stores: what may be deleted, and up to where."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "storage"))

from batches import LOG, OTHER, append, batch, sent
from catalogues import create
from disks import opened

from kafkapy.clock import ManualClock
from kafkapy.config.layers import BrokerConfig, TopicConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.log.trimming import TO_THE_END, delete_records
from kafkapy.storage.base import Logs, LogSettings
from kafkapy.storage.memory import open_memory


@pytest.fixture(params=["memory", "embedded"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    async with open_memory(ManualClock()) if request.param == "memory" else opened(tmp_path) as store:
        await create(store, LOG, LogSettings())
        await append(store, LOG, batch(b"a", b"b"))
        await append(store, LOG, sent(0, b"open", transactional=True))
        yield store


def config(policy: str) -> TopicConfig:
    return TopicConfig({"cleanup.policy": policy}, BrokerConfig.load())


@pytest.mark.parametrize("policy", ["delete", "compact,delete", "delete,compact"])
async def test_records_go_from_the_start(logs: Logs, policy: str) -> None:
    for before, start in ((0, 0), (1, 1), (0, 1), (TO_THE_END, 3), (3, 3)):
        assert await delete_records(logs, LOG, config(policy), before) == start


@pytest.mark.parametrize("before", [-2, 4])
async def test_not_beyond_either_end(logs: Logs, before: int) -> None:
    with pytest.raises(KafkaError) as raised:
        await delete_records(logs, LOG, config("delete"), before)
    assert raised.value.error is Error.OFFSET_OUT_OF_RANGE


async def test_not_from_what_is_only_compacted(logs: Logs) -> None:
    with pytest.raises(KafkaError) as raised:
        await delete_records(logs, LOG, config("compact"), 1)
    assert raised.value.error is Error.POLICY_VIOLATION


async def test_not_from_what_is_not_there(logs: Logs) -> None:
    with pytest.raises(KafkaError) as raised:
        await delete_records(logs, OTHER, config("delete"), 0)
    assert raised.value.error is Error.UNKNOWN_TOPIC_OR_PARTITION
