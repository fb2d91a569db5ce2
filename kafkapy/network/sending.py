"""Hands an answer to the kernel: bytes in as few calls as may be, regions of files from where they lie.

A small answer is gone after one call. A large one fills the socket's buffer over and over; in between, others are
served. Nothing here waits: the crew tells when a socket has room again. Called by the connection.
"""

import socket
from collections.abc import Sequence
from typing import Final, Protocol

Buffer = bytes | bytearray | memoryview
BUFFERS: Final = (bytes, bytearray, memoryview)

MAX_VECTOR: Final = 1024
"""IOV_MAX of Linux and macOS."""

_STEP_BYTES: Final = 1 << 20
_AT_ONCE_BYTES: Final = 2 << 20
"""How much one call takes of a region, and how much is sent of an answer before the others get their turn."""


class Region(Protocol):
    """Bytes that are sent from where they lie, such as a part of a file."""

    def __len__(self) -> int: ...

    def send(self, sock: socket.socket, skip: int, size: int) -> int:
        """Send what the socket takes of the `size` bytes after the first `skip`; how many. Raises BlockingIOError."""


Answer = Sequence[Buffer | Region]


class _Rest:
    """A region without its first bytes."""

    __slots__ = ("region", "skip")

    def __init__(self, region: Region, skip: int) -> None:
        self.region = region
        self.skip = skip

    def __len__(self) -> int:
        return len(self.region) - self.skip

    def send(self, sock: socket.socket, skip: int, size: int) -> int:
        return self.region.send(sock, self.skip + skip, size)


def send_some(sock: socket.socket, answer: Answer) -> Answer:
    """Send what the socket takes, but not so much that others wait for long; what is left. Raises OSError."""
    left = _AT_ONCE_BYTES
    while answer and left > 0:
        answer, sent, tried = _send_next(sock, answer)
        if sent < tried:
            break  # its buffer is full: to try again at once is in vain
        left -= sent
    return answer


def _send_next(sock: socket.socket, answer: Answer) -> tuple[Answer, int, int]:
    """Send of what an answer begins with; what is left, how many bytes went, and how many were tried."""
    first = answer[0]
    try:
        if isinstance(first, BUFFERS):
            buffers = _leading_buffers(answer)
            tried = sum(map(len, buffers))
            sent = sock.sendmsg(buffers)
            rest: Answer = after(buffers, sent)
            following = answer[len(buffers) :]
        else:
            tried = min(len(first), _STEP_BYTES)
            sent = first.send(sock, 0, tried)
            rest = [_without(first, sent)] if sent < len(first) else ()
            following = answer[1:]
    except BlockingIOError:
        return answer, 0, 1
    return [*rest, *following], sent, tried


def _without(region: Region, sent: int) -> Region:
    if isinstance(region, _Rest):  # one around the other would be as deep as there are waits
        return _Rest(region.region, region.skip + sent)
    return _Rest(region, sent)


def _leading_buffers(answer: Answer) -> list[Buffer]:
    """The buffers that an answer begins with, as many as one call can send."""
    buffers: list[Buffer] = []
    for part in answer[:MAX_VECTOR]:
        if not isinstance(part, BUFFERS):
            break
        buffers.append(part)
    return buffers


def after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of the buffers once `sent` bytes have gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
