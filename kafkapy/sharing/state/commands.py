"""What may be asked of a share coordinator's machine. Plain values; `state/service.py` sends them.

A command that is refused is answered with a `KafkaError`, in Kafka's words; each says what its answer is otherwise.
"""

from typing import NamedTuple

from kafkapy.sharing.batches import StateBatch
from kafkapy.sharing.state.facts import SharePartitionKey


class InitializeState(NamedTuple):
    """Begin anew at this offset, or at UNKNOWN_START. Answer: True. FENCED_STATE_EPOCH where a later epoch did."""

    key: SharePartitionKey
    state_epoch: int
    start_offset: int


class ReadState(NamedTuple):
    """What a leader of this epoch begins with; from now on earlier ones are fenced. Answer: `ShareState`."""

    key: SharePartitionKey
    leader_epoch: int


class WriteState(NamedTuple):
    """What became of some records. Answer: True. FENCED_STATE_EPOCH, FENCED_LEADER_EPOCH for whoever is deposed."""

    key: SharePartitionKey
    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int
    batches: tuple[StateBatch, ...]


class DeleteState(NamedTuple):
    """Forget it. Answer: True, also when there is nothing."""

    key: SharePartitionKey


class ReadStateSummary(NamedTuple):
    """How far the group is. Answer: `ShareState`, with UNKNOWN_START and UNKNOWN_COUNT where there is none."""

    key: SharePartitionKey


class ForgetTopic(NamedTuple):
    """The topic is deleted: whatever is known of its partitions is forgotten. Answer: True."""

    topic_id: bytes


class SnapshotCold(NamedTuple):
    """Timer: time to have the state of quiet partitions written again, so that the log before that can go."""


PartitionCommand = InitializeState | ReadState | WriteState | DeleteState | ReadStateSummary
Command = PartitionCommand | ForgetTopic | SnapshotCold
