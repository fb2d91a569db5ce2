"""What may be asked of the consumer groups of a group machine, and what they answer.

A command that fails as a whole is answered with a `KafkaError`; each command says what its answer is otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kafkapy.groups.modern.core import Partitions
from kafkapy.groups.modern.facts import Owned

MayDescribe = Callable[[str], bool]
"""Whether the member who asks may know of a topic."""


Claimed = Mapping[bytes, Sequence[int]] | None
"""The partitions that a member says it owns, by topic id; None where it does not say."""


class ConsumerHeartbeat(NamedTuple):
    """A member is there: it joins (epoch 0), says what changed, what it owns, or leaves (-1, or -2 to come back).

    None, and -1 of the timeout, leave as it was what the member said before. `new_member_id` is for one without an id.
    Answer: `ConsumerHeartbeatAnswer`.
    """

    group_id: str
    member_id: str
    member_epoch: int
    instance_id: str | None
    rack_id: str | None
    rebalance_timeout_ms: int
    topics: Sequence[str] | None
    pattern: str | None
    assignor: str | None
    owned: Claimed
    client_id: str
    client_host: str
    new_member_id: str
    may_describe: MayDescribe

    @property
    def is_full(self) -> bool:
        """Whether the member says all there is to say, as it does when it joins or was in doubt."""
        subscribes = self.topics is not None or self.pattern is not None
        return self.rebalance_timeout_ms != -1 and subscribes and self.owned is not None


class ConsumerHeartbeatAnswer(NamedTuple):
    """The member's epoch, when to come again, and what it may read from now on, None when that is as it was."""

    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int = 0
    assigned: Owned | None = None


class DescribeConsumerGroup(NamedTuple):
    """Look at a consumer group. Answer: `ConsumerGroupDescription`; GROUP_ID_NOT_FOUND for what is none."""

    group_id: str


class ConsumerMemberDescription(NamedTuple):
    """A member as administrators see it. What it is still to give up counts as assigned."""

    member_id: str
    instance_id: str | None
    rack_id: str | None
    member_epoch: int
    client_id: str
    client_host: str
    topics: Sequence[str]
    pattern: str | None
    assigned: Partitions
    target: Partitions
    is_classic: bool


class ConsumerGroupDescription(NamedTuple):
    """A consumer group as administrators see it."""

    group_id: str
    state: str
    epoch: int
    target_epoch: int
    assignor: str
    members: Sequence[ConsumerMemberDescription]


class SessionExpired(NamedTuple):
    """Timer: a member was not heard of for too long, or did not do in time what it was told to."""

    group_id: str
    member_id: str


class RebalanceExpired(NamedTuple):
    """Timer: a member that was told to give partitions up in this epoch has not done so."""

    group_id: str
    member_id: str
    member_epoch: int


class ResolvePatterns(NamedTuple):
    """Timer, due at once: look up which topics match the patterns of a group, as one of its members may know them."""

    group_id: str
    patterns: frozenset[str]
    may_describe: MayDescribe
