"""Reads what a consumer asks for, waiting for more where it may.

One store call reads all partitions in the request's order within the byte budget. If that is less than `min_bytes`,
the answer is delayed: a watch of its logs (a set entry per log, nothing that runs) tells which of them grew, and how
many bytes that adds follows from where its end lies. Once that is enough, or the time is over, all are read once more.
Called by the Fetch handler.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from kafkapy.clock import Clock
from kafkapy.delayed import Delayed
from kafkapy.errors import Error, KafkaError
from kafkapy.log.leader_epochs import UNKNOWN, end_of_epoch, leader_epoch_error
from kafkapy.model import NO_LEADER_EPOCH, IsolationLevel, LogId
from kafkapy.storage.base import Bounds, EpochEnd, Logs, Reach, Read, Slice, Watch


@dataclass(slots=True)
class LogToRead:
    """What is wanted of one log: from where and how much of it, and what the client believes about its epochs."""

    log: LogId
    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = NO_LEADER_EPOCH
    last_fetched_epoch: int = NO_LEADER_EPOCH


class Diverged(NamedTuple):
    """The client's log has another history than ours, which ends there as far as they agree (KIP-595)."""

    end: EpochEnd
    bounds: Bounds


Found = Slice | Diverged
"""What was read of one log. A slice with an error has no offsets: as in Kafka, clients look them up."""

EpochOf = Callable[[LogId], int | None]
"""The leader epoch of a log that may be read; None when it may not."""


class Epochs(NamedTuple):
    """What may be read here: what this broker leads, and otherwise what it has a replica of (KIP-392)."""

    of_leader: EpochOf
    of_replica: EpochOf


def _nothing(log: LogId) -> int | None:
    return None


def leaders_only(of_leader: EpochOf) -> Epochs:
    """For clients that do not read from replicas."""
    return Epochs(of_leader, _nothing)


def refused(error: Error, *, is_there: bool = True) -> Found:
    """What stands for a partition that is not read. Of one that is not there, no transactions were aborted."""
    return Slice(error=error, aborted=None if is_there else [])


def empty(bounds: Bounds) -> Found:
    """What stands for a partition of which nothing is sent: where it begins and ends."""
    start, high_watermark, stable, _ = bounds
    return Slice(high_watermark=high_watermark, last_stable_offset=stable, log_start_offset=start)


async def fetch(
    logs: Logs,
    clock: Clock,
    epochs: Epochs,
    wanted: Sequence[LogToRead],
    *,
    isolation: IsolationLevel,
    max_bytes: int,
    min_bytes: int,
    max_wait_ms: int,
) -> list[Found] | Delayed[list[Found]]:
    """Read each of these logs, which are different ones; `found[i]` answers `wanted[i]`."""
    found = await _read(logs, epochs, wanted, isolation, max_bytes)
    if max_wait_ms <= 0 or _is_enough(found, min_bytes):
        return found
    deadline = clock.monotonic() + max_wait_ms / 1000
    waiting = _Waiting(logs, clock, epochs, wanted, isolation, max_bytes, min_bytes, deadline)
    # Nothing is awaited from the count until the watch is open, so that no growth falls in between.
    has_grown = waiting.count(found)
    if waiting.missing_bytes > 0:
        waiting.watch()
    elif not has_grown:
        return found  # which is all that another read would bring
    return waiting


