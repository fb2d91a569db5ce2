"""What a group coordinator remembers: the facts behind the records of `__consumer_offsets`.

`groups/journal.py` turns them into Kafka's records and back; `groups/machine.py` decides and applies them.
"""

from typing import NamedTuple

from kafkapy.model import NO_LEADER_EPOCH, ZERO_UUID

NO_EXPIRY = -1


class MemberSnapshot(NamedTuple):
    """One member as its group's record keeps it: of its protocols only the chosen one's metadata."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    session_timeout_ms: int
    subscription: bytes
    assignment: bytes


class GroupStored(NamedTuple):
    """A classic group with an assignment, or an empty one.

    `state_timestamp_ms` is when the group entered its state, -1 when the record is too old to tell.
    """

    group_id: str
    protocol_type: str | None
    protocol_name: str | None
    generation: int
    leader_id: str | None
    state_timestamp_ms: int
    members: tuple[MemberSnapshot, ...]


class GroupRemoved(NamedTuple):
    """The group is gone."""

    group_id: str


class CommittedOffset(NamedTuple):
    """Where a group will go on reading a partition.

    `expire_timestamp_ms` is set only by a commit that named its own retention (OffsetCommit 2 to 4). A zero `topic_id`
    means that the committer did not know the topic's id, and the offset is good for any topic of that name.
    """

    offset: int
    leader_epoch: int = NO_LEADER_EPOCH
    metadata: str = ""
    commit_timestamp_ms: int = -1
    expire_timestamp_ms: int = NO_EXPIRY
    topic_id: bytes = ZERO_UUID


class OffsetStored(NamedTuple):
    """A group committed an offset."""

    group_id: str
    topic: str
    partition: int
    committed: CommittedOffset


class OffsetRemoved(NamedTuple):
    """A committed offset is gone: deleted, expired, or deleted with its topic."""

    group_id: str
    topic: str
    partition: int


Fact = GroupStored | GroupRemoved | OffsetStored | OffsetRemoved
