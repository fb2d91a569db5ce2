"""A connection under TLS: the same four questions as plain TCP's, with encryption between.

The standard library's TLS works on two buffers in memory; here these are filled from the socket and emptied into it, as
far as that goes without waiting. The handshake is part of the first receiving, as key updates are of later ones.

Invariants
 1. At most `_STEP_BYTES` are encrypted beyond what the socket has taken, and nothing is received while any are left: a
    client that does not read can neither have us encrypt for it nor answer to its handshakes without end.
 2. Nothing is handed up, and nothing that was handed down is sent, before the handshake is complete and the client's
    certificate, where one is asked for, is found to be good.
 3. What ends the stream ends it for good: a close notice, an end without one, an error.

Called by the connection; contexts come from outside.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, cast

from kafkapy.errors import CloseConnection
from kafkapy.network.transport import Buffer, Source

_RECEIVED_AT_ONCE: Final = 128 * 1024
_STEP_BYTES: Final = 256 * 1024
_NOTHING: Final = memoryview(b"")


class TlsTransport:
    """TLS over TCP, the server's side."""

    __slots__ = ("_ended", "_held", "_incoming", "_outgoing", "_socket", "_tls", "has_more", "wants_room")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.has_more = False
        self.wants_room = False
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._held = _NOTHING  # encrypted, and not taken by the socket
        self._ended = False  # by the client

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive_into(self, buffer: memoryview) -> int:
        self._flush()
        if self.wants_room:
            raise BlockingIOError
        filled, size = 0, len(buffer)
        drained = False  # the socket
        try:
            while filled < size and not self._ended:
                try:
                    count = cast(int, self._tls.read(size - filled, buffer[filled:]))
                except ssl.SSLWantReadError:
                    self._flush()
                    if drained or self.wants_room:
                        break
                    drained = self._receive()
                    continue
                except ssl.SSLEOFError:
                    count = 0
                self._ended = not count
                filled += count
        except BlockingIOError:
            drained = True
        except ssl.SSLError as failure:
            self._part()
            raise CloseConnection(f"TLS failed: {failure.reason or failure}") from failure
        self._flush()
        self.has_more = self._ended or (filled == size and (self._tls.pending() > 0 or self._incoming.pending > 0))
        if not filled and not self._ended:
            raise BlockingIOError
        return filled

    def send(self, buffers: Sequence[Buffer]) -> int:
        self._flush()
        if self.wants_room and buffers:
            raise BlockingIOError
        sent = 0
        for part in _steps(buffers):
            self._encrypt(part)
            sent += len(part)
            self._flush()
            if self.wants_room:
                break
        return sent

    def send_from(self, source: Source, size: int) -> int:
        self._flush()
        if self.wants_room:
            raise BlockingIOError
        sent = 0
        while sent < size and not self.wants_room:
            part = source.read(min(size - sent, _STEP_BYTES))
            if not part:
                raise OSError("a file is shorter than it was")
            self._encrypt(part)
            source.advance(len(part))
            sent += len(part)
            self._flush()
        return sent

    def peer_certificate(self) -> bytes | None:
        return self._tls.getpeercert(binary_form=True)

    def close(self) -> None:
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()  # says that this is the end
        self._part()
        self._socket.close()

    def _receive(self) -> bool:
        """Take what the socket has; whether that was all for now. Raises BlockingIOError, OSError."""
        data = self._socket.recv(_RECEIVED_AT_ONCE)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return 0 < len(data) < _RECEIVED_AT_ONCE

    def _encrypt(self, data: Buffer) -> None:
        left = memoryview(data)
        while left:
            left = left[self._tls.write(left) :]

    def _flush(self) -> None:
        """Give the socket what it takes of what is encrypted. Raises OSError."""
        while self._held or self._outgoing.pending:
            if not self._held:
                self._held = memoryview(self._outgoing.read())
            try:
                sent = self._socket.send(self._held)
            except BlockingIOError:
                self.wants_room = True
                return
            self._held = self._held[sent:]
        self.wants_room = False

    def _part(self) -> None:
        """Send a last notice, an alert for one, if that can be."""
        with contextlib.suppress(OSError):
            self._flush()


def _steps(buffers: Iterable[Buffer]) -> Iterator[Buffer]:
    """The same bytes in parts that are encrypted at a time: small buffers together, large ones cut.

    Each part is made when it is asked for: what the socket does not take now is not copied now.
    """
    small: list[Buffer] = []
    size = 0
    for buffer in buffers:
        if size + len(buffer) > _STEP_BYTES:
            if small:
                yield b"".join(small)
                small, size = [], 0
            view = memoryview(buffer)
            while len(view) > _STEP_BYTES:
                yield view[:_STEP_BYTES]
                view = view[_STEP_BYTES:]
            buffer = view
        small.append(buffer)
        size += len(buffer)
    if small:
        yield small[0] if len(small) == 1 else b"".join(small)
