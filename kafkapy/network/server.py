"""Listens, accepts, keeps within the limits, and stops in good order.

The rooms behind it are unknown here: the server is handed `open_session`, which makes what a connection carries, and
`dispatch`, which turns a frame into an answer. Called by `node.py`.
"""

import contextlib
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.model import Endpoint
from kafkapy.network.connection import Connection, Dispatch, OpenSession, Peer
from kafkapy.network.crew import Crew
from kafkapy.network.listening import KERNEL_DEFAULT, listen
from kafkapy.network.transport import PlainTransport, Transport

_log = logging.getLogger(__name__)

_ACCEPT_PAUSE_SECONDS: Final = 0.1
_MOST_HELD: Final = 64
"""Connections that came too soon and are held, each with a descriptor; more are closed at once."""
_SWEEPS_PER_TIMEOUT: Final = 4

_STRANGER_SECONDS: Final = 60.0
"""How long a client may take to say who it is where it must, TLS included: PostgreSQL's authentication_timeout."""

_MOST_STRANGERS: Final = 4096
"""So many such clients may be connected, and half of max.connections at most; the oldest make room for others. With
their buffers they take 64 MiB, and more only as they send it: each up to the largest frame that it may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the network, named after Kafka's settings."""

    socket_request_max_bytes: int = 104_857_600
    connections_max_idle_ms: int = 600_000
    max_connections: int = 2**31 - 1
    max_connections_per_ip: int = 2**31 - 1
    max_connections_per_ip_overrides: Mapping[str, int] = field(default_factory=dict)
    socket_send_buffer_bytes: int = KERNEL_DEFAULT
    socket_listen_backlog_size: int = 50


class Guard(NamedTuple):
    """How the clients of a listener are met that is not open to all.

    `wrap` makes what carries a connection's bytes. `meet` is called for each new connection, and has its frames
    answered by something else until it is known who is connected.
    """

    wrap: Callable[[socket.socket], Transport]
    meet: Callable[[Connection], None]


def _welcome(host: str) -> float:
    return 0


def _let_go(session: Any) -> None:
    """What a connection carried is of no use to anybody."""


