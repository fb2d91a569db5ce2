"""Brings a log's records into a machine: from a checkpoint, if there is one that fits, and from the log behind it.

A shard is loaded by it, and whoever only follows a log (`load` once, `catch_up` whenever the log has grown).

Invariants
 1. What a transaction wrote, and its marker, come to the machine where they stand in the log: after all that lies
    before them, and before all that lies behind.
 2. Of the other records of a key only the last of each bite is applied: coordinators' topics are compacted, so what a
    later record supersedes says nothing. Records without a key all count, and those of shards whose records add up.
 3. Nothing is applied that fails its CRC.
"""

import logging
from typing import Any, Final

import trio

from kafkapy.coordination.checkpointing import BatchMark, is_kafkas, open_checkpoint
from kafkapy.coordination.shard import Entry, InTransaction, ShardType, TransactionEnded
from kafkapy.errors import Error, KafkaError
from kafkapy.model import LogId
from kafkapy.protocol.primitives import ProtocolError
from kafkapy.records.batch import CONTROL, CRC_FROM, TRANSACTIONAL, BatchHeader, Buffer, CorruptBatch, checksum, walk
from kafkapy.records.control import read_end_marker
from kafkapy.records.record import keys_and_values
from kafkapy.storage.base import Checkpoint, Logs, Read

_log = logging.getLogger(__name__)

LOAD_SIZE_BYTES: Final = 256 * 1024
_RECORDS_A_BITE: Final = 200
"""Replay is work on the event loop: after some milliseconds' work the other tasks get their turn."""

_UNREADABLE: Final = (CorruptBatch, ProtocolError, ValueError, LookupError)
"""What journals and machines raise at a record that makes no sense."""


class DamagedLog(Exception):
    """A log cannot be replayed: which, where, and why."""

    def __init__(self, log: LogId, offset: int, reason: object) -> None:
        super().__init__(f"{log}: the batch at offset {offset} is damaged: {reason}")
        self.log = log
        self.offset = offset


class LostBeginning(DamagedLog):
    """What comes before a log's first offset is in no checkpoint that is left."""

    def __init__(self, log: LogId, start_offset: int) -> None:
        Exception.__init__(
            self,
            f"{log} begins at offset {start_offset}: what came before it was in its checkpoints, "
            "which are missing, or damaged, or another log's",
        )
        self.log = log
        self.offset = start_offset


class UnfitSnapshot(DamagedLog):
    """What comes first in a log is in snapshots of Apache Kafka, none of which fits it."""

    def __init__(self, log: LogId, offset: int) -> None:
        Exception.__init__(
            self, f"{log}: Apache Kafka's snapshot of it at offset {offset} is damaged, or the log does not go on there"
        )
        self.log = log
        self.offset = offset


