"""Syncing for many: no append waits for those that came after it, and no log for the turns of all others."""

import threading
from collections.abc import Sequence

import trio

from kafkapy.protocol.messages.produce import ProduceRequest
from tests.broker.wire import Wire
from tests.scale.asking import PRODUCE, batch_of, fill, make_topic, produce
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk


class SlowDisk(CountingDisk):
    """Whose syncs end when they are let, in the order in which they began; `at_once` is how many there were at most."""

    def __init__(self) -> None:
        super().__init__()
        self.turnstile = threading.Semaphore(0)
        self.held = False
        self._lock = threading.Lock()
        self.under_way = self.at_once = 0
        self.synced: list[str] = []

    def sync(self, paths: Sequence[str]) -> None:
        with self._lock:
            self.under_way += 1
            self.at_once = max(self.at_once, self.under_way)
        if self.held:
            self.turnstile.acquire(timeout=30)  # not for ever: a test that fails must end
        super().sync(paths)
        with self._lock:
            self.under_way -= 1
            self.synced += paths


async def test_an_append_waits_for_its_own_syncs_whoever_comes_after_it(start_broker: StartBroker) -> None:
    """The first of many producers is answered although the others keep the syncs busy for ever."""
    disk, busy = SlowDisk(), 20
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "synced", busy + 1, flush_messages="1")
        batch, stop = batch_of(100), trio.Event()
        counts = [0] * busy

        async def keep_busy(partition: int) -> None:
            async with await Wire.connect(broker.port) as own:
                while not stop.is_set():
                    await fill(own, "synced", [partition], batch)
                    counts[partition] += 1

        async with trio.open_nursery() as nursery:
            for partition in range(busy):
                nursery.start_soon(keep_busy, partition)
            while min(counts) < 1:
                await trio.lowlevel.checkpoint()
            for _ in range(20 * SCALE):
                before = sum(counts)
                await fill(wire, "synced", [busy], batch)
                assert sum(counts) - before <= 10 * busy
            stop.set()


async def test_logs_that_are_due_together_are_synced_together(start_broker: StartBroker) -> None:
    """flush.ms: a log does not wait until all others have had their turns, one by one."""
    disk, count = SlowDisk(), 300 * SCALE
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "timed", count, flush_ms="1")
        before = len(disk.synced)
        await fill(wire, "timed", range(count), batch_of(100))
        with trio.fail_after(60):
            while len([path for path in disk.synced[before:] if "/timed-" in path]) < count:
                await trio.lowlevel.checkpoint()
        assert disk.at_once > 1


async def test_what_one_log_waits_for_does_not_hold_the_others(start_broker: StartBroker) -> None:
    """Syncs that hang cost those who wait for them, and nobody who does not."""
    disk = SlowDisk()
    async with start_broker(disk=disk) as broker, await Wire.connect(broker.port) as wire:
        await make_topic(wire, "synced", 4, flush_messages="1")
        await make_topic(wire, "usual", 1)
        disk.held = True
        async with await Wire.connect(broker.port) as waiting, trio.open_nursery() as nursery:
            done: list[ProduceRequest] = []

            async def wait() -> None:
                done.append(await waiting.ask(produce("synced", range(4), batch_of(100)), PRODUCE))

            nursery.start_soon(wait)
            while disk.under_way < 4:
                await trio.lowlevel.checkpoint()
            await fill(wire, "usual", [0] * 1, batch_of(100))
            assert not done
            disk.held = False
            disk.turnstile.release(100)
        assert {p.error_code for p in done[0].responses[0].partition_responses} == {0}
