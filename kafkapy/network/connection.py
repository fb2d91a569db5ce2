"""One client's connection: frames in, answers out, in order.

Invariants
 1. A request is begun when the answer of the last is with the kernel. So a client that does not read is not read from
    either, and costs one answer of memory, and no task.
 2. The one exception: of requests of one kind, as long as the order of what they do is fixed and only their answers
    wait, several are under way, up to a number and a size. They are answered in their order, one answer at a time.
 3. Frames are views on the receive buffer; they are done with before more is received.
 4. What this client sends can end this connection, and nothing else.
 5. Nothing is awaited that need not be: a request that is there, whose handler does not wait and whose answer the
    kernel takes, costs no trip through the scheduler. Only after a number of such steps the others get their turn.

Called by the crew, one call at a time; the server hands in what to do with a frame.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import Any, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.errors import CloseConnection, RefuseConnection
from kafkapy.network.coroutines import resumed
from kafkapy.network.ending import Ending, Parting
from kafkapy.network.sending import BUFFERS, MAX_VECTOR, Answer, after, send_some
from kafkapy.network.transport import Transport
from kafkapy.protocol.frame import FrameReader
from kafkapy.protocol.primitives import ProtocolError

_STEPS_OF_A_TURN: Final = 16
"""Receives, answers and sends that a client gets in a row; a long one (1 MiB moved) takes about a millisecond."""

_HELD_BYTES: Final = 64 * 1024
"""Answers up to this size may wait for the end of the turn. A larger one takes long enough by itself."""

MAX_UNDER_WAY: Final = 5
MAX_BYTES_UNDER_WAY: Final = 8 << 20
"""So many requests, and so large together, may wait for their answers. Kafka's producers send five at most."""

_KIND: Final = slice(0, 2)
"""Of a frame: the API's key."""


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


Dispatch = Callable[[memoryview, Any], Coroutine[Any, Any, Answer | Delayed[Answer] | None]]
"""What answers a frame of a session: now, later, or not at all. Raises ProtocolError, CloseConnection."""

OpenSession = Callable[[Peer, Callable[[float], None]], Any]
"""Makes what a connection carries for its handlers, of who is connected and the connection's `mute`."""


async def _answer_nothing(frame: memoryview, session: Any) -> None:
    """What a closed connection does with frames."""


