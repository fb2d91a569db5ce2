"""Looks up offsets: by timestamp, by special marks, by leader epoch. Called by ListOffsets and OffsetForLeaderEpoch."""

from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.log.leader_epochs import end_of_epoch, leader_epoch_error
from kafkapy.model import NO_LEADER_EPOCH, NO_TIMESTAMP, IsolationLevel, LogId
from kafkapy.storage.base import EpochEnd, Logs

LATEST: Final = -1
EARLIEST: Final = -2
MAX_TIMESTAMP: Final = -3
EARLIEST_LOCAL: Final = -4
LATEST_TIERED: Final = -5
EARLIEST_PENDING_UPLOAD: Final = -6

_SINCE_VERSION: Final = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9, EARLIEST_PENDING_UPLOAD: 11}


class LogAtEpoch(NamedTuple):
    """A log, its present leader epoch, and the epoch that the client believes in."""

    log: LogId
    leader_epoch: int
    current_leader_epoch: int = NO_LEADER_EPOCH


class FoundOffset(NamedTuple):
    """An offset with its record's timestamp; all -1 when there is no such record."""

    offset: int = -1
    timestamp: int = NO_TIMESTAMP
    leader_epoch: int = NO_LEADER_EPOCH


def is_supported(timestamp: int, api_version: int) -> bool:
    """Whether this version of ListOffsets knows the special timestamp; times themselves it always knows."""
    if timestamp >= EARLIEST:
        return True
    since = _SINCE_VERSION.get(timestamp)
    return since is not None and api_version >= since


async def find_offset(logs: Logs, asked: LogAtEpoch, timestamp: int, isolation: IsolationLevel | None) -> FoundOffset:
    """The offset for a timestamp or a special mark; `isolation` None for a replica, which sees everything."""
    _check_epoch(asked)
    bounds = logs.bounds(asked.log)
    if isinstance(bounds, Error):
        raise KafkaError(bounds)
    committed = isolation is IsolationLevel.READ_COMMITTED
    limit = bounds.last_stable_offset if committed else bounds.high_watermark
    if timestamp == LATEST:
        return FoundOffset(limit, leader_epoch=asked.leader_epoch)
    if timestamp in (EARLIEST, EARLIEST_LOCAL):
        end = await logs.epoch_end(asked.log, asked.leader_epoch)
        empty = bounds.log_start_offset == bounds.end_offset
        epoch = asked.leader_epoch if end is None or empty else end.leader_epoch
        return FoundOffset(bounds.log_start_offset, leader_epoch=epoch)
    if timestamp in (LATEST_TIERED, EARLIEST_PENDING_UPLOAD):
        return FoundOffset()  # nothing is ever moved to tiered storage
    if timestamp == MAX_TIMESTAMP:
        found = await logs.find_max_time(asked.log)
    else:
        found = await logs.find_time(asked.log, timestamp)
    if found is None or found.offset >= limit:
        return FoundOffset()
    return FoundOffset(*found)


async def find_epoch_end(logs: Logs, asked: LogAtEpoch, leader_epoch: int) -> EpochEnd:
    """Where a leader epoch ended (KIP-101); both -1 when the log knows no such epoch."""
    _check_epoch(asked)
    return await end_of_epoch(logs, asked.log, asked.leader_epoch, leader_epoch)


def _check_epoch(asked: LogAtEpoch) -> None:
    error = leader_epoch_error(asked.current_leader_epoch, asked.leader_epoch)
    if error is not Error.NONE:
        raise KafkaError(error)
