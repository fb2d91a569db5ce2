"""Reads what a consumer asks for, waiting for more where it may.

One store call reads all partitions in the request's order within the byte budget. If that is less than `min_bytes`,
the answer is delayed: a watch of its logs (a set entry per log, nothing that runs) tells when they grow, and each time,
and when the time is over, it reads once more. Called by the Fetch handler.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import trio

from kafkapy.delayed import Delayed
from kafkapy.errors import Error
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
from kafkapy.storage.base import AbortedTransaction, Buffer, EpochEnd, Logs, Read, Region, Slice, Watch


class Target(NamedTuple):
    """One partition to read, with what the client believes about its epochs."""

    log: LogId
    leader_epoch: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = NO_LEADER_EPOCH
    last_fetched_epoch: int = NO_LEADER_EPOCH


class Result(NamedTuple):
    """What was read of one partition."""

    error: Error = Error.NONE
    records: Buffer | Region = b""
    high_watermark: int = -1
    last_stable_offset: int = -1
    log_start_offset: int = -1
    aborted: Sequence[AbortedTransaction] | None = None
    diverging: EpochEnd | None = None


_UNDEFINED: Final = EpochEnd(-1, -1)


def leader_epoch_error(asked: int, present: int) -> Error:
    """What a client's idea of the leader epoch deserves (KIP-320)."""
    if asked in (NO_LEADER_EPOCH, present):
        return Error.NONE
    return Error.FENCED_LEADER_EPOCH if asked < present else Error.UNKNOWN_LEADER_EPOCH


async def fetch(
    logs: Logs,
    targets: Sequence[Target],
    *,
    isolation: IsolationLevel,
    max_bytes: int,
    min_bytes: int,
    max_wait_ms: int,
) -> list[Result] | Delayed[list[Result]]:
    """Read the targets; `results[i]` answers `targets[i]`."""
    results = await _read(logs, targets, isolation, max_bytes)
    if max_wait_ms <= 0 or _is_enough(results, min_bytes):
        return results
    deadline = trio.current_time() + max_wait_ms / 1000
    watch: Watch | None = None

    async def attempt() -> list[Result] | None:
        results = await _read(logs, targets, isolation, max_bytes)
        if _is_enough(results, min_bytes) or trio.current_time() >= deadline:
            abandon()
            return results
        return None

    def begin(wake: Callable[[], None]) -> None:
        nonlocal watch
        watch = logs.watch([target.log for target in targets], wake)
        if any(_has_moved(logs, target, result) for target, result in zip(targets, results, strict=True)):
            wake()

    def abandon() -> None:
        if watch is not None:
            watch.close()

    return Delayed(attempt, begin, abandon, deadline)


def _has_moved(logs: Logs, target: Target, result: Result) -> bool:
    """Whether the log is another now than when it was read."""
    bounds = logs.bounds(target.log)
    return (
        bounds is None
        or bounds.high_watermark != result.high_watermark
        or bounds.last_stable_offset != result.last_stable_offset
    )


async def _read(logs: Logs, targets: Sequence[Target], isolation: IsolationLevel, max_bytes: int) -> list[Result]:
    results: list[Result | None] = [None] * len(targets)
    reads: list[Read] = []
    places: list[int] = []
    for place, target in enumerate(targets):
        log, leader_epoch, fetch_offset, partition_max_bytes, current_leader_epoch, last_fetched_epoch = target
        if current_leader_epoch not in (NO_LEADER_EPOCH, leader_epoch):
            results[place] = Result(leader_epoch_error(current_leader_epoch, leader_epoch))
        elif last_fetched_epoch >= 0 and (diverged := await _divergence(logs, target)) is not None:
            results[place] = diverged
        else:
            reads.append(Read(log, fetch_offset, partition_max_bytes, isolation, True))
            places.append(place)
    for place, piece in zip(places, await logs.read(reads, max_bytes), strict=True):
        results[place] = _result(piece)
    return [result for result in results if result is not None]


def _result(piece: Slice) -> Result:
    records, high_watermark, last_stable_offset, log_start_offset, aborted, error, region = piece
    if error:
        # Kafka leaves the offsets out of an error; clients look them up.
        return Result(error)
    found: Buffer | Region = records if region is None else region
    return Result(error, found, high_watermark, last_stable_offset, log_start_offset, aborted)


async def _divergence(logs: Logs, target: Target) -> Result | None:
    """The answer to a client whose log has another history than ours (KIP-595); None when the histories agree."""
    end = _UNDEFINED
    if target.last_fetched_epoch <= target.leader_epoch:
        end = await logs.epoch_end(target.log, target.last_fetched_epoch) or _UNDEFINED
    bounds = logs.bounds(target.log)
    if bounds is None:
        return Result(Error.UNKNOWN_TOPIC_OR_PARTITION)
    if end == _UNDEFINED:
        return Result(Error.OFFSET_OUT_OF_RANGE)
    if end.leader_epoch < target.last_fetched_epoch or end.end_offset < target.fetch_offset:
        return Result(
            high_watermark=bounds.high_watermark,
            last_stable_offset=bounds.last_stable_offset,
            log_start_offset=bounds.log_start_offset,
            diverging=end,
        )
    return None


def _is_enough(results: Sequence[Result], min_bytes: int) -> bool:
    """Whether to answer now: enough bytes, or news that must not wait."""
    size = 0
    for result in results:
        if result.error or result.diverging is not None:
            return True
        size += len(result.records)
    return size >= min_bytes
