"""Listens, accepts, keeps within the limits, and stops in good order.

The rooms behind it are unknown here: the server is handed `open_session`, which makes what a connection carries, and
`dispatch`, which turns a frame into an answer. Called by `broker.py`.
"""

import errno
import logging
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from kafkapy.model import Endpoint
from kafkapy.network.connection import Connection, Dispatch, Peer

_log = logging.getLogger(__name__)

_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_ACCEPT_PAUSE_SECONDS: Final = 0.1
_SWEEPS_PER_TIMEOUT: Final = 4
_KERNEL_DEFAULT: Final = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the network, named after Kafka's settings."""

    socket_request_max_bytes: int = 104_857_600
    connections_max_idle_ms: int = 600_000
    max_connections: int = 2**31 - 1
    max_connections_per_ip: int = 2**31 - 1
    max_connections_per_ip_overrides: Mapping[str, int] = field(default_factory=dict)
    socket_send_buffer_bytes: int = _KERNEL_DEFAULT
    socket_receive_buffer_bytes: int = _KERNEL_DEFAULT
    socket_listen_backlog_size: int = 50


class PortTaken(Exception):
    """A listener's address is in use."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(f"{endpoint.host or '*'}:{endpoint.port} is in use")
        self.endpoint = endpoint


class Server:
    """All listeners of a broker and their connections."""

    def __init__(self, limits: Limits, open_session: Callable[[Peer], Any], dispatch: Dispatch) -> None:
        self._limits = limits
        self._open_session = open_session
        self._dispatch = dispatch
        self._connections: set[Connection] = set()
        self._per_ip: Counter[str] = Counter()
        self._room_made = trio.Event()
        self._stopping = False

    async def serve(
        self,
        listeners: Sequence[tuple[Endpoint, socket.socket]],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept and serve until cancelled. The sockets come from `bind` and are closed here."""
        try:
            async with trio.open_nursery() as nursery:
                for endpoint, listener in listeners:
                    listener.listen(self._limits.socket_listen_backlog_size)
                    nursery.start_soon(self._accept, endpoint, listener, nursery)
                nursery.start_soon(self._sweep)
                task_status.started()
        finally:
            for _, listener in listeners:
                listener.close()

    async def drain(self, grace_seconds: float) -> None:
        """Take no more requests; return when those under way are answered, or the grace is over."""
        self._stopping = True
        for connection in self._connections:
            connection.stopping = True
            if not connection.busy:
                connection.scope.cancel()
        with trio.move_on_after(grace_seconds):
            while self._connections:
                self._room_made = trio.Event()
                await self._room_made.wait()

    async def _accept(self, endpoint: Endpoint, listener: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await self._wait_for_room()
            await trio.lowlevel.wait_readable(listener)
            try:
                sock, address = listener.accept()
            except (BlockingIOError, ConnectionError):
                continue
            except OSError as failure:
                if failure.errno not in _OUT_OF_RESOURCES:
                    raise
                _log.error("cannot accept connections for the moment: %s", failure.strerror)
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._admit(endpoint, sock, address[0], address[1], nursery)

    def _admit(self, endpoint: Endpoint, sock: socket.socket, host: str, port: int, nursery: trio.Nursery) -> None:
        host = _plain(host)
        limits = self._limits
        limit = limits.max_connections_per_ip_overrides.get(host, limits.max_connections_per_ip)
        if self._stopping or self._per_ip[host] >= limit:
            _log.info("refused a connection of %s: %d are open (max.connections.per.ip)", host, self._per_ip[host])
            sock.close()
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if limits.socket_send_buffer_bytes != _KERNEL_DEFAULT:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.socket_send_buffer_bytes)
        local = sock.getsockname()
        peer = Peer(endpoint.listener, endpoint.security_protocol, _plain(local[0]), local[1], host, port)
        session = self._open_session(peer)
        connection = Connection(sock, peer, session, self._dispatch, limits.socket_request_max_bytes)
        self._connections.add(connection)
        self._per_ip[host] += 1
        nursery.start_soon(self._serve, connection, sock)

    async def _serve(self, connection: Connection, sock: socket.socket) -> None:
        try:
            await connection.serve()
        finally:
            sock.close()
            self._connections.discard(connection)
            host = connection.peer.peer_host
            self._per_ip[host] -= 1
            if not self._per_ip[host]:
                del self._per_ip[host]
            self._room_made.set()

    async def _wait_for_room(self) -> None:
        while len(self._connections) >= self._limits.max_connections:
            self._room_made = trio.Event()
            await self._room_made.wait()

    async def _sweep(self) -> None:
        """Close connections on which nothing has moved for connections.max.idle.ms."""
        idle_seconds = self._limits.connections_max_idle_ms / 1000
        while True:
            await trio.sleep(max(idle_seconds / _SWEEPS_PER_TIMEOUT, _ACCEPT_PAUSE_SECONDS))
            oldest = trio.current_time() - idle_seconds
            for connection in self._connections:
                if connection.last_active < oldest and not connection.busy:
                    _log.info("closing the idle connection of %s", connection.peer)
                    connection.scope.cancel()


def bind(endpoints: Sequence[Endpoint], limits: Limits) -> list[tuple[Endpoint, socket.socket]]:
    """Bind every listener; each comes back with the port it got. Raises PortTaken, OSError."""
    with ExitStack() as undo:
        bound: list[tuple[Endpoint, socket.socket]] = []
        for endpoint in endpoints:
            listener = _bind(endpoint, limits)
            undo.callback(listener.close)
            bound.append((endpoint._replace(port=listener.getsockname()[1]), listener))
        undo.pop_all()
    return bound


def _bind(endpoint: Endpoint, limits: Limits) -> socket.socket:
    host = endpoint.host or None
    candidates = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # All interfaces: a socket for IPv6 takes IPv4 too. A name: IPv4 first, as most clients will.
    candidates.sort(key=lambda c: (c[0] == socket.AF_INET6) == (host is not None))
    failure: OSError | None = None
    for family, kind, protocol, _, address in candidates:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host is None else 1)
            if limits.socket_receive_buffer_bytes != _KERNEL_DEFAULT:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, limits.socket_receive_buffer_bytes)
            listener.setblocking(False)
            listener.bind(address)
        except OSError as refused:
            listener.close()
            if refused.errno == errno.EADDRINUSE:
                raise PortTaken(endpoint) from refused
            failure = refused
        else:
            return listener
    raise failure or OSError(f"{endpoint.host} has no address")


def _plain(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket, as IPv4."""
    return host.removeprefix("::ffff:") if "." in host else host
