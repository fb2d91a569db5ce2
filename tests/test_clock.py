"""A clock that is moved by hand moves everything that waits for it."""

from math import inf

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import Clock, ManualClock, SystemClock


async def test_who_sleeps_wakes_when_the_time_has_come_and_not_before(nursery: trio.Nursery) -> None:
    clock = ManualClock()
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    for seconds in (3, 1, 2):
        nursery.start_soon(sleep, seconds)
    await wait_all_tasks_blocked()
    clock.advance_ms(999)
    await wait_all_tasks_blocked()
    assert woken == []
    clock.advance_ms(1001)
    await wait_all_tasks_blocked()
    assert sorted(woken) == [1, 2]
    clock.advance_ms(1000)
    await wait_all_tasks_blocked()
    assert woken[2:] == [3]


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()], ids=["manual", "system"])
async def test_a_block_until_a_moment_that_has_come_does_not_begin_to_wait(clock: Clock) -> None:
    with clock.until(clock.monotonic() - 1) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_moment_that_never_comes_cancels_nothing() -> None:
    clock = ManualClock()
    with clock.until(inf) as scope:
        clock.advance_ms(10**12)
        await trio.lowlevel.checkpoint()
    assert not scope.cancel_called


async def test_a_block_that_has_ended_is_not_remembered() -> None:
    clock = ManualClock()
    with clock.until(clock.monotonic() + 10) as scope:
        pass
    clock.advance_ms(20_000)
    assert not scope.cancel_called


def test_a_clock_does_not_go_backwards() -> None:
    with pytest.raises(ValueError):
        ManualClock().advance_ms(-1)
