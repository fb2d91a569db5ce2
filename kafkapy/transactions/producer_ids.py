"""Producer ids for idempotent producers.

The cluster hands out blocks of ids; this hands out single ones. What is left of a block when the broker stops is lost,
and that is fine: ids need to be unique, not dense (KIP-98, KIP-730).
"""

from collections.abc import Awaitable, Callable

import trio

from kafkapy.errors import Error, KafkaError


class ProducerIds:
    """The broker's supply of producer ids."""

    def __init__(self, allocate_block: Callable[[], Awaitable[range]]) -> None:
        self._allocate_block = allocate_block
        self._left = iter(range(0))
        self._refill = trio.Lock()

    async def next_producer_id(self) -> int:
        """An id that no other producer gets, now or after a restart.

        Raises COORDINATOR_LOAD_IN_PROGRESS while no block is to be had, as Kafka does: clients try again.
        """
        while (producer_id := next(self._left, None)) is None:
            async with self._refill:
                # Someone else may have refilled while this task waited for the lock.
                producer_id = next(self._left, None)
                if producer_id is not None:
                    return producer_id
                try:
                    self._left = iter(await self._allocate_block())
                except KafkaError as refusal:
                    raise KafkaError(Error.COORDINATOR_LOAD_IN_PROGRESS, refusal.message) from refusal
        return producer_id
