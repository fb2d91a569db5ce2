"""What may be asked of the share groups of a group machine, and what they answer.

A command that fails as a whole is answered with a `KafkaError`; each command says what its answer is otherwise. What
`asks` names is for the share coordinator, and so is who tells what that made of it (`groups/share/service.py`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from kafkapy.errors import Error
from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.persister import TopicIdPartition


class ShareHeartbeat(NamedTuple):
    """A member is there: it joins (epoch 0), says what changed, or leaves (-1). None leaves as it was what it said.

    Answer: `ShareHeartbeatAnswer`.
    """

    group_id: str
    member_id: str
    member_epoch: int
    rack_id: str | None
    topics: Sequence[str] | None
    client_id: str
    client_host: str


class InitializeStates(NamedTuple):
    """State of these partitions is to begin at these offsets, in this epoch."""

    state_epoch: int
    starts: Mapping[TopicIdPartition, int]


class ShareHeartbeatAnswer(NamedTuple):
    """The member's epoch, when to come again, and what it may read from now on, None when that is as it was.

    `asks`: what is to be initialised, None for nothing.
    """

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    assigned: Partitions | None = None
    asks: InitializeStates | None = None


class StatesInitialized(NamedTuple):
    """The share coordinator has the state of these partitions from now on. Answer: None."""

    group_id: str
    partitions: Mapping[bytes, frozenset[int]]


class StatesNotInitialized(NamedTuple):
    """The share coordinator did not do it for one of these partitions; they are asked for again. Answer: None."""

    group_id: str
    partitions: Mapping[bytes, frozenset[int]]


class DescribeShareGroup(NamedTuple):
    """Look at a share group. Answer: `ShareGroupDescription`; GROUP_ID_NOT_FOUND for what is none."""

    group_id: str


class ShareMemberDescription(NamedTuple):
    """A member as administrators see it."""

    member_id: str
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topics: Sequence[str]
    assigned: Partitions


class ShareGroupDescription(NamedTuple):
    """A share group as administrators see it."""

    group_id: str
    state: str
    epoch: int
    target_epoch: int
    members: Sequence[ShareMemberDescription]


class ListInitialized(NamedTuple):
    """Which partitions have state. Answer: `Partitions`, nothing for what is no share group."""

    group_id: str


class AlterStarts(NamedTuple):
    """Have a group begin at these offsets, by topic and partition; it must have no members, and may not be there.

    Answer: `StartsAltered`.
    """

    group_id: str
    topics: Sequence[tuple[str, Sequence[tuple[int, int]]]]


class StartsAltered(NamedTuple):
    """What is to be initialised. Partitions that are not in it do not exist."""

    asks: InitializeStates


class DeleteStates(NamedTuple):
    """Forget what a group has done with these topics; it must have no members. Answer: `StatesToDelete`."""

    group_id: str
    topics: Sequence[str]


class StatesToDelete(NamedTuple):
    """An error a topic, NONE for those of which `partitions` are to be deleted; their ids, in the order asked."""

    topics: Sequence[tuple[str, bytes, Error, str | None]]
    partitions: Sequence[TopicIdPartition]


class StatesDeleted(NamedTuple):
    """The share coordinator has forgotten these topics. Answer: None."""

    group_id: str
    topic_ids: Sequence[bytes]


class PrepareDeletion(NamedTuple):
    """A group is to be deleted: what of it is to be forgotten first? Answer: a list of `TopicIdPartition`.

    For what is no share group there is nothing. Raises NON_EMPTY_GROUP.
    """

    group_id: str
