"""An answer that must wait, as an object: so that waiting costs no task, no thread and no timer of its own.

A room that cannot answer yet returns a `Delayed`. Whoever carries the request tries it again when what it waits for has
moved, and at the latest at its deadline, and closes it in the end, whatever that is. Apache Kafka calls this a delayed
operation, and keeps them in a purgatory.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
U = TypeVar("U")


class Delayed(Generic[T]):
    """What is needed to wait for an answer, and to get it. Rooms make their own kinds of it."""

    __slots__ = ("deadline", "order_is_fixed")

    def __init__(self, deadline: float, *, order_is_fixed: bool = False) -> None:
        self.deadline = deadline
        """In seconds of the clock: by then there is an answer. Infinite where it comes by itself, whatever happens."""
        self.order_is_fixed = order_is_fixed
        """What was asked for has been done in its order, and only the answer waits: the next request may begin."""

    def begin(self, wake: Callable[[], None]) -> None:
        """Called once: have `wake` called each time that an attempt may have another outcome. It only takes note."""

    async def attempt(self) -> T | None:
        """The answer; None as long as it must wait, which is not so at the deadline."""
        return None

    def close(self) -> None:
        """The answer has been given, or nobody wants it any longer. Called once, always."""

    def then(self, follow: Callable[[T], U]) -> "Delayed[U]":
        """The same wait, with another answer made of this one's."""
        return _Followed(self, follow)


class _Followed(Delayed[U], Generic[T, U]):
    __slots__ = ("_first", "_follow")

    def __init__(self, first: Delayed[T], follow: Callable[[T], U]) -> None:
        super().__init__(first.deadline, order_is_fixed=first.order_is_fixed)
        self._first = first
        self._follow = follow

    def begin(self, wake: Callable[[], None]) -> None:
        self._first.begin(wake)

    async def attempt(self) -> U | None:
        found = await self._first.attempt()
        return None if found is None else self._follow(found)

    def close(self) -> None:
        self._first.close()
