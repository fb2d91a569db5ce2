"""What a share group's fetch reads: about as much as it gives, whatever else there is."""

from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from tests.broker.wire import Wire
from tests.scale.conftest import StartBroker
from tests.scale.counting import SCALE, CountingDisk
from tests.sharing.conftest import SETTINGS, open_topic
from tests.sharing.members import Member

PARTITIONS = 8 * SCALE
BATCHES = 10
RECORDS = 50
"""In a batch, of 1 kB each."""


async def test_a_fetch_reads_about_what_it_gives(start_broker: StartBroker) -> None:
    disk = CountingDisk()
    async with start_broker(disk=disk, settings=SETTINGS) as broker, await Wire.connect(broker.port) as wire:
        topic = await open_topic(wire, "t", PARTITIONS)
        batch = build_batch([Record(i, 1_700_000_000_000, None, b"x" * 1000, []) for i in range(RECORDS)])
        for partition in range(PARTITIONS):
            await topic.initialize("g", partition=partition)
            for _ in range(BATCHES):
                await topic.produce(partition=partition, batch=batch)
        member = Member(wire, topic)
        await member.fetch(None, range(PARTITIONS), max_records=1, max_wait_ms=60_000)
        disk.reset()
        for _ in range(PARTITIONS):
            answer = await member.fetch(max_records=2 * RECORDS, max_wait_ms=60_000)
            sizes = [len(p.records) for one in answer.responses for p in one.partitions if p.records]
            assert sum(sizes) >= 2 * len(batch), sizes
    assert disk.read_bytes < 2 * PARTITIONS * 2 * len(batch)
