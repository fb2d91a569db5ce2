"""What members were told is so outlives the broker."""

import random
from pathlib import Path
from typing import Any

import trio

from kafkapy.clock import ManualClock
from kafkapy.errors import Error
from kafkapy.testing.process import BrokerProcess
from tests.broker.conftest import StartBroker, start_broker  # noqa: F401
from tests.broker.wire import Wire
from tests.sharing.conftest import SETTINGS, open_topic
from tests.sharing.members import Member, Topic

ACCEPT, RELEASE, REJECT = 1, 2, 3


async def test_a_restart_gives_what_was_not_acknowledged_and_nothing_else(
    start_broker: StartBroker,  # noqa: F811
    clock: ManualClock,
) -> None:
    async with start_broker(settings=SETTINGS, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        topic = await open_topic(wire)
        await topic.initialize("g")
        await topic.produce(10)
        member = Member(wire, topic)
        assert await member.take(None, [0], max_wait_ms=500) == [(0, 9, 1)]
        told: Any = {0: [(0, 0, [ACCEPT]), (3, 4, [REJECT]), (6, 6, [RELEASE]), (9, 9, [ACCEPT])]}
        assert (await member.acknowledge(told)).responses[0].partitions[0].error_code == Error.NONE
        assert await topic.start_offset("g") == 0
    async with start_broker(settings=SETTINGS, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        again = Member(wire, topic, "again")
        await again.fetch(None, [0], max_records=0)
        found = await again.take_all(6)
        assert found == [(each, 2) for each in (1, 2, 5, 6, 7, 8)], "what was given counts, told of or not"
        topic.wire = wire
        assert await again.told(1, 2, ACCEPT) is Error.NONE
        await topic.produce(1)
        assert await again.take(max_wait_ms=500) == [(10, 10, 1)]
        assert await again.told(5, 8, ACCEPT) is Error.NONE
        assert await again.told(10, 10, ACCEPT) is Error.NONE
        assert await topic.start_offset("g") == 10


async def test_the_state_topic_is_cut_off(start_broker: StartBroker, clock: ManualClock) -> None:  # noqa: F811
    settings = SETTINGS | {"share.coordinator.snapshot.update.records.per.snapshot": "3"}
    async with start_broker(settings=settings, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        topic = await open_topic(wire)
        await topic.initialize("g")
        member = Member(wire, topic)
        await member.fetch(None, [0], max_records=0)
        for offset in range(10):
            await topic.produce(1)
            assert await member.take(max_wait_ms=500) == [(offset, offset, 1)]
            assert await member.told(offset, offset, ACCEPT) is Error.NONE
        clock.advance_ms(300_000)
        state = broker.rooms.cluster.image.topic("__share_group_state")
        bounds = [broker.rooms.logs.bounds(partition.log) for partition in state.partitions]
        [grown] = [each for each in bounds if each.end_offset]
        for _ in range(50):
            await topic.start_offset("g")  # the broker gets its turn
        bounds = [broker.rooms.logs.bounds(partition.log) for partition in state.partitions]
        [cut] = [each for each in bounds if each.end_offset]
        assert cut.log_start_offset > grown.end_offset - 5
    async with start_broker(settings=settings, clock=clock) as broker, await Wire.connect(broker.port) as wire:
        topic.wire = wire
        assert await topic.start_offset("g") == 9
        again = Member(wire, topic, "again")
        await again.fetch(None, [0], max_records=0)
        await topic.produce(1)
        assert await again.take(max_wait_ms=500) == [(10, 10, 1)]


async def test_nothing_acknowledged_comes_again_after_a_kill(tmp_path: Path) -> None:
    chance, done, produced = random.Random(7), set(), 0
    broker = BrokerProcess(SETTINGS, data_dir=tmp_path)
    topic: Topic | None = None
    for life in range(4):
        await trio.to_thread.run_sync(broker.start)
        async with await Wire.connect(broker.port) as wire, await Wire.connect(broker.port) as stream:
            if topic is None:
                topic = await open_topic(wire)
                await topic.initialize("g")
            topic.wire = wire
            member = Member(stream, topic, f"m{life}")
            await member.fetch(None, [0], max_records=0)
            for _ in range(5):
                await topic.produce(10)
                produced += 10
                for offset, _ in await member.take_all(10):
                    assert offset not in done, f"{offset} was acknowledged"
                    if chance.random() < 0.7 and await member.told(offset, offset, ACCEPT) is Error.NONE:
                        done.add(offset)
            broker.kill()
    broker.start()
    assert topic is not None
    try:
        async with await Wire.connect(broker.port) as wire:
            last = Member(wire, topic, "last")
            await last.fetch(None, [0], max_records=0)
            left = {offset for offset, _ in await last.take_all(produced - len(done))}
            assert left == set(range(produced)) - done
    finally:
        broker.stop()