class Connection:
    """A connected client: its transport, and what has come in and is to go out."""

    __slots__ = (
        "_answer_size",
        "_clock",
        "_kind",
        "_max_frame_size",
        "_reader",
        "_sealed",
        "_waiting_bytes",
        "alarmed",
        "answer",
        "blocked",
        "closed",
        "dispatch",
        "due",
        "ended",
        "held",
        "last_active",
        "muted_until",
        "peer",
        "queued",
        "scope",
        "session",
        "stopping",
        "transport",
        "waits",
        "wake",
        "watched",
        "watched_for_room",
        "welcomed",
    )

    def __init__(
        self,
        transport: Transport,
        peer: Peer,
        open_session: OpenSession,
        dispatch: Dispatch,
        max_frame_size: int,
        clock: Clock,
    ) -> None:
        self.transport = transport
        self.peer = peer
        self.last_active = clock.monotonic()  # when bytes moved last, in either direction, or were looked for
        self.answer: Sequence[Any] = ()  # is ready, and not all sent yet
        self.blocked = False  # the answer: its transport is full
        self.waits: deque[tuple[Delayed[Answer] | Answer, int]] = deque()  # answers to come, and the requests' sizes
        self.due = False  # the first of them may be there
        self.held = False  # nothing is received for now
        self.muted_until = 0.0  # by the clock; 0: it is not
        self.ended = False  # by the client
        self.stopping = False  # takes no more requests
        # the crew's
        self.scope: trio.CancelScope | None = None  # of the task in whose hands it is
        self.wake: Callable[[Connection], None]  # to be called when a delayed answer may be there
        self.watched = False
        self.watched_for_room = False
        self.alarmed = False
        self.queued = False
        self.closed = False
        self.welcomed: Callable[[Connection], None]  # to be called once it is known who is connected
        self.dispatch = dispatch  # what answers its frames
        self.session = open_session(peer, self.mute)
        self._answer_size = 0
        self._waiting_bytes = 0
        self._kind = b""  # of what is under way
        self._sealed = False  # the next request has to wait until all those are answered
        self._clock = clock
        self._max_frame_size = max_frame_size
        self._reader = FrameReader(max_frame_size)

    def meet(self, max_frame_size: int) -> None:
        """Take small frames alone, until it is known who is connected."""
        self._reader.max_size = max_frame_size

    def welcome(self, dispatch: Dispatch) -> None:
        """It is known who is connected: have its frames answered by `dispatch` from now on."""
        self.dispatch = dispatch
        self._reader.max_size = self._max_frame_size
        self.welcomed(self)

    def advance(self, now: float) -> bool | Coroutine[Any, Any, bool]:
        """Send on, or receive, and answer what is whole; true when there is more to do at once.

        When a handler has to wait for that, it is a coroutine, which ends in the same. The last answer stays in
        `answer`, for `send`. `now` is the clock's time.
        Raises ProtocolError, CloseConnection, OSError: it is over.
        """
        if self.blocked:
            self.last_active = now
            if not self.send():
                return False
        if self.due:
            if self.waits:
                return self._give_answers()
            self.due = False
        if self.held and not self._is_let_go(now):
            return False
        self.last_active = now
        try:
            return self._serve()
        except (ProtocolError, CloseConnection) as reason:
            if not self.waits and not isinstance(reason, RefuseConnection):
                raise
            return self._end_later(reason)

    def _serve(self) -> bool | Coroutine[Any, Any, bool]:
        reader = self._reader
        drained = False
        for _ in range(_STEPS_OF_A_TURN):
            frame = reader.next_frame() if reader.start != reader.end else None
            if frame is not None:
                if self.answer and not self.send():
                    reader.put_back(frame)
                    return False
                if self.held or (self.waits and not self._may_join(frame)):
                    reader.put_back(frame)
                    return self.due
                work = self.dispatch(frame, self.session)
                try:
                    trap = work.send(None)
                except StopIteration as done:
                    answer = done.value
                else:
                    return self._take(resumed(work, trap), frame)
                if self.waits or isinstance(answer, Delayed):
                    self._wait(answer, frame)
                elif answer is not None and not self._hold(answer):
                    return self._send_now(answer)
            elif drained or self.held:
                return self.due
            else:
                room = reader.writable()
                try:
                    count = self.transport.receive_into(room)
                except BlockingIOError:
                    self.blocked = self.transport.wants_room
                    return self.due
                if not count:
                    self.ended = self.held = True  # it sends no more, and gets its last answer
                    if self.answer:
                        self.send()
                    return self.due
                reader.received(count)
                drained = count < len(room) and not self.transport.has_more
        return True

    async def _take(self, work: Awaitable[Answer | Delayed[Answer] | None], frame: memoryview) -> bool:
        """See to the answer that a handler comes to."""
        try:
            answer = await work
        except (ProtocolError, CloseConnection) as reason:
            if not self.waits and not isinstance(reason, RefuseConnection):
                raise
            return self._end_later(reason)
        if self.waits or isinstance(answer, Delayed):
            self._wait(answer, frame)
        elif answer is not None and not self._hold(answer):
            return self._send_now(answer)
        return self.due or self._has_more

    @property
    def _has_more(self) -> bool:
        """Whether there is something to look at, that the transport's descriptor says nothing of."""
        return not self.held and (self._reader.start != self._reader.end or self.transport.has_more)

    # -- answers that wait

    def _may_join(self, frame: memoryview) -> bool:
        """Whether a request may begin although others wait for their answers."""
        if frame[_KIND] != self._kind:
            self._sealed = self.held = True  # it is to see what they did, and whoever sent them hears of that first
        elif self._waiting_bytes + len(frame) > MAX_BYTES_UNDER_WAY:
            self.held = True
        return not self.held

    def _wait(self, answer: Answer | Delayed[Answer] | None, frame: memoryview | bytes) -> None:
        """Have this answer given in its turn."""
        if answer is None:
            return
        if not self.waits:
            self.due = False
        self.waits.append((answer, len(frame)))
        self._waiting_bytes += len(frame)
        if isinstance(answer, Delayed):
            if answer.order_is_fixed:
                self._kind = bytes(frame[_KIND])
            else:
                self._sealed = True
            answer.begin(partial(self.wake, self))
        self._hold_back()

    def _end_later(self, reason: Exception) -> bool:
        """End this connection, but first answer what is under way."""
        if isinstance(reason, RefuseConnection):
            self._wait(Parting(reason.answer or (), reason.moment, self._clock), b"")
        self._wait(Ending(reason), b"")
        return self.due

    async def _give_answers(self) -> bool:
        """Send the answers that are there."""
        while self.waits:
            self.due = False
            waiting, _ = self.waits[0]
            answer = await waiting.attempt() if isinstance(waiting, Delayed) else waiting
            if answer is None:
                return self.due or self._has_more  # something came while it was tried, or may begin now
            self._end_wait()
            self._send_now(answer)  # this client has waited longest
            if self.blocked:
                self.due = True  # for the next one, when there is room
                return False
        return self._has_more

    def _end_wait(self) -> None:
        """The first answer that was waited for is there, or nobody wants it any longer."""
        waiting, size = self.waits.popleft()
        self._waiting_bytes -= size
        if isinstance(waiting, Delayed):
            waiting.close()
        if not self.waits:
            self._sealed = False
        self._hold_back()

    def alarm(self) -> float:
        """When it is to be looked at, by the clock, if nothing happens before."""
        moment = self.muted_until or inf
        if self.waits and isinstance(first := self.waits[0][0], Delayed):
            moment = min(moment, first.deadline)
        return moment

    # -- what it does not do for now

    def _hold_back(self) -> None:
        """See whether anything may be received."""
        self.held = (
            self._sealed
            or self.ended
            or self.stopping
            or self.muted_until > 0
            or len(self.waits) >= MAX_UNDER_WAY
            or self._waiting_bytes >= MAX_BYTES_UNDER_WAY
        )

    def _is_let_go(self, now: float) -> bool:
        if 0 < self.muted_until <= now:
            self.muted_until = 0.0
            self._hold_back()
        return not self.held

    def mute(self, until: float) -> None:
        """Answer what is under way, and look at nothing more of this client before that moment of the clock (KIP-219).

        For whoever handles one of its requests, meanwhile.
        """
        self.muted_until = max(self.muted_until, until)
        self.held = True

    def stop(self) -> None:
        """Take no more requests, and do not wait any longer for what need not come.

        Apache Kafka closes its connections then, whatever they wait for; here what was done is still told.
        """
        self.stopping = self.held = True
        if self.waits and self.scope is None:
            last, _ = self.waits[-1]
            if isinstance(last, Delayed) and not last.order_is_fixed:
                self.waits.pop()
                last.close()

    def close(self) -> None:
        """It is over."""
        self.closed = True
        while self.waits:
            self._end_wait()
        self.dispatch = _answer_nothing
        self.transport.close()

    # -- sending

    def send(self) -> bool:
        """Send what the kernel takes of the answer; true when that is all, else it is blocked. Raises OSError."""
        answer, size = self.answer, self._answer_size
        if size:  # all in one call
            try:
                sent = self.transport.send(answer)
            except BlockingIOError:
                sent = 0
            if sent == size and not self.transport.wants_room:
                self.answer = ()
                self.blocked = False
                return True
            self.answer, self._answer_size = after(answer, sent), 0
        else:
            self.answer = send_some(self.transport, answer)
        self.blocked = len(self.answer) > 0 or self.transport.wants_room
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
        """Send an answer at once; true when that is all of it, and there is more to do."""
        self.last_active = self._clock.monotonic()
        self.answer, self._answer_size = answer, 0
        return self.send() and self._has_more
