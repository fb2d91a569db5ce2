"""What share groups ask of whoever keeps the state of their partitions: the share coordinator (KIP-932).

`node.py` hands in what does it. The state of a group's partition hangs on the topic's id; its coordinator may be
another broker. Nothing of this raises: what fails for a partition is that partition's answer, and so it is where its
coordinator did not answer in time.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from kafkapy.errors import KafkaError

UNKNOWN_START: Final = -1
"""In place of a start offset: the group begins where its setting `share.auto.offset.reset` says."""

UNKNOWN_COUNT: Final = -1
"""In place of how many deliveries are complete: whoever wrote the state did not count them."""


class TopicIdPartition(NamedTuple):
    """A partition by its topic's id."""

    topic_id: bytes
    partition: int


class StateSummary(NamedTuple):
    """How far a group is with a partition: all before `start_offset` is done with, and `complete_count` beyond it."""

    state_epoch: int
    leader_epoch: int
    start_offset: int
    complete_count: int


class Persister(Protocol):
    """Keeps what share groups have done with partitions. An answer has an entry for each partition asked about."""

    async def initialize(
        self, group_id: str, state_epoch: int, starts: Mapping[TopicIdPartition, int]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        """Begin anew at these offsets, or at UNKNOWN_START, unless a later epoch did (InitializeShareGroupState)."""

    async def delete(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, KafkaError | None]:
        """Forget the state of these partitions (DeleteShareGroupState); to forget nothing is no error."""

    async def summaries(
        self, group_id: str, partitions: Sequence[TopicIdPartition]
    ) -> Mapping[TopicIdPartition, StateSummary | KafkaError]:
        """How far the group is with each of these partitions (ReadShareGroupStateSummary, leader epoch 0)."""
