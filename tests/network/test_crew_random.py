"""The server under clients and handlers that do as they please: answers whole, in order, and nothing left behind."""

import contextlib
import os
import random
import socket
import struct
import tempfile
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import pytest
import trio

from kafkapy.clock import SystemClock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection
from kafkapy.model import Endpoint
from kafkapy.network.listening import bind
from kafkapy.network.server import Limits, Server

REQUEST = struct.Struct(">iIB")
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


WEIGHTS = (40, 10, 5, 15, 3, 5, 5, 0.2)


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


class Handlers:
    """Answers as each request says, and keeps the waits for answers that were delayed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._waiting: dict[Wait, Callable[[], None]] = {}
        self.waits: list[Wait] = []

    async def dispatch(self, frame: memoryview, session: Any) -> Any:
        number, does = struct.unpack_from(">IB", frame)
        if self._waiting and self._chance.random() < 0.3:
            self._chance.choice(list(self._waiting.values()))()
        match does:
            case Does.CHECKPOINT:
                for _ in range(self._chance.randrange(1, 4)):
                    await trio.lowlevel.checkpoint()
            case Does.WAIT:
                await trio.to_thread.run_sync(lambda: None)
            case Does.DELAY:
                self.waits.append(Wait(number, self._waiting, self._chance))
                return self.waits[-1]
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

    def __init__(self, number: int, waiting: dict["Wait", Callable[[], None]], chance: random.Random) -> None:
        super().__init__(trio.current_time() + chance.choice([0, 0.001, 0.02]))
        self._number = number
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
        body = body_of(self._number, Does.DELAY)
        return [struct.pack(">i", len(body)), body]

    def close(self) -> None:
        self.times_closed += 1
        del self._waiting[self]


class Client:
    """Sends all of its requests, and reads the answers beside it."""

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)
        self.manner = self._chance.choice(list(Manner))
        self._requests = [
            (number, self._chance.choices(list(Does), WEIGHTS)[0]) for number in range(self._chance.randrange(REQUESTS))
        ]
        self._gone = False
        self._all_sent = trio.Event()

    async def run(self, port: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(self._send, stream)
            await self._read(stream)

    async def _send(self, stream: trio.SocketStream) -> None:
        frames = b"".join(REQUEST.pack(5, number, does) for number, does in self._requests)
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
        answers = [(number, does) for number, does in self._requests if does is not Does.SAY_NOTHING]
        try:
            for number, does in answers:
                if does is Does.CLOSE:
                    assert await stream.receive_some() == b""
                    return
                expected = body_of(number, does)
                assert await self._exactly(stream, 4) == struct.pack(">i", len(expected))
                assert await self._exactly(stream, len(expected)) == expected
            await self._all_sent.wait()
            if self.manner is Manner.HALF_CLOSED:
                assert await stream.receive_some() == b""
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # A connection that is closed with requests unread is reset, and answers on their way may be lost with it.
            assert self._gone or any(does is Does.CLOSE for _, does in answers)

    async def _exactly(self, stream: trio.SocketStream, size: int) -> bytes:
        data = bytearray()
        most = 2000 if self.manner is Manner.SLOW and size < 5000 else 1 << 20
        while len(data) < size:
            chunk = await stream.receive_some(min(most, size - len(data)))
            if not chunk:
                raise trio.BrokenResourceError
            data += chunk
        return bytes(data)


@pytest.mark.parametrize("seed", range(25))
async def test_every_answer_arrives_whole_and_in_order(seed: int) -> None:
    handlers = Handlers(random.Random(seed))
    server = Server(Limits(), lambda peer: peer, handlers.dispatch, SystemClock())
    bound = bind([Endpoint("PLAINTEXT", "127.0.0.1", 0, "PLAINTEXT")], -1)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, bound)
        with trio.fail_after(30):
            async with trio.open_nursery() as clients:
                for index in range(CLIENTS):
                    clients.start_soon(Client(f"{seed}-{index}").run, bound[0][0].port)
            await server.drain(20)
        nursery.cancel_scope.cancel()
    assert all(wait.times_closed == 1 for wait in handlers.waits)
