"""Hands an answer to the kernel: bytes in as few calls as may be, regions of files from where they lie.

A small answer is gone after one call. A large one fills the socket's buffer over and over; for as long as its client
reads as fast as it can, a thread waits for the socket and goes on, which costs a tenth of a trip through the event
loop, and leaves the loop to the other clients. Who reads more slowly is waited for by the loop, where waiting costs
nothing.

Called by the connection, one call at a time.
"""

import socket
import struct
import time
from collections.abc import Sequence
from typing import Final, Protocol

import trio

Buffer = bytes | bytearray | memoryview
BUFFERS: Final = (bytes, bytearray, memoryview)

MAX_VECTOR: Final = 1024
"""IOV_MAX of Linux and macOS."""

_THREAD_FROM_BYTES: Final = 1 << 20
"""What is left of an answer that is worth a thread: the hop costs as much as three waits on the loop."""

_PATIENCE: Final = struct.pack("@ll", 0, 20_000)
"""How long a thread waits for a client to make room at all: 20 ms, as the kernel wants it told."""

_STINT_SECONDS: Final = 0.5
"""How long a thread is at one answer."""

_THREADS: Final = trio.CapacityLimiter(16)


class Region(Protocol):
    """Bytes that are sent from where they lie, such as a part of a file."""

    def __len__(self) -> int: ...

    def send(self, sock: socket.socket, skip: int) -> int:
        """Send what the socket takes of the bytes after the first `skip`; how many went. Raises BlockingIOError."""


Answer = Sequence[Buffer | Region]


class _Rest:
    """A region without its first bytes."""

    __slots__ = ("_region", "_skip")

    def __init__(self, region: Region, skip: int) -> None:
        self._region = region
        self._skip = skip

    def __len__(self) -> int:
        return len(self._region) - self._skip

    def send(self, sock: socket.socket, skip: int) -> int:
        return self._region.send(sock, self._skip + skip)


def send_some(sock: socket.socket, answer: Answer) -> Answer:
    """Send what the socket takes at once; what is left. What it took in part has filled its buffer. Raises OSError."""
    while answer:
        first = answer[0]
        answer, _ = _send_next(sock, answer)
        if answer and (answer[0] is first or type(answer[0]) is _Rest):
            break
    return answer


def is_worth_a_thread(answer: Answer) -> bool:
    """Whether what is left of an answer pays for a thread, and one is free."""
    return len(answer) > 0 and _THREADS.available_tokens > 0 and sum(map(len, answer)) >= _THREAD_FROM_BYTES


async def send_from_a_thread(sock: socket.socket, answer: Answer) -> Answer:
    """Send for as long as the client reads; what is left when it is too slow for a thread. Raises OSError."""
    return await trio.to_thread.run_sync(_send_patiently, sock, answer, limiter=_THREADS)


def _send_patiently(sock: socket.socket, answer: Answer) -> Answer:
    end = time.monotonic() + _STINT_SECONDS
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
    sock.setblocking(True)  # nobody else uses it: the kernel waits, and goes on by itself
    try:
        sent = 1
        while answer and sent and time.monotonic() < end:
            answer, sent = _send_next(sock, answer)
    finally:
        sock.setblocking(False)
    return answer


def _send_next(sock: socket.socket, answer: Answer) -> tuple[Answer, int]:
    """Send the bytes, or the region, that an answer begins with; what is left, and how many bytes went."""
    first = answer[0]
    try:
        if isinstance(first, BUFFERS):
            buffers = _leading_buffers(answer)
            sent = sock.sendmsg(buffers)
            rest: Answer = after(buffers, sent)
            following = answer[len(buffers) :]
        else:
            sent = first.send(sock, 0)
            rest = [_Rest(first, sent)] if sent < len(first) else ()
            following = answer[1:]
    except BlockingIOError:
        return answer, 0
    return [*rest, *following], sent


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
