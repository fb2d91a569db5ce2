"""What carries a connection's bytes: plain TCP here, TLS in `tls.py`. Nothing above it knows of sockets.

A transport never waits: it does what the system lets it do at once, and says what to wait for. One that encrypts fits
the same four questions: it may hold bytes that nobody asked for yet (`has_more`) or that the socket did not take yet
(`wants_room`), and it reads a source of bytes instead of naming its file to the kernel.

Called by the connection, and for its descriptor by the crew's poller.
"""

import os
import socket
from collections.abc import Sequence
from typing import Protocol

Buffer = bytes | bytearray | memoryview


class Source(Protocol):
    """Bytes that are sent once, from where they lie, such as a part of a file."""

    @property
    def position(self) -> int:
        """Where in the file the next byte lies."""

    def __len__(self) -> int:
        """How many are left."""

    def fileno(self) -> int:
        """A descriptor of the file, to be used before anything else is asked of whoever made this. Raises OSError."""

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most; they stay what comes next. Raises OSError."""

    def advance(self, count: int) -> None:
        """The next `count` bytes are sent."""


class Transport(Protocol):
    """A connected stream of bytes. Its methods raise BlockingIOError when they can do nothing for now, and OSError."""

    has_more: bool
    """Bytes are there to be received although the descriptor has nothing to read."""
    wants_room: bool
    """It goes on, with whatever it was asked for, only once the descriptor has room for what is to be sent."""

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def receive_into(self, buffer: memoryview) -> int:
        """Fill the buffer with what has come; how many bytes. 0: the client sends no more."""

    def send(self, buffers: Sequence[Buffer]) -> int:
        """Send what is held of earlier ones, and then what can be sent at once of these buffers; how many bytes."""

    def send_from(self, source: Source, size: int) -> int:
        """Send what can be sent at once of the source's next `size` bytes, and advance it by that; how many."""

    def peer_certificate(self) -> bytes | None:
        """The certificate that the client has shown and that is trusted, in DER form."""

    def close(self) -> None: ...


class PlainTransport:
    """TCP, as it is."""

    __slots__ = ("_socket", "receive_into")

    has_more = False
    wants_room = False

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.receive_into = sock.recv_into  # with every request: no call more than it takes

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, buffers: Sequence[Buffer]) -> int:
        return self._socket.send(buffers[0]) if len(buffers) == 1 else self._socket.sendmsg(buffers)

    def send_from(self, source: Source, size: int) -> int:
        sent = os.sendfile(self._socket.fileno(), source.fileno(), source.position, size)
        if not sent:
            raise OSError("a file is shorter than it was")
        source.advance(sent)
        return sent

    def peer_certificate(self) -> None:
        return None

    def close(self) -> None:
        self._socket.close()
