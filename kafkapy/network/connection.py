"""One client's connection: frames in, answers out, in order.

Invariants
 1. Requests are answered one after the other: the next is not looked at before the answer of the last is with the
    kernel. So a client that does not read is not read from either, and costs one answer of memory.
 2. Frames are views on the receive buffer; they are done with before more is received.
 3. What this client sends can end this connection, and nothing else.
 4. Nothing is awaited that need not be: a request that is there, whose handler does not wait and whose answer the
    kernel takes, costs no trip through the scheduler. Only after a number of such steps the others get their turn.

Called by the server, which hands in what to do with a frame.
"""

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

import trio

from kafkapy.errors import CloseConnection
from kafkapy.protocol.frame import FrameReader
from kafkapy.protocol.primitives import ProtocolError

_log = logging.getLogger(__name__)

Buffer = bytes | bytearray | memoryview


class Region(Protocol):
    """Bytes that are sent from where they lie, such as a part of a file."""

    def __len__(self) -> int: ...

    def send(self, sock: socket.socket, skip: int) -> int:
        """Send what the socket takes of the bytes after the first `skip`; how many went. Raises BlockingIOError."""


Answer = Sequence[Buffer | Region]
Dispatch = Callable[[memoryview, Any], Awaitable[Answer | None]]

_MAX_VECTOR: Final = 1024
"""IOV_MAX of Linux and macOS."""

_STEPS_OF_A_TURN: Final = 16
"""Receives, answers and sends that a client gets in a row; a long one (1 MiB moved) takes about a millisecond."""


class Peer(NamedTuple):
    """Who is connected to what."""

    listener: str
    security_protocol: str
    local_host: str
    local_port: int
    peer_host: str
    peer_port: int

    def __str__(self) -> str:
        return f"{self.peer_host}:{self.peer_port}"


class Connection:
    """A connected socket and the task that serves it."""

    def __init__(self, sock: socket.socket, peer: Peer, session: Any, dispatch: Dispatch, max_frame_size: int) -> None:
        self.peer = peer
        self.scope = trio.CancelScope()
        self.last_active = trio.current_time()  # when bytes moved last, in either direction
        self.busy = False  # from a request's last byte until its answer's last byte
        self.stopping = False
        self._socket = sock
        self._session = session
        self._dispatch = dispatch
        self._reader = FrameReader(max_frame_size)
        self._steps = 0
        self._more_to_receive = False

    async def serve(self) -> None:
        """Serve until the client leaves, breaks the protocol, or `scope` is cancelled."""
        with self.scope:
            try:
                while not self.stopping:
                    frame = self._reader.next_frame()
                    if frame is not None:
                        await self._answer(frame)
                    elif not await self._receive():
                        break
                    await self._end_step()
            except (ProtocolError, CloseConnection) as reason:
                _log.info("closing the connection of %s: %s", self.peer, reason)
            except OSError as reason:
                _log.debug("lost the connection of %s: %s", self.peer, reason)

    async def _receive(self) -> bool:
        """Receive some of what there is; false when the client has left."""
        room = self._reader.writable()
        while True:
            # After an answer there is usually nothing yet. Asking costs more than waiting at once, except where the
            # last receive left bytes behind.
            if not self._more_to_receive:
                await trio.lowlevel.wait_readable(self._socket)
                self._steps = 0
            try:
                count = self._socket.recv_into(room)
            except BlockingIOError:
                self._more_to_receive = False
                continue
            self._more_to_receive = count == len(room)
            self._reader.received(count)
            self.last_active = trio.current_time()
            return count > 0

    async def _answer(self, frame: memoryview) -> None:
        self.busy = True
        answer = await self._dispatch(frame, self._session)
        if answer is not None:
            await self._send(answer)
        self.busy = False

    async def _send(self, answer: Answer) -> None:
        """Hand an answer to the kernel: bytes in as few calls as may be, regions from where they lie."""
        buffers: list[Buffer] = []
        for part in answer:
            if isinstance(part, bytes | bytearray | memoryview):
                buffers.append(part)
                continue
            await self._send_buffers(buffers)
            buffers = []
            await self._send_region(part)
        await self._send_buffers(buffers)

    async def _send_buffers(self, pending: list[Buffer]) -> None:
        while pending:
            try:
                pending = _after(pending, self._socket.sendmsg(pending[:_MAX_VECTOR]))
                self.last_active = trio.current_time()
            except BlockingIOError:
                pass
            if pending:
                await self._wait_writable()

    async def _send_region(self, region: Region) -> None:
        sent, size = 0, len(region)
        while sent < size:
            try:
                sent += region.send(self._socket, sent)
                self.last_active = trio.current_time()
            except BlockingIOError:
                pass
            if sent < size:
                await self._wait_writable()
        await self._end_step()

    async def _wait_writable(self) -> None:
        """Wait until the kernel takes more. What it took in part filled its buffer: to try again at once is in vain."""
        await trio.lowlevel.wait_writable(self._socket)
        self._steps = 0

    async def _end_step(self) -> None:
        self._steps += 1
        if self._steps >= _STEPS_OF_A_TURN:
            self._steps = 0
            await trio.lowlevel.checkpoint()


def _after(buffers: list[Buffer], sent: int) -> list[Buffer]:
    """What is left of the buffers once `sent` bytes have gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
