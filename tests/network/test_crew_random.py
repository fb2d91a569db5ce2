"""The server under clients and handlers that do as they please: answers whole, in order, and nothing left behind.

The same clients ask a plain server, whose one task a connection does one thing after the other, and must hear the same.
"""

import contextlib
import os
import random
import socket
import struct
import tempfile
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import pytest
import trio

from kafkapy.clock import SystemClock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection
from kafkapy.model import Endpoint
from kafkapy.network import server as server_module
from kafkapy.network.connection import MAX_UNDER_WAY, Peer
from kafkapy.network.listening import bind
from kafkapy.network.server import Limits, Server
from kafkapy.network.transport import Buffer, PlainTransport, Source
from tests.network.plain import serve_plainly

REQUEST = struct.Struct(">iHIB")
CLIENTS = 12
REQUESTS = 60


class Does(IntEnum):
    """What the handler of a request does."""

    ANSWER = 0
    CHECKPOINT = 1
    WAIT = 2
    DELAY = 3
    ANSWER_AT_LENGTH = 4
    ANSWER_FROM_ELSEWHERE = 5
    SAY_NOTHING = 6
    CLOSE = 7
    DELAY_IN_ORDER = 8
    MUTE = 9


WEIGHTS = (40, 10, 5, 15, 3, 5, 5, 0.2, 40, 2)


class Request(NamedTuple):
    kind: int  # those of one kind may be under way together
    number: int
    does: Does


class Manner(IntEnum):
    """How a client behaves."""

    PATIENT = 0  # reads as fast as it can, and closes at the end
    SLOW = 1  # reads little at a time
    HALF_CLOSED = 2  # stops sending, and reads all answers until the end
    RUDE = 3  # resets the connection somewhere in between


class Elsewhere:
    """A source: a file of its own."""

    position = 0

    def __init__(self, data: bytes) -> None:
        self._size = len(data)
        self._descriptor, path = tempfile.mkstemp()
        os.unlink(path)
        os.pwrite(self._descriptor, data, 0)

    def __del__(self) -> None:
        os.close(self._descriptor)

    def __len__(self) -> int:
        return self._size - self.position

    def fileno(self) -> int:
        return self._descriptor

    def read(self, size: int) -> bytes:
        return os.pread(self._descriptor, size, self.position)

    def advance(self, count: int) -> None:
        self.position += count


def body_of(number: int, does: Does) -> bytes:
    usual = 20 + number % 300 if number % 5 else 15_000  # held until the end of the turn
    size = {Does.ANSWER_AT_LENGTH: 400_000, Does.ANSWER_FROM_ELSEWHERE: 250_000}.get(does, usual)
    return struct.pack(">I", number) * size


class Session:
    """What a connection carries."""

    def __init__(self, peer: Peer | None, mute: Callable[[float], None]) -> None:
        self.mute = mute
        self.muted_until = 0.0
        self.open: list[Wait] = []


