"""A shard's state, kept beside its log now and then, so that loading costs what came since.

A checkpoint is the mark of the last batch before its offset, then the machine's facts as record batches in the
journal's own encoding, what open transactions wrote as batches of their producers. So it is a log of its own, and
replayed by the same code.

Invariants
 1. A checkpoint is believed only if its log still has that very batch right before the checkpoint's offset: a log that
    a power cut shortened, one that grew again afterwards, or another one's, has not. Apache Kafka's own snapshots of a
    metadata log (KIP-630) have no mark: they count where they are whole, and within the log's bounds.
 2. Where a log is trimmed (`ShardType.is_trimmed`), what goes is in two checkpoints that are on the medium, and the
    log keeps the marks of both: with either of them all is there.
 3. One is written when more facts were written since the last than it had, and at least some thousands: so all of them
    together cost no more than a small multiple of the facts themselves.
"""

import logging
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import trio

from kafkapy.coordination.shard import InTransaction, Journal, Machine, ShardType
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_PRODUCER_ID, LogId
from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch, read_header, walk
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record
from kafkapy.storage.base import Checkpoint, Logs, Read

_log = logging.getLogger(__name__)

MIN_RECORDS: Final = 5_000
"""So many records are always read again at a load: some tens of milliseconds."""

_RECORDS_A_BATCH: Final = 100
"""What is encoded in one step of the loop: about two milliseconds' work."""

_KAFKAS: Final = bytes(8)
_VERSION: Final = 1
_HEAD: Final = struct.Struct(">hqI")  # version, base offset and CRC of the last batch before the checkpoint's offset


class BatchMark(NamedTuple):
    """What tells a batch of a log from any other."""

    base_offset: int
    crc: int

    @classmethod
    def of(cls, header: BatchHeader) -> "BatchMark":
        return cls(header.base_offset, header.crc)


class Content(NamedTuple):
    """What a checkpoint that fits its log holds; `last_batch` is not known of one of Apache Kafka's."""

    last_batch: BatchMark | None
    batches: Buffer


def is_kafkas(checkpoint: Checkpoint) -> bool:
    """Whether it is a snapshot that Apache Kafka has written: batches, from offset 0 on, and nothing before them."""
    return checkpoint.data.startswith(_KAFKAS)


async def open_checkpoint(logs: Logs, log: LogId, checkpoint: Checkpoint) -> Content | None:
    """What is in the checkpoint, or None, with a word in the log, when it does not fit the log as it is.

    Raises KafkaError when that cannot be seen.
    """
    problem = "it is of another version"
    if is_kafkas(checkpoint):
        if _is_whole(checkpoint.data) and _is_within(logs, log, checkpoint.offset):
            return Content(None, checkpoint.data)
        problem = f"it is damaged, or the log does not reach from it at offset {checkpoint.offset}"
    elif len(checkpoint.data) >= _HEAD.size:
        version, base_offset, crc = _HEAD.unpack_from(checkpoint.data)
        if version == _VERSION:
            mark = BatchMark(base_offset, crc)
            if await _has_batch(logs, log, mark, checkpoint.offset):
                return Content(mark, memoryview(checkpoint.data)[_HEAD.size :])
            problem = f"the log has not the batch that ended at offset {checkpoint.offset}"
    _log.warning("the checkpoint of %s is not used: %s", log, problem)
    return None


def _is_whole(snapshot: Buffer) -> bool:
    """Whether a snapshot of Kafka ends as they do, in a control batch."""
    try:
        headers = [header for _, header in walk(snapshot)]
    except CorruptBatch:
        return False
    return bool(headers) and headers[-1].is_control


def _is_within(logs: Logs, log: LogId, offset: int) -> bool:
    bounds = logs.bounds(log)
    if isinstance(bounds, Error):
        raise KafkaError(bounds)
    return bounds.log_start_offset <= offset <= bounds.end_offset


async def _has_batch(logs: Logs, log: LogId, mark: BatchMark, end_offset: int) -> bool:
    bounds = logs.bounds(log)
    if isinstance(bounds, Error):
        raise KafkaError(bounds)
    if not bounds.log_start_offset <= mark.base_offset < end_offset <= bounds.end_offset:
        return False
    [piece] = await logs.read([Read(log, end_offset - 1, 1)], 1)
    if piece.error is Error.KAFKA_STORAGE_ERROR:
        raise KafkaError(piece.error, f"{log} could not be read")
    if not piece.records:
        return False
    try:
        header = read_header(piece.records)
    except CorruptBatch:
        return False
    return BatchMark.of(header) == mark and header.next_offset == end_offset


