"""The seam: what kafkapy asks of a store, and nothing else.

A store keeps partition logs. Groups, transactions and cluster metadata keep no store of their own: their facts are
records in internal topics, so these few methods carry all durable state. `tests/storage/test_logs_contract.py` holds
the one suite that every store passes.

Invariants of every store
 1. Offsets of a log are dense as appended: a batch gets the log's end offset as its base, and the end moves by
    `last_offset_delta + 1`. Of a compacted log some are missing later.
 2. An outcome without an error means: as durable as the log's settings promise, and readable.
 3. Bytes come back as they went in, but for base offset and leader epoch (the first 16 bytes of a batch, outside
    its CRC).
 4. Sequencing (producer epochs, sequence numbers, duplicates, markers, last stable offset) is decided by
    `storage/sequencing.py` alone; a store only keeps the state and feeds it.
 5. A log that was deleted and created again under the same name (another topic id) is a new log.
 6. Which logs there are, and with which settings, is read from the catalogue when it is needed. A log that the
    catalogue does not call gone is not deleted, whoever knows it or not: a catalogue may be behind.

The methods are coroutines so that a store may go to a disk or a network; one that need not wait does not yield.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import NamedTuple, Protocol

import trio

from kafkapy.errors import Error
from kafkapy.model import NO_TIMESTAMP, Endpoint, IsolationLevel, LogId
from kafkapy.records.batch import BatchHeader
from kafkapy.storage.verification import Claim, Verification

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class LogSettings:
    """What a store needs to know of a topic's configuration. Names and units are those of Kafka's topic settings.

    A topic whose policy is not to delete has a retention of -1.
    """

    compacts: bool = False
    segment_bytes: int = 1 << 30
    segment_ms: int = 7 * 24 * 3_600_000
    segment_jitter_ms: int = 0
    segment_index_bytes: int = 10 << 20
    index_interval_bytes: int = 4096
    flush_messages: int = (1 << 63) - 1
    flush_ms: int = (1 << 63) - 1
    file_delete_delay_ms: int = 60_000
    retention_ms: int = -1
    retention_bytes: int = -1
    preallocate: bool = False
    min_cleanable_dirty_ratio: float = 0.5
    min_compaction_lag_ms: int = 0
    max_compaction_lag_ms: int = (1 << 63) - 1
    delete_retention_ms: int = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class CleanerSettings:
    """What the cleaner of compacted logs may use. Names and units are those of Kafka's settings `log.cleaner.*`;
    `io_max_bytes_per_second` counts what is read and what is written.
    """

    dedupe_buffer_size: int = 128 << 20
    io_buffer_load_factor: float = 0.9
    io_buffer_size: int = 512 << 10
    io_max_bytes_per_second: float = inf


class Origin(Enum):
    """Who appends; it decides which checks sequencing makes."""

    CLIENT = "client"
    COORDINATOR = "coordinator"


@dataclass(slots=True)
class Write:
    """Whole, validated batches for one log.

    `data` holds exactly the batches that `headers` describes, back to back; a control batch is described by a
    `ControlHeader`. With `expect_end`, the write is refused
    (outcome NOT_LEADER_OR_FOLLOWER) unless the log ends at that offset: the store itself stops a deposed coordinator.
    So is one with an older leader epoch than the log has: the store itself stops a deposed leader.
    With a `verification`, a transaction begins with it only if that is still the log's (INVALID_TXN_STATE); None: the
    writer answers for it.
    """

    log: LogId
    data: Buffer
    headers: Sequence[BatchHeader]
    leader_epoch: int = 0
    origin: Origin = Origin.CLIENT
    expect_end: int | None = None
    verification: Verification | None = None


@dataclass(slots=True)
class Outcome:
    """What became of one write.

    Appended: `base_offset` is the first record's offset. A repeat of an earlier append: the offsets it got then, and
    its largest timestamp (milliseconds) in `repeated_timestamp`. Rejected: `error` says why, and offsets but the log's
    start are -1.
    """

    base_offset: int = -1
    end_offset: int = -1
    log_start_offset: int = -1
    error: Error = Error.NONE
    message: str | None = None
    duplicate: bool = False
    repeated_timestamp: int = NO_TIMESTAMP


class Pending:
    """An append whose bytes are taken and whose order is fixed; what became of it comes when it is as durable as it
    must be.
    """

    __slots__ = ("_callbacks", "outcomes")

    def __init__(self, outcomes: list[Outcome] | None = None) -> None:
        self.outcomes = outcomes
        """`outcomes[i]` answers `writes[i]`; None as long as it is not known."""
        self._callbacks: tuple[Callable[[], None], ...] = ()

    def resolve(self, outcomes: list[Outcome]) -> None:
        """Said once, by the store."""
        self.outcomes = outcomes
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the outcomes are there, at once if they are. It only takes note."""
        if self.outcomes is None:
            self._callbacks += (callback,)
        else:
            callback()

    async def wait(self) -> list[Outcome]:
        """The outcomes. Who stops waiting takes nothing back."""
        while self.outcomes is None:
            done = trio.Event()
            self.when_done(done.set)
            await done.wait()
        return self.outcomes


