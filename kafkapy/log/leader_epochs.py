"""What a log answers about leader epochs: one rule, for every API that asks (KIP-101, KIP-320, KIP-595).

A store knows the epochs in which something was written. The epoch in which this broker leads the log now counts as one
that begins at the log's end for as long as nothing is, so that a log that is empty has an epoch, too. Of an epoch that
came before everything that is left of the log, Kafka says that it ended where the log begins.
Called by fetching and by the looking up of offsets.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.model import NO_LEADER_EPOCH, LogId
from kafkapy.storage.base import EpochEnd, Logs

UNKNOWN: Final = EpochEnd(-1, -1)


def leader_epoch_error(asked: int, present: int) -> Error:
    """What a client's idea of the leader epoch deserves (KIP-320)."""
    if asked in (NO_LEADER_EPOCH, present):
        return Error.NONE
    return Error.FENCED_LEADER_EPOCH if asked < present else Error.UNKNOWN_LEADER_EPOCH


async def end_of_epoch(logs: Logs, log: LogId, present: int, asked: int) -> EpochEnd:
    """Where epoch `asked` ended in a log that is led in epoch `present`; UNKNOWN when that is yet to come.

    Raises KafkaError with an error as of `Logs.bounds`.
    """
    bounds = logs.bounds(log)
    if isinstance(bounds, Error):
        raise KafkaError(bounds)
    if asked == present:
        return EpochEnd(asked, bounds.end_offset)
    if asked == NO_LEADER_EPOCH or asked > present:
        return UNKNOWN
    end = await logs.epoch_end(log, asked)
    if end is None or end.end_offset <= bounds.log_start_offset:
        return EpochEnd(asked, bounds.log_start_offset)
    return end
