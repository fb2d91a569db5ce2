"""The tasks that serve all connections: one waits for every socket at once, and few do what there is to do.

The pattern is leader and followers. In a turn a task takes all connections that have something to read, runs each
request's handler, and sends the answers last: a hundred small requests then cost one trip through the scheduler, and
the kernel, which is slow at waking clients one by one, wakes many while the first of them is still getting up. A
handler may wait for whatever it likes: at that moment, and only then, another task is told to go on from there.

Invariants
 1. At most one task waits for the sockets. When none does, one is running, or told to run.
 2. A connection is in the hands of at most one task; what arrives for it meanwhile stays in its socket.
 3. No connection gets a second step of a turn before all others that were ready had their first.

Called by the server, which adds connections and is told when one has ended.
"""

import logging
from collections import deque
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any, Final

import trio

from kafkapy.clock import Clock
from kafkapy.errors import CloseConnection
from kafkapy.network.connection import Connection
from kafkapy.network.coroutines import noticed
from kafkapy.network.poller import Poller, open_poller
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.timers import Timers

_log = logging.getLogger(__name__)

_IDLE_KEPT: Final = 8
"""So many tasks without work are kept for the next handlers that wait."""

_TURNS_IN_A_ROW: Final = 8
_SECONDS_IN_A_ROW: Final = 0.005
"""So many turns of a busy crew may pass, and for so long, before the event loop's other tasks get theirs."""

_ANSWERS_HELD: Final = 32
"""So many connections' answers wait for each other at most: about a millisecond's work."""


class _Worker:
    """One task of the crew. It is ended alone by `scope`, while a connection that must end is in its hands."""

    __slots__ = ("ended", "scope", "task")

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended = False  # as the scope says, which is slow to ask
        self.task = trio.lowlevel.current_task()


