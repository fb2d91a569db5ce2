"""A clock that is moved by hand moves everything that waits for it."""

from math import inf

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kafkapy.clock import Clock, ManualClock, SystemClock, TravelClock


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


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock(), TravelClock()], ids=["manual", "system", "travel"])
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


async def test_a_clock_that_travels_goes_as_the_machines_does(autojump_clock: MockClock) -> None:
    clock = TravelClock()
    before, before_ms = clock.monotonic(), clock.now_ms()
    await clock.sleep(5)
    assert clock.monotonic() == pytest.approx(before + 5)
    assert before_ms <= clock.now_ms() < before_ms + 60_000


async def test_who_waits_is_woken_by_a_journey_and_not_before(nursery: trio.Nursery) -> None:
    clock = TravelClock()
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    for seconds in (1000, 3000, 2000):
        nursery.start_soon(sleep, seconds)
    await wait_all_tasks_blocked()
    before_ms = clock.now_ms()
    clock.advance_ms(2_000_000)
    await wait_all_tasks_blocked()
    assert sorted(woken) == [1000, 2000]
    assert clock.now_ms() >= before_ms + 2_000_000
    clock.advance_ms(1_000_000)
    await wait_all_tasks_blocked()
    assert woken[2:] == [3000]


async def test_a_frozen_clock_wakes_nobody_until_it_goes_on(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    clock = TravelClock()
    woken: list[float] = []

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(seconds)

    nursery.start_soon(sleep, 10)
    await wait_all_tasks_blocked()
    clock.freeze()
    nursery.start_soon(sleep, 20)
    now, now_ms = clock.monotonic(), clock.now_ms()
    await trio.sleep(1000)
    assert (clock.monotonic(), clock.now_ms(), woken, clock.is_frozen) == (now, now_ms, [], True)
    clock.advance_ms(10_000)
    await wait_all_tasks_blocked()
    assert (clock.monotonic(), clock.now_ms(), woken) == (now + 10, now_ms + 10_000, [10])
    clock.thaw()
    assert clock.now_ms() - (now_ms + 10_000) < 60_000
    await trio.sleep(10.5)
    assert woken == [10, 20]
    clock.freeze()
    with clock.until(clock.monotonic() - 1) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
