"""The server behind a dispatch function of the test's own: turns, limits, stops, and what the system refuses."""

import contextlib
import errno
import gc
import itertools
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
import trio

from kafkapy.clock import Clock, ManualClock, SystemClock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection
from kafkapy.network.connection import Connection, Peer
from kafkapy.network.listening import CannotListen, PortTaken, bind
from kafkapy.network.server import Limits, Server
from tests.network.serving import LOCALHOST, ends, framed, receive, serving


async def echo(frame: memoryview, session: Any) -> list[Any]:
    return [framed(bytes(frame))]


async def test_a_session_knows_both_ends() -> None:
    async def who(frame: memoryview, session: Peer) -> list[Any]:
        return [framed(repr(tuple(session)).encode())]

    async with serving(who, listeners=2) as running:
        stream = await running.connect(1)
        await stream.send_all(framed(b""))
        expected = ("L1", "PLAINTEXT", "127.0.0.1", running.ports[1], *stream.socket.getsockname())
        (size,) = struct.unpack(">i", await receive(stream, 4))
        assert await receive(stream, size) == repr(expected).encode()


async def test_a_client_that_never_lets_up_does_not_starve_the_others() -> None:
    answered: list[bytes] = []

    async def count(frame: memoryview, session: Any) -> list[Any]:
        answered.append(bytes(frame))
        return []

    async with serving(count) as running:
        greedy, modest = await running.connect(), await running.connect()
        # All of it is in the server's socket before the server runs again.
        greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        await greedy.socket.send(framed(b"g") * 2000)
        await modest.socket.send(framed(b"m"))
        while b"m" not in answered:
            await trio.lowlevel.checkpoint()
        assert answered.count(b"g") <= 100


async def test_clients_that_ask_again_at_once_do_not_keep_the_loop_from_its_other_tasks() -> None:
    clients: list[socket.socket] = []
    asked = 0

    async def ask_again(frame: memoryview, session: Any) -> list[Any]:
        nonlocal asked
        asked += 1
        if asked < 1000:  # both have something to read when the turn ends
            clients[asked % 2].send(framed(b"more"))
        return []

    async with serving(ask_again) as running:
        clients += [socket.create_connection(("127.0.0.1", running.ports[0])) for _ in range(2)]
        for client in clients:
            client.send(framed(b"more"))
        seen = []
        while asked < 1000:
            await trio.lowlevel.checkpoint()
            seen.append(asked)
        assert max(after - before for before, after in itertools.pairwise(seen)) <= 100
        for client in clients:
            client.close()


async def test_clients_that_ask_again_at_once_do_not_keep_a_long_queue_from_its_turns() -> None:
    clients: list[socket.socket] = []
    asked = bytearray()

    async def ask_again(frame: memoryview, session: Any) -> list[Any]:
        asked.extend(frame)
        if frame == b"a" and len(asked) < 2000:
            clients[len(asked) % 2].send(framed(b"a"))
        return []

    async with serving(ask_again) as running:
        clients += [socket.create_connection(("127.0.0.1", running.ports[0])) for _ in range(3)]
        clients[2].send(framed(b"q") * 200)
        for client in clients[:2]:
            client.send(framed(b"a") * 3)
        while b"q" not in asked or asked.count(b"q") < 200:
            await trio.lowlevel.checkpoint()
        first, last = asked.index(b"q"), asked.rindex(b"q")
        assert max(map(len, asked[first:last].split(b"q"))) <= 12
        for client in clients:
            client.close()


async def test_who_waits_does_not_hold_up_the_others() -> None:
    go_on = trio.Event()

    async def patient(frame: memoryview, session: Any) -> list[Any]:
        said = bytes(frame)
        if said == b"wait":
            await go_on.wait()
        return [framed(said)]

    async with serving(patient) as running:
        waiting = [await running.connect() for _ in range(20)]
        for stream in waiting:
            await stream.send_all(framed(b"wait") + framed(b"next")[:6])
        other = await running.connect()
        for _ in range(100):
            await other.send_all(framed(b"go"))
            assert await receive(other, 6) == framed(b"go")
        for stream in waiting:  # what is sent meanwhile is served in its turn
            await stream.send_all(b"xt")
        go_on.set()
        for stream in waiting:
            assert await receive(stream, 16) == framed(b"wait") + framed(b"next")


