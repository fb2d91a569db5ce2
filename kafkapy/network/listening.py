"""Binds the addresses that a broker listens on.

Apart from accepting, so that an address that cannot be had is known before anything else is opened.
"""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from kafkapy.model import Endpoint

KERNEL_DEFAULT: Final = -1
"""A size of a socket's buffer that is left to the kernel."""


class CannotListen(Exception):
    """A listener's address cannot be had; the text names it and says why."""

    def __init__(self, endpoint: Endpoint, failure: OSError) -> None:
        reason = failure.strerror or str(failure)
        super().__init__(f"cannot listen on {endpoint.listener}://{endpoint.host}:{endpoint.port}: {reason}")
        self.endpoint = endpoint


class PortTaken(CannotListen):
    """A listener's address is in use."""


def bind(endpoints: Sequence[Endpoint], receive_buffer_bytes: int) -> list[tuple[Endpoint, socket.socket]]:
    """Bind every listener; each comes back with the port it got. Raises CannotListen."""
    with ExitStack() as undo:
        bound: list[tuple[Endpoint, socket.socket]] = []
        for endpoint in endpoints:
            listener = _bind(endpoint, receive_buffer_bytes)
            undo.callback(listener.close)
            bound.append((endpoint._replace(port=listener.getsockname()[1]), listener))
        undo.pop_all()
    return bound


def listen(bound: Sequence[tuple[Endpoint, socket.socket]], backlog_size: int) -> None:
    """Let connections come. Raises PortTaken: of two that bind an address at once, the first to listen has it."""
    for endpoint, listener in bound:
        try:
            listener.listen(backlog_size)
        except OSError as failure:
            raise PortTaken(endpoint, failure) from failure


def _bind(endpoint: Endpoint, receive_buffer_bytes: int) -> socket.socket:
    host = endpoint.host or None
    try:
        candidates = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as unknown:
        raise CannotListen(endpoint, unknown) from unknown
    # All interfaces, also when named by IPv6's wildcard: a socket for IPv6 takes IPv4 too, as Java's do. A name: IPv4
    # first, as most clients will.
    everywhere = host in (None, "::")
    candidates.sort(key=lambda candidate: (candidate[0] == socket.AF_INET6) != everywhere)
    failures: list[OSError] = []
    for family, kind, protocol, _, address in candidates:
        try:
            return _bound(socket.socket(family, kind, protocol), address, receive_buffer_bytes, both=everywhere)
        except OSError as failure:
            if failure.errno == errno.EADDRINUSE:
                raise PortTaken(endpoint, failure) from failure
            failures.append(failure)
    raise CannotListen(endpoint, failures[0])


def _bound(
    listener: socket.socket, address: tuple[object, ...], receive_buffer_bytes: int, *, both: bool
) -> socket.socket:
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        if receive_buffer_bytes != KERNEL_DEFAULT:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        listener.setblocking(False)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
