"""Takes what a producer sends, checks it, and has it appended.

A batch is judged as Kafka does it: its 61-byte header and its CRC, then each of its records (`record_checks.py`), then
its size once more where the topic wants another compression than the producer's. It goes to the store as it came, but
for what its header says of times: that is computed, not believed. `kafkapy.record.validation=headers` leaves the
records alone unless the topic's settings ask for something: keys, timestamps within bounds, another compression.

A small batch is looked at on the spot, a large one in turns with other long work; the log may have moved on when that
is done, so that what is checked is the batch alone. Called by the Produce handler with everything a request holds for
known partitions.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from kafkapy.clock import Clock
from kafkapy.config.layers import TopicConfig
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.log.recompressing import recompressed
from kafkapy.log.record_checks import BatchRefused, RecordChecks, RecordError
from kafkapy.log.request_batches import single_batch
from kafkapy.model import NO_TIMESTAMP, LogId
from kafkapy.records.batch import (
    CONTROL,
    CRC_FROM,
    LOG_OVERHEAD,
    BatchHeader,
    Buffer,
    Compression,
    checksum,
    read_header,
    restamp_time,
)
from kafkapy.storage.base import Logs, Outcome, Pending, Write
from kafkapy.storage.verification import Verification
from kafkapy.turns import Turns

_log = logging.getLogger(__name__)

ACKS_ALL: Final = -1
_CODEC_BITS: Final = 0x07

_CODECS: Final = {
    "producer": None,
    "uncompressed": Compression.NONE,
    "gzip": Compression.GZIP,
    "snappy": Compression.SNAPPY,
    "lz4": Compression.LZ4,
    "zstd": Compression.ZSTD,
}
_KNOWN_CODECS: Final = frozenset(map(int, Compression))


@dataclass(frozen=True, slots=True)
class _Rules:
    """What a topic's settings ask of a batch, and want done with it."""

    min_in_sync: int
    max_batch_bytes: int
    segment_bytes: int
    codec: Compression | None  # None: whichever the producer took
    log_append_time: bool
    checks: RecordChecks
    look_at_all: bool

    @staticmethod
    def of(config: TopicConfig) -> "_Rules":
        return _Rules(
            config["min.insync.replicas"],
            config["max.message.bytes"],
            config["segment.bytes"],
            _CODECS[config["compression.type"]],
            config["message.timestamp.type"] == "LogAppendTime",
            RecordChecks.of(config),
            config.broker["kafkapy.record.validation"] == "full",
        )

    def leaves_alone(self, header: BatchHeader, now_ms: int) -> bool:
        """Whether no record need be looked at, where not all are: the header settles what the topic asks of times.

        Often the latest is not too late, and the bound for early ones lies before 1970.
        """
        checks = self.checks
        timely = header.max_timestamp - now_ms <= checks.after_ms and checks.before_ms >= now_ms
        return not checks.compacted and (timely or self.log_append_time)


@dataclass(slots=True)
class BatchToAppend:
    """What a producer sent for a log, what that log asks of it, and what shows that a transaction may begin with it."""

    log: LogId
    config: TopicConfig
    leader_epoch: int
    in_sync_count: int
    replica_count: int
    records: Buffer | None
    verification: Verification | None = None


@dataclass(slots=True)
class AppendResult:
    """What became of it, as the Produce response tells it."""

    error: Error = Error.NONE
    message: str | None = None
    base_offset: int = -1
    log_append_time_ms: int = NO_TIMESTAMP
    log_start_offset: int = -1
    record_errors: Sequence[RecordError] = ()


_PENDING: Final = AppendResult()
"""Stands where the store's answer will."""


