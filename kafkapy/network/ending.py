"""What stands among answers where a connection is to end: those before it are given first. Called by the connection."""

from math import inf

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.network.sending import Answer


class Ending(Delayed[Answer]):
    """Stands where a request would that ends the connection: those before it are answered."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(inf)
        self._reason = reason

    async def attempt(self) -> Answer | None:
        raise self._reason


class Parting(Delayed[Answer]):
    """The last answer of a connection, which is held back for a while."""

    def __init__(self, answer: Answer, moment: float, clock: Clock) -> None:
        super().__init__(moment)
        self._answer = answer
        self._clock = clock

    async def attempt(self) -> Answer | None:
        return None if self._clock.monotonic() < self.deadline else self._answer
