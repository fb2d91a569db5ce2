"""The last offset of each key, in bounded memory: a hash table of 24 bytes a slot, as Kafka's cleaner has it.

A key is known by 128 bits of its BLAKE2s hash: two keys taken for one would cost the first its value. Memory is taken
from the system as it is touched, and given back at `close`.

Invariant: never more than `capacity` keys are in it, so that there is a free slot, and a search ends.
"""

import mmap
import struct
from hashlib import blake2s
from math import ceil
from typing import Final

SLOT_BYTES: Final = 24
_MIN_LOAD_FACTOR: Final = 0.01
_PARTS: Final = SLOT_BYTES // 8

_halves = struct.Struct("=QQ").unpack


class OffsetMap:
    """Offsets by key, none of which is ever taken out."""

    def __init__(self, key_count: int, max_bytes: int, load_factor: float) -> None:
        """Room for so many keys, as far as `max_bytes` go; `load_factor` is the part of the slots that may be taken."""
        load_factor = max(load_factor, _MIN_LOAD_FACTOR)
        wanted = ceil(key_count / load_factor) + 2
        self._slots = max(min(wanted, max_bytes // SLOT_BYTES), 2)
        self.capacity = min(max(int(self._slots * load_factor), 1), self._slots - 1)
        self.count = 0
        self._memory = mmap.mmap(-1, self._slots * SLOT_BYTES)
        self._table = memoryview(self._memory).cast("Q")  # the hash in two halves, and the offset + 1

    @property
    def is_full(self) -> bool:
        return self.count >= self.capacity

    def put(self, key: bytes, offset: int) -> None:
        """The key's offset from now on. Not to be called when full."""
        place, first, second = self._find(key)
        table = self._table
        if not table[place + 2]:
            assert not self.is_full, "a full map takes no more keys"
            table[place], table[place + 1] = first, second
            self.count += 1
        table[place + 2] = offset + 1

    def get(self, key: bytes) -> int:
        """The key's offset; -1 when it is not here."""
        return self._table[self._find(key)[0] + 2] - 1

    def _find(self, key: bytes) -> tuple[int, int, int]:
        """Where the key is, or would be; and the halves of its hash."""
        first, second = _halves(blake2s(key, digest_size=16).digest())
        table = self._table
        end = self._slots * _PARTS
        place = first % self._slots * _PARTS
        while table[place + 2] and (table[place] != first or table[place + 1] != second):
            place += _PARTS
            if place == end:
                place = 0
        return place, first, second

    def close(self) -> None:
        """Give the memory back; nothing is asked any more."""
        self._table.release()
        self._memory.close()
