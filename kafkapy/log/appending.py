"""Takes what a producer sends, checks it, and has it appended.

The usual batch is judged by its 61-byte header and its CRC alone and goes to the store as it came. Records are only
looked at where the topic's settings need it: keys on a compacted topic, timestamps with a lower bound, another
compression than the producer's. Called by the Produce handler with everything a request holds for known partitions.
"""

import logging
from collections.abc import Sequence
from typing import Final, NamedTuple

import trio

from kafkapy.clock import Clock
from kafkapy.config.layers import TopicConfig
from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_TIMESTAMP, LogId
from kafkapy.records.batch import (
    HEADER_SIZE,
    BatchHeader,
    Buffer,
    Compression,
    CorruptBatch,
    crc_matches,
    read_header,
    restamp_time,
)
from kafkapy.records.builder import build_batch
from kafkapy.records.record import Record, read_records
from kafkapy.storage.base import Logs, Outcome, Write

_log = logging.getLogger(__name__)

ACKS_ALL: Final = -1
_ZSTD_FROM_VERSION: Final = 7
_ATTRIBUTES_LOW_BYTE_AT: Final = 22
_TRANSACTIONAL: Final = 0x10
_RECOMPRESSIONS: Final = trio.CapacityLimiter(2)

_CODECS: Final = {
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}
_KNOWN_CODECS: Final = frozenset(map(int, Compression))
_LEVELS: Final = {
    Compression.GZIP: "compression.gzip.level",
    Compression.LZ4: "compression.lz4.level",
    Compression.ZSTD: "compression.zstd.level",
}


class RecordError(NamedTuple):
    """One record that was refused (KIP-467): its position in the batch, and why."""

    position: int
    message: str


class Target(NamedTuple):
    """What is to be appended where."""

    log: LogId
    config: TopicConfig
    leader_epoch: int
    in_sync_count: int
    replica_count: int
    records: Buffer | None


class Result(NamedTuple):
    """What became of it, as the Produce response tells it."""

    error: Error = Error.NONE
    message: str | None = None
    base_offset: int = -1
    log_append_time_ms: int = NO_TIMESTAMP
    log_start_offset: int = -1
    record_errors: Sequence[RecordError] = ()


class _BatchRefused(KafkaError):
    """A batch, or some of its records, are not acceptable to the log; the answer names the log's start."""

    def __init__(self, error: Error, message: str, record_errors: Sequence[RecordError] = ()) -> None:
        super().__init__(error, message)
        self.record_errors = record_errors


def is_transactional(records: Buffer) -> bool:
    """Whether the batch at the start of these bytes calls itself transactional."""
    return len(records) >= HEADER_SIZE and bool(records[_ATTRIBUTES_LOW_BYTE_AT] & _TRANSACTIONAL)


async def append(logs: Logs, clock: Clock, targets: Sequence[Target], *, acks: int, api_version: int) -> list[Result]:
    """Append each target's batch; `results[i]` answers `targets[i]`. One store call for all that is acceptable."""
    now_ms = clock.now_ms()
    results: list[Result | None] = []
    writes: list[Write] = []
    stamps: list[int] = []
    for target in targets:
        try:
            write, append_time_ms = await _prepare(target, acks, api_version, now_ms)
        except KafkaError as refusal:
            results.append(_refused(logs, target.log, refusal))
        else:
            results.append(None)
            writes.append(write)
            stamps.append(append_time_ms)
    outcomes = iter(zip(await logs.append(writes), stamps, strict=True)) if writes else iter(())
    return [result if result is not None else _answer(*next(outcomes)) for result in results]


