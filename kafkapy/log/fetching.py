"""Reads what a consumer asks for, waiting for more where it may.

One store call reads all partitions in the request's order within the byte budget. If that is less than `min_bytes`,
the request waits on a watch of its logs (a set entry per log, nothing that runs) until they grow or the time is over,
and reads once more. Called by the Fetch handler.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import trio

from kafkapy.errors import Error
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
from kafkapy.storage.base import AbortedTransaction, Buffer, EpochEnd, Logs, Read, Region, Slice


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
) -> list[Result]:
    """Read the targets; `results[i]` answers `targets[i]`."""
    results = await _read(logs, targets, isolation, max_bytes)
    if max_wait_ms <= 0 or _is_enough(results, min_bytes):
        return results
    with logs.watch([target.log for target in targets]) as watch, trio.move_on_after(max_wait_ms / 1000):
        while True:
            # The watch is open: what came between the last look and now is not missed.
            results = await _read(logs, targets, isolation, max_bytes)
            if _is_enough(results, min_bytes):
                return results
            await watch.changed()
    return results


async def _read(logs: Logs, targets: Sequence[Target], isolation: IsolationLevel, max_bytes: int) -> list[Result]:
    results: list[Result | None] = [None] * len(targets)
    reads: list[Read] = []
    places: list[int] = []
    for place, target in enumerate(targets):
        error = leader_epoch_error(target.current_leader_epoch, target.leader_epoch)
        if error is not Error.NONE:
            results[place] = Result(error)
        elif target.last_fetched_epoch >= 0 and (diverged := await _divergence(logs, target)) is not None:
            results[place] = diverged
        else:
            reads.append(Read(target.log, target.fetch_offset, target.max_bytes, isolation, to_send=True))
            places.append(place)
    for place, piece in zip(places, await logs.read(reads, max_bytes), strict=True):
        results[place] = _result(piece)
    return [result for result in results if result is not None]


def _result(piece: Slice) -> Result:
    if piece.error is not Error.NONE:
        # Kafka leaves the offsets out of an error; clients look them up.
        return Result(piece.error)
    return Result(
        records=piece.records if piece.region is None else piece.region,
        high_watermark=piece.high_watermark,
        last_stable_offset=piece.last_stable_offset,
        log_start_offset=piece.log_start_offset,
        aborted=piece.aborted,
    )


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
        if result.error is not Error.NONE or result.diverging is not None:
            return True
        size += len(result.records)
    return size >= min_bytes
