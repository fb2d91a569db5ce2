"""What may be asked of a group machine, and what it answers. Plain values; `groups/service.py` builds them.

A command that fails as a whole is answered with a `KafkaError`; each command says what its answer is otherwise.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from kafkapy.coordination.shard import ProducerEpoch
from kafkapy.errors import Error
from kafkapy.groups.facts import CommittedOffset
from kafkapy.records.control import EndMarker
from kafkapy.storage.verification import Verification

UNKNOWN_MEMBER = ""
NO_GENERATION = -1


class Protocol(NamedTuple):
    """A way of assigning that a member supports, with what the leader needs to know of the member for it."""

    name: str
    metadata: bytes


class Join(NamedTuple):
    """Enter a group, or enter its next generation. Answer: `Joined`, errors included.

    `new_member_id` is the id to give if the caller has none, `new_consumer_id` that in a group of the consumer
    protocol. `requires_known_member_id`: a newcomer must come back
    with the id it is given (KIP-394). `supports_skipping_assignment`: a static leader that returns may be told to
    leave the assignment alone (KIP-814).
    """

    group_id: str
    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    session_timeout_ms: int
    rebalance_timeout_ms: int
    protocol_type: str
    protocols: tuple[Protocol, ...]
    new_member_id: str
    requires_known_member_id: bool
    supports_skipping_assignment: bool
    reason: str | None = None
    new_consumer_id: str = ""


class JoinedMember(NamedTuple):
    """What the leader is told of each member."""

    member_id: str
    instance_id: str | None
    metadata: bytes


class Joined(NamedTuple):
    """The answer to `Join`. `members` is filled for the leader only."""

    error: Error
    member_id: str
    generation: int = NO_GENERATION
    protocol_type: str | None = None
    protocol_name: str | None = None
    leader_id: str = UNKNOWN_MEMBER
    skip_assignment: bool = False
    members: Sequence[JoinedMember] = ()


class Sync(NamedTuple):
    """Ask for the assignment of this generation; the leader brings it. Answer: `Synced`.

    Protocol type and name are checked against the group's where they are given (version 5 and later).
    """

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    protocol_type: str | None
    protocol_name: str | None
    assignments: dict[str, bytes]


class Synced(NamedTuple):
    """The answer to `Sync`."""

    protocol_type: str | None
    protocol_name: str | None
    assignment: bytes


class Heartbeat(NamedTuple):
    """Still there. Answer: None."""

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int


class Leaver(NamedTuple):
    """A member to be removed, by its id, or by its instance id alone."""

    member_id: str
    instance_id: str | None = None
    reason: str | None = None


class Leave(NamedTuple):
    """Remove members. Answer: an `Error` per member, in order."""

    group_id: str
    members: Sequence[Leaver]


class PartitionCommit(NamedTuple):
    """An offset to commit."""

    partition: int
    offset: int
    leader_epoch: int
    metadata: str | None


class TopicCommit(NamedTuple):
    """Offsets to commit for one topic. The topic id, where known, ties the offset to this very topic."""

    topic: str
    topic_id: bytes
    partitions: Sequence[PartitionCommit]


class Transaction(NamedTuple):
    """Whose transaction something is part of, and what shows that its coordinator knows, as of `storage.base.Write`."""

    producer: ProducerEpoch
    verification: Verification | None = None


class CommitOffsets(NamedTuple):
    """Store offsets. Answer: per topic, an `Error` per partition, in order.

    `retention_ms` -1 leaves the lifetime to the broker. `knows_member_epochs`: the caller understands
    STALE_MEMBER_EPOCH and GROUP_ID_NOT_FOUND. With a `transaction` they are pending until that ends.
    """

    group_id: str
    member_id: str
    instance_id: str | None
    generation: int
    retention_ms: int
    topics: Sequence[TopicCommit]
    knows_member_epochs: bool
    transaction: Transaction | None = None


class EndTransaction(NamedTuple):
    """A producer's transaction is over, for what it has written to this shard. Answer: NONE, an `Error`."""

    producer: ProducerEpoch
    marker: EndMarker


class TopicQuery(NamedTuple):
    """Partitions of a topic that are asked for; a zero topic id matches any topic of that name."""

    topic: str
    topic_id: bytes
    partitions: Sequence[int]


class FetchOffsets(NamedTuple):
    """Look up offsets, all of the group's when `topics` is None. Answer: a list of `TopicOffsets`.

    `require_stable`: what an open transaction may change is not told. A member of a consumer group says which, and its
    epoch.
    """

    group_id: str
    topics: Sequence[TopicQuery] | None
    require_stable: bool = False
    member_id: str | None = None
    member_epoch: int = NO_GENERATION


UnstableOffset = Literal[Error.UNSTABLE_OFFSET_COMMIT]


class TopicOffsets(NamedTuple):
    """The committed offsets of one topic; None where nothing is committed, an error where it is not to be told."""

    topic: str
    partitions: Sequence[tuple[int, CommittedOffset | UnstableOffset | None]]


class DeleteOffsets(NamedTuple):
    """Forget offsets. Answer: per topic, an `Error` for its partitions."""

    group_id: str
    topics: Sequence[tuple[str, Sequence[int]]]


class DescribeGroup(NamedTuple):
    """Look at a group. Answer: `GroupDescription`; GROUP_ID_NOT_FOUND for a group that is not there."""

    group_id: str


class MemberDescription(NamedTuple):
    """A member as administrators see it."""

    member_id: str
    instance_id: str | None
    client_id: str
    client_host: str
    metadata: bytes
    assignment: bytes


class GroupDescription(NamedTuple):
    """A group as administrators see it; protocol and metadata are known only while it is stable."""

    group_id: str
    state: str
    protocol_type: str
    protocol_name: str
    members: Sequence[MemberDescription]


class ListGroups(NamedTuple):
    """Name the groups whose state and type are among those given; no filter lets everything through.

    Filters are lower-case. Answer: a list of `ListedGroup`.
    """

    states: frozenset[str]
    types: frozenset[str]


class ListedGroup(NamedTuple):
    """A line of the list."""

    group_id: str
    protocol_type: str
    state: str
    group_type: str


class DeleteGroups(NamedTuple):
    """Remove groups that have no members, with their offsets. Answer: an `Error` per group, in order."""

    group_ids: Sequence[str]


class ForgetTopic(NamedTuple):
    """A topic was deleted: its offsets go too. Answer: None."""

    topic: str
    topic_id: bytes


class MemberExpired(NamedTuple):
    """Timer: a member's session is over, or a promised member id was not used in time."""

    group_id: str
    member_id: str


class JoinExpired(NamedTuple):
    """Timer: whoever has not rejoined by now is left behind."""

    group_id: str


class InitialDelayOver(NamedTuple):
    """Timer: an empty group has waited for its first members; `remaining_ms` is how much longer it may."""

    group_id: str
    delay_ms: int
    remaining_ms: int


class SyncExpired(NamedTuple):
    """Timer: whoever has not asked for the assignment of this generation by now is removed."""

    group_id: str
    generation: int


class RemoveExpired(NamedTuple):
    """Timer: time to look for offsets and groups that have outlived their retention."""