async def _prepare(target: Target, acks: int, api_version: int, now_ms: int) -> tuple[Write, int]:
    """The write for a target, and the time that the log stamps on it (-1: the producer's times stay)."""
    data, header = _single_batch(target.records, api_version)
    config = target.config
    # More replicas in sync than there are replicas cannot be asked for (KIP-966).
    if acks == ACKS_ALL and target.in_sync_count < min(config["min.insync.replicas"], target.replica_count):
        raise KafkaError(
            Error.NOT_ENOUGH_REPLICAS,
            f"The size of the current ISR : {target.in_sync_count} is insufficient to satisfy the min.isr requirement "
            f"of {config['min.insync.replicas']} for partition {target.log}",
        )
    _check_batch(data, header, target)
    log_append_time = config["message.timestamp.type"] == "LogAppendTime"
    _check_records(data, header, config, now_ms, target.log, log_append_time=log_append_time)
    wanted = config["compression.type"]
    if wanted != "producer" and _CODECS[wanted] is not header.compression:
        data = await _recompressed(data, header, _CODECS[wanted], config)
        header = read_header(data)
    if log_append_time:
        data = restamp_time(data, header, now_ms)
        header = read_header(data)
    if header.size_bytes > config["segment.bytes"]:
        raise KafkaError(
            Error.RECORD_LIST_TOO_LARGE,
            f"The size of the batch {header.size_bytes} is larger than segment.bytes {config['segment.bytes']}",
        )
    return Write(target.log, data, (header,), target.leader_epoch), now_ms if log_append_time else NO_TIMESTAMP


def _single_batch(records: Buffer | None, api_version: int) -> tuple[Buffer, BatchHeader]:
    """The one batch that a partition of a request must hold."""
    if not records:
        raise KafkaError(Error.INVALID_RECORD, f"Produce requests with version {api_version} must have a record batch")
    magic = records[16] if len(records) > 16 else None
    if magic is not None and magic < 2:
        raise KafkaError(
            Error.INVALID_RECORD,
            f"Produce requests with version {api_version} are only allowed to contain record batches with magic 2",
        )
    try:
        header = read_header(records)
    except CorruptBatch as corrupt:
        if magic is None or magic == 2:
            raise KafkaError(
                Error.INVALID_RECORD, f"Produce requests with version {api_version} must have a record batch"
            ) from corrupt
        raise KafkaError(Error.CORRUPT_MESSAGE, str(corrupt)) from corrupt
    if header.size_bytes > len(records):
        raise KafkaError(Error.INVALID_RECORD, f"Produce requests with version {api_version} must have a record batch")
    if header.size_bytes < len(records):
        raise KafkaError(
            Error.INVALID_RECORD,
            f"Produce requests with version {api_version} are only allowed to contain exactly one record batch",
        )
    if header.codec == Compression.ZSTD and api_version < _ZSTD_FROM_VERSION:
        raise KafkaError(
            Error.UNSUPPORTED_COMPRESSION_TYPE,
            f"Produce requests with version {api_version} are not allowed to use ZStandard compression",
        )
    return records, header


def _check_batch(data: Buffer, header: BatchHeader, target: Target) -> None:
    """Everything that the header and the CRC tell."""
    if header.base_offset != 0:
        raise _BatchRefused(
            Error.INVALID_RECORD,
            f"The baseOffset of the record batch in the append to {target.log} should be 0, but it is "
            f"{header.base_offset}",
        )
    limit = target.config["max.message.bytes"]
    if header.size_bytes > limit:
        raise KafkaError(
            Error.MESSAGE_TOO_LARGE,
            f"The record batch size in the append to {target.log} is {header.size_bytes} bytes which exceeds the "
            f"maximum configured value of {limit}",
        )
    if not crc_matches(data, 0, header):
        raise KafkaError(Error.CORRUPT_MESSAGE, f"Record is corrupt (stored crc = {header.crc}) {_where(target)}.")
    if header.last_offset_delta < 0:
        raise _BatchRefused(
            Error.INVALID_RECORD, f"Batch has an invalid offset range: [0, {header.last_offset}] {_where(target)}"
        )
    if header.record_count <= 0:
        raise _BatchRefused(
            Error.INVALID_RECORD, f"Invalid reported count for record batch: {header.record_count} {_where(target)}"
        )
    if header.last_offset_delta + 1 != header.record_count:
        raise _BatchRefused(
            Error.INVALID_RECORD,
            f"Inconsistent batch offset range [0, {header.last_offset}] and count of records {header.record_count} "
            f"{_where(target)}",
        )
    if header.is_control:
        raise _BatchRefused(Error.INVALID_RECORD, f"Clients are not allowed to write control records {_where(target)}")
    if header.has_producer and header.base_sequence < 0:
        raise _BatchRefused(
            Error.INVALID_RECORD,
            f"Invalid sequence number {header.base_sequence} in record batch with producerId {header.producer_id} "
            f"{_where(target)}",
        )
    if header.is_transactional:
        raise KafkaError(Error.INVALID_TXN_STATE, f"No transaction of this producer is open {_where(target)}")
    if header.codec not in _KNOWN_CODECS:
        raise KafkaError(Error.CORRUPT_MESSAGE, f"unknown compression type {header.codec} {_where(target)}")


