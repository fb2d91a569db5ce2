"""Connections to a broker, one request at a time: one that blocks its thread, and one that waits in trio.

Both offer the same coroutine, `exchange`, so that what is done over them is written once. The coroutine of the one that
blocks never suspends: `driven` runs whatever is built on it to its end, in any thread, beside any event loop.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from typing import Any, Final, Protocol, TypeVar

import trio

from kafkapy.clock import SystemClock, ThreadClock

T = TypeVar("T")

TIMEOUT_SECONDS: Final = 30.0
"""How long an answer may take. None of the requests sent here waits longer by itself."""

_LENGTH: Final = struct.Struct(">i")
_MOST_BYTES: Final = 256 << 20
"""A longer answer is none: something else than a broker listens there."""


class Disconnected(ConnectionError):
    """The broker closed the connection, or was not there."""


class NoBroker(Disconnected):
    """What came is no answer of a broker; `beginning` is its first four bytes."""

    def __init__(self, beginning: bytes) -> None:
        super().__init__(f"an answer that begins with {beginning!r} is none of a Kafka broker")
        self.beginning = beginning


class Connection(Protocol):
    """A way to a broker. It connects when first used, and again after it was lost."""

    async def exchange(self, request: bytes) -> bytes:
        """Send a frame, and return the next one: both without their length. Raises Disconnected."""

    def monotonic(self) -> float:
        """Seconds since some moment."""

    async def pause(self, seconds: float) -> None:
        """Let that time pass."""

    async def close(self) -> None:
        """Hang up; the next exchange connects anew."""


class BlockingConnection:
    """Blocks its thread. Several threads may use it, one after the other."""

    def __init__(
        self, host: str, port: int, timeout: float = TIMEOUT_SECONDS, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._address = (host, port)
        self._timeout = timeout
        self._tls = tls
        self._socket: socket.socket | None = None
        self._alone = threading.RLock()
        self._clock = ThreadClock()

    async def exchange(self, request: bytes) -> bytes:
        with self._alone:
            try:
                if self._socket is None:
                    self._socket = socket.create_connection(self._address, self._timeout)
                    self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    if self._tls is not None:
                        self._socket = self._tls.wrap_socket(self._socket, server_hostname=self._address[0])
                self._socket.sendall(_LENGTH.pack(len(request)) + request)
                return self._receive(_size_of(self._receive(_LENGTH.size)))
            except NoBroker:
                self._hang_up()
                raise
            except OSError as problem:
                self._hang_up()
                raise Disconnected(f"{self._address[0]}:{self._address[1]}: {problem}") from problem

    def _receive(self, size: int) -> bytes:
        assert self._socket is not None
        received = bytearray()
        while len(received) < size:
            chunk = self._socket.recv(size - len(received))
            if not chunk:
                raise Disconnected("the broker closed the connection")
            received += chunk
        return bytes(received)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def pause(self, seconds: float) -> None:
        self._clock.pause(seconds)

    async def close(self) -> None:
        with self._alone:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class TrioConnection:
    """Waits in the caller's trio. Several tasks may use it, one after the other."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._stream: trio.SocketStream | None = None
        self._alone = trio.Lock()
        self._clock = SystemClock()

    async def exchange(self, request: bytes) -> bytes:
        async with self._alone:
            is_whole = False
            try:
                if self._stream is None:
                    self._stream = await trio.open_tcp_stream(self._host, self._port)
                await self._stream.send_all(_LENGTH.pack(len(request)) + request)
                answer = await self._receive(_size_of(await self._receive(_LENGTH.size)))
                is_whole = True
            except NoBroker:
                raise
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as problem:
                raise Disconnected(f"{self._host}:{self._port}: {problem}") from problem
            else:
                return answer
            finally:
                if not is_whole:  # also where the caller gave up: the answer that comes is nobody's
                    await self._hang_up()

    async def _receive(self, size: int) -> bytes:
        assert self._stream is not None
        received = bytearray()
        while len(received) < size:
            chunk = await self._stream.receive_some(size - len(received))
            if not chunk:
                raise Disconnected("the broker closed the connection")
            received += chunk
        return bytes(received)

    def monotonic(self) -> float:
        return self._clock.monotonic()

    async def pause(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def close(self) -> None:
        async with self._alone:
            await self._hang_up()

    async def _hang_up(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await trio.aclose_forcefully(stream)


def _size_of(prefix: bytes) -> int:
    (size,) = _LENGTH.unpack(prefix)
    if not 0 <= size <= _MOST_BYTES:
        raise NoBroker(prefix)
    found: int = size
    return found


def driven(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns, which is built on blocking connections only."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it is built on something that does not block")