class Replay:
    """A machine, and how far its log has been brought into it."""

    def __init__(self, logs: Logs, log: LogId, shard_type: ShardType) -> None:
        self._logs = logs
        self._log = log
        self._type = shard_type
        self._begin(0)

    def _begin(self, offset: int) -> None:
        self.machine: Any = self._type.machine_factory()
        self.offset = offset
        """The next to be read."""
        self.last_batch: BatchMark | None = None
        """The last batch before `offset`."""
        self.checkpoint_size = 0
        """How many records the checkpoint had."""
        self.checkpoint_mark: BatchMark | None = None
        """The last batch before the checkpoint."""
        self.record_count = 0
        """How many records were read behind the checkpoint."""
        self._latest: dict[bytes, tuple[bytes | None, int]] = {}  # the last value of a key, and its batch's offset

    async def load(self) -> None:
        """Bring in all that is in the log.

        Raises `KafkaError` when there is no such log here, DamagedLog, and LostBeginning.
        """
        while not await self._load_beginning():
            pass
        await self.catch_up()

    async def _load_beginning(self) -> bool:
        """Begin with a checkpoint that fits the log, or at the log's start; False when that has moved meanwhile."""
        start = self._start_offset()
        unfit = []
        for checkpoint in await self._logs.load_checkpoints(self._log):
            self._begin(start)
            if await self._load_checkpoint(checkpoint):
                break
            unfit.append(checkpoint)
        else:
            kafkas = [checkpoint.offset for checkpoint in unfit if is_kafkas(checkpoint)]
            if kafkas:
                raise UnfitSnapshot(self._log, max(kafkas))
            if self._type.is_trimmed and start > 0:
                if self._start_offset() > start:
                    return False
                raise LostBeginning(self._log, start)
            self._begin(start)
        for checkpoint in unfit:  # nobody may come to believe it later, when the log has other records there
            if not is_kafkas(checkpoint):
                await self._logs.drop_checkpoint(self._log, checkpoint)
        return True

    def _start_offset(self) -> int:
        bounds = self._logs.bounds(self._log)
        if isinstance(bounds, Error):
            raise KafkaError(bounds, f"there is no log {self._log}")
        return bounds.log_start_offset

    def fork(self) -> "Replay":
        """Another machine that has come as far. Its `copy` shares nothing that changes; not to be called in a load."""
        twin = Replay(self._logs, self._log, self._type)
        twin.machine = self.machine.copy()
        twin.offset, twin.last_batch = self.offset, self.last_batch
        twin.checkpoint_size, twin.checkpoint_mark = self.checkpoint_size, self.checkpoint_mark
        twin.record_count = self.record_count
        return twin

    async def catch_up(self) -> None:
        """Bring in what has come to the log since. Raises `KafkaError` when the log is gone, and DamagedLog."""
        while True:
            [piece] = await self._logs.read([Read(self._log, self.offset, LOAD_SIZE_BYTES)], LOAD_SIZE_BYTES)
            if piece.error is Error.CORRUPT_MESSAGE:
                raise DamagedLog(self._log, self.offset, "its header makes no sense")
            if piece.error is not Error.NONE:
                raise KafkaError(piece.error, f"{self._log} could not be read")
            if not piece.records:
                return
            before = self.offset
            await self._take_batches(piece.records)
            if self.offset == before:
                raise DamagedLog(self._log, self.offset, "it is cut off")

    async def _load_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Begin with the checkpoint; False when it does not fit the log, or makes no sense."""
        content = await open_checkpoint(self._logs, self._log, checkpoint)
        if content is None:
            return False
        try:
            await self._take_batches(content.batches)
        except DamagedLog as damage:
            _log.warning("the checkpoint of %s is not used: %s", self._log, damage)
            return False
        self.checkpoint_size, self.record_count = self.record_count, 0
        self.offset = checkpoint.offset
        self.last_batch = self.checkpoint_mark = content.last_batch  # unknown: then it is that of what comes
        return True

    async def _take_batches(self, batches: Buffer) -> None:
        """Apply whole batches, in bites."""
        view, header, bite_ends_at = memoryview(batches), None, self.record_count + _RECORDS_A_BITE
        for position, header in walk(batches):
            batch = view[position : position + header.size_bytes]
            try:
                if checksum(batch[CRC_FROM:]) != header.crc:
                    raise CorruptBatch("it fails its CRC")
                self._take(batch, header)
            except _UNREADABLE as reason:
                raise DamagedLog(self._log, header.base_offset, reason) from reason
            if self.record_count >= bite_ends_at:
                self._apply_latest()
                self.offset, self.last_batch = header.next_offset, BatchMark.of(header)
                await trio.lowlevel.checkpoint()
                bite_ends_at = self.record_count + _RECORDS_A_BITE
        self._apply_latest()
        if header is not None:
            self.offset, self.last_batch = header.next_offset, BatchMark.of(header)
        await trio.lowlevel.checkpoint()

    def _take(self, batch: memoryview, header: BatchHeader) -> None:
        if header.record_count == 0:
            return  # what compaction left of a batch
        self.record_count += header.record_count
        if not header.attributes & (CONTROL | TRANSACTIONAL):
            latest, offset, all_count = self._latest, header.base_offset, self._type.records_add_up
            for key, value in keys_and_values(batch, header):
                if key is None or all_count:
                    self._apply(key, value)
                else:
                    latest.pop(key, None)  # so that it comes after those that it followed
                    latest[key] = (value, offset)
        elif header.is_control:
            marker = read_end_marker(batch)
            if marker is not None:
                self._apply_latest()
                self.machine.apply(TransactionEnded(header.producer_id, marker.committed))
        else:
            self._apply_latest()
            for key, value in keys_and_values(batch, header):
                fact = self._decode(key, value)
                if fact is not None:
                    self.machine.apply(InTransaction(header.producer_id, fact))

    def _apply_latest(self) -> None:
        latest, self._latest = self._latest, {}
        for key, (value, offset) in latest.items():
            try:
                self._apply(key, value)
            except _UNREADABLE as reason:
                raise DamagedLog(self._log, offset, reason) from reason

    def _apply(self, key: bytes | None, value: bytes | None) -> None:
        fact = self._decode(key, value)
        if fact is not None:
            self.machine.apply(fact)

    def _decode(self, key: bytes | None, value: bytes | None) -> Any:
        return self._type.journal.decode(Entry(key, value))
