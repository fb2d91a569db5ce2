"""Which shards run follows from leases, however short these are."""

from kafkapy.clock import ManualClock
from kafkapy.coordination.shard import ShardType
from kafkapy.coordination.shards import Shards
from kafkapy.storage.memory import open_memory
from kafkapy.storage.shared.leases import LaneLeases
from tests.coordination.shards import LOG, Table, TableJournal
from tests.storage.batches import append, batch
from tests.storage.catalogues import create


async def test_a_lease_that_is_over_while_it_is_told_of_starts_nothing(nursery):
    """A process that is not given the time to run: it goes on with the next lease."""
    clock, is_slow = ManualClock(), True
    leases = LaneLeases(1, clock, lambda log: 0, lambda log, lane_epoch: lane_epoch)
    leases.watch(lambda logs: clock.advance_ms(2000 if is_slow else 0), lambda logs: None)
    async with open_memory(clock) as logs:
        await create(logs, LOG)
        await append(logs, LOG, batch(b"a past"))
        shards = Shards(LOG.topic, "table", ShardType(Table, TableJournal()), logs, leases, clock, lambda: None)
        await nursery.start(shards.run)
        leases.gain({LOG: 3})
        leases.extend(clock.monotonic() + 1)
        assert shards.running() == []
        is_slow = False
        leases.extend(clock.monotonic() + 1)
        [shard] = shards.running()
        await shard.wait_loaded()
        assert await shard.execute(("get", "k")) == "a past"
