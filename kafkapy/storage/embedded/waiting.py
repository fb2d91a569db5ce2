"""How many bytes of answers wait in memory to be sent, of all clients together.

What is counted counts until its last view is gone, wherever it waits: nobody has to say that it was sent.
"""

from typing import Final

MAX_WAITING_BYTES: Final = 32 << 20
"""What is found beyond that stays in its file until it is sent, at the price of a system call for each piece."""


class WaitingBytes:
    """The budget, and what is taken from it."""

    __slots__ = ("limit", "size")

    def __init__(self, limit: int = MAX_WAITING_BYTES) -> None:
        self.limit = limit
        self.size = 0

    def buffer(self, size: int) -> bytearray | None:
        """A buffer that is counted as long as it, or a view of it, is there; None when that would be too much."""
        if self.size + size > self.limit:
            return None
        counted = _Counted(size)
        counted.waiting = self
        self.size += size
        return counted


class _Counted(bytearray):
    __slots__ = ("waiting",)

    waiting: WaitingBytes  # set by whom it is got from: a constructor would cost twice as much

    def __del__(self) -> None:
        size = len(self)
        self.waiting.size -= size