async def test_answers_come_in_the_order_of_the_requests() -> None:
    async def some_wait(frame: memoryview, session: Any) -> list[Any]:
        said = bytes(frame)
        if said[0] % 3 == 0:
            await trio.lowlevel.checkpoint()
        return [framed(said * (1 + 100_000 * (said[0] % 5 == 0)))]

    async with serving(some_wait) as running:
        stream = await running.connect()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"".join(framed(bytes([i])) for i in range(200)))
            for i in range(200):
                wanted = framed(bytes([i]) * (1 + 100_000 * (i % 5 == 0)))
                assert await receive(stream, len(wanted)) == wanted


@pytest.mark.parametrize("large", range(12, 20))
async def test_answers_stay_in_order_when_a_turn_ends_with_one_that_does_not_fit(large: int) -> None:
    """Whichever request is the turn's last: its answer waits for the socket while more requests are in the buffer."""

    async def answer(frame: memoryview, session: Any) -> list[Any]:
        return [framed(bytes(frame) * (15_000 if frame[0] == large else 1))]

    async with serving(answer, Limits(socket_send_buffer_bytes=4096)) as running:
        stream = await running.connect()
        requests = [struct.pack(">BBBB", number, 0, 0, number) for number in range(40)]
        await stream.send_all(b"".join(map(framed, requests)))
        answers = [framed(request * (15_000 if request[0] == large else 1)) for request in requests]
        assert await receive(stream, sum(map(len, answers))) == b"".join(answers)


async def test_a_client_that_only_stopped_sending_gets_its_answers() -> None:
    async with serving(echo) as running:
        stream = await running.connect()
        await stream.send_all(framed(b"x") * 100)
        await stream.send_eof()
        assert await receive(stream, 500) == framed(b"x") * 100
        assert await ends(stream)


async def test_who_has_gone_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Not even until the next collection: connections come and go by the thousand, and each has its buffer."""
    caplog.set_level(logging.ERROR, "kafkapy")  # what pytest keeps of a log holds the exceptions, and their frames
    gc.collect()
    gc.disable()
    try:
        later = Later()
        async with serving(later.dispatch, Limits(connections_max_idle_ms=100)) as running:
            for said in (b"x", b"later", b"bye") * 10:
                stream = await running.connect()
                await stream.send_all(framed(said))
                if said != b"later":
                    await stream.receive_some()
                await stream.aclose()
            await running.server.drain(5)
            later.wakes.clear()
            assert not [thing for thing in gc.get_objects() if isinstance(thing, Connection)]
    finally:
        gc.enable()


class Later:
    """Answers that are delayed until the test says so; their deadlines are two seconds away."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or SystemClock()
        self.wakes: list[Callable[[], None]] = []
        self.closed = 0
        self.attempts = 0
        self.there = False

    async def dispatch(self, frame: memoryview, session: Any) -> Any:
        said = bytes(frame)
        if said == b"bye":
            raise CloseConnection("as the client wants")
        if said not in (b"later", b"done"):
            return [framed(said)]
        return LaterAnswer(self, order_is_fixed=said == b"done")


class LaterAnswer(Delayed[list[Any]]):
    def __init__(self, later: Later, *, order_is_fixed: bool) -> None:
        super().__init__(later.clock.monotonic() + 2, order_is_fixed=order_is_fixed)
        self._later = later

    def begin(self, wake: Callable[[], None]) -> None:
        self._later.wakes.append(wake)

    async def attempt(self) -> list[Any] | None:
        self._later.attempts += 1
        await trio.lowlevel.checkpoint()
        if self._later.there:
            return [framed(b"there")]
        return [framed(b"over!")] if self._later.clock.monotonic() >= self.deadline else None

    def close(self) -> None:
        self._later.closed += 1


