"""What a share coordinator remembers: the facts behind the records of `__share_group_state`.

`state/journal.py` turns them into Kafka's records and back; `state/machine.py` decides and applies them.
"""

from typing import NamedTuple

from kafkapy.model import format_uuid
from kafkapy.sharing.batches import StateBatch


class SharePartitionKey(NamedTuple):
    """A group's partition. Its state hangs on the topic's id: a recreated topic's starts afresh."""

    group_id: str
    topic_id: bytes
    partition: int

    @property
    def coordinator_key(self) -> str:
        """By whose hash its coordinator is found."""
        return f"{self.group_id}:{format_uuid(self.topic_id)}:{self.partition}"

    def __str__(self) -> str:
        return self.coordinator_key


class ShareState(NamedTuple):
    """How far a group is with a partition: all before `start_offset` is done with, and `complete_count` beyond it.

    `batches` tell of the records from there on; who is in no batch is available. `snapshot_epoch` counts snapshots,
    `state_epoch` is the group coordinator's, and rises with each reset. Times are milliseconds of the wall clock.
    """

    snapshot_epoch: int
    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...] = ()
    created_ms: int = 0
    written_ms: int = 0


class StateSnapshotted(NamedTuple):
    """All of a partition's state: what was said of it before is superseded."""

    key: SharePartitionKey
    state: ShareState


class StateUpdated(NamedTuple):
    """What became of some records. An unknown start offset, or a leader epoch of -1, stays as it was."""

    key: SharePartitionKey
    snapshot_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...]


class StateRemoved(NamedTuple):
    """The partition's state is forgotten."""

    key: SharePartitionKey


class OtherRecord(NamedTuple):
    """Something else stands in the log: it is there, and that is all."""


Fact = StateSnapshotted | StateUpdated | StateRemoved
