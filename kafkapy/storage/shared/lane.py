"""A lane: some of the logs, whose entries one process at a time may write.

Its state is a function of its checkpoint and of the entries after it: whoever has both has it. The statements that make
it durable are the committer's and the folder's.

Invariants
 1. Entries are numbered without a gap, and `seq` is the number of the last one that is in the state.
 2. A checkpoint is taken only when nothing is under way: it has no entry that is not committed.
"""

import struct
import zlib
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final, NamedTuple

import trio

from kafkapy.protocol.primitives import write_uvarint as write_number
from kafkapy.storage.aborted import decode_rows, encode_rows
from kafkapy.storage.producer_snapshot import decode_snapshot, encode_snapshot
from kafkapy.storage.segments import Segment
from kafkapy.storage.shared.entries import (
    BadEntry,
    Chunk,
    Entry,
    LogKey,
    Removed,
    Start,
    read_key,
    read_number,
    read_signed,
    write_key,
    write_signed,
)
from kafkapy.storage.shared.log_state import IN_PIECE, LogState, Place

_VERSION: Final = 1


class BadCheckpoint(Exception):
    """These bytes are no checkpoint, or one of a later version."""


class PieceKey(NamedTuple):
    """A row of `pieces` of some lane."""

    log: LogKey
    base_offset: int


def lane_of(log: LogKey, lane_count: int) -> int:
    """The lane of a log, for ever."""
    digest = blake2b(log.topic_id + struct.pack(">i", log.partition), digest_size=8).digest()
    return int.from_bytes(digest, "big") % lane_count


