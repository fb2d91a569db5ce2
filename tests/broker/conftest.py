"""A broker in this process, and stock clients in threads beside it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from kafkapy.broker import Broker, open_broker
from kafkapy.config.layers import BrokerConfig

StartBroker = Callable[..., AbstractAsyncContextManager[Broker]]


@pytest.fixture
def start_broker(tmp_path: Path) -> StartBroker:
    """Opens a broker on a free port; `memory=True` for one without a directory, settings by `settings={...}`."""

    @asynccontextmanager
    async def start(
        *, memory: bool = False, settings: dict[str, str] | None = None, **options: object
    ) -> AsyncIterator[Broker]:
        flags = {"listeners": "PLAINTEXT://127.0.0.1:0", **(settings or {})}
        config = BrokerConfig.load(flags=flags, brokers=options.get("brokers", 1))  # type: ignore[arg-type]
        async with open_broker(config, data_dir=None if memory else tmp_path / "data", **options) as broker:  # type: ignore[arg-type]
            yield broker

    return start
