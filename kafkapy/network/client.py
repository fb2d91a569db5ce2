"""A connection that this broker makes to another one: frames out, and for each the frame that answers it.

Invariants
 1. A frame is sent whole or not at all, whoever stops waiting for its answer: one task sends, another receives.
 2. At most `MAX_UNDER_WAY` frames have no answer yet, those among them for which nobody waits any more. Whoever comes
    with another one waits.
 3. What comes is told apart by its first four bytes, the correlation id. What nobody has asked for ends the connection,
    as does whatever goes wrong on it; then all who wait hear BROKER_NOT_AVAILABLE, and nothing is sent again.

`node.py` hands `open_line` to whoever asks other brokers; a nursery of theirs runs the tasks.
"""

import ssl
from collections import deque
from contextlib import AsyncExitStack
from struct import Struct
from typing import Final

import trio

from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.frame import FrameReader
from kafkapy.protocol.primitives import Buffer, ProtocolError

MAX_UNDER_WAY: Final = 5
"""As many as Kafka's clients send at most; the other side begins one when the last is answered."""

_LENGTH: Final = Struct(">i")
_CORRELATION_ID: Final = Struct(">i")
_RECEIVED_AT_ONCE: Final = 64 * 1024


class _Awaited:
    """The answer to one frame."""

    __slots__ = ("frame", "is_there")

    def __init__(self) -> None:
        self.frame: bytes | None = None
        self.is_there = trio.Event()


class Line:
    """A connection, over which several may ask at a time."""

    def __init__(self, stream: trio.abc.Stream, name: str, max_frame_size: int) -> None:
        self.is_open = True
        self._stream = stream
        self._name = name
        self._reader = FrameReader(max_frame_size)
        self._awaited: dict[int, _Awaited] = {}
        self._outbox: deque[bytes] = deque()
        self._has_work = trio.Event()
        self._room = trio.Semaphore(MAX_UNDER_WAY)
        self._life = trio.CancelScope()

    async def exchange(self, correlation_id: int, frame: bytes) -> bytes:
        """The answer to a frame, both without their length. Raises BROKER_NOT_AVAILABLE."""
        await self._room.acquire()
        if not self.is_open:
            self._room.release()
            raise self._lost()
        awaited = self._awaited[correlation_id] = _Awaited()
        self._outbox.append(_LENGTH.pack(len(frame)) + frame)
        self._has_work.set()
        await awaited.is_there.wait()
        if awaited.frame is None:
            raise self._lost()
        return awaited.frame

    def close(self) -> None:
        """Hang up."""
        self._life.cancel()
        self.is_open = False

    async def run(self) -> None:
        """Carry frames until it ends."""
        try:
            with self._life:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send)
                    nursery.start_soon(self._receive)
        finally:
            self.is_open = False
            awaited, self._awaited = self._awaited, {}
            for each in awaited.values():
                each.is_there.set()
                self._room.release()
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self._stream)

    async def _send(self) -> None:
        while True:
            await self._has_work.wait()
            self._has_work = trio.Event()
            while self._outbox:
                try:
                    await self._stream.send_all(self._outbox.popleft())
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._life.cancel()
                    return

    async def _receive(self) -> None:
        try:
            while chunk := await self._stream.receive_some(_RECEIVED_AT_ONCE):
                self._take(memoryview(chunk))
        except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError):
            pass
        self._life.cancel()

    def _take(self, chunk: Buffer) -> None:
        while chunk:
            room = self._reader.writable()
            count = min(len(room), len(chunk))
            room[:count] = chunk[:count]
            chunk = chunk[count:]
            self._reader.received(count)
            while (frame := self._reader.next_frame()) is not None:
                self._answer(frame)

    def _answer(self, frame: memoryview) -> None:
        if len(frame) < _CORRELATION_ID.size:
            raise ProtocolError("an answer without a correlation id")
        (correlation_id,) = _CORRELATION_ID.unpack_from(frame)
        awaited = self._awaited.pop(correlation_id, None)
        if awaited is None:
            raise ProtocolError(f"an answer to {correlation_id}, which nobody asked")
        awaited.frame = bytes(frame)
        awaited.is_there.set()
        self._room.release()

    def _lost(self) -> KafkaError:
        return KafkaError(Error.BROKER_NOT_AVAILABLE, f"the connection to {self._name} has ended")


async def open_line(
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None,
    max_frame_size: int,
    nursery: trio.Nursery,
) -> Line:
    """A connection, whose tasks run in `nursery`. Raises BROKER_NOT_AVAILABLE."""
    name = f"{host}:{port}"
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    except OSError as problem:
        raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"{name} is not reached: {problem}") from problem
    if tls is not None:
        encrypted = trio.SSLStream(stream, tls, server_hostname=host)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(trio.aclose_forcefully, stream)
            try:
                await encrypted.do_handshake()
            except (trio.BrokenResourceError, ssl.CertificateError) as problem:
                why = problem.__cause__ or problem
                raise KafkaError(Error.BROKER_NOT_AVAILABLE, f"no TLS with {name}: {why}") from problem
            undo.pop_all()
        stream = encrypted
    line = Line(stream, name, max_frame_size)
    nursery.start_soon(line.run)
    return line
