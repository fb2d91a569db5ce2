"""Many log files with few descriptors, and many clients that ask for much and do not read it."""

import os
import resource
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from kafkapy.storage.embedded import files
from kafkapy.storage.embedded.files import Disk
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, batch_of, fetch, fill, make_topic
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, descriptors


@asynccontextmanager
async def who_do_not_read(port: int, topic: str, asked: Sequence[range]) -> Any:
    """A client for each range of partitions, whose answer has begun to arrive, and is left at that."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(await Wire.connect(port)) for _ in asked]
        for client, partitions in zip(clients, asked, strict=True):
            await client.send(fetch(topic, dict.fromkeys(partitions, 0)), FETCH)
        for client in clients:
            with trio.fail_after(60):
                await client.begin_to_receive()
        yield clients


@pytest.fixture
def few_descriptors() -> Iterator[int]:
    """As `ulimit -n 1024` gives them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield 1024
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_who_does_not_read_takes_nobodys_descriptors(start_broker: StartBroker, few_descriptors: int) -> None:
    count = 600
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", count)
        await fill(wire, "t", range(count), batch_of(140_000), at_once=50)
        asked = [range(begin, begin + 350) for begin in (0, 83, 166, 250)]
        async with who_do_not_read(broker.port, "t", asked) as clients:
            await fill(wire, "t", range(count), batch_of(100), at_once=1)
            for index in (0, 300, 599):
                answer = await wire.ask(fetch("t", {index: 0}), FETCH)
                assert len(answer.responses[0].partitions[0].records) > 140_000
            assert descriptors() < few_descriptors * 3 // 4
            answer = await clients[0].receive()
            assert [len(p.records) > 140_000 for p in answer.responses[0].partitions].count(True) == 350
        await fill(wire, "t", range(count), batch_of(100), at_once=1)


async def test_who_does_not_read_costs_little_memory(start_broker: StartBroker) -> None:
    """Also where each partition has too little to be sent from its file without a reason."""
    count, clients = 200, 12 * SCALE
    async with start_broker() as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "t", count)
        await fill(wire, "t", range(count), batch_of(100_000), at_once=50)
        await wire.ask(fetch("t", dict.fromkeys(range(count), 0)), FETCH)
        tracemalloc.start()
        try:
            async with who_do_not_read(broker.port, "t", [range(count)] * clients):
                size, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert size < 20 << 20


def test_files_in_turn_cost_no_more_calls_than_their_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than may be open: none is cut when it is closed, and none gets its blocks twice."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls[name] += 1
            return function(*arguments)

        return call

    for name in ("open", "close", "ftruncate", "fstat"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    monkeypatch.setattr(files, "allocate", counted("allocate", files.allocate))
    disk, data, rounds = Disk(max_open_files=100), bytes(50_000), 20
    paths = [str(tmp_path / f"{number}.log") for number in range(150)]
    opened_before = calls["open"]
    for number in range(rounds):
        for path in paths:
            disk.append(path, [data], len(data), number * len(data))
    assert calls["ftruncate"] == calls["fstat"] == 0
    assert calls["open"] - opened_before <= rounds * len(paths)
    assert calls["allocate"] <= 8 * len(paths)  # a quarter more each time, from 256 KiB to a megabyte
    disk.close()
    for path in paths:
        assert os.stat(path).st_blocks * 512 < rounds * len(data) + (64 << 10)
