"""Waits for what comes by itself: asks again until it is there, and lets errors pass that do."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from kafkapy.errors import Error, KafkaError
from kafkapy.testing.client import Client
from kafkapy.testing.nouns import NotInTime

T = TypeVar("T")

PAUSE_SECONDS: Final = 0.01
SOON: Final = frozenset(
    {
        Error.COORDINATOR_NOT_AVAILABLE,
        Error.COORDINATOR_LOAD_IN_PROGRESS,
        Error.NOT_COORDINATOR,
        Error.UNKNOWN_TOPIC_OR_PARTITION,
        Error.LEADER_NOT_AVAILABLE,
        Error.NOT_LEADER_OR_FOLLOWER,
        Error.CONCURRENT_TRANSACTIONS,
        Error.UNSTABLE_OFFSET_COMMIT,
        Error.GROUP_ID_NOT_FOUND,
    }
)
"""What passes by itself, where somebody waits for it."""


async def wait_for(
    client: Client, look: Callable[[], Awaitable[T | None]], timeout: float, failure: Callable[[], str]
) -> T:
    """What `look` finds, as soon as that is not None. Raises NotInTime, and KafkaError for what does not pass."""
    deadline = client.monotonic() + timeout
    while True:
        problem: KafkaError | None = None
        try:
            found = await look()
        except KafkaError as refusal:
            if refusal.error not in SOON:
                raise
            found, problem = None, refusal
        if found is not None:
            return found
        if client.monotonic() >= deadline:
            raise NotInTime(f"after {timeout:g} s: {failure()}") from problem
        await client.pause(PAUSE_SECONDS)
