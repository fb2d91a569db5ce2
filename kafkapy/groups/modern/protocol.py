"""The rules that are common to the newer protocols, and the groups of all of them on one shard (KIP-848's skeleton).

A protocol is a subclass of `ModernProtocol`: it says what its groups and facts are, what it is asked, and what becomes
of a group when a member is gone. `groups/machine.py` has one of each, and knows their groups through `ModernGroups`.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kafkapy.coordination.shard import CancelTimer, Decision, Moment, SetTimer, Ticket
from kafkapy.groups.modern import settings
from kafkapy.groups.modern.commands import SessionExpired
from kafkapy.groups.modern.core import GroupEpoch, ModernGroup
from kafkapy.groups.modern.topic_hash import TopicHashes

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

log = logging.getLogger(__name__)

G = TypeVar("G", bound=ModernGroup[Any, Any, Any])

Request = Callable[[Any, Ticket, Moment, Decision], None]
Timer = Callable[[Any, Moment, Decision], None]


class ModernProtocol(ABC, Generic[G]):
    """The rules of one protocol, over `groups`, its groups on one shard.

    `requests` and `timers` say what it does with which command.
    """

    name: ClassVar[str]
    """As `ListGroups` has it, for the type of its groups and for their protocol's."""
    fact_types: ClassVar[frozenset[type]]
    """All of its facts, those beside the skeleton's included."""
    keeps_offsets: ClassVar[bool]
    """Whether its groups commit offsets, which expire, and the group with the last of them."""
    gives_way: ClassVar[bool]
    """Whether an empty group gives way to a classic one of which somebody wants to be a member."""

    requests: Mapping[type, Request]
    timers: Mapping[type, Timer]

    def __init__(self, hashes: TopicHashes) -> None:
        self.groups: dict[str, G] = {}
        self._hashes = hashes

    @abstractmethod
    def new(self, group_id: str) -> G:
        """A group of which there is no fact yet."""

    @abstractmethod
    def fence_member(self, group: G, member_id: str, moment: Moment, out: Decision) -> None:
        """This member is one no more: what it had is free, and a new target is due."""

    # Epochs

    def note_topics(
        self,
        group: G,
        topics: Callable[[], Iterable[str]],
        image: "ClusterImage",
        out: Decision,
        is_bumped: bool,
    ) -> int:
        """The group's epoch from now on, which grows when its topics changed, as they are to be asked for."""
        if not is_bumped and group.soft.checked_topics is image.topics:
            return group.epoch
        metadata_hash = self._hashes.of(topics(), image)
        epoch = group.epoch
        if is_bumped or metadata_hash != group.metadata_hash:
            epoch += 1
            out.facts.append(group.fact_types.epoch(group.group_id, GroupEpoch(epoch, metadata_hash)))
        group.soft.checked_topics = image.topics
        return epoch

    def may_compute_target(self, group: G, moment: Moment) -> bool:
        """Targets are not computed more often than the assignment interval allows (KIP-1263)."""
        computed_ms = group.target_timestamp_ms
        interval_ms = settings.assignment_interval_ms(self.name, group.group_id, moment.image)
        return computed_ms == 0 or moment.now_ms >= computed_ms + interval_ms

    def forget_topic(self, topic_id: bytes, moment: Moment, out: Decision) -> None:
        """A topic was deleted."""

    # Sessions

    def session_timeout_ms(self, group: G, image: "ClusterImage") -> int:
        """How long members of the group may be silent."""
        return settings.session_timeout_ms(self.name, group.group_id, image)

    def expire_session_in(self, group_id: str, member_id: str, timeout_ms: int, now_ms: int, out: Decision) -> None:
        """The member was heard of: its session begins anew."""
        expiry = SessionExpired(group_id, member_id)
        out.timers.append(SetTimer(("session", group_id, member_id), now_ms + timeout_ms, expiry))

    def cancel_session(self, group_id: str, member_id: str, out: Decision) -> None:
        """Nobody is to be woken for this member's silence."""
        out.timers.append(CancelTimer(("session", group_id, member_id)))

    def session_expired(self, command: SessionExpired, moment: Moment, out: Decision) -> None:
        group = self.groups[command.group_id]
        if command.member_id in group.subscriptions:
            log.info("Member %s of %s group %s is fenced: it fell silent", command.member_id, self.name, group.group_id)
            self.fence_member(group, command.member_id, moment, out)

    def restore(self, group: G, moment: Moment, out: Decision) -> None:
        """A group was loaded, or a change of it taken back: each member has one session timeout to be heard of."""
        group.soft = type(group.soft)()
        timeout_ms = self.session_timeout_ms(group, moment.image) if group.subscriptions else 0
        for member_id in group.subscriptions:
            self.expire_session_in(group.group_id, member_id, timeout_ms, moment.now_ms, out)


