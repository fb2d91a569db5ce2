"""One client's connection: frames in, answers out, in order.

Invariants
 1. Requests are answered one after the other: the next is not looked at before the answer of the last is with the
    kernel. So a client that does not read is not read from either, and costs one answer of memory.
 2. Frames are views on the receive buffer; they are done with before more is received.
 3. What this client sends can end this connection, and nothing else.
 4. Nothing is awaited that need not be: a request that is there, whose handler does not wait and whose answer the
    kernel takes, costs no trip through the scheduler. Only after a number of such steps the others get their turn.

Called by the crew, one call at a time; the server hands in what to do with a frame.
"""

import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import trio

from kafkapy.delayed import Delayed
from kafkapy.protocol.frame import FrameReader

Buffer = bytes | bytearray | memoryview
_BUFFERS: Final = (bytes, bytearray, memoryview)


class Region(Protocol):
    """Bytes that are sent from where they lie, such as a part of a file."""

    def __len__(self) -> int: ...

    def send(self, sock: socket.socket, skip: int) -> int:
        """Send what the socket takes of the bytes after the first `skip`; how many went. Raises BlockingIOError."""


Answer = Sequence[Buffer | Region]
Dispatch = Callable[[memoryview, Any], Awaitable[Answer | Delayed[Answer] | None]]

_MAX_VECTOR: Final = 1024
"""IOV_MAX of Linux and macOS."""

_STEPS_OF_A_TURN: Final = 16
"""Receives, answers and sends that a client gets in a row; a long one (1 MiB moved) takes about a millisecond."""

_HELD_BYTES: Final = 64 * 1024
"""Answers up to this size may wait for the end of the turn. A larger one takes long enough by itself."""


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
    """A connected socket, and what has come in and is to go out."""

    __slots__ = (
        "_answer_size",
        "_dispatch",
        "_reader",
        "_regions",
        "_session",
        "answer",
        "closed",
        "delayed",
        "due",
        "ended",
        "last_active",
        "peer",
        "queued",
        "scope",
        "socket",
        "stopping",
        "wake",
        "watched",
    )

    def __init__(self, sock: socket.socket, peer: Peer, session: Any, dispatch: Dispatch, max_frame_size: int) -> None:
        self.socket = sock
        self.peer = peer
        self.last_active = trio.current_time()  # when bytes moved last, in either direction
        self.answer: Sequence[Buffer] = ()  # is ready, and not sent yet
        self.delayed: Delayed[Answer] | None = None  # the answer that the last request waits for
        self.due = False  # it may be there
        self.ended = False  # by the client
        self.stopping = False  # takes no more requests
        # the crew's
        self.scope: trio.CancelScope | None = None  # of the task in whose hands it is
        self.wake: Callable[[Connection], None]  # to be called when the delayed answer may be there
        self.watched = True
        self.queued = False
        self.closed = False
        self._session = session
        self._answer_size = 0
        self._dispatch = dispatch
        self._reader = FrameReader(max_frame_size)
        self._regions = 0  # sent without a wait

    async def advance(self) -> bool:
        """Receive, and answer what is whole; true when there is more to do at once.

        The last answer stays in `answer`, for `send`. Raises ProtocolError, CloseConnection, OSError: it is over.
        """
        if self.delayed is not None:
            return await self._try_delayed()
        self.last_active = trio.current_time()
        drained = False
        for _ in range(_STEPS_OF_A_TURN):
            frame = self._reader.next_frame()
            if frame is not None:
                if self.answer:
                    await self.send()
                if self.stopping:
                    return False
                answer = await self._dispatch(frame, self._session)
                if isinstance(answer, Delayed):
                    self.delayed, self.due = answer, False
                    answer.begin(partial(self.wake, self))
                    return self.due
                if answer is not None and not self._hold(answer):
                    await self._send(answer)
            elif drained:
                return False
            else:
                room = self._reader.writable()
                try:
                    count = self.socket.recv_into(room)
                except BlockingIOError:
                    return False
                if not count:
                    await self.send()
                    self.ended = True
                    return False
                self._reader.received(count)
                drained = count < len(room)
        return True

    async def _try_delayed(self) -> bool:
        delayed = self.delayed
        if not self.due or delayed is None:
            return False
        self.due = False
        answer = await delayed.attempt()
        if answer is None:
            return self.due  # something came while it was tried
        self.delayed = None
        await self._send(answer)  # this client has waited longest
        return True  # there may be another request in the buffer

    def send_at_once(self) -> bool:
        """Send the answer that was held, if the kernel takes it all; true when it is gone. What fails is `send`'s."""
        try:
            sent = self.socket.sendmsg(self.answer)
        except OSError:
            return False
        if sent == self._answer_size:
            self.answer = ()
            return True
        self.answer = _after(self.answer, sent)
        return False

    async def send(self) -> bool:
        """Send what is left of the answer that was held; true, as there may be more requests in the buffer."""
        answer, self.answer = self.answer, ()
        await self._send_buffers(answer)
        return True

    def _hold(self, answer: Answer) -> bool:
        """Keep a small answer for the end of the turn; false when it is to be sent now."""
        size = sum(map(len, answer))
        if size > _HELD_BYTES or len(answer) > _MAX_VECTOR:
            return False
        buffers = [part for part in answer if isinstance(part, _BUFFERS)]
        if len(buffers) < len(answer):
            return False
        self.answer, self._answer_size = buffers, size
        return True

    async def _send(self, answer: Answer) -> None:
        """Hand an answer to the kernel: bytes in as few calls as may be, regions from where they lie."""
        buffers: list[Buffer] = []
        for part in answer:
            if isinstance(part, _BUFFERS):
                buffers.append(part)
                continue
            await self._send_buffers(buffers)
            buffers = []
            await self._send_region(part)
        await self._send_buffers(buffers)

    async def _send_buffers(self, pending: Sequence[Buffer]) -> None:
        while pending:
            try:
                pending = _after(pending, self.socket.sendmsg(pending[:_MAX_VECTOR]))
            except BlockingIOError:
                pass
            if pending:
                await self._wait_writable()

    async def _send_region(self, region: Region) -> None:
        sent, size = 0, len(region)
        while sent < size:
            try:
                sent += region.send(self.socket, sent)
            except BlockingIOError:
                pass
            if sent < size:
                await self._wait_writable()
        self._regions += 1
        if self._regions >= _STEPS_OF_A_TURN:
            self._regions = 0
            await trio.lowlevel.checkpoint()

    async def _wait_writable(self) -> None:
        """Wait until the kernel takes more. What it took in part filled its buffer: to try again at once is in vain."""
        self.last_active = trio.current_time()
        await trio.lowlevel.wait_writable(self.socket)
        self._regions = 0


def _after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of the buffers once `sent` bytes have gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