class Snapshot(NamedTuple):
    """A shard's durable state at one moment, to be read bit by bit."""

    facts: Iterable[Any]
    now_ms: int


class Checkpointing:
    """Writes a shard's checkpoints. `run` does it in a task of its own, beside the shard's."""

    def __init__(self, logs: Logs, log: LogId, shard_type: ShardType) -> None:
        self._logs = logs
        self._log = log
        self._journal = shard_type.journal
        self._is_wanted = not shard_type.records_add_up
        self._trims = shard_type.is_trimmed
        self._last_mark: BatchMark | None = None  # that of the checkpoint that is on the medium
        self._size = 0
        self._written_since = 0
        self._to_write: tuple[Snapshot, BatchMark, int] | None = None
        self._given = trio.Event()

    def loaded(self, checkpoint_size: int, checkpoint_mark: BatchMark | None, record_count: int) -> None:
        """The shard was loaded from a checkpoint of so many records (0: there was none), and from as many behind it."""
        self._size, self._last_mark, self._written_since = checkpoint_size, checkpoint_mark, record_count

    def is_due(self, record_count: int = 0) -> bool:
        """Whether a checkpoint is worth it once so many more records are in the log."""
        if not self._is_wanted or self._to_write is not None:
            return False
        return self._written_since + record_count > max(MIN_RECORDS, self._size)

    def wrote(self, record_count: int) -> None:
        """So many records were appended to the log."""
        self._written_since += record_count

    @staticmethod
    def snapshot(machine: Machine, now_ms: int) -> Snapshot:
        """The state now; to be handed to `write` once it is in the log."""
        return Snapshot(machine.snapshot(), now_ms)

    def write(self, snapshot: Snapshot, last_batch: BatchMark, offset: int) -> None:
        """Keep this state: it is that of the log's records before `offset`, of which `last_batch` are the last."""
        self._to_write = (snapshot, last_batch, offset)
        self._written_since = 0
        self._given.set()

    async def run(self) -> None:
        """Write what is given, until cancelled."""
        while True:
            await self._given.wait()
            self._given = trio.Event()
            if self._to_write is not None:
                try:
                    await self._write(*self._to_write)
                except KafkaError as failure:
                    _log.warning("no checkpoint of %s was written, the next one may be: %s", self._log, failure)
                self._to_write = None

    async def _write(self, snapshot: Snapshot, last_batch: BatchMark, offset: int) -> None:
        parts = [_HEAD.pack(_VERSION, *last_batch)]
        size = 0
        for batch, count in _batches(snapshot, self._journal):
            parts.append(batch)
            size += count
            await trio.lowlevel.checkpoint()
        await self._logs.save_checkpoint(self._log, Checkpoint(offset, b"".join(parts)))
        self._size = size
        before, self._last_mark = self._last_mark, last_batch
        if self._trims and before is not None:
            await self._logs.trim(self._log, before.base_offset)


def _batches(snapshot: Snapshot, journal: Journal[Any]) -> Iterator[tuple[bytes, int]]:
    """The state as batches, and the number of records in each."""
    records: list[Record] = []
    producer_id = NO_PRODUCER_ID
    for fact in snapshot.facts:
        owner = NO_PRODUCER_ID
        if isinstance(fact, InTransaction):
            owner, fact = fact
        if records and (owner != producer_id or len(records) >= _RECORDS_A_BATCH):
            yield _batch(records, producer_id), len(records)
            records = []
        producer_id = owner
        for entry in journal.encode(fact):
            records.append(Record(len(records), snapshot.now_ms, entry.key, entry.value, []))
    if records:
        yield _batch(records, producer_id), len(records)


def _batch(records: list[Record], producer_id: int) -> bytes:
    transactional = producer_id != NO_PRODUCER_ID
    return build_batch(
        records, producer_id=producer_id, producer_epoch=0 if transactional else -1, transactional=transactional
    )