async def append(
    logs: Logs,
    clock: Clock,
    turns: Turns,
    batches: Sequence[BatchToAppend],
    *,
    acks: int,
    api_version: int,
    timeout_ms: int,
) -> list[AppendResult] | Delayed[list[AppendResult]]:
    """Append each batch; `results[i]` answers `batches[i]`. One store call for all that is acceptable.

    Delayed, for `timeout_ms` at most, where the store has yet to make it durable. With acks=0 it is waited for: there
    is no answer whose turn could come later.
    """
    now_ms = clock.now_ms()
    results: list[AppendResult] = []
    writes: list[Write] = []
    accepted: list[tuple[int, int]] = []  # the place in `results`, and the time that the log stamps on the batch
    ruling: TopicConfig | None = None
    for batch in batches:
        log, config = batch.log, batch.config
        if config is not ruling:  # batches of one topic follow each other
            ruling, rules = config, config.once(_Rules.of)
        try:
            data, header = _judged(batch, rules, acks, api_version)
            codec = rules.codec
            if codec is not None and codec != header.codec:
                seen = await turns.finish(rules.checks.walk(log, data, header, now_ms, kept=False))
                data = await recompressed(data, header, codec, config, seen, now_ms, turns)
                header = read_header(data)
            else:
                max_timestamp = header.max_timestamp
                if rules.look_at_all or not rules.leaves_alone(header, now_ms):
                    latest = rules.checks.look(data, header, now_ms)
                    if latest is None:
                        seen = await turns.finish(rules.checks.walk(log, data, header, now_ms, kept=True))
                        latest = seen.latest
                    max_timestamp = latest
                if rules.log_append_time:
                    max_timestamp = now_ms
                if max_timestamp != header.max_timestamp or rules.log_append_time != header.is_log_append_time:
                    data = restamp_time(data, header, max_timestamp, log_append_time=rules.log_append_time)
                    header = read_header(data)
            if LOG_OVERHEAD + header.batch_length > rules.segment_bytes:
                raise _too_large_for_a_segment(header, rules)
        except KafkaError as refusal:
            results.append(_refused(logs, log, refusal))
        else:
            accepted.append((len(results), now_ms if rules.log_append_time else NO_TIMESTAMP))
            results.append(_PENDING)
            writes.append(Write(log, data, (header,), batch.leader_epoch, verification=batch.verification))
    if writes:
        pending = logs.append(writes)
        outcomes = pending.outcomes
        if outcomes is None and acks:
            return _Waiting(pending, clock, results, accepted, clock.monotonic() + timeout_ms / 1000)
        _fill(results, accepted, await pending.wait() if outcomes is None else outcomes)
    return results


class _Waiting(Delayed[list[AppendResult]]):
    """An append that is yet to be durable. Kafka answers at the end of its time, too, and the batches stay."""

    __slots__ = ("_accepted", "_clock", "_pending", "_results")

    def __init__(
        self,
        pending: Pending,
        clock: Clock,
        results: list[AppendResult],
        accepted: Sequence[tuple[int, int]],
        deadline: float,
    ) -> None:
        super().__init__(deadline, order_is_fixed=True)
        self._pending = pending
        self._clock = clock
        self._results = results
        self._accepted = accepted

    def begin(self, wake: Callable[[], None]) -> None:
        self._pending.when_done(wake)

    async def attempt(self) -> list[AppendResult] | None:
        if self._pending.outcomes is not None:
            _fill(self._results, self._accepted, self._pending.outcomes)
        elif self._clock.monotonic() >= self.deadline:
            for place, _ in self._accepted:
                self._results[place] = AppendResult(Error.REQUEST_TIMED_OUT)
        else:
            return None
        return self._results


def _fill(results: list[AppendResult], accepted: Sequence[tuple[int, int]], outcomes: Sequence[Outcome]) -> None:
    """Put what became of the accepted ones in its place."""
    for (place, append_time_ms), outcome in zip(accepted, outcomes, strict=True):
        error, log_start_offset = outcome.error, outcome.log_start_offset
        if error:
            _log.debug("refused a batch: %s", outcome.message)
            results[place] = AppendResult(error, log_start_offset=log_start_offset)
        else:
            time_ms = outcome.repeated_timestamp if outcome.duplicate else append_time_ms
            results[place] = AppendResult(error, None, outcome.base_offset, time_ms, log_start_offset)


