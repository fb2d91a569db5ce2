"""Waits for delayed answers as a connection does."""

from typing import TypeVar

import trio

from kafkapy.delayed import Delayed

T = TypeVar("T")


async def answered(answer: T | Delayed[T]) -> T:
    """What comes of it in the end."""
    if not isinstance(answer, Delayed):
        return answer
    moved = trio.Event()

    def wake() -> None:
        moved.set()

    answer.begin(wake)
    try:
        while (found := await answer.attempt()) is None:
            await moved.wait()
            moved = trio.Event()
    finally:
        answer.close()
    return found