class Lane:
    """One lane, as of the entry `seq`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.epoch = -1
        """Under which this process owns it; of a lane that is only followed, -1."""
        self.seq = 0
        self.checkpoint_seq = 0
        self.damage: str | None = None
        """Why nothing can be said of its logs, and nothing written to them."""
        self.logs: dict[LogKey, LogState] = {}
        self.doomed: set[PieceKey] = set()
        """Pieces of which nothing is left in any log: the next checkpoint drops them."""
        self.removed: set[LogKey] = set()
        """Logs of which the next checkpoint drops whatever is kept beside them."""
        self.unfolded_bytes = 0
        self.unfolded_batches = 0
        self.waiting = 0
        """How many writes and changes are taken that are not answered yet."""
        self.turn = trio.Lock()
        """Whose it is to move bytes of this lane: a checkpoint's, or the cleaner's."""

    def log(self, key: LogKey) -> LogState:
        """The log, which comes into being when it is first asked for."""
        state = self.logs.get(key)
        if state is None:
            state = self.logs[key] = LogState()
        return state

    def replay(self, seq: int, entry: Entry, size_bytes: int, only: LogKey | None = None) -> list[LogKey]:
        """Take an entry that is committed, and has so many bytes; which logs it touched.

        With `only`, other logs are left as they are. Raises BadEntry.
        """
        if seq != self.seq + 1:
            raise BadEntry(f"entry {seq} follows entry {self.seq}")
        at = 0
        touched = []
        for change in entry.changes:
            size = change.size_bytes if isinstance(change, Chunk) else 0
            if only not in (None, change.log):
                at += size
                continue
            touched.append(change.log)
            match change:
                case Chunk(key, begins_segment, headers):
                    log = self.log(key)
                    if headers[0].base_offset != log.head.end_offset or not (begins_segment or log.segments):
                        raise BadEntry(f"entry {seq} does not go on where a log ends, at {log.head.end_offset}")
                    log.replay(headers)
                    log.add(headers, begins_segment=begins_segment, seq=seq, at=at, size=size, now_ms=entry.made_ms)
                    at += size
                    self.unfolded_batches += len(headers)
                case Start(key, offset):
                    self.begin_log_at(key, offset)
                case Removed(key):
                    self.remove(key)
        if at != size_bytes:
            raise BadEntry(f"entry {seq} tells of {at} bytes, and has {size_bytes}")
        for key in set(touched).intersection(self.logs):
            self.logs[key].see()
        self.unfolded_bytes += at
        self.seq = seq
        return touched

    def begin_log_at(self, key: LogKey, offset: int) -> None:
        """The log begins there."""
        self.doom(key, self.log(key).begin_at(offset))

    def remove(self, key: LogKey) -> None:
        """The log is no more."""
        state = self.logs.pop(key, None)
        if state is not None:
            self.doom(key, state.places)
            self.removed.add(key)

    def doom(self, key: LogKey, places: Iterable[Place]) -> None:
        """Of these nothing is left in the log."""
        self.doomed.update(PieceKey(key, place.base_offset) for place in places if place.seq == IN_PIECE)

    def spoil(self, damage: str) -> None:
        """It cannot be read."""
        self.damage = damage
        self.logs.clear()
        self.seq = self.checkpoint_seq  # there is nothing to be folded

    # -- checkpoints

    def checkpoint(self) -> bytes:
        """The state without the places of bytes, which are rows."""
        out = bytearray()
        for key, log in self.logs.items():
            write_key(out, key)
            for number in (log.start, log.head.end_offset, log.end_position, log.cleaned_to):
                write_number(out, number)
            write_number(out, len(log.segments))
            for segment in log.segments:
                write_number(out, segment.base_offset)
                write_number(out, segment.size)
                has_first = segment.first_timestamp is not None
                write_number(out, has_first)
                write_signed(out, segment.first_timestamp or 0)
                write_signed(out, segment.max_timestamp)
                write_number(out, segment.written_ms)
            write_number(out, len(log.epochs))
            for epoch, offset in log.epochs:
                write_number(out, epoch)
                write_number(out, offset)
            write_number(out, len(log.open_positions))
            for producer_id, position in log.open_positions.items():
                write_number(out, producer_id)
                write_number(out, position)
            for part in (encode_rows(log.aborted), encode_snapshot(log.head.producers)):
                write_number(out, len(part))
                out += part
        return bytes((_VERSION,)) + zlib.compress(out, 1)

    def restore(self, seq: int, state: bytes, pieces: Iterable[tuple[LogKey, Place]]) -> None:
        """Begin from a checkpoint, and from the pieces that there are. Raises BadCheckpoint."""
        if state[:1] != bytes((_VERSION,)):
            raise BadCheckpoint(f"it is of version {state[0] if state else None}, and this kafkapy knows {_VERSION}")
        try:
            self.logs = dict(_read_logs(zlib.decompress(state[1:])))
        except (zlib.error, LookupError, ValueError) as damage:
            raise BadCheckpoint(f"it makes no sense: {damage}") from damage
        self.seq = self.checkpoint_seq = seq
        for key, place in pieces:
            if key in self.logs:
                self.logs[key].places.append(place)
            else:
                self.doomed.add(PieceKey(key, place.base_offset))


def _read_logs(data: bytes) -> Iterable[tuple[LogKey, LogState]]:
    at = 0
    while at < len(data):
        log = LogState()
        key, at = read_key(data, at)
        log.start, at = read_number(data, at)
        end_offset, at = read_number(data, at)
        log.end_position, at = read_number(data, at)
        log.cleaned_to, at = read_number(data, at)
        count, at = read_number(data, at)
        for _ in range(count):
            base_offset, at = read_number(data, at)
            segment = Segment(base_offset)
            segment.size, at = read_number(data, at)
            has_first, at = read_number(data, at)
            first, at = read_signed(data, at)
            segment.first_timestamp = first if has_first else None
            segment.max_timestamp, at = read_signed(data, at)
            segment.written_ms, at = read_number(data, at)
            log.segments.append(segment)
        count, at = read_number(data, at)
        for _ in range(count):
            epoch, at = read_number(data, at)
            offset, at = read_number(data, at)
            log.epochs.append((epoch, offset))
        count, at = read_number(data, at)
        for _ in range(count):
            producer_id, at = read_number(data, at)
            log.open_positions[producer_id], at = read_number(data, at)
        size, at = read_number(data, at)
        log.aborted = list(decode_rows(data[at : at + size]))
        at += size
        size, at = read_number(data, at)
        log.head.restore(decode_snapshot(data[at : at + size]), end_offset)
        at += size
        log.see()
        yield key, log