def _judged(batch: BatchToAppend, rules: _Rules, acks: int, api_version: int) -> tuple[Buffer, BatchHeader]:
    """The batch and its header, if that is acceptable."""
    data = single_batch(batch.records or b"", api_version)
    header = read_header(data)
    # More replicas in sync than there are replicas cannot be asked for (KIP-966).
    if acks == ACKS_ALL and batch.in_sync_count < rules.min_in_sync and batch.in_sync_count < batch.replica_count:
        raise KafkaError(
            Error.NOT_ENOUGH_REPLICAS,
            f"The size of the current ISR : {batch.in_sync_count} is insufficient to satisfy the min.isr requirement "
            f"of {rules.min_in_sync} for partition {batch.log}",
        )
    _check_batch(data, header, batch, rules)
    return data, header


def _too_large_for_a_segment(header: BatchHeader, rules: _Rules) -> KafkaError:
    return KafkaError(
        Error.RECORD_LIST_TOO_LARGE,
        f"The size of the batch {header.size_bytes} is larger than segment.bytes {rules.segment_bytes}",
    )


def _check_batch(data: Buffer, header: BatchHeader, batch: BatchToAppend, rules: _Rules) -> None:
    """Everything that the header and the CRC tell."""
    (base_offset, length, _, _, crc, attributes, last_offset_delta, _, _, producer_id, _, base_sequence, count) = header
    if base_offset != 0:
        raise BatchRefused(
            Error.INVALID_RECORD,
            f"The baseOffset of the record batch in the append to {batch.log} should be 0, but it is {base_offset}",
        )
    if LOG_OVERHEAD + length > rules.max_batch_bytes:
        raise KafkaError(
            Error.MESSAGE_TOO_LARGE,
            f"The record batch size in the append to {batch.log} is {header.size_bytes} bytes which exceeds the "
            f"maximum configured value of {rules.max_batch_bytes}",
        )
    if checksum(data[CRC_FROM:]) != crc:
        raise KafkaError(Error.CORRUPT_MESSAGE, f"Record is corrupt (stored crc = {crc}) {_where(batch)}.")
    if attributes & _CODEC_BITS not in _KNOWN_CODECS:
        raise BatchRefused(Error.UNKNOWN_SERVER_ERROR, f"Unknown compression type id {header.codec} {_where(batch)}")
    if last_offset_delta < 0:
        raise BatchRefused(
            Error.INVALID_RECORD, f"Batch has an invalid offset range: [0, {last_offset_delta}] {_where(batch)}"
        )
    if count <= 0:
        raise BatchRefused(Error.INVALID_RECORD, f"Invalid reported count for record batch: {count} {_where(batch)}")
    if last_offset_delta + 1 != count:
        raise BatchRefused(
            Error.INVALID_RECORD,
            f"Inconsistent batch offset range [0, {last_offset_delta}] and count of records {count} {_where(batch)}",
        )
    if attributes & CONTROL:
        raise BatchRefused(Error.INVALID_RECORD, f"Clients are not allowed to write control records {_where(batch)}")
    if producer_id >= 0 and base_sequence < 0:
        raise BatchRefused(
            Error.INVALID_RECORD,
            f"Invalid sequence number {base_sequence} in record batch with producerId {producer_id} {_where(batch)}",
        )


def _where(batch: BatchToAppend) -> str:
    return f"in topic partition {batch.log}"


def _refused(logs: Logs, log: LogId, refusal: KafkaError) -> AppendResult:
    """The answer to what was not appended. Only errors of single records come with a text, as in Kafka."""
    _log.debug("refused a batch for %s: %s", log, refusal)
    if not isinstance(refusal, BatchRefused):
        return AppendResult(refusal.error)
    bounds = logs.bounds(log)
    return AppendResult(
        refusal.error,
        refusal.message if refusal.record_errors else None,
        log_start_offset=-1 if isinstance(bounds, Error) else bounds.log_start_offset,
        record_errors=refusal.record_errors,
    )
