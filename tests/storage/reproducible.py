"""Histories that come again by their seed, however busy the machine and slow its disk."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest
import trio

T = TypeVar("T")


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """No threads, and tasks take turns as the seed has it."""
    chance = random.Random(f"turns {seed}")

    async def run_sync(work: Callable[..., T], *arguments: object, **_: object) -> T:
        for _turn in range(chance.randrange(1, 4)):
            await trio.lowlevel.checkpoint()
        return work(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", run_sync)
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio._core._run, "_r", chance)
        yield
