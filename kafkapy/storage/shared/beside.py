"""What coordinators keep beside their logs: two checkpoints each, saved and dropped only by whoever owns the lane.

Some logs are trimmed up to what their checkpoints hold, so one that stands still and comes back must not put an old one
in the place of those.
"""

from typing import Final

from kafkapy.errors import Error, KafkaError
from kafkapy.storage.base import Checkpoint
from kafkapy.storage.shared.database import BYTEA, INT4, INT8, UUID, Link, Row, Statement
from kafkapy.storage.shared.entries import LogKey
from kafkapy.storage.shared.lane import Lane
from kafkapy.storage.shared.problems import DatabaseError

_SAVE: Final = Statement(
    """
    with h as (select lane from lanes where lane = $1 and epoch = $2 for update),
         d as (delete from coordinators c using h where c.topic_id = $3 and c.partition = $4 and (c.log_offset > $5
               or c.log_offset < (select max(b.log_offset) from coordinators b
                                  where b.topic_id = $3 and b.partition = $4 and b.log_offset < $5)))
    insert into coordinators (topic_id, partition, log_offset, state) select $3, $4, $5, $6 from h
    on conflict (topic_id, partition, log_offset) do update set state = excluded.state returning log_offset
    """,
    (INT4, INT4, UUID, INT4, INT8, BYTEA),
)

_LOAD: Final = Statement(
    """
    select log_offset, state from coordinators where topic_id = $1 and partition = $2
    order by log_offset desc limit 2
    """,
    (UUID, INT4),
)

_DROP: Final = Statement(
    """
    with h as (select lane from lanes where lane = $1 and epoch = $2 for update),
         d as (delete from coordinators c using h
               where c.topic_id = $3 and c.partition = $4 and c.log_offset = $5 and c.state = $6)
    select lane from h
    """,
    (INT4, INT4, UUID, INT4, INT8, BYTEA),
)


async def save(link: Link, lane: Lane, log: LogKey, checkpoint: Checkpoint) -> None:
    """Keep this one, and the last one before it. Raises KafkaError KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER."""
    await _change(_SAVE, link, lane, log, checkpoint)


async def load(link: Link, log: LogKey) -> list[Checkpoint]:
    """What is kept, the last one first. Raises KafkaError KAFKA_STORAGE_ERROR."""
    return [Checkpoint(*row) for row in await _run(link, _LOAD, log.topic_id, log.partition)]


async def drop(link: Link, lane: Lane, log: LogKey, checkpoint: Checkpoint) -> None:
    """Forget this one. Raises KafkaError KAFKA_STORAGE_ERROR, NOT_LEADER_OR_FOLLOWER."""
    await _change(_DROP, link, lane, log, checkpoint)


async def _change(statement: Statement, link: Link, lane: Lane, log: LogKey, checkpoint: Checkpoint) -> None:
    offset, state = checkpoint
    if not await _run(link, statement, lane.number, lane.epoch, log.topic_id, log.partition, offset, state):
        raise KafkaError(Error.NOT_LEADER_OR_FOLLOWER)


async def _run(link: Link, statement: Statement, *values: object) -> list[Row]:
    try:
        return await link.run(statement, *values)
    except DatabaseError as failure:
        raise KafkaError(Error.KAFKA_STORAGE_ERROR, str(failure)) from failure
