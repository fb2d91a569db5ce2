"""One client's connection: frames in, answers out, in order.

Invariants
 1. Requests are answered one after the other: the next is not looked at before the answer of the last is with the
    kernel. So a client that does not read is not read from either, and costs one answer of memory, and no task.
 2. Frames are views on the receive buffer; they are done with before more is received.
 3. What this client sends can end this connection, and nothing else.
 4. Nothing is awaited that need not be: a request that is there, whose handler does not wait and whose answer the
    kernel takes, costs no trip through the scheduler. Only after a number of such steps the others get their turn.

Called by the crew, one call at a time; the server hands in what to do with a frame.
"""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.network.coroutines import resumed
from kafkapy.network.sending import BUFFERS, MAX_VECTOR, Answer, after, send_some
from kafkapy.network.transport import Transport
from kafkapy.protocol.frame import FrameReader

Dispatch = Callable[[memoryview, Any], Coroutine[Any, Any, Answer | Delayed[Answer] | None]]

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
    """A connected client: its transport, and what has come in and is to go out."""

    __slots__ = (
        "_answer_size",
        "_clock",
        "_dispatch",
        "_reader",
        "_session",
        "alarmed",
        "answer",
        "blocked",
        "closed",
        "delayed",
        "due",
        "ended",
        "last_active",
        "peer",
        "queued",
        "scope",
        "stopping",
        "transport",
        "wake",
        "watched",
        "watched_for_room",
    )

    def __init__(
        self, transport: Transport, peer: Peer, session: Any, dispatch: Dispatch, max_frame_size: int, clock: Clock
    ) -> None:
        self.transport = transport
        self.peer = peer
        self.last_active = clock.monotonic()  # when bytes moved last, in either direction, or were looked for
        self.answer: Sequence[Any] = ()  # is ready, and not all sent yet
        self.blocked = False  # the answer: its socket is full
        self.delayed: Delayed[Answer] | None = None  # the answer that the last request waits for
        self.due = False  # it may be there
        self.ended = False  # by the client
        self.stopping = False  # takes no more requests
        # the crew's
        self.scope: trio.CancelScope | None = None  # of the task in whose hands it is
        self.wake: Callable[[Connection], None]  # to be called when the delayed answer may be there
        self.watched = True
        self.watched_for_room = False
        self.alarmed = False
        self.queued = False
        self.closed = False
        self._session = session
        self._answer_size = 0
        self._clock = clock
        self._dispatch = dispatch
        self._reader = FrameReader(max_frame_size)

    def advance(self, now: float) -> bool | Coroutine[Any, Any, bool]:
        """Send on, or receive, and answer what is whole; true when there is more to do at once.

        When a handler has to wait for that, it is a coroutine, which ends in the same. The last answer stays in
        `answer`, for `send`. `now` is the clock's time.
        Raises ProtocolError, CloseConnection, OSError: it is over.
        """
        if self.delayed is not None:
            return self._try_delayed(self.delayed) if self.due else False
        self.last_active = now
        if (self.blocked and not self.send()) or self.ended:
            return False
        reader = self._reader
        drained = False
        for _ in range(_STEPS_OF_A_TURN):
            frame = reader.next_frame() if reader.start != reader.end else None
            if frame is not None:
                if self.answer and not self.send():
                    reader.put_back(frame)
                    return False
                if self.stopping:
                    return False
                work = self._dispatch(frame, self._session)
                try:
                    trap = work.send(None)
                except StopIteration as done:
                    answer = done.value
                else:
                    return self._take(resumed(work, trap))
                if isinstance(answer, Delayed):
                    return self._delay(answer)
                if answer is not None and not self._hold(answer):
                    return self._send_now(answer)
            elif drained:
                return False
            else:
                room = reader.writable()
                try:
                    count = self.transport.receive_into(room)
                except BlockingIOError:
                    return False
                if not count:
                    self.ended = True  # it sends no more, and gets its last answer
                    if self.answer:
                        self.send()
                    return False
                reader.received(count)
                drained = count < len(room) and not self.transport.has_more
        return True

    async def _take(self, work: Awaitable[Answer | Delayed[Answer] | None]) -> bool:
        """See to the answer that a handler comes to."""
        answer = await work
        if isinstance(answer, Delayed):
            return self._delay(answer)
        if answer is not None and not self._hold(answer):
            return self._send_now(answer)
        return self._reader.start != self._reader.end

    def _delay(self, delayed: Delayed[Answer]) -> bool:
        self.delayed, self.due = delayed, False
        delayed.begin(partial(self.wake, self))
        return self.due

    async def _try_delayed(self, delayed: Delayed[Answer]) -> bool:
        self.due = False
        answer = await delayed.attempt()
        if answer is None:
            return self.due  # something came while it was tried
        self.end_wait()
        return self._send_now(answer)  # this client has waited longest

    def end_wait(self) -> None:
        """The delayed answer is there, or nobody wants it any longer."""
        if self.delayed is not None:
            self.delayed.close()
            self.delayed = None

    def send(self) -> bool:
        """Send what the kernel takes of the answer; true when that is all, else it is blocked. Raises OSError."""
        answer, size = self.answer, self._answer_size
        if size:  # all in one call
            try:
                sent = self.transport.send(answer)
            except BlockingIOError:
                sent = 0
            if sent == size:
                self.answer = ()
                return True
            self.answer, self._answer_size = after(answer, sent), 0
        else:
            self.answer = send_some(self.transport, answer)
        self.blocked = len(self.answer) > 0
        return not self.blocked

    def _hold(self, answer: Answer) -> bool:
        """Keep a small answer for the end of the turn; false when it is to be sent now."""
        size = 0
        for part in answer:
            if not isinstance(part, BUFFERS):
                return False
            size += len(part)
        if size > _HELD_BYTES or len(answer) > MAX_VECTOR:
            return False
        self.answer, self._answer_size = answer, size
        return True

    def _send_now(self, answer: Answer) -> bool:
        """Send an answer at once; true when there may be another request in the buffer."""
        self.last_active = self._clock.monotonic()
        self.answer, self._answer_size = answer, 0
        return self.send() and self._reader.start != self._reader.end
