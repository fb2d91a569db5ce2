"""Brings the bytes of places: from a bounded memory of entries and pieces, else from the database."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from kafkapy.storage.shared.database import INT4, INT8S, UUID, Link, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.log_state import IN_PIECE, Place

_ENTRIES: Final = Statement("select seq, data from commits where lane = $1 and seq = any($2)", (INT4, INT8S))

_PIECES: Final = Statement(
    """
    select base_offset, data from pieces
    where lane = $1 and topic_id = $2 and partition = $3 and base_offset = any($4)
    """,
    (INT4, UUID, INT4, INT8S),
)

_AT_ONCE_BYTES: Final = 4 << 20
"""The database is asked for so much at a time."""

_Name = tuple[int, LogKey | None, int]


class Moved(Exception):
    """Bytes are no longer where they were: look once more where that is now."""


class Reader:
    """What was written or read last, up to `cache_bytes`, and the way to the rest."""

    def __init__(self, link: Link, cache_bytes: int) -> None:
        self._link = link
        self._cache: OrderedDict[_Name, bytes] = OrderedDict()
        self._left = cache_bytes

    def keep(self, lane: int, seq: int, data: bytes) -> None:
        """What an entry brought; most readers are at the end."""
        self._keep((lane, None, seq), data)

    async def read(self, lane: int, log: LogKey, places: Sequence[Place]) -> list[memoryview]:
        """The bytes of each place. Raises Moved, DatabaseError."""
        names = [_name(lane, log, place) for place in places]
        missing = [(name, place) for name, place in zip(names, places, strict=True) if name not in self._cache]
        found = {name: self._cache[name] for name in names if name in self._cache}
        for name in found:
            self._cache.move_to_end(name)
        while missing:
            size, some = 0, []
            while missing and size < _AT_ONCE_BYTES:
                some.append(missing.pop(0))
                size += some[-1][1].size
            seqs = sorted({place.seq for _, place in some if place.seq != IN_PIECE})
            bases = [place.base_offset for _, place in some if place.seq == IN_PIECE]
            if seqs:
                for seq, data in await self._link.run(_ENTRIES, lane, seqs):
                    found[lane, None, seq] = data
                    self._keep((lane, None, seq), data)
            if bases:
                for base, data in await self._link.run(_PIECES, lane, log.topic_id, log.partition, bases):
                    found[lane, log, base] = data
                    self._keep((lane, log, base), data)
        views = []
        for name, place in zip(names, places, strict=True):
            data = found.get(name)
            if data is None or len(data) < place.at + place.size or (place.seq == IN_PIECE and len(data) != place.size):
                self.forget(lane, log, place.base_offset)
                raise Moved
            views.append(memoryview(data)[place.at : place.at + place.size])
        return views

    def forget(self, lane: int, log: LogKey, base_offset: int) -> None:
        """A piece is another one now."""
        gone = self._cache.pop((lane, log, base_offset), None)
        if gone is not None:
            self._left += len(gone)

    def forget_lane(self, lane: int) -> None:
        """The lane is another process's: its pieces may become others."""
        for name in [name for name in self._cache if name[0] == lane]:
            self._left += len(self._cache.pop(name))

    def _keep(self, name: _Name, data: bytes) -> None:
        old = self._cache.pop(name, None)
        if old is not None:
            self._left += len(old)
        self._cache[name] = data
        self._left -= len(data)
        while self._left < 0:
            _, dropped = self._cache.popitem(last=False)
            self._left += len(dropped)


def _name(lane: int, log: LogKey, place: Place) -> _Name:
    return (lane, log, place.base_offset) if place.seq == IN_PIECE else (lane, None, place.seq)