def _where(target: Target) -> str:
    return f"in topic partition {target.log}"


def _check_records(
    data: Buffer, header: BatchHeader, config: TopicConfig, now_ms: int, log: LogId, *, log_append_time: bool
) -> None:
    """Keys and timestamps, record by record where the header does not settle them."""
    compacted = "compact" in config["cleanup.policy"]
    before, after = config["message.timestamp.before.max.ms"], config["message.timestamp.after.max.ms"]
    late = not log_append_time and header.max_timestamp - now_ms > after
    # Timestamps are not negative, so a bound beyond the present cannot be violated.
    early = not log_append_time and before < now_ms
    if not (compacted or late or early):
        return
    low, high = now_ms - before, now_ms + after
    errors: list[RecordError] = []
    error, message = Error.INVALID_RECORD, "One or more records have been rejected"
    for index, record in enumerate(_records(data, log)):
        if compacted and record.key is None:
            problem = f"Compacted topic cannot accept message without key in topic partition {log}"
            errors.append(RecordError(index, problem))
        elif not log_append_time and record.timestamp != NO_TIMESTAMP and not low <= record.timestamp <= high:
            error, message = Error.INVALID_TIMESTAMP, "One or more records have been rejected due to invalid timestamp"
            problem = (
                f"Timestamp {record.timestamp} of message with offset {record.offset} is out of range. "
                f"The timestamp should be within [{low}, {high}]"
            )
            errors.append(RecordError(index, problem))
    if errors:
        if error is Error.INVALID_RECORD:
            message = f"{message} due to {len(errors)} record errors in total, and only showing the first three errors"
        raise _BatchRefused(error, message, errors)


def _records(data: Buffer, log: LogId) -> list[Record]:
    try:
        return read_records(data)
    except CorruptBatch as corrupt:
        raise _BatchRefused(Error.INVALID_RECORD, f"{corrupt} in topic partition {log}") from corrupt


async def _recompressed(data: Buffer, header: BatchHeader, codec: Compression, config: TopicConfig) -> bytes:
    """The same records under another codec: the topic wants it so (compression.type)."""
    level = config[_LEVELS[codec]] if codec in _LEVELS else None

    def work() -> bytes:
        return build_batch(
            read_records(data),
            base_offset=header.base_offset,
            compression=codec,
            compression_level=level,
            producer_id=header.producer_id,
            producer_epoch=header.producer_epoch,
            base_sequence=header.base_sequence,
        )

    try:
        return await trio.to_thread.run_sync(work, limiter=_RECOMPRESSIONS)
    except CorruptBatch as corrupt:
        raise KafkaError(Error.INVALID_RECORD, str(corrupt)) from corrupt


def _refused(logs: Logs, log: LogId, refusal: KafkaError) -> Result:
    """The answer to what was not appended. Only errors of single records come with a text, as in Kafka."""
    _log.debug("refused a batch for %s: %s", log, refusal)
    if not isinstance(refusal, _BatchRefused):
        return Result(refusal.error)
    bounds = logs.bounds(log)
    return Result(
        refusal.error,
        refusal.message if refusal.record_errors else None,
        log_start_offset=-1 if bounds is None else bounds.log_start_offset,
        record_errors=refusal.record_errors,
    )


def _answer(outcome: Outcome, append_time_ms: int) -> Result:
    if outcome.error is not Error.NONE:
        _log.debug("refused a batch: %s", outcome.message)
        return Result(outcome.error, log_start_offset=outcome.log_start_offset)
    return Result(
        base_offset=outcome.base_offset,
        log_append_time_ms=outcome.repeated_timestamp if outcome.duplicate else append_time_ms,
        log_start_offset=outcome.log_start_offset,
    )
