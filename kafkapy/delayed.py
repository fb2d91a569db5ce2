"""An answer that must wait, as a value: so that waiting costs no task, no thread and no timer of its own.

A room that cannot answer yet returns a `Delayed`. Whoever carries the request tries it again when what it waits for has
moved, and at the latest at its deadline. Apache Kafka calls this a delayed operation, and keeps them in a purgatory.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Delayed(Generic[T]):
    """What is needed to wait for an answer, and to get it."""

    __slots__ = ("abandon", "attempt", "begin", "deadline")

    def __init__(
        self,
        attempt: Callable[[], Awaitable[T | None]],
        begin: Callable[[Callable[[], None]], None],
        abandon: Callable[[], None],
        deadline: float,
    ) -> None:
        self.attempt: Final = attempt
        """The answer, with which all is done; None as long as it must wait, which is not so at the deadline."""
        self.begin: Final = begin
        """Called once, with what is to be called each time that an attempt may have another outcome."""
        self.abandon: Final = abandon
        """Nobody wants the answer any longer."""
        self.deadline: Final = deadline
        """In seconds of the event loop's clock."""

    def then(self, follow: Callable[[T], U]) -> "Delayed[U]":
        """The same wait, with another answer made of this one's."""

        async def attempt() -> Any:
            found = await self.attempt()
            return None if found is None else follow(found)

        return Delayed(attempt, self.begin, self.abandon, self.deadline)