async def test_a_delayed_answer_is_tried_when_something_moved() -> None:
    later = Later()
    async with serving(later.dispatch) as running:
        stream = await running.connect()
        for _ in range(2):
            await stream.send_all(framed(b"later") + framed(b"next")[:3])
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(framed(b"next")[3:])
            later.there, before = False, later.attempts
            later.wakes[-1]()
            later.wakes[-1]()
            await trio.testing.wait_all_tasks_blocked()
            assert later.attempts == before + 1
            later.there = True
            later.wakes[-1]()
            assert await receive(stream, 17) == framed(b"there") + framed(b"next")


async def test_a_delayed_answer_comes_at_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    later = Later()
    async with serving(later.dispatch) as running:
        first, second = await running.connect(), await running.connect()
        for stream in (first, second):
            began = trio.current_time()
            await stream.send_all(framed(b"later"))
            assert await receive(stream, 9) == framed(b"over!")
            assert trio.current_time() == began + 2


async def test_a_delayed_answer_is_closed_once_whether_given_or_not() -> None:
    later = Later()
    async with serving(later.dispatch, Limits(connections_max_idle_ms=100)) as running:
        stream = await running.connect()
        await stream.send_all(framed(b"later"))
        assert await ends(stream)  # it was idle for too long
        assert later.closed == 1
        stream = await running.connect()
        await stream.send_all(framed(b"later"))
        await trio.testing.wait_all_tasks_blocked()
        later.there = True
        later.wakes[-1]()
        assert await receive(stream, 9) == framed(b"there")
        assert later.closed == 2
        await stream.send_all(framed(b"later"))
        await trio.testing.wait_all_tasks_blocked()
    assert later.closed == 3


async def test_a_stop_does_not_wait_for_what_need_not_come() -> None:
    """As with Apache Kafka: who polls is closed."""
    clock = ManualClock()
    later = Later(clock)
    async with serving(later.dispatch, clock=clock) as running:
        stream = await running.connect()
        await stream.send_all(framed(b"later") + framed(b"next"))
        await trio.testing.wait_all_tasks_blocked()
        await running.server.drain(60)  # on a clock that stands
        assert await ends(stream)
        assert later.closed == 1


