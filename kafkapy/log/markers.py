"""Ends transactions on the logs of this broker, as their coordinators say (KIP-98). Called by WriteTxnMarkers."""

from collections.abc import Sequence
from typing import NamedTuple

from kafkapy.clock import Clock
from kafkapy.errors import Error
from kafkapy.model import LogId
from kafkapy.records.batch import read_header
from kafkapy.records.control import ControlHeader, EndMarker, build_end_marker
from kafkapy.storage.base import Logs, Origin, Write


class MarkerToWrite(NamedTuple):
    """The end of a producer's transaction on one log, which is led here in this leader epoch."""

    log: LogId
    leader_epoch: int
    producer_id: int
    producer_epoch: int
    marker: EndMarker


async def write_markers(logs: Logs, clock: Clock, markers: Sequence[MarkerToWrite], *, timeout_ms: int) -> list[Error]:
    """Write each marker, in order, and wait until they are durable; `errors[i]` answers `markers[i]`.

    REQUEST_TIMED_OUT for all of them where that takes longer than `timeout_ms`, though they stay in the log.
    """
    now_ms = clock.now_ms()
    writes = [_write(marker, now_ms) for marker in markers]
    outcomes = None
    with clock.until(clock.monotonic() + timeout_ms / 1000):
        outcomes = await logs.append(writes).wait()
    if outcomes is None:
        return [Error.REQUEST_TIMED_OUT] * len(markers)
    return [outcome.error for outcome in outcomes]


def _write(wanted: MarkerToWrite, now_ms: int) -> Write:
    log, leader_epoch, producer_id, producer_epoch, marker = wanted
    data = build_end_marker(
        marker, producer_id=producer_id, producer_epoch=producer_epoch, timestamp=now_ms, leader_epoch=leader_epoch
    )
    return Write(log, data, [ControlHeader.of(read_header(data), marker)], leader_epoch, Origin.COORDINATOR)
