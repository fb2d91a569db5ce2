"""Long work in steps: alone it costs nothing, many take turns, and what fails or is left makes room."""

import pytest
import trio

from kafkapy.turns import Steps, Turns


async def test_work_of_one_step_lets_nobody_else_run() -> None:
    ran: list[str] = []

    def work() -> Steps[str]:
        ran.append("work")
        return "done"
        yield

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        assert await Turns().finish(work()) == "done"
        ran.append("here")
    assert ran == ["work", "here"]


async def test_everybody_runs_between_two_steps_of_whoever_works() -> None:
    """However many work, at most one step is done before somebody else has had a turn."""
    turns, steps_since, worst, left = Turns(), 0, 0, 20

    def work() -> Steps[int]:
        nonlocal steps_since, worst
        for step in range(50):
            if step:  # the first is done at once, in its caller's turn
                steps_since += 1
                worst = max(worst, steps_since)
            yield
        return 50

    async def client() -> None:
        nonlocal left
        assert await turns.finish(work()) == 50
        left -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(left):
            nursery.start_soon(client)
        while left:
            await trio.lowlevel.checkpoint()
            steps_since = 0
    assert 1 <= worst <= 2


async def test_work_that_fails_or_is_cancelled_makes_room() -> None:
    turns = Turns()

    def failing() -> Steps[None]:
        yield
        yield
        raise ValueError("no")

    def endless() -> Steps[None]:
        while True:
            yield

    for _ in range(20):
        with pytest.raises(ValueError, match="no"):
            await turns.finish(failing())
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(turns.finish, endless())
                for _ in range(3):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

    def short() -> Steps[int]:
        yield
        yield
        return 7

    with trio.fail_after(5):
        assert await turns.finish(short()) == 7
        assert await turns.in_thread(lambda: 8) == 8