async def test_a_stop_waits_for_the_answers_to_what_was_done() -> None:
    clock = ManualClock()
    later = Later(clock)
    async with serving(later.dispatch, clock=clock) as running, trio.open_nursery() as nursery:
        stream = await running.connect()
        await stream.send_all(framed(b"done") * 2 + framed(b"later"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(running.server.drain, 60)
        await trio.testing.wait_all_tasks_blocked()
        later.there = True
        later.wakes[0]()
        assert await receive(stream, 18) == framed(b"there") * 2
        assert await ends(stream)
        assert later.closed == 2


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
async def test_an_answer_of_many_parts_arrives_whole(count: int) -> None:
    parts = [struct.pack(">i", i) * (1 + i % 7) for i in range(count)]

    async def many(frame: memoryview, session: Any) -> list[Any]:
        return [memoryview(part) if i % 2 else bytearray(part) for i, part in enumerate(parts)]

    whole = b"".join(parts)
    async with serving(many) as running:
        stream = await running.connect()
        await stream.send_all(framed(b"") * 2)
        assert await receive(stream, 2 * len(whole)) == whole * 2


async def test_an_answer_larger_than_every_buffer_arrives_whole() -> None:
    big = bytes(range(256)) * 40_000

    async def large(frame: memoryview, session: Any) -> list[Any]:
        return [b"head", memoryview(big), b"", big, b"tail"]

    async with serving(large, Limits(socket_send_buffer_bytes=1 << 16)) as running:
        stream = await running.connect()
        await stream.send_all(framed(b""))
        assert await receive(stream, 2 * len(big) + 8) == b"head" + big + big + b"tail"


async def test_who_does_not_read_holds_no_task_and_gets_all_later() -> None:
    big = bytes(range(256)) * 8_000

    async def large(frame: memoryview, session: Any) -> list[Any]:
        return [big, bytes(frame)]

    async with serving(large, Limits(socket_send_buffer_bytes=1 << 16)) as running:
        streams = [await running.connect() for _ in range(30)]
        before = trio.lowlevel.current_statistics().tasks_living
        for stream in streams:
            await stream.send_all(framed(b"1") + framed(b"2"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert trio.lowlevel.current_statistics().tasks_living <= before
        for stream in streams[::-1]:
            assert await receive(stream, 2 * len(big) + 2) == big + b"1" + big + b"2"


async def test_a_large_request_arrives_whole() -> None:
    async def size(frame: memoryview, session: Any) -> list[Any]:
        return [struct.pack(">iI", len(frame), sum(frame[:: len(frame) // 100]))]

    big = bytes(range(251)) * 40_000
    async with serving(size) as running:
        stream = await running.connect()
        for _ in range(3):
            await stream.send_all(framed(big))
            assert await receive(stream, 8) == struct.pack(">iI", len(big), sum(big[:: len(big) // 100]))


async def test_who_waits_for_a_place_gets_it_at_whichever_listener() -> None:
    async with serving(echo, Limits(max_connections=1), listeners=3) as running:
        held = await running.connect()
        await held.send_all(framed(b"x"))
        await receive(held, 5)
        waiting = [await running.connect(i) for i in range(3)]
        for stream in waiting:
            await stream.send_all(framed(b"y"))
        await trio.testing.wait_all_tasks_blocked()
        await held.aclose()
        served = 0

        async def take(stream: trio.SocketStream) -> None:
            nonlocal served
            assert await receive(stream, 5) == framed(b"y")
            await stream.aclose()
            served += 1

        async with trio.open_nursery() as nursery:
            for stream in waiting:
                nursery.start_soon(take, stream)
        assert served == 3


async def test_addresses_can_have_limits_of_their_own() -> None:
    limits = Limits(max_connections_per_ip=0, max_connections_per_ip_overrides={"127.0.0.1": 1})
    async with serving(echo, limits) as running:
        first, second = await running.connect(), await running.connect()
        assert await ends(second)
        await first.send_all(framed(b"x"))
        assert await receive(first, 5) == framed(b"x")


async def test_a_stop_lets_the_requests_under_way_finish() -> None:
    go_on = trio.Event()

    async def slow(frame: memoryview, session: Any) -> list[Any]:
        await go_on.wait()
        return [bytes(3_000_000)]

    async with serving(slow) as running, trio.open_nursery() as nursery:
        idle, busy = await running.connect(), await running.connect()
        await busy.send_all(framed(b"1") + framed(b"2"))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(running.server.drain, 60)
        assert await ends(idle)
        with pytest.raises(OSError, match="all attempts to connect"):
            await running.connect()
        go_on.set()
        assert await receive(busy, 3_000_000) == bytes(3_000_000)
        assert await ends(busy)


async def test_a_stop_waits_no_longer_than_the_grace(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.Event()

    async def never(frame: memoryview, session: Any) -> None:
        begun.set()
        await trio.sleep_forever()

    async with serving(never, Limits(connections_max_idle_ms=-1)) as running:
        stream = await running.connect()
        await stream.send_all(framed(b"1"))
        await begun.wait()
        began = trio.current_time()
        await running.server.drain(5)
        assert trio.current_time() == began + 5
        await stream.aclose()


@pytest.mark.parametrize("sends", [b"", framed(b"wait"), framed(b"much"), b"\x00\x00"])
async def test_where_nothing_moves_the_connection_is_closed(sends: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def stuck(frame: memoryview, session: Any) -> list[Any]:
        if frame == b"wait":
            await trio.sleep_forever()
        return [bytes(50_000_000)]

    async with serving(stuck, Limits(connections_max_idle_ms=100)) as running:
        stream = await running.connect()
        await stream.send_all(sends)
        while not any("idle" in line for line in caplog.messages):
            await trio.lowlevel.checkpoint()
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass  # what the kernel held of an answer that was not read


class Refusing:
    """A listening socket whose system has run out of something."""

    def __init__(self, listener: socket.socket, failures: list[OSError]) -> None:
        self._listener = listener
        self._failures = failures

    def accept(self) -> Any:
        if self._failures:
            raise self._failures.pop(0)
        return self._listener.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener, name)


async def test_what_accept_fails_with_does_not_end_the_server(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    codes = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.EPERM, errno.ECONNABORTED]
    [(endpoint, listener)] = bind([LOCALHOST], -1)
    refusing: Any = Refusing(listener, [OSError(code, "no") for code in codes])
    server = Server(Limits(), lambda peer, mute: peer, echo, SystemClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, [(endpoint, refusing)])
        with trio.fail_after(10):
            stream = await trio.open_tcp_stream("127.0.0.1", endpoint.port)
            await stream.send_all(framed(b"x"))
            assert await receive(stream, 5) == framed(b"x")
        nursery.cancel_scope.cancel()
    assert [line.split(" at port")[0] for line in caplog.messages] == [
        "cannot accept connections",
        "accepting connections",
    ]


async def test_other_addresses_and_names_can_be_bound() -> None:
    for host, client in (("", "127.0.0.1"), ("localhost", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")):
        bound = bind([LOCALHOST._replace(host=host)], -1)
        server = Server(Limits(), lambda peer, mute: peer, echo, SystemClock())
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, bound)
            async with await trio.open_tcp_stream(client, bound[0][0].port) as stream:
                await stream.send_all(framed(b"x"))
                assert await receive(stream, 5) == framed(b"x")
            nursery.cancel_scope.cancel()


async def test_an_ipv4_client_of_an_ipv6_socket_has_an_ipv4_address() -> None:
    async def who(frame: memoryview, session: Peer) -> list[Any]:
        return [f"{session.local_host} {session.peer_host}".encode()]

    bound = bind([LOCALHOST._replace(host="")], -1)
    server = Server(Limits(), lambda peer, mute: peer, who, SystemClock())
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, bound)
        async with await trio.open_tcp_stream("127.0.0.1", bound[0][0].port) as stream:
            await stream.send_all(framed(b"x"))
            assert await receive(stream, 19) == b"127.0.0.1 127.0.0.1"
        nursery.cancel_scope.cancel()


def test_a_machine_without_ipv6_is_listened_on_by_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: Any, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest, **named)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    [(_, listener)] = bind([LOCALHOST._replace(host="")], -1)
    assert listener.family == socket.AF_INET
    listener.close()


def test_what_cannot_be_bound_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"PLAINTEXT://127\.0\.0\.1:{port}"):
            bind([LOCALHOST, LOCALHOST._replace(port=port)], -1)
    for host in ("no-such-host.invalid", "192.0.2.1"):
        with pytest.raises(CannotListen, match=f"PLAINTEXT://{host}:0") as refusal:
            bind([LOCALHOST._replace(host=host)], -1)
        assert not isinstance(refusal.value, PortTaken)
    bind([LOCALHOST._replace(port=port)], -1)[0][1].close()


async def test_of_two_that_bind_a_port_the_second_to_listen_is_refused() -> None:
    [(endpoint, first)] = bind([LOCALHOST], -1)
    second = bind([endpoint], -1)
    first.listen()
    server = Server(Limits(), lambda peer, mute: peer, echo, SystemClock())
    with pytest.raises(BaseExceptionGroup) as refusal:
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve, second)
    assert refusal.group_contains(PortTaken)
    first.close()