class Crew:
    """All tasks that serve connections, and the connections that they serve."""

    def __init__(self, clock: Clock, ended: Callable[[Connection], None]) -> None:
        self.connections: set[Connection] = set()
        self._clock = clock
        self._ended = ended
        self._nursery: trio.Nursery
        self._poller: Poller[Connection] = open_poller()
        self._ready: deque[Connection] = deque()  # to be served in this turn
        self._again: list[Connection] = []  # have more, and wait for the next turn
        self._outbox: deque[Connection] = deque()  # have answers to send
        self._alarms: Timers[Connection, None] = Timers()
        self._nap = trio.CancelScope()
        self._nap_ends_at = inf
        self._idle: list[_Worker] = []
        self._watched = False
        self._watched_descriptor = -1  # what is waited for meanwhile
        self._busy_turns = 0  # in a row, since the last trip through the event loop
        self._row_ends_at = 0.0
        self._called = False
        self._busy = False  # a worker runs, and will look at what is ready before it waits

    async def work(self) -> None:
        """Serve all connections that are added, until cancelled; then all of them are closed."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._call()
                self._nursery.start_soon(self._ring)
        finally:
            for connection in list(self.connections):
                self._close(connection)
            trio.lowlevel.notify_closing(self._poller.descriptor())
            self._poller.close()

    def add(self, connection: Connection) -> None:
        """Serve this connection until it ends."""
        self.connections.add(connection)
        connection.wake = self._wake
        self._look_at(connection)

    def end(self, connection: Connection) -> None:
        """End the connection, whatever it is at."""
        if connection.scope is not None:
            connection.scope.cancel()  # whose hands it is in closes it
        else:
            self._close(connection)

    def stop(self) -> None:
        """End each connection once the request under way is answered."""
        for connection in list(self.connections):
            connection.stop()
            if connection.scope is None and not connection.blocked and not connection.answer and not connection.waits:
                self._close(connection)

    # -- delayed answers

    def _wake(self, connection: Connection) -> None:
        """The delayed answer may be there, or the connection may be read again."""
        connection.due = True
        if connection.scope is None and not connection.queued and not connection.blocked:
            connection.queued = True
            self._ready.append(connection)
            if not self._busy:
                self._call()

    async def _ring(self) -> None:
        """Wake those whose time is over."""
        while True:
            self._nap_ends_at = self._alarms.next
            with self._clock.until(self._nap_ends_at) as self._nap:
                await trio.sleep_forever()
            now = self._clock.monotonic()
            while (due := self._alarms.pop_due(now)) is not None:
                self._wake(due[0])

    # -- who does what

    def _call(self) -> None:
        """Have one more worker run; it finds out for itself what there is to do."""
        if self._called:
            return
        self._called = True
        if self._idle:
            trio.lowlevel.reschedule(self._idle.pop().task)
        else:
            self._nursery.start_soon(self._run)

    async def _run(self) -> None:
        worker = _Worker()
        self._called = False
        with worker.scope:
            while not worker.ended:
                if self._ready or self._outbox:
                    await self._take_turn(worker)
                elif not self._watched:
                    await self._watch()
                elif self._again:
                    await trio.lowlevel.checkpoint()
                    self._take_again()
                elif len(self._idle) < _IDLE_KEPT:
                    await self._rest(worker)
                else:
                    return
        self._call()

    async def _rest(self, worker: _Worker) -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            self._idle.remove(worker)
            return trio.lowlevel.Abort.SUCCEEDED

        self._idle.append(worker)
        await trio.lowlevel.wait_task_rescheduled(abort)
        self._called = False

    async def _watch(self) -> None:
        """Wait until a connection has something to read, and begin a turn."""
        if 0 < self._busy_turns < _TURNS_IN_A_ROW and self._clock.monotonic() < self._row_ends_at:
            if self._again:
                self._take_again()
            if self._take_what_came():
                return
        self._busy_turns = 0
        self._watched = True
        try:
            if self._again:
                await trio.lowlevel.checkpoint()
            else:
                self._watched_descriptor = self._poller.descriptor()
                await trio.lowlevel.wait_readable(self._watched_descriptor)
        except trio.ClosedResourceError:
            return  # there is something else to wait for now
        finally:
            self._watched = False
            self._watched_descriptor = -1
        if self._again:
            self._take_again()
        self._take_what_came()
        if self._busy_turns:
            self._row_ends_at = self._clock.monotonic() + _SECONDS_IN_A_ROW

    def _look_at(self, connection: Connection) -> None:
        """Have it served when it has something to read."""
        self._call_watcher()
        connection.watched = True
        connection.watched_for_room = False
        self._poller.add(connection.transport, connection)

    def _look_away(self, connection: Connection) -> None:
        self._call_watcher()
        connection.watched = False
        self._poller.remove(connection.transport)

    def _call_watcher(self) -> None:
        """Whoever waits for the sockets may have to wait for something else."""
        if self._watched_descriptor >= 0:
            trio.lowlevel.notify_closing(self._watched_descriptor)

    def _take_what_came(self) -> bool:
        """Have those connections ready that have something to read; whether there are any."""
        for connection in self._poller.ready():
            if connection.scope is not None or (connection.held and not connection.blocked):
                self._look_away(connection)
            elif not connection.queued:
                connection.queued = True
                self._ready.append(connection)
        # Where several came at once, more have probably come by the end of the turn.
        count = len(self._ready)
        self._busy_turns = self._busy_turns + 1 if count > 1 else 0
        return count > 0

    def _take_again(self) -> None:
        self._ready.extend(self._again)
        self._again.clear()

    # -- a turn

    async def _take_turn(self, worker: _Worker) -> None:
        self._busy = True
        now = self._clock.monotonic()
        while self._ready and not worker.ended:
            connection = self._ready.popleft()
            connection.queued = False
            if connection.closed or connection.scope is not None:  # who sends its answer has it go on after that
                continue
            try:
                more = connection.advance(now)
            except (ProtocolError, CloseConnection, OSError) as reason:
                self._lose(connection, reason)
                continue
            if more is False:
                # As after most requests, there may be nothing to see to but what it sends next.
                if (
                    connection.waits
                    or connection.held
                    or connection.blocked
                    or connection.watched_for_room
                    or connection.alarmed
                ):
                    self._settle(connection, False)
            elif more is True:
                self._settle(connection, True)
            else:
                await self._wait_for(more, connection, worker)
                now = self._clock.monotonic()
            if connection.answer and not connection.blocked:
                self._outbox.append(connection)
                if len(self._outbox) >= _ANSWERS_HELD:
                    self._send_answers()
                    now = self._clock.monotonic()
        self._send_answers()
        self._busy = False

    def _hand_over(self) -> None:
        """The worker that runs has to wait: have another one go on."""
        self._busy = False
        self._call()

    def _send_answers(self) -> None:
        while self._outbox:
            connection = self._outbox.popleft()
            if connection.closed or connection.scope is not None or not connection.answer or connection.blocked:
                continue  # over, or its next request is under way, before which its answer was sent
            try:
                gone = connection.send()
            except OSError as reason:
                self._lose(connection, reason)
                continue
            if not gone or connection.stopping:
                self._settle(connection, False)

    async def _wait_for(self, work: Coroutine[Any, Any, bool], connection: Connection, worker: _Worker) -> None:
        """Have the connection do something for which it may have to wait."""
        connection.scope = worker.scope
        try:
            more = await noticed(work, self._hand_over)
        except (ProtocolError, CloseConnection, OSError) as reason:
            self._lose(connection, reason)
            worker.ended = worker.scope.cancel_called
            return
        except BaseException:
            self._close(connection)
            raise
        finally:
            connection.scope = None
        worker.ended = worker.scope.cancel_called
        if worker.ended:
            self._close(connection)
        else:
            self._settle(connection, more)

    def _settle(self, connection: Connection, more: bool) -> None:
        """See to what comes next for a connection that did what it could; `more`: it can go on at once."""
        if connection.stopping:
            connection.stop()  # what it has come to wait for meanwhile
        if connection.waits or connection.muted_until:
            if (moment := connection.alarm()) < inf:
                self._set_alarm(connection, moment)
        else:
            if connection.alarmed:
                connection.alarmed = False
                self._alarms.cancel(connection)
            if (connection.ended or connection.stopping) and not connection.answer and not connection.blocked:
                self._close(connection)
                return
        if not connection.watched and (connection.blocked or not connection.held):
            self._look_at(connection)
        if connection.blocked is not connection.watched_for_room and connection.watched:
            connection.watched_for_room = connection.blocked
            self._call_watcher()
            self._poller.turn(connection.transport, for_room=connection.blocked)
        if more and not connection.queued:
            connection.queued = True
            self._again.append(connection)

    def _set_alarm(self, connection: Connection, deadline: float) -> None:
        connection.alarmed = True
        self._alarms.set(connection, deadline, None)
        if deadline < self._nap_ends_at:
            self._nap.cancel()

    def _lose(self, connection: Connection, reason: Exception) -> None:
        if isinstance(reason, OSError):
            _log.debug("lost the connection of %s: %s", connection.peer, reason)
        else:
            _log.info("closing the connection of %s: %s", connection.peer, reason)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        if connection.watched:
            self._look_away(connection)
        self._alarms.forget(connection)
        connection.close()
        self.connections.discard(connection)
        self._ended(connection)