class ModernGroups:
    """The groups of one shard that speak one of the newer protocols, by whichever each does."""

    def __init__(self, protocols: Sequence[ModernProtocol[Any]]) -> None:
        self.protocols = protocols
        self._by_fact = {fact_type: protocol for protocol in protocols for fact_type in protocol.fact_types}
        self.requests: dict[type, Request] = {}
        self.timers: dict[type, Timer] = {SessionExpired: self._session_expired}
        for protocol in protocols:
            self.requests |= protocol.requests
            self.timers |= protocol.timers

    def protocol_of(self, group_id: str) -> ModernProtocol[Any] | None:
        """The protocol that the group speaks; None where there is no such group."""
        for protocol in self.protocols:
            if group_id in protocol.groups:
                return protocol
        return None

    def find(self, group_id: str) -> ModernGroup[Any, Any, Any] | None:
        for protocol in self.protocols:
            group: ModernGroup[Any, Any, Any] | None = protocol.groups.get(group_id)
            if group is not None:
                return group
        return None

    def has_fact(self, fact: object) -> bool:
        """Whether this is a fact of one of the protocols."""
        return type(fact) in self._by_fact

    def apply(self, fact: Any) -> bool:
        """Take a fact; whether its group came into being with it."""
        protocol, group_id = self._by_fact[type(fact)], fact.group_id
        group = protocol.groups.get(group_id)
        is_new = group is None
        if group is None:
            if fact[-1] in (None, False):
                return False  # the end of what is not there
            group = protocol.groups[group_id] = protocol.new(group_id)
        group.apply(fact)
        if group.is_blank:
            del protocol.groups[group_id]
        return is_new

    def as_it_is(self, fact: Any) -> Any:
        """What the key of this fact says now."""
        protocol = self._by_fact[type(fact)]
        return (protocol.groups.get(fact.group_id) or protocol.new(fact.group_id)).as_it_is(fact)

    def facts(self) -> Iterator[Any]:
        """The facts that bring all groups back."""
        for protocol in self.protocols:
            for group in protocol.groups.values():
                yield from group.facts()

    def forget_topic(self, topic_id: bytes, moment: Moment, out: Decision) -> None:
        for protocol in self.protocols:
            protocol.forget_topic(topic_id, moment, out)

    def with_offsets(self) -> Iterator[ModernGroup[Any, Any, Any]]:
        """The groups that commit offsets."""
        for protocol in self.protocols:
            if protocol.keeps_offsets:
                yield from protocol.groups.values()

    def restore_all(self, moment: Moment, out: Decision) -> None:
        for protocol in self.protocols:
            for group in protocol.groups.values():
                protocol.restore(group, moment, out)

    def restore(self, group_id: str, moment: Moment, out: Decision) -> None:
        """A change of this group was taken back, and it may be no more."""
        protocol = self.protocol_of(group_id)
        if protocol is not None:
            protocol.restore(protocol.groups[group_id], moment, out)

    def _session_expired(self, command: SessionExpired, moment: Moment, out: Decision) -> None:
        protocol = self.protocol_of(command.group_id)
        if protocol is not None:
            protocol.session_expired(command, moment, out)