class Region(Protocol):
    """Bytes of a log that stay where they are until they are sent, once: a large answer costs no memory meanwhile."""

    def __len__(self) -> int:
        """How many are left."""

    @property
    def position(self) -> int:
        """Where in its file the next byte lies."""

    def fileno(self) -> int:
        """A descriptor of the file, to be used before anything else is asked of the store. Raises OSError."""

    def read(self, size: int) -> bytes:
        """The next bytes, `size` at most; they stay what comes next. Raises OSError."""

    def advance(self, count: int) -> None:
        """The next `count` bytes are sent."""


@dataclass(slots=True)
class Read:
    """One log to read from `offset` on, at most `max_bytes` of it. `to_send`: a large find may stay a `Region`."""

    log: LogId
    offset: int
    max_bytes: int
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    to_send: bool = False


class AbortedTransaction(NamedTuple):
    """A transaction whose records a read-committed reader must skip from `first_offset` on (KIP-98)."""

    producer_id: int
    first_offset: int


class Slice(NamedTuple):
    """What one read brought.

    `records` (or `region`, if the read allows it) starts with the whole batch that contains the asked offset and may
    end in part of a batch, or before one that would have fitted in part. At the end of the log it is empty. Past the
    end or before the start: OFFSET_OUT_OF_RANGE, with the bounds filled in; a log that does not exist:
    UNKNOWN_TOPIC_OR_PARTITION. `aborted` is sorted by first offset, and None unless the read asked for committed
    records. `segment` and `position`: where the asked offset lies, for a comparison with a `Reach`; -1 where that is
    beyond what the reader may see.
    """

    records: Buffer = b""
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    aborted: list[AbortedTransaction] | None = None
    error: Error = Error.NONE
    region: Region | None = None
    segment: int = -1
    position: int = -1

    @property
    def size_bytes(self) -> int:
        return len(self.records) if self.region is None else len(self.region)


class Bounds(NamedTuple):
    """A log's offsets: first kept, first not yet durable (high watermark), first not yet decided, next to be given."""

    log_start_offset: int
    high_watermark: int
    last_stable_offset: int
    end_offset: int


class Reach(NamedTuple):
    """How far a reader gets: the first offset kept, the end of what it may see, and where in the log's bytes that lies.

    Positions count bytes within a segment, which is named by its first offset; a read does not go beyond one. A store
    without segments has one that never ends.
    """

    log_start_offset: int
    end_offset: int
    segment: int
    position: int


class FoundTime(NamedTuple):
    """A record found by its timestamp."""

    offset: int
    timestamp: int
    leader_epoch: int


class ActiveProducer(NamedTuple):
    """What a log knows of a producer; -1 for what is not known, and without an open transaction."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_timestamp: int
    coordinator_epoch: int
    transaction_start: int


class EpochEnd(NamedTuple):
    """The largest leader epoch at or below the asked one, and the offset where it ended (KIP-101)."""

    leader_epoch: int
    end_offset: int


class Replica(NamedTuple):
    """A log as it lies in a directory: how many bytes its batches take.

    A future one is to take the place of the one in another directory, and lacks `offset_lag` of its offsets.
    """

    log: LogId
    size_bytes: int
    offset_lag: int = 0
    is_future: bool = False


class LogDir(NamedTuple):
    """Where a store keeps logs, which, and how many bytes fit there: in all, and yet. -1: not known.

    With an error (KAFKA_STORAGE_ERROR: it is offline) nothing else is told.
    """

    path: str
    total_bytes: int = -1
    usable_bytes: int = -1
    replicas: Sequence[Replica] = ()
    error: Error = Error.NONE


class Checkpoint(NamedTuple):
    """What somebody made of a log's records before `offset`, so that they need not be read again."""

    offset: int
    data: bytes


