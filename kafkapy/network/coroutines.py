"""Coroutines that are begun by hand, so that what need not wait costs no task and no trip through the scheduler.

Called by the connection, which runs handlers so, and by the crew, which must know when a task of its begins to wait.
"""

import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def resumed(work: Coroutine[Any, Any, T], trap: Any) -> Generator[Any, Any, T]:
    """Await the rest of `work`, which was begun and waits by `trap`: what its `send` returned."""
    try:
        while True:
            try:
                sent = yield trap
            except BaseException as thrown:  # noqa: BLE001  the work's own, a cancellation for one
                trap = work.throw(thrown)
            else:
                trap = work.send(sent)
    except StopIteration as done:
        result: T = done.value
        return result


async def noticed(work: Coroutine[Any, Any, T], waits: Callable[[], None]) -> T:
    """Await `work`; `waits` is called before the first time that it really waits."""
    try:
        trap = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    waits()
    return await resumed(work, trap)
