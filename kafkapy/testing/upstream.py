"""A client's connection to the Kafka behind a proxy: its frames as they came, and the answers as they come."""

import ssl
import struct
from typing import Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import CloseConnection

_LENGTH: Final = struct.Struct(">i")
_MOST_BYTES: Final = (1 << 31) - 1
_PIECE_BYTES: Final = 1 << 20
_CONNECT_SECONDS: Final = 10.0


class Upstream:
    """Connects with the first request. Whatever goes wrong there ends the client's connection, as it would without us.

    One request at a time; each method raises CloseConnection. `tls` None: the broker's listener has none.
    """

    def __init__(self, host: str, port: int, clock: Clock, tls: ssl.SSLContext | None) -> None:
        self._host, self._port = host, port
        self._clock = clock
        self._tls = tls
        self._socket: trio.SocketStream | None = None
        self._stream: trio.abc.Stream | None = None
        self._is_closed = False

    async def send(self, frame: bytes) -> None:
        """Send a request, whose answer nobody waits for."""
        try:
            if self._stream is None:
                self._stream = await self._connected()
            await self._stream.send_all(_LENGTH.pack(len(frame)) + frame)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as problem:
            why = problem.__cause__ or problem  # of TLS it is the cause that says something
            raise CloseConnection(f"{self._host}:{self._port} cannot be reached: {why}") from problem

    async def exchange(self, frame: bytes) -> bytes:
        """Send a request, and return its answer: both without their length."""
        await self.send(frame)
        (size,) = _LENGTH.unpack(await self._receive(_LENGTH.size))
        if not 0 <= size <= _MOST_BYTES:
            raise CloseConnection(f"what {self._host}:{self._port} answers is not Kafka's")
        return await self._receive(size)

    def close(self) -> None:
        """Hang up, whatever is under way, for good."""
        self._is_closed = True
        if self._socket is not None:
            self._socket.socket.close()

    async def _connected(self) -> trio.abc.Stream:
        with self._clock.until(self._clock.monotonic() + _CONNECT_SECONDS):
            self._socket = await trio.open_tcp_stream(self._host, self._port)
            if self._is_closed:  # meanwhile
                self._socket.socket.close()
            if self._tls is None:
                return self._socket
            encrypted = trio.SSLStream(self._socket, self._tls, server_hostname=self._host)
            await encrypted.do_handshake()
            return encrypted
        raise CloseConnection(f"{self._host}:{self._port} does not answer")

    async def _receive(self, size: int) -> bytes:
        assert self._stream is not None
        received = bytearray()
        try:
            while len(received) < size:
                piece = await self._stream.receive_some(min(size - len(received), _PIECE_BYTES))
                if not piece:
                    raise CloseConnection(f"{self._host}:{self._port} closed the connection")
                received += piece
        except (trio.BrokenResourceError, trio.ClosedResourceError) as problem:
            raise CloseConnection(f"{self._host}:{self._port}: {problem}") from problem
        return bytes(received)
