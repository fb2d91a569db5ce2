"""Bytes in, whole frames out: the receive buffer of one connection.

A frame is a 4-byte big-endian length and that many bytes. Pure: the connection receives,
`recv_into(writable())`.

Invariants
1. The buffer grows (doubling) only when it is full of received bytes; an announced length alone reserves nothing.
2. It never holds more than one maximal frame and its length prefix.
3. A buffer is never resized, only replaced, so a view never blocks it; a view's bytes hold until the next `writable()`.

Called by the connection; also by clients in tests and tools.
"""

from struct import Struct
from typing import Final

from kafkapy.protocol.primitives import ProtocolError

_PREFIX: Final = Struct(">i")
_PREFIX_SIZE: Final = _PREFIX.size
_IDLE_SIZE: Final = 16 * 1024
# A Java producer sends at most max.request.size (1 MiB) in one request: a buffer for that is worth keeping.
_KEPT_SIZE: Final = 2 * 1024 * 1024
_SMALL_READS_BEFORE_SHRINKING: Final = 64


class FrameTooLarge(ProtocolError):
    """A frame announces more bytes than this connection allows."""


class FrameReader:
    """Collects bytes and cuts them into frames of at most `max_size` bytes (without the length prefix).

    What was received and is not handed out yet lies between `start` and `end`: a frame or more, a part of one, nothing.
    """

    __slots__ = ("_buffer", "_small_reads", "_view", "end", "max_size", "start")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self._buffer = bytearray(_IDLE_SIZE)
        self._view = memoryview(self._buffer)
        self.start = 0
        self.end = 0
        self._small_reads = 0

    def writable(self) -> memoryview:
        """Where to receive the next bytes, never empty. Frames handed out before are invalid from here on.

        Take every `next_frame()` first: with a whole frame left inside there may be no room.
        """
        pending = self.end - self.start
        if self.start:
            if pending:
                self._view[:pending] = self._view[self.start : self.end]
            self.start, self.end = 0, pending
        capacity = len(self._buffer)
        if pending == capacity:
            self._replace(min(2 * capacity, max(self.max_size, _IDLE_SIZE) + _PREFIX_SIZE), pending)
        elif capacity > _IDLE_SIZE and pending < _IDLE_SIZE:
            self._small_reads += 1
            if capacity > _KEPT_SIZE or self._small_reads > _SMALL_READS_BEFORE_SHRINKING:
                self._replace(_IDLE_SIZE, pending)
        return self._view[self.end :] if self.end else self._view

    def received(self, count: int) -> None:
        """`count` bytes now stand at the beginning of what `writable()` returned."""
        self.end += count
        if count >= _IDLE_SIZE:
            self._small_reads = 0

    def next_frame(self) -> memoryview | None:
        """The next whole frame without its length, or None until more bytes come.

        Raises `ProtocolError` for a negative length and `FrameTooLarge` for one above the limit; the connection is then
        beyond repair.
        """
        body = self.start + _PREFIX_SIZE
        if body > self.end:
            return None
        (size,) = _PREFIX.unpack_from(self._buffer, self.start)
        if not 0 <= size <= self.max_size:
            if size < 0:
                raise ProtocolError(f"a frame announces {size} bytes")
            raise FrameTooLarge(f"a frame announces {size} bytes, the limit is {self.max_size}")
        end = body + size
        if end > self.end:
            return None
        self.start = end
        return self._view[body:end]

    def put_back(self, frame: memoryview) -> None:
        """Have the frame that was handed out last handed out once more."""
        self.start -= _PREFIX_SIZE + len(frame)

    def _replace(self, capacity: int, pending: int) -> None:
        """Go on in a fresh buffer that begins with the first `pending` bytes of the old one."""
        buffer = bytearray(capacity)
        if pending:
            buffer[:pending] = self._view[:pending]
        self._buffer = buffer
        self._view = memoryview(buffer)
        self.start, self.end, self._small_reads = 0, pending, 0
