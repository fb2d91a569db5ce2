#!/usr/bin/env python3
"""kafkapy over a store whose appends take long, as those of a shared store do: `slowed.py MILLISECONDS start …`.

What clients append is in its order and readable at once; only the outcome comes so much later, however many wait. Runs
the kafkapy of the working directory, also one from the time when an append was awaited.
"""

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import trio

from kafkapy.cli.main import main
from kafkapy.storage import base
from kafkapy.storage.base import Origin, Write
from kafkapy.storage.embedded.store import EmbeddedLogs

_append: Any = EmbeddedLogs.append
_SECONDS = int(sys.argv[1]) / 1000


def _is_slow(writes: Sequence[Write]) -> bool:
    return any(write.origin is Origin.CLIENT for write in writes)


async def _awaited(logs: EmbeddedLogs, writes: Sequence[Write]) -> Any:
    outcomes = await _append(logs, writes)
    if _is_slow(writes):
        await trio.sleep(_SECONDS)
    return outcomes


def _pending(logs: EmbeddedLogs, writes: Sequence[Write]) -> Any:
    first = _append(logs, writes)
    if not _is_slow(writes):
        return first
    pending = base.Pending()

    async def later() -> None:
        await trio.sleep(_SECONDS)
        pending.resolve(await first.wait())

    trio.lowlevel.spawn_system_task(later)
    return pending


if __name__ == "__main__":
    EmbeddedLogs.append = _awaited if inspect.iscoroutinefunction(_append) else _pending  # type: ignore[assignment]
    sys.argv[1:2] = []
    sys.exit(main())
