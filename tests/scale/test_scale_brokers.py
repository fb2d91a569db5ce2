"""Several brokers in one process, each in a thread with an event loop of its own: they share nothing."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import trio

from kafkapy.broker import open_broker
from kafkapy.config.layers import BrokerConfig
from kafkapy.records.batch import Compression
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from tests.broker.wire import Wire
from tests.scale.asking import FETCH, PRODUCE, fetch, make_topic, produce
from tests.scale.counting import SCALE

CLIENTS, ROUNDS = 6, 5 * SCALE
PATIENCE_S = 120.0


def in_threads(*runs: Callable[[], None]) -> list[object]:
    """Run each in a thread of its own, all at once; what went wrong, and who did not end."""
    wrong: list[object] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as problem:  # noqa: BLE001  the test's thread tells of it
            wrong.append(problem)

    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    return wrong + [thread for thread in threads if thread.is_alive()]


async def busy_broker(directory: Path, barrier: threading.Barrier) -> None:
    """A broker that has more work for threads than it does at once: batches to compress anew, logs to sync."""
    config = BrokerConfig.load(flags={"listeners": "PLAINTEXT://127.0.0.1:0"})
    records = [Record(i, 1_700_000_000_000, b"k", b"x" * 100, []) for i in range(500)]
    batch = build_batch(records, compression=Compression.GZIP)
    async with open_broker(config, data_dir=directory) as broker:
        async with await Wire.connect(broker.port) as wire:
            await make_topic(wire, "t", CLIENTS, compression_type="zstd", flush_messages="1")
        await trio.to_thread.run_sync(barrier.wait)

        async def client(index: int) -> None:
            async with await Wire.connect(broker.port) as wire:
                for _ in range(ROUNDS):
                    answer = await wire.ask(produce("t", [index], batch), PRODUCE)
                    assert answer.responses[0].partition_responses[0].error_code == 0
                answer = await wire.ask(fetch("t", {index: 0}, partition_max_bytes=1), FETCH)
                assert len(read_records(answer.responses[0].partitions[0].records)) == len(records)

        with trio.fail_after(PATIENCE_S / 2):
            async with trio.open_nursery() as nursery:
                for index in range(CLIENTS):
                    nursery.start_soon(client, index)


def test_two_brokers_in_two_threads(tmp_path: Path) -> None:
    barrier = threading.Barrier(2, timeout=PATIENCE_S / 4)
    runs = [partial(trio.run, busy_broker, tmp_path / name, barrier) for name in ("one", "two")]
    assert in_threads(*runs) == []
