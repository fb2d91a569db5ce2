"""The answer to a command that a shard gives later: called for by connections, or waited for in a task.

Made by coordination/runtime.py, which gives it the answer as soon as that is safe to give away.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Final

import trio

from kafkapy.coordination.shard import Ticket
from kafkapy.delayed import Delayed
from kafkapy.errors import KafkaError

PENDING: Final = object()
"""Stands where there is no answer yet; an answer may be None."""


class Waiting(Delayed[Any]):
    """One of the answers that a shard owes. It has no deadline: where there is one, the machine has set a timer."""

    __slots__ = ("_all", "_answer", "_ticket", "_wake")

    def __init__(self, all_waiting: "dict[Ticket, Waiting]", ticket: Ticket) -> None:
        super().__init__(inf)
        self._all = all_waiting  # in which it stands until it is released or closed
        self._ticket = ticket
        self._answer: Any = PENDING
        self._wake: Callable[[], None] | None = None
        all_waiting[ticket] = self

    def release(self, answer: Any) -> None:
        """Here is the answer; a `KafkaError` is to be raised."""
        self._answer = answer
        if self._wake is not None:
            self._wake()

    def begin(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self._answer is not PENDING:
            wake()

    async def attempt(self) -> Any:
        return None if self._answer is PENDING else given(self._answer)

    async def wait(self) -> Any:
        """Wait in this task instead, for an answer that may be None."""
        there = trio.Event()
        self.begin(there.set)
        try:
            await there.wait()
        finally:
            self.close()
        return given(self._answer)

    def close(self) -> None:
        self._all.pop(self._ticket, None)


def given(answer: Any) -> Any:
    """The answer, to whoever asked. Raises it when it is a refusal."""
    if isinstance(answer, KafkaError):
        raise answer
    return answer
