"""Reads what a consumer asks for, waiting for more where it may.

One store call reads all partitions in the request's order within the byte budget. If that is less than `min_bytes`,
the answer is delayed: a watch of its logs (a set entry per log, nothing that runs) tells when they grow, and each time,
and when the time is over, it reads once more. Called by the Fetch handler.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.errors import Error
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
from kafkapy.storage.base import Bounds, EpochEnd, Logs, Read, Slice, Watch


class Target(NamedTuple):
    """One partition to read, with its epoch, and what the client believes about its epochs."""

    log: LogId
    leader_epoch: int
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = NO_LEADER_EPOCH
    last_fetched_epoch: int = NO_LEADER_EPOCH


class Diverged(NamedTuple):
    """The client's log has another history than ours, which ends there as far as they agree (KIP-595)."""

    end: EpochEnd
    bounds: Bounds


Result = Slice | Diverged
"""What was read of one partition. A slice with an error has no offsets: as in Kafka, clients look them up."""

_UNDEFINED: Final = EpochEnd(-1, -1)


def refused(error: Error, *, is_there: bool = True) -> Result:
    """What stands for a partition that is not read. Of one that is not there, no transactions were aborted."""
    return Slice(error=error, aborted=None if is_there else [])


def leader_epoch_error(asked: int, present: int) -> Error:
    """What a client's idea of the leader epoch deserves (KIP-320)."""
    if asked in (NO_LEADER_EPOCH, present):
        return Error.NONE
    return Error.FENCED_LEADER_EPOCH if asked < present else Error.UNKNOWN_LEADER_EPOCH


async def fetch(
    logs: Logs,
    clock: Clock,
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
    deadline = clock.monotonic() + max_wait_ms / 1000
    return _Waiting(logs, clock, targets, results, isolation, max_bytes, min_bytes, deadline)


class _Waiting(Delayed[list[Result]]):
    """A fetch that waits for more."""

    __slots__ = ("_clock", "_isolation", "_logs", "_max_bytes", "_min_bytes", "_results", "_targets", "_watch")

    def __init__(
        self,
        logs: Logs,
        clock: Clock,
        targets: Sequence[Target],
        results: Sequence[Result],
        isolation: IsolationLevel,
        max_bytes: int,
        min_bytes: int,
        deadline: float,
    ) -> None:
        super().__init__(deadline)
        self._logs = logs
        self._clock = clock
        self._targets = targets
        self._results = results  # of the first try, which are too little
        self._isolation = isolation
        self._max_bytes = max_bytes
        self._min_bytes = min_bytes
        self._watch: Watch | None = None

    def begin(self, wake: Callable[[], None]) -> None:
        self._watch = self._logs.watch([target.log for target in self._targets], lambda log: wake())
        if any(map(partial(_has_moved, self._logs), self._targets, self._results)):
            wake()

    async def attempt(self) -> list[Result] | None:
        results = await _read(self._logs, self._targets, self._isolation, self._max_bytes)
        if _is_enough(results, self._min_bytes) or self._clock.monotonic() >= self.deadline:
            return results
        return None

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()


def _has_moved(logs: Logs, target: Target, result: Result) -> bool:
    """Whether the log is another now than when it was read."""
    bounds = logs.bounds(target.log)
    return (
        isinstance(bounds, Error)
        or isinstance(result, Diverged)
        or bounds.high_watermark != result.high_watermark
        or bounds.last_stable_offset != result.last_stable_offset
    )


async def _read(logs: Logs, targets: Sequence[Target], isolation: IsolationLevel, max_bytes: int) -> list[Result]:
    results: list[Result | None] = []
    reads: list[Read] = []
    for target in targets:
        log, leader_epoch, fetch_offset, partition_max_bytes, current_leader_epoch, last_fetched_epoch = target
        result: Result | None = None
        if current_leader_epoch not in (NO_LEADER_EPOCH, leader_epoch):
            result = refused(leader_epoch_error(current_leader_epoch, leader_epoch))
        elif last_fetched_epoch >= 0:
            result = await _divergence(logs, target)
        if result is None:
            reads.append(Read(log, fetch_offset, partition_max_bytes, isolation, True))
        results.append(result)
    pieces = [piece if not piece.error else refused(piece.error) for piece in await logs.read(reads, max_bytes)]
    if len(pieces) == len(results):
        return [*pieces]
    following = iter(pieces)
    return [next(following) if result is None else result for result in results]


async def _divergence(logs: Logs, target: Target) -> Result | None:
    """The answer to a client whose log may have another history than ours; None when the histories agree."""
    bounds = logs.bounds(target.log)
    if isinstance(bounds, Error):
        return refused(bounds)
    end = _UNDEFINED
    if target.last_fetched_epoch <= target.leader_epoch:
        end = await logs.epoch_end(target.log, target.last_fetched_epoch) or _UNDEFINED
    if end == _UNDEFINED:
        return refused(Error.OFFSET_OUT_OF_RANGE)
    if end.leader_epoch < target.last_fetched_epoch or end.end_offset < target.fetch_offset:
        return Diverged(end, bounds)
    return None


def _is_enough(results: Sequence[Result], min_bytes: int) -> bool:
    """Whether to answer now: enough bytes, or news that must not wait."""
    size = 0
    for result in results:
        if isinstance(result, Diverged) or result.error or result.in_older_segment:
            return True
        size += result.size_bytes + result.part_size  # as if it were sent, which it is by Kafka
    return size >= min_bytes
