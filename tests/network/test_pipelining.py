"""Requests of one kind whose order is fixed are under way together; everything else waits for its turn."""

from collections.abc import Callable
from math import inf
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from kafkapy.clock import ManualClock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection
from kafkapy.network.connection import MAX_BYTES_UNDER_WAY, MAX_UNDER_WAY
from tests.network.serving import ends, framed, receive, serving

PRODUCE, FETCH = b"\0\0", b"\0\1"


class Append(Delayed[list[Any]]):
    """What was asked for is done; the answer comes when the test says so."""

    def __init__(self, said: bytes, answer: bytes, deadline: float) -> None:
        super().__init__(deadline, order_is_fixed=True)
        self.said = said
        self.is_closed = False
        self._answer = answer
        self._is_there = False

    def begin(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def resolve(self) -> None:
        self._is_there = True
        self._wake()

    async def attempt(self) -> list[Any] | None:
        return [framed(self._answer)] if self._is_there else None

    def close(self) -> None:
        assert not self.is_closed
        self.is_closed = True


class Appends:
    """Handles requests: two bytes of kind, and what to do."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.waiting: list[Append] = []
        self.size = 5

    async def dispatch(self, frame: memoryview, session: Any) -> Any:
        said = bytes(frame[2:7])
        self.begun.append(said)
        if said.startswith(b"wait"):
            self.waiting.append(Append(said, said.ljust(self.size), inf))
            return self.waiting[-1]
        if said == b"close":
            raise CloseConnection("as asked")
        return None if said == b"quiet" else [framed(said)]


@pytest.fixture
def appends() -> Appends:
    return Appends()


def ask(kind: bytes, said: bytes, size: int = 5) -> bytes:
    return framed(kind + said.ljust(size))


async def test_several_are_begun_and_they_are_answered_in_their_order(appends: Appends) -> None:
    async with serving(appends.dispatch) as running:
        stream = await running.connect()
        await stream.send_all(b"".join(ask(PRODUCE, b"wait%d" % i) for i in range(8)))
        await wait_all_tasks_blocked(0.01)
        assert len(appends.begun) == MAX_UNDER_WAY
        for index in (2, 1):
            appends.waiting[index].resolve()
        with trio.move_on_after(0.05):
            pytest.fail(f"was answered {await stream.receive_some()!r}")
        appends.waiting[0].resolve()
        assert await receive(stream, 27) == b"".join(framed(b"wait%d" % i) for i in range(3))
        await wait_all_tasks_blocked(0.01)
        assert len(appends.begun) == 8
        for waiting in appends.waiting[3:]:
            waiting.resolve()
        assert await receive(stream, 45) == b"".join(framed(b"wait%d" % i) for i in range(3, 8))
        assert all(waiting.is_closed for waiting in appends.waiting)


async def test_they_are_bounded_by_their_size_too(appends: Appends) -> None:
    size = MAX_BYTES_UNDER_WAY // 3
    async with serving(appends.dispatch) as running, trio.open_nursery() as nursery:
        stream = await running.connect()
        nursery.start_soon(stream.send_all, b"".join(ask(PRODUCE, b"wait%d" % i, size) for i in range(4)))
        while len(appends.begun) < 2:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.05)
        assert len(appends.begun) == 2
        appends.waiting[0].resolve()
        assert await receive(stream, 9) == framed(b"wait0")
        while len(appends.begun) < 3:
            await trio.lowlevel.checkpoint()
        for waiting in appends.waiting:
            waiting.resolve()
        assert await receive(stream, 18) == framed(b"wait1") + framed(b"wait2")
        while len(appends.begun) < 4:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_one_that_is_larger_than_all_may_be_is_alone(appends: Appends) -> None:
    async with serving(appends.dispatch) as running, trio.open_nursery() as nursery:
        stream = await running.connect()
        large = ask(PRODUCE, b"wait0", MAX_BYTES_UNDER_WAY + 1)
        nursery.start_soon(stream.send_all, large + ask(PRODUCE, b"wait1"))
        while not appends.begun:
            await trio.lowlevel.checkpoint()
        await wait_all_tasks_blocked(0.05)
        assert appends.begun == [b"wait0"]
        appends.waiting[0].resolve()
        assert await receive(stream, 9) == framed(b"wait0")
        while len(appends.begun) < 2:
            await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("said", [b"other", b"waits"])
async def test_a_request_of_another_kind_waits_until_all_before_it_are_answered(appends: Appends, said: bytes) -> None:
    """It is to see what they did, and its sender hears of that first."""
    async with serving(appends.dispatch) as running:
        stream = await running.connect()
        await stream.send_all(ask(PRODUCE, b"wait1") + ask(PRODUCE, b"wait2") + ask(FETCH, said))
        await stream.send_all(ask(PRODUCE, b"last!"))
        await wait_all_tasks_blocked(0.01)
        assert appends.begun == [b"wait1", b"wait2"]
        appends.waiting[0].resolve()
        assert await receive(stream, 9) == framed(b"wait1")
        await wait_all_tasks_blocked(0.01)
        assert appends.begun == [b"wait1", b"wait2"]
        appends.waiting[1].resolve()
        assert await receive(stream, 9) == framed(b"wait2")
        await wait_all_tasks_blocked(0.01)
        assert appends.begun[2] == said


async def test_what_is_answered_at_once_or_not_at_all_has_its_turn(appends: Appends) -> None:
    async with serving(appends.dispatch) as running:
        stream = await running.connect()
        requests = [b"wait1", b"quiet", b"there", b"wait2", b"quiet", b"close", b"never"]
        await stream.send_all(b"".join(ask(PRODUCE, said) for said in requests))
        await wait_all_tasks_blocked(0.01)
        assert appends.begun == requests[:-1]
        appends.waiting[1].resolve()
        appends.waiting[0].resolve()
        assert await receive(stream, 27) == framed(b"wait1") + framed(b"there") + framed(b"wait2")
        assert await ends(stream)


async def test_who_has_stopped_sending_gets_the_answers(appends: Appends) -> None:
    async with serving(appends.dispatch) as running:
        stream = await running.connect()
        await stream.send_all(ask(PRODUCE, b"wait1") + ask(PRODUCE, b"wait2"))
        await stream.send_eof()
        await wait_all_tasks_blocked(0.01)
        for waiting in appends.waiting:
            waiting.resolve()
        assert await receive(stream, 18) == framed(b"wait1") + framed(b"wait2")
        assert await ends(stream)


async def test_who_does_not_read_costs_one_answer(appends: Appends) -> None:
    """The next is not asked for, and nothing is begun, while one does not fit into the socket."""
    appends.size = 20 << 20
    async with serving(appends.dispatch) as running:
        stream = await running.connect()
        await stream.send_all(b"".join(ask(PRODUCE, b"wait%d" % i) for i in range(MAX_UNDER_WAY + 1)))
        await wait_all_tasks_blocked(0.01)
        for waiting in appends.waiting:
            waiting.resolve()
        await wait_all_tasks_blocked(0.05)
        assert [waiting.is_closed for waiting in appends.waiting] == [True] + [False] * (MAX_UNDER_WAY - 1)
        assert len(appends.begun) == MAX_UNDER_WAY
        for _ in range(MAX_UNDER_WAY):
            await receive(stream, appends.size + 4)
        while len(appends.begun) <= MAX_UNDER_WAY:
            await trio.lowlevel.checkpoint()


class Muting:
    """A session whose requests mute it for a second."""

    def __init__(self, clock: ManualClock, mute: Callable[[float], None]) -> None:
        self.clock = clock
        self.mute = mute

    async def dispatch(self, frame: memoryview, session: Any) -> Any:
        session.mute(self.clock.monotonic() + 1)
        return [framed(bytes(frame))]


async def test_a_muted_client_is_answered_first_and_then_not_heard_for_its_time() -> None:
    """As KIP-219 has it: the answer says how long, and whoever does not keep to it is made to."""
    clock = ManualClock()
    begun: list[bytes] = []

    async def dispatch(frame: memoryview, session: Muting) -> Any:
        begun.append(bytes(frame))
        return await session.dispatch(frame, session)

    async with serving(dispatch, clock=clock, open_session=lambda peer, mute: Muting(clock, mute)) as running:
        stream, other = await running.connect(), await running.connect()
        await stream.send_all(framed(b"1") + framed(b"2"))
        assert await receive(stream, 5) == framed(b"1")
        await stream.send_all(framed(b"3"))
        clock.advance_ms(999)
        await other.send_all(framed(b"other"))
        assert await receive(other, 9) == framed(b"other")
        assert begun == [b"1", b"other"]
        for said in (b"2", b"3"):
            clock.advance_ms(1000)
            assert await receive(stream, 5) == framed(said)
        await wait_all_tasks_blocked(0.01)
        assert begun == [b"1", b"other", b"2", b"3"]
        await running.server.drain(60)
        assert await ends(stream)