class _Waiting(Delayed[list[Found]]):
    """A fetch that waits for more, and counts what comes from where its logs end.

    What is counted is what a reader could have of a log, at most what was asked of it: the limit of the whole request
    does not matter, and part of a batch counts, as in Kafka.
    """

    __slots__ = (
        "_clock",
        "_counts",
        "_epochs",
        "_isolation",
        "_logs",
        "_max_bytes",
        "_wake",
        "_wanted",
        "_watch",
        "missing_bytes",
    )

    def __init__(
        self,
        logs: Logs,
        clock: Clock,
        epochs: Epochs,
        wanted: Sequence[LogToRead],
        isolation: IsolationLevel,
        max_bytes: int,
        min_bytes: int,
        deadline: float,
    ) -> None:
        super().__init__(deadline)
        self._logs = logs
        self._clock = clock
        self._epochs = epochs
        self._wanted = wanted
        self._isolation = isolation
        self._max_bytes = max_bytes
        self.missing_bytes = min_bytes  # none: it is time to read
        self._counts: dict[LogId, _Count] = {}
        self._watch: Watch | None = None
        self._wake: Callable[[], None] | None = None

    def count(self, found: Sequence[Found]) -> bool:
        """Begin with where the first read found its offsets; whether any of the logs has grown since."""
        logs, isolation, counts = self._logs, self._isolation, self._counts
        committed = isolation is IsolationLevel.READ_COMMITTED
        has_grown, size = False, 0
        for one, piece in zip(self._wanted, found, strict=True):
            assert isinstance(piece, Slice)  # all others do not wait
            count = counts[one.log] = _Count(one.fetch_offset, piece.segment, piece.position, one.max_bytes)
            reach = logs.reach(one.log, isolation)
            size += count.grown(reach)
            end_offset = piece.last_stable_offset if committed else piece.high_watermark
            if isinstance(reach, Error) or reach.end_offset != end_offset:
                has_grown = True
        self.missing_bytes -= size
        return has_grown

    def watch(self) -> None:
        self._watch = self._logs.watch(list(self._counts), self._moved)

    def begin(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        if self.missing_bytes <= 0:
            wake()

    def _moved(self, log: LogId) -> None:
        if self.missing_bytes > 0:
            grown = self._counts[log].grown(self._logs.reach(log, self._isolation))
            if not grown and self._epochs.of_leader(log) is None:
                grown = _AT_ONCE  # another broker leads it now
            self.missing_bytes -= grown
            if self.missing_bytes <= 0 and self._wake is not None:
                self._wake()

    async def attempt(self) -> list[Found] | None:
        if self.missing_bytes > 0 and self._clock.monotonic() < self.deadline:
            return None
        return await _read(self._logs, self._epochs, self._wanted, self._isolation, self._max_bytes)

    def close(self) -> None:
        if self._watch is not None:
            self._watch.close()


_AT_ONCE: Final = 1 << 40
"""Counts for what must not wait: more than a fetch may ask for."""


class _Count:
    """How much a fetch could have of a log, at most `max_bytes`, from where it begins."""

    __slots__ = ("_max_bytes", "_offset", "_position", "_segment", "_size")

    def __init__(self, offset: int, segment: int, position: int, max_bytes: int) -> None:
        self._offset = offset
        self._segment = segment
        self._position = position
        self._max_bytes = max_bytes
        self._size = 0

    def grown(self, reach: Reach | Error) -> int:
        """How many bytes more it is, now that the log can be read that far."""
        before, self._size = self._size, _AT_ONCE if isinstance(reach, Error) else self._until(reach)
        return self._size - before

    def _until(self, reach: Reach) -> int:
        log_start_offset, end_offset, segment, position = reach
        if self._offset < log_start_offset:
            return _AT_ONCE
        if self._offset >= end_offset:
            return 0
        # A read ends with its segment: once there is another one, waiting adds nothing to it.
        return min(position - self._position, self._max_bytes) if segment == self._segment else _AT_ONCE


async def _read(
    logs: Logs, epochs: Epochs, wanted: Sequence[LogToRead], isolation: IsolationLevel, max_bytes: int
) -> list[Found]:
    found: list[Found | None] = []
    reads: list[Read] = []
    of_leader = epochs.of_leader
    for one in wanted:
        log, current_leader_epoch = one.log, one.current_leader_epoch
        leader_epoch = of_leader(log)
        if leader_epoch is None:
            leader_epoch = epochs.of_replica(log)
        answer: Found | None = None
        if leader_epoch is None:
            error = logs.bounds(log)
            answer = refused(error if isinstance(error, Error) else Error.NOT_LEADER_OR_FOLLOWER)
        elif current_leader_epoch != leader_epoch and current_leader_epoch != NO_LEADER_EPOCH:
            answer = refused(leader_epoch_error(current_leader_epoch, leader_epoch))
        elif one.last_fetched_epoch >= 0:
            answer = await _divergence(logs, one, leader_epoch)
        if answer is None:
            reads.append(Read(log, one.fetch_offset, one.max_bytes, isolation, True))
        found.append(answer)
    pieces = [piece if not piece.error else refused(piece.error) for piece in await logs.read(reads, max_bytes)]
    if len(pieces) == len(found):
        return [*pieces]
    following = iter(pieces)
    return [next(following) if answer is None else answer for answer in found]


async def _divergence(logs: Logs, one: LogToRead, leader_epoch: int) -> Found | None:
    """The answer to a client whose log may have another history than ours; None when the histories agree."""
    try:
        end = await end_of_epoch(logs, one.log, leader_epoch, one.last_fetched_epoch)
    except KafkaError as refusal:
        return refused(refusal.error)
    bounds = logs.bounds(one.log)
    if isinstance(bounds, Error):
        return refused(bounds)
    if end == UNKNOWN:
        return refused(Error.OFFSET_OUT_OF_RANGE)
    if end.leader_epoch < one.last_fetched_epoch or end.end_offset < one.fetch_offset:
        return Diverged(end, bounds)
    return None


def _is_enough(found: Sequence[Found], min_bytes: int) -> bool:
    """Whether to answer now: enough bytes, or news that must not wait."""
    size = 0
    for piece in found:
        if isinstance(piece, Diverged) or piece.error:
            return True
        size += piece.size_bytes
        if size >= min_bytes:
            return True
    return size >= min_bytes