class Catalogue(Protocol):
    """Which logs there are, and with which settings: asked by the store whenever it needs to know."""

    version: int
    """Another one whenever an answer may be another one: who has asked at this version need not ask again."""

    def settings(self, log: LogId) -> LogSettings | None:
        """The log's settings now; None when the catalogue has no such log, which may come from its being behind."""

    def epoch_origin(self, log: LogId) -> int:
        """What `Logs.epoch_origin` was when the log came into being: its leader epochs are counted from there."""

    def is_gone(self, log: LogId) -> bool:
        """Whether the log was deleted, for certain and for ever."""

    def logs(self) -> Iterable[LogId]:
        """Every log that there is."""


class Watch(Protocol):
    """An open watch of some logs."""

    def close(self) -> None:
        """Wake no more."""


class Logs(Protocol):
    """The store. Opened and closed as an async context manager by the store's own `open` function."""

    def adopt(self, catalogue: Catalogue) -> None:
        """Follow this catalogue from now on. Called once, before any other method."""

    async def catalogue_changed(self, logs: Iterable[LogId] | None) -> None:
        """These logs came, went, or have other settings in the catalogue now; None: any may, as at the start.

        What the catalogue has and the store has not is made, empty; what is gone is deleted, and its readers and
        watchers are woken. A log that cannot be made answers KAFKA_STORAGE_ERROR, and is tried again whenever it is
        asked for.
        """

    def epoch_origin(self, log: LogId) -> int:
        """The epoch in which a log would come into being now, where the store counts epochs of several logs together.

        Later ones are never lower. 0 where each log has epochs of its own. See `Catalogue.epoch_origin`.
        """

    def append(self, writes: Sequence[Write]) -> Pending:
        """Append each write; a write that is refused does not stop the others.

        On return the bytes are taken (the buffers may be used again) and their order is fixed. A disk that fails
        answers KAFKA_STORAGE_ERROR for the writes it touched.
        """

    async def read(self, reads: Sequence[Read], max_bytes: int) -> list[Slice]:
        """Serve the reads in order until `max_bytes` are used up; `slices[i]` answers `reads[i]`.

        The first batch of the first read that finds any is returned whole, even beyond the limits (KIP-74).
        """

    def bounds(self, log: LogId) -> Bounds | Error:
        """The log's offsets now, or why they are not to be had here.

        NOT_LEADER_OR_FOLLOWER: another broker has the log. UNKNOWN_TOPIC_OR_PARTITION: nobody has. KAFKA_STORAGE_ERROR:
        it could not be made.
        """

    def reach(self, log: LogId, isolation: IsolationLevel) -> Reach | Error:
        """How far such a reader gets now, or an error as of `bounds`; KAFKA_STORAGE_ERROR, too, for a disk that fails.

        Asked at every growth, for everybody who waits: it costs next to nothing, and needs no batch.
        """

    async def find_time(self, log: LogId, timestamp: int) -> FoundTime | None:
        """The first record whose timestamp is at least `timestamp`, record by record, also in compressed batches."""

    async def find_max_time(self, log: LogId) -> FoundTime | None:
        """The record with the largest timestamp, the first of them when several share it."""

    async def epoch_end(self, log: LogId, leader_epoch: int) -> EpochEnd | None:
        """Where `leader_epoch` ended; None when the log knows no epoch at or below it.

        Raises KafkaError with an error as of `bounds`.
        """

    async def trim(self, log: LogId, offset: int) -> int:
        """Drop what lies before `offset`, at most to the high watermark, and return the new log start offset."""

    async def apply_retention(self, now_ms: int) -> None:
        """Drop the oldest segments of every log that its settings keep no longer (retention.ms, retention.bytes)."""

    async def clean(self, settings: CleanerSettings) -> bool:
        """Clean the dirtiest of the compacted logs that are dirty enough: of each key the last record stays.

        False when there was none, or it could not be cleaned: then it is named in the broker's log, and left.
        """

    def size_bytes(self, log: LogId) -> int:
        """How much the log's batches take, in bytes; 0 when there is no such log."""

    def log_dirs(self) -> Sequence[LogDir]:
        """Where the logs are, and the room there."""

    def begin_verification(self, log: LogId, claim: Claim, now_ms: int) -> Verification | Error:
        """What must come with a batch that begins a transaction, once its coordinator has said that it may.

        `ALREADY_OPEN` where the transaction is open, and nobody has to be asked. INVALID_PRODUCER_EPOCH for a producer
        that has been fenced here; other errors as of `bounds`.
        """

    def producers(self, log: LogId) -> Sequence[ActiveProducer] | Error:
        """Who has written to the log, idempotently or in transactions, and is remembered; errors as of `bounds`."""

    async def expire_producers(self, now_ms: int, expiration_ms: int) -> None:
        """Forget idempotent producers that have been silent for `expiration_ms` (producer.id.expiration.ms)."""

    def alter_log_dir(self, log: LogId, path: str) -> Error:
        """Have the log moved into this directory, in the background; what stands against it.

        LOG_DIR_NOT_FOUND for one that is none, KAFKA_STORAGE_ERROR where one of both is offline,
        INVALID_TOPIC_EXCEPTION for a topic whose name is too long for that; others as of `bounds`.
        """

    async def save_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        """Keep this beside the log, and the last one before it. Raises KafkaError KAFKA_STORAGE_ERROR.

        It is on the medium on return, or nothing has changed. Checkpoints go with the log. What it holds the log need
        not: the next write begins a segment, if the last one is of some size, so that this one can be cleaned.
        """

    async def load_checkpoints(self, log: LogId) -> Sequence[Checkpoint]:
        """What is kept beside the log, two at most, the last one first.

        Without those that are damaged, or whose offset the log is compacted beyond: then a tombstone may be gone that
        they have not heard of.
        """

    async def drop_checkpoint(self, log: LogId, checkpoint: Checkpoint) -> None:
        """Forget this one, if it is still kept. Raises KafkaError KAFKA_STORAGE_ERROR."""

    def watch(self, logs: Sequence[LogId], wake: Callable[[LogId], None]) -> Watch:
        """Call `wake` with any of these logs that grew, moved its start or stable offset, or went away, until closed.

        What comes before the watch is opened is not told: look once more after that. `wake` takes note, and may ask for
        `bounds` and `reach`.
        """

    def look_again(self, logs: Sequence[LogId]) -> None:
        """Wake who watches any of these logs: another broker leads it now."""


