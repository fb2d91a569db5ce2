"""Hands an answer to its transport: bytes in as few calls as may be, parts of files from where they lie.

A small answer is gone after one call. A large one fills the socket's buffer over and over; in between, others are
served. Nothing here waits: the crew tells when a socket has room again. Called by the connection.
"""

from collections.abc import Sequence
from typing import Final

from kafkapy.network.transport import Buffer, Source, Transport

BUFFERS: Final = (bytes, bytearray, memoryview)

MAX_VECTOR: Final = 1024
"""IOV_MAX of Linux and macOS."""

_STEP_BYTES: Final = 1 << 20
_AT_ONCE_BYTES: Final = 8 << 20
"""How much one call takes of a source, and how much is sent of an answer before the others get their turn.

That is more than most sockets hold (4 MiB by Linux's default), and takes a millisecond.
"""


Answer = Sequence[Buffer | Source]


def send_some(transport: Transport, answer: Answer) -> Answer:
    """Send what the transport takes, but not so much that others wait for long; what is left. Raises OSError."""
    done, count, left = 0, len(answer), _AT_ONCE_BYTES
    try:
        if transport.wants_room:
            transport.send(())  # what it holds of earlier ones
        while done < count and left > 0:
            part = answer[done]
            if isinstance(part, BUFFERS):
                end = done + 1
                while end < count and end - done < MAX_VECTOR and isinstance(answer[end], BUFFERS):
                    end += 1
                buffers: Sequence[Buffer] = answer[done:end]  # type: ignore[assignment]  # as was just looked at
                sent = transport.send(buffers)
                done = end
                if rest := after(buffers, sent):
                    return [*rest, *answer[done:]]
            else:
                size = len(part)
                tried = min(size, _STEP_BYTES)
                sent = transport.send_from(part, tried)
                if sent == size:
                    done += 1
                elif sent < tried:
                    break  # its buffer is full: to try again at once is in vain
            left -= sent
    except BlockingIOError:
        pass
    return answer[done:]


def after(buffers: Sequence[Buffer], sent: int) -> list[Buffer]:
    """What is left of the buffers once `sent` bytes have gone."""
    for index, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[index + 1 :]]
        sent -= len(buffer)
    return []