class Handlers:
    """Answers as each request says, keeps the waits for answers that were delayed, and sees what begins beside them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._waiting: dict[Wait, Callable[[], None]] = {}
        self.waits: list[Wait] = []
        self.most_open = 0

    async def dispatch(self, frame: memoryview, session: Session) -> Any:
        kind, number, does = struct.unpack_from(">HIB", frame)
        assert trio.current_time() >= session.muted_until
        assert len(session.open) < MAX_UNDER_WAY
        assert all(wait.order_is_fixed and wait.kind == kind for wait in session.open)
        if self._waiting and self._chance.random() < 0.3:
            self._chance.choice(list(self._waiting.values()))()
        match does:
            case Does.CHECKPOINT:
                for _ in range(self._chance.randrange(1, 4)):
                    await trio.lowlevel.checkpoint()
            case Does.WAIT:
                await trio.to_thread.run_sync(lambda: None)
            case Does.DELAY | Does.DELAY_IN_ORDER:
                self.waits.append(Wait(Request(kind, number, Does(does)), session, self._waiting, self._chance))
                self.most_open = max(self.most_open, len(session.open))
                return self.waits[-1]
            case Does.MUTE:
                session.muted_until = trio.current_time() + self._chance.choice([0, 0.001, 0.01])
                session.mute(session.muted_until)
            case Does.SAY_NOTHING:
                return None
            case Does.CLOSE:
                raise CloseConnection("as asked")
        body = body_of(number, does)
        size = struct.pack(">i", len(body))
        if does == Does.ANSWER_FROM_ELSEWHERE:
            return [size, Elsewhere(body)]
        half = len(body) // 2
        return [size, body[:half], body[half:]]


class Wait(Delayed[Any]):
    """Is over after some attempts, or at its deadline."""

    def __init__(
        self, request: Request, session: Session, waiting: dict["Wait", Callable[[], None]], chance: random.Random
    ) -> None:
        deadline = trio.current_time() + chance.choice([0, 0.001, 0.02])
        super().__init__(deadline, order_is_fixed=request.does is Does.DELAY_IN_ORDER)
        self._request = request
        self.kind = request.kind
        self._session = session
        session.open.append(self)
        self._waiting = waiting
        self._attempts_in_vain = chance.randrange(3)
        self._steps = chance.random() < 0.2
        self._is_there_at_once = chance.random() < 0.2
        self.times_closed = 0

    def begin(self, wake: Callable[[], None]) -> None:
        self._waiting[self] = wake
        if self._is_there_at_once:
            wake()

    async def attempt(self) -> Any:
        if self._steps:
            await trio.lowlevel.checkpoint()
        self._attempts_in_vain -= 1
        if self._attempts_in_vain >= 0 and trio.current_time() < self.deadline:
            return None
        body = body_of(self._request.number, self._request.does)
        return [struct.pack(">i", len(body)), body]

    def close(self) -> None:
        self.times_closed += 1
        self._session.open.remove(self)
        del self._waiting[self]


class Client:
    """Sends all of its requests, and reads the answers beside it."""

    def __init__(self, seed: str, stopping: trio.Event) -> None:
        self._chance = random.Random(seed)
        self.manner = self._chance.choice(list(Manner))
        alike = self._chance.random()  # how often its requests are of the kind of those that are delayed in order
        self._requests = [
            Request(int(does is Does.DELAY_IN_ORDER or self._chance.random() < alike), number, does)
            for number, does in enumerate(
                self._chance.choices(list(Does), WEIGHTS, k=self._chance.randrange(REQUESTS)),
            )
        ]
        self._stopping = stopping
        self._gone = False
        self._all_sent = trio.Event()
        self.heard: list[int] = []

    async def run(self, port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream)
            await self._read(stream)

    async def _send(self, stream: trio.SocketStream) -> None:
        frames = b"".join(REQUEST.pack(REQUEST.size - 4, *request) for request in self._requests)
        leaves_at = self._chance.randrange(len(frames) + 1)
        at = 0
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while at < len(frames):
                size = self._chance.choice([3, 9, 50, 1000])
                await stream.send_all(frames[at : at + size])
                at += size
                if self.manner is Manner.RUDE and at >= leaves_at:
                    self._gone = True
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    await trio.aclose_forcefully(stream)
                    break
            if self.manner is Manner.HALF_CLOSED and not self._gone:
                await stream.send_eof()
        self._all_sent.set()

    async def _read(self, stream: trio.SocketStream) -> None:
        answers = [(number, does) for _, number, does in self._requests if does is not Does.SAY_NOTHING]
        try:
            for number, does in answers:
                if does is Does.CLOSE:
                    assert await stream.receive_some() == b""
                    return
                expected = body_of(number, does)
                assert await self._exactly(stream, 4) == struct.pack(">i", len(expected))
                assert await self._exactly(stream, len(expected)) == expected
                self.heard.append(number)
            await self._all_sent.wait()
            if self.manner is Manner.HALF_CLOSED:
                assert await stream.receive_some() == b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A connection that is closed with requests unread is reset, and answers on their way may be lost with it.
            assert self._gone or self._stopping.is_set() or any(does is Does.CLOSE for _, does in answers)

    @property
    def is_cut_off(self) -> bool:
        """Whether what it asked for ends its connection: then answers on their way may be lost."""
        return any(request.does is Does.CLOSE for request in self._requests)

    async def _exactly(self, stream: trio.SocketStream, size: int) -> bytes:
        data = bytearray()
        most = 2000 if self.manner is Manner.SLOW and size < 5000 else 1 << 20
        while len(data) < size:
            chunk = await stream.receive_some(min(most, size - len(data)))
            if not chunk:
                raise trio.BrokenResourceError
            data += chunk
        return bytes(data)


class Layered:
    """A transport with bytes of its own in both directions, as one that encrypts has them."""

    def __init__(self, sock: socket.socket) -> None:
        self._plain = PlainTransport(sock)
        self._came = bytearray()
        self._to_go = bytearray()

    @property
    def has_more(self) -> bool:
        return len(self._came) > 0

    @property
    def wants_room(self) -> bool:
        return len(self._to_go) > 0

    def fileno(self) -> int:
        return self._plain.fileno()

    def receive_into(self, buffer: memoryview) -> int:
        if not self._came:
            chunk = bytearray(5000)
            count = self._plain.receive_into(memoryview(chunk))
            self._came += chunk[:count]
        count = min(len(self._came), len(buffer), 70)
        buffer[:count] = self._came[:count]
        del self._came[:count]
        return count

    def send(self, buffers: Sequence[Buffer]) -> int:
        self._push()
        data = b"".join(buffers)[:30_000]
        self._to_go += data
        with contextlib.suppress(BlockingIOError):
            self._push()
        return len(data)

    def send_from(self, source: Source, size: int) -> int:
        sent = self.send([source.read(size)])
        source.advance(sent)
        return sent

    def _push(self) -> None:
        """Have the socket take what is to go. Raises BlockingIOError when that is not all."""
        while self._to_go:
            del self._to_go[: self._plain.send([bytes(self._to_go)])]

    def close(self) -> None:
        self._plain.close()


async def ask(seed: int, port: int, stopping: trio.Event) -> list[list[int]]:
    """Have all clients ask; what those heard whose connections ended in peace."""
    clients = [Client(f"{seed}-{index}", stopping) for index in range(CLIENTS)]
    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(client.run, port)
    return [client.heard for client in clients if client.manner is not Manner.RUDE and not client.is_cut_off]


@pytest.mark.parametrize("transport", [PlainTransport, Layered])
@pytest.mark.parametrize("seed", range(12))
async def test_every_answer_arrives_whole_and_in_order(
    seed: int, transport: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PlainTransport", transport)
    handlers = Handlers(random.Random(seed))
    server = Server(Limits(), Session, handlers.dispatch, SystemClock())
    bound = bind([Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")], -1)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, bound)
        with trio.fail_after(60):
            heard = await ask(seed, bound[0][0].port, trio.Event())
            await server.drain(20)
        nursery.cancel_scope.cancel()
    assert all(wait.times_closed == 1 for wait in handlers.waits)
    assert handlers.most_open > 1
    plainly = Handlers(random.Random(seed))
    async with serve_plainly(plainly.dispatch, Session) as port:
        with trio.fail_after(60):
            assert await ask(seed, port, trio.Event()) == heard
    assert plainly.most_open == 1


@pytest.mark.parametrize("seed", range(12))
async def test_a_stop_cuts_no_answer_short(seed: int) -> None:
    chance = random.Random(seed)
    handlers = Handlers(random.Random(seed))
    server = Server(Limits(), Session, handlers.dispatch, SystemClock())
    bound = bind([Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")], -1)
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, bound)
        with trio.fail_after(60):
            async with trio.open_nursery() as clients:
                clients.start_soon(ask, seed, bound[0][0].port, stopping)
                for _ in range(chance.randrange(200)):
                    await trio.lowlevel.checkpoint()
                await trio.testing.wait_all_tasks_blocked()
                stopping.set()
                await server.drain(20)
        nursery.cancel_scope.cancel()
    assert all(wait.times_closed == 1 for wait in handlers.waits)
