"""A broker in this process, whose disk may be one that counts."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kafkapy.broker import Broker, open_broker
from kafkapy.config.layers import BrokerConfig
from kafkapy.storage.embedded.files import Disk

StartBroker = Callable[..., AbstractAsyncContextManager[Broker]]


@pytest.fixture
def start_broker(tmp_path: Path) -> StartBroker:
    """Opens a broker on a free port over `tmp_path / "data"`, as often as it is called; `disk` reaches its files."""

    @asynccontextmanager
    async def start(*, disk: Disk | None = None, settings: dict[str, str] | None = None) -> AsyncIterator[Broker]:
        flags = {"listeners": "PLAINTEXT://127.0.0.1:0", **(settings or {})}
        async with open_broker(BrokerConfig.load(flags=flags), data_dir=tmp_path / "data", disk=disk) as broker:
            yield broker

    return start