class Holder(NamedTuple):
    """Who leads a log, since which leader epoch."""

    node_id: int
    epoch: int


class Leases(Protocol):
    """Who leads which logs. A log is led by at most one broker at a time; its epoch never goes back."""

    @property
    def moves(self) -> int:
        """A number that is another one after any answer of `holder` has changed: what was made of them is stale."""

    def epoch(self, log: LogId) -> int | None:
        """The leader epoch under which this broker leads the log; None when it does not."""

    def holder(self, log: LogId) -> Holder | None:
        """Who leads the log, as far as this broker knows; None when nobody does."""

    def watch(self, gained: Callable[[Sequence[LogId]], None], lost: Callable[[Sequence[LogId]], None]) -> Watch:
        """Call `gained` with the logs that this broker leads already, and with those that it comes to lead; `lost` with
        those that it leads no longer, be it that they were deleted. Both only take note.
        """


class LiveBroker(NamedTuple):
    """A broker of the cluster that is there, and where it is reached: an endpoint a listener.

    An empty host, or port 0, is that by which a client came: of the broker itself, which it has reached already.
    """

    node_id: int
    rack: str | None
    endpoints: tuple[Endpoint, ...]


class Brokers(Protocol):
    """Which brokers there are."""

    def live(self) -> Sequence[LiveBroker]:
        """Those that are there now, this one among them, by node id."""

    def watch(self, wake: Callable[[], None]) -> Watch:
        """Call `wake` each time that `live` has another answer, until closed. It only takes note."""