class Server:
    """All listeners of a broker and their connections; `guards` are those of listeners that have one, by name.

    `hold` is asked of each connection by its host: for how many seconds it is held without a word, and then closed
    (KIP-612), 0 when it is welcome. `close_session` is told what a connection carried, once that has ended.
    """

    def __init__(
        self,
        limits: Limits,
        open_session: OpenSession,
        dispatch: Dispatch,
        clock: Clock,
        guards: Mapping[str, Guard] | None = None,
        hold: Callable[[str], float] = _welcome,
        close_session: Callable[[Any], None] = _let_go,
    ) -> None:
        self._limits = limits
        self._hold = hold
        self._held = 0
        self._clock = clock
        self._guards = guards or {}
        self._strangers: dict[Connection, float] = {}  # not known yet, and since when they are there: oldest first
        self._open_session = open_session
        self._close_session = close_session
        self._dispatch = dispatch
        self._crew = Crew(clock, self._forget)
        self._per_ip: Counter[str] = Counter()
        self._waiting_for_an_end = trio.lowlevel.ParkingLot()
        self._accepting = trio.CancelScope()

    def set_limits(self, limits: Limits) -> None:
        """Keep within these from now on; connections that are open stay, and sockets as they are."""
        self._limits = limits
        self._waiting_for_an_end.unpark_all()

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._crew.connections)

    async def serve(
        self,
        listeners: Sequence[tuple[Endpoint, socket.socket]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until cancelled. The sockets come from `bind` and are closed here. Raises PortTaken."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._crew.work)
            nursery.start_soon(self._sweep)
            if self._guards:
                nursery.start_soon(self._sweep_strangers)
            try:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        listen(listeners, self._limits.socket_listen_backlog_size)
                        for endpoint, listener in listeners:
                            accepting.start_soon(self._accept, endpoint, listener, accepting)
                        task_status.started()
            finally:
                for _, listener in listeners:
                    listener.close()

    async def drain(self, grace_seconds: float) -> None:
        """Take no more connections and requests; return when those under way are answered, or the grace is over."""
        self._accepting.cancel()
        self._crew.stop()
        with self._clock.until(self._clock.monotonic() + grace_seconds):
            while self._crew.connections:
                await self._waiting_for_an_end.park()

    async def _accept(self, endpoint: Endpoint, listener: socket.socket, nursery: trio.Nursery) -> None:
        failing = full = False
        while True:
            await trio.lowlevel.wait_readable(listener)
            if len(self._crew.connections) >= self._limits.max_connections:
                if not full:
                    _log.warning(
                        "%d connections are open, further ones wait (max.connections)", len(self._crew.connections)
                    )
                full = True
                await self._waiting_for_an_end.park()
                continue
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as failure:
                # Out of descriptors or memory, or an error of a network that the next one need not share: whichever,
                # it must not end the broker, nor keep it busy.
                if not failing:
                    _log.error("cannot accept connections at port %d for now: %s", endpoint.port, failure)
                failing = True
                await self._clock.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            if failing:
                _log.info("accepting connections at port %d again", endpoint.port)
            failing = full = False
            host = _plain(address[0])
            if (seconds := self._hold(host)) and self._held < _MOST_HELD:
                nursery.start_soon(self._close_later, sock, seconds)
            elif seconds:
                sock.close()
            else:
                self._admit(endpoint, sock, host, address[1])

    async def _close_later(self, sock: socket.socket, seconds: float) -> None:
        """Close a connection that came too soon after others of its host, which are to come more slowly for it."""
        self._held += 1
        with sock:
            try:
                await self._clock.sleep(seconds)
            finally:
                self._held -= 1

    def _admit(self, endpoint: Endpoint, sock: socket.socket, host: str, port: int) -> None:
        limits = self._limits
        limit = limits.max_connections_per_ip_overrides.get(host, limits.max_connections_per_ip)
        if self._per_ip[host] >= limit:
            _log.info("refused a connection of %s, which has %d already (max.connections.per.ip)", host, limit)
            sock.close()
            return
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if limits.socket_send_buffer_bytes != KERNEL_DEFAULT:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.socket_send_buffer_bytes)
            local = sock.getsockname()
        except OSError as failure:
            _log.debug("lost a connection of %s at once: %s", host, failure)
            sock.close()
            return
        peer = Peer(endpoint.listener, endpoint.security_protocol, _plain(local[0]), local[1], host, port)
        if peer.local_host == host:
            _leave_unpaced(sock)
        guard = self._guards.get(endpoint.listener)
        connection = Connection(
            PlainTransport(sock) if guard is None else guard.wrap(sock),
            peer,
            self._open_session,
            self._dispatch,
            limits.socket_request_max_bytes,
            self._clock,
        )
        self._per_ip[host] += 1
        self._crew.add(connection)
        if guard is not None:
            self._meet(connection, guard)

    def _meet(self, connection: Connection, guard: Guard) -> None:
        """Let a client say who it is, but not too many at a time."""
        connection.welcomed = self._know
        guard.meet(connection)
        self._strangers[connection] = self._clock.monotonic()
        if len(self._strangers) > min(_MOST_STRANGERS, max(self._limits.max_connections // 2, 1)):
            oldest = next(iter(self._strangers))
            _log.info("closing the connection of %s, to make room: it has not authenticated", oldest.peer)
            self._end_stranger(oldest)

    def _know(self, connection: Connection) -> None:
        self._strangers.pop(connection, None)

    def _end_stranger(self, connection: Connection) -> None:
        del self._strangers[connection]
        self._crew.end(connection)

    async def _sweep_strangers(self) -> None:
        """Close connections whose clients have not said in time who they are."""
        while True:
            await self._clock.sleep(_STRANGER_SECONDS / _SWEEPS_PER_TIMEOUT)
            latest = self._clock.monotonic() - _STRANGER_SECONDS
            for connection in [known for known, since in self._strangers.items() if since <= latest]:
                _log.info("closing the connection of %s: it has not authenticated in time", connection.peer)
                self._end_stranger(connection)

    def _forget(self, connection: Connection) -> None:
        """The connection has ended."""
        self._know(connection)
        session, connection.session = connection.session, None  # it knows the connection
        self._close_session(session)
        host = connection.peer.peer_host
        self._per_ip[host] -= 1
        if not self._per_ip[host]:
            del self._per_ip[host]
        self._waiting_for_an_end.unpark_all()

    async def _sweep(self) -> None:
        """Close connections on which nothing has moved for connections.max.idle.ms.

        As in Kafka a request under way does not count: a client that has gone while it waited would never be noticed.
        As in Kafka a negative duration means never.
        """
        if self._limits.connections_max_idle_ms < 0:
            return
        idle_seconds = self._limits.connections_max_idle_ms / 1000
        while True:
            await self._clock.sleep(max(idle_seconds / _SWEEPS_PER_TIMEOUT, _ACCEPT_PAUSE_SECONDS))
            self._end_idle(self._clock.monotonic() - idle_seconds)

    def _end_idle(self, oldest: float) -> None:
        for connection in list(self._crew.connections):
            if connection.last_active < oldest:
                _log.info("closing the idle connection of %s", connection.peer)
                self._crew.end(connection)


def _leave_unpaced(sock: socket.socket) -> None:
    """Have nothing paced on a connection within this machine.

    There is no bottleneck to find, and where the system's congestion control paces (BBR), a timer is armed for almost
    every segment. Reno does not, every Linux has it, and every process may choose it.
    """
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def _plain(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket, as IPv4."""
    return host.removeprefix("::ffff:") if "." in host else host
