"""The nouns of the classic protocol: a group, its members, its states. No rules about when what happens.

Invariants
 1. `leader_id` is None or a member; a group with members has a leader.
 2. `static_members` holds exactly the members that have an instance id.
 3. A member id is never both a member and a promised one (`pending_joins`); `pending_syncs` holds members only.
 4. `restored(snapshot())` is the same group, but for who waits and for the protocols that were not chosen.
"""

from collections import Counter
from collections.abc import Iterable
from enum import Enum

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import JoinedMember, Protocol
from kafkapy.groups.embedded import topics_of
from kafkapy.groups.facts import GroupStored, MemberSnapshot
from kafkapy.protocol.primitives import ProtocolError

CONSUMER_PROTOCOL_TYPE = "consumer"


class GroupState(Enum):
    """Where a group stands; the value is Kafka's own name for it.

    EMPTY: no members; maybe committed offsets.
        heartbeat, sync → UNKNOWN_MEMBER_ID; commits without a generation are taken; join → PREPARING_REBALANCE.
        With its last offset expired, or on DeleteGroups, the group is gone.
    PREPARING_REBALANCE: waiting for every member to (re)join.
        join waits; heartbeat, sync → REBALANCE_IN_PROGRESS; commits of the last generation are taken.
        All joined, or the rebalance timeout → COMPLETING_REBALANCE; no member left by then → EMPTY.
    COMPLETING_REBALANCE: a new generation waits for its leader's assignment.
        sync waits; heartbeat is answered; commits → REBALANCE_IN_PROGRESS. The leader's sync → STABLE.
        A join with changed protocols, a leave, a session or sync timeout → PREPARING_REBALANCE.
    STABLE: every member has, or can ask for, its assignment.
        sync, heartbeat and commits are answered. The leader joins, anyone joins with changed protocols, a member
        comes or goes → PREPARING_REBALANCE.
    DEAD: how a group that is not there is described.
    """

    EMPTY = "Empty"
    PREPARING_REBALANCE = "PreparingRebalance"
    COMPLETING_REBALANCE = "CompletingRebalance"
    STABLE = "Stable"
    DEAD = "Dead"


TRANSITIONS: dict[GroupState, frozenset[GroupState]] = {
    GroupState.EMPTY: frozenset({GroupState.PREPARING_REBALANCE}),
    GroupState.PREPARING_REBALANCE: frozenset({GroupState.COMPLETING_REBALANCE, GroupState.EMPTY}),
    GroupState.COMPLETING_REBALANCE: frozenset({GroupState.STABLE, GroupState.PREPARING_REBALANCE}),
    GroupState.STABLE: frozenset({GroupState.PREPARING_REBALANCE}),
    GroupState.DEAD: frozenset(),
}


class Member:
    """One member. A ticket is the caller that waits for the answer to its join or sync; None when nobody waits."""

    __slots__ = (
        "assignment",
        "client_host",
        "client_id",
        "instance_id",
        "is_new",
        "join_ticket",
        "member_id",
        "protocols",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "sync_ticket",
    )

    def __init__(
        self,
        member_id: str,
        instance_id: str | None,
        client: tuple[str, str],
        rebalance_timeout_ms: int,
        session_timeout_ms: int,
        protocols: tuple[Protocol, ...],
        assignment: bytes = b"",
    ) -> None:
        self.member_id = member_id
        self.instance_id = instance_id
        self.client_id, self.client_host = client
        self.rebalance_timeout_ms = rebalance_timeout_ms
        self.session_timeout_ms = session_timeout_ms
        self.protocols = protocols
        self.assignment = assignment
        self.is_new = False
        self.join_ticket: int | None = None
        self.sync_ticket: int | None = None

    def metadata(self, protocol_name: str | None) -> bytes:
        """What the member said beside this protocol, which it must support."""
        for name, metadata in self.protocols:
            if name == protocol_name:
                return metadata
        raise ValueError(f"member {self.member_id} does not support protocol {protocol_name!r}")

    @property
    def protocol_names(self) -> set[str]:
        return {name for name, _ in self.protocols}


class Group:
    """One classic group. `latest` is the last fact that this memory itself wrote down, or was made from; `stored` the
    last one that was applied.
    """

    __slots__ = (
        "_supporters",
        "generation",
        "group_id",
        "latest",
        "leader_id",
        "members",
        "new_member_added",
        "pending_joins",
        "pending_syncs",
        "previous_state",
        "protocol_name",
        "protocol_type",
        "state",
        "state_timestamp_ms",
        "static_members",
        "stored",
        "subscribed_topics",
    )

    def __init__(self, group_id: str, now_ms: int) -> None:
        self.group_id = group_id
        self.state = GroupState.EMPTY
        self.previous_state = GroupState.DEAD
        self.state_timestamp_ms = now_ms
        self.generation = 0
        self.protocol_type: str | None = None
        self.protocol_name: str | None = None
        self.leader_id: str | None = None
        self.members: dict[str, Member] = {}
        self.static_members: dict[str, str] = {}
        self._supporters: Counter[str] = Counter()  # how many members support a protocol
        self.pending_joins: set[str] = set()
        self.pending_syncs: set[str] = set()
        self.new_member_added = False
        self.subscribed_topics: frozenset[str] | None = None
        self.latest: GroupStored | None = None
        self.stored: GroupStored | None = None

    @classmethod
    def restored(cls, fact: GroupStored) -> "Group":
        """The group as its record tells it: stable if it had members, else empty."""
        group = cls(fact.group_id, fact.state_timestamp_ms)
        group.generation = fact.generation
        group.protocol_name = fact.protocol_name
        group.leader_id = fact.leader_id
        for member in fact.members:
            group.add(
                Member(
                    member.member_id,
                    member.instance_id,
                    (member.client_id, member.client_host),
                    member.rebalance_timeout_ms,
                    member.session_timeout_ms,
                    (Protocol(fact.protocol_name or "", member.subscription),),
                    member.assignment,
                )
            )
        if group.members:
            group.state = GroupState.STABLE
        group.protocol_type = fact.protocol_type
        group.subscribed_topics = group.find_subscribed_topics()
        group.latest = fact
        return group

    @classmethod
    def stable(cls, group_id: str, generation: int, members: Iterable[Member], now_ms: int) -> "Group":
        """A group of consumers that came to its assignment under the other protocol; the first one leads."""
        group = cls(group_id, now_ms)
        group.generation = generation
        group.protocol_type = CONSUMER_PROTOCOL_TYPE
        for member in members:
            group.add(member)
        group.state = GroupState.STABLE
        group.protocol_name = group.select_protocol()
        group.subscribed_topics = group.find_subscribed_topics()
        return group

    def snapshot(self) -> GroupStored:
        """This group as a fact, to be written down now."""
        members = tuple(
            MemberSnapshot(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.rebalance_timeout_ms,
                member.session_timeout_ms,
                member.metadata(self.protocol_name),
                member.assignment,
            )
            for member in self.members.values()
        )
        return self._write_down(self.protocol_type, self.protocol_name, self.generation, self.leader_id, members)

    def snapshot_as_new(self) -> GroupStored:
        """The fact that the group exists, whoever is already joining it: its first generation is still to come."""
        return self._write_down(None, None, 0, None, ())

    def _write_down(
        self,
        protocol_type: str | None,
        protocol_name: str | None,
        generation: int,
        leader_id: str | None,
        members: tuple[MemberSnapshot, ...],
    ) -> GroupStored:
        self.latest = GroupStored(
            self.group_id, protocol_type, protocol_name, generation, leader_id, self.state_timestamp_ms, members
        )
        return self.latest

    def transition(self, state: GroupState, now_ms: int) -> None:
        """Move to `state`, which the table must allow."""
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"group {self.group_id} cannot go from {self.state.value} to {state.value}")
        self.previous_state = self.state
        self.state = state
        self.state_timestamp_ms = now_ms

    def add(self, member: Member) -> None:
        """Take in a member; the first one brings the protocol type (with `protocol_type` set) and becomes leader."""
        if member.instance_id is not None:
            self.static_members[member.instance_id] = member.member_id
        if self.leader_id is None:
            self.leader_id = member.member_id
        self.members[member.member_id] = member
        self._supporters.update(member.protocol_names)
        self.pending_joins.discard(member.member_id)

    def remove(self, member_id: str) -> Member | None:
        """Drop a member, or the promise of one; a lost leader is followed by the oldest member."""
        member = self.members.pop(member_id, None)
        if member is not None:
            self._supporters -= Counter(member.protocol_names)
            if member.instance_id is not None:
                del self.static_members[member.instance_id]
        if self.leader_id == member_id:
            self.leader_id = next(iter(self.members), None)
        self.pending_joins.discard(member_id)
        self.pending_syncs.discard(member_id)
        return member

    def change_protocols(self, member: Member, protocols: tuple[Protocol, ...]) -> None:
        """The member now supports these."""
        self._supporters -= Counter(member.protocol_names)
        member.protocols = protocols
        self._supporters.update(member.protocol_names)

    def replace_static(self, old: Member, new_member_id: str) -> Member:
        """The same member under a new id: place, assignment and leadership stay."""
        assert old.instance_id is not None
        new = Member(
            new_member_id,
            old.instance_id,
            (old.client_id, old.client_host),
            old.rebalance_timeout_ms,
            old.session_timeout_ms,
            old.protocols,
            old.assignment,
        )
        self.members = {
            new_member_id if member_id == old.member_id else member_id: new if member is old else member
            for member_id, member in self.members.items()
        }
        if self.leader_id == old.member_id:
            self.leader_id = new_member_id
        self.static_members[old.instance_id] = new_member_id
        if old.member_id in self.pending_syncs:
            self.pending_syncs.remove(old.member_id)
            self.pending_syncs.add(new_member_id)
        return new

    def validate_member(self, member_id: str, instance_id: str | None) -> Member:
        """The member that a request speaks for. Raises UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID."""
        if instance_id is not None:
            current = self.static_members.get(instance_id)
            if current is None:
                raise KafkaError(Error.UNKNOWN_MEMBER_ID)
            if current != member_id:
                raise KafkaError(Error.FENCED_INSTANCE_ID)
        member = self.members.get(member_id)
        if member is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID)
        return member

    @property
    def everyone_joined(self) -> bool:
        """All members wait for the next generation, and nobody is still expected with a promised id."""
        return not self.pending_joins and all(m.join_ticket is not None for m in self.members.values())

    @property
    def rebalance_timeout_ms(self) -> int:
        return max((member.rebalance_timeout_ms for member in self.members.values()), default=0)

    def supports(self, protocol_type: str, protocols: Iterable[Protocol]) -> bool:
        """Whether somebody with these protocols could be a member beside those that are."""
        if self.state is GroupState.EMPTY:
            return bool(protocol_type) and any(True for _ in protocols)
        return self.protocol_type == protocol_type and any(self._all_support(name) for name, _ in protocols)

    def _all_support(self, protocol_name: str) -> bool:
        return self._supporters[protocol_name] == len(self.members)

    def select_protocol(self) -> str:
        """The protocol with most votes: a member votes for the first it names among those that all support.

        A draw goes to the choice of the older member.
        """
        oldest = next(iter(self.members.values()))
        candidates = {name for name, _ in oldest.protocols if self._all_support(name)}
        votes: dict[str, int] = {}
        for member in self.members.values():
            choice = next(name for name, _ in member.protocols if name in candidates)
            votes[choice] = votes.get(choice, 0) + 1
        return max(votes, key=votes.__getitem__)

    def elect_joined_leader(self) -> bool:
        """Make sure that the leader is among those who wait for the next generation; False when nobody waits."""
        if self.leader_id is None:
            return False
        if self.members[self.leader_id].join_ticket is not None:
            return True
        for member in self.members.values():
            if member.join_ticket is not None:
                self.leader_id = member.member_id
                return True
        return False

    def begin_generation(self, now_ms: int) -> None:
        """The rebalance is over: next generation, and its protocol; EMPTY when no member is left."""
        self.generation += 1
        self.protocol_name = self.select_protocol() if self.members else None
        self.subscribed_topics = self.find_subscribed_topics()
        self.transition(GroupState.COMPLETING_REBALANCE if self.members else GroupState.EMPTY, now_ms)

    def joined_members(self) -> list[JoinedMember]:
        """Everything the leader needs for its assignment."""
        return [
            JoinedMember(member.member_id, member.instance_id, member.metadata(self.protocol_name))
            for member in self.members.values()
        ]

    @property
    def uses_consumer_protocol(self) -> bool:
        return self.protocol_type == CONSUMER_PROTOCOL_TYPE

    def is_subscribed_to(self, topic: str) -> bool:
        """Whether a member may be reading the topic; consumers whose subscription is unreadable may read any."""
        if self.subscribed_topics is None:
            return self.uses_consumer_protocol
        return topic in self.subscribed_topics

    def find_subscribed_topics(self) -> frozenset[str] | None:
        """What the members of this generation subscribe to; None when that is not to be known."""
        if not self.uses_consumer_protocol:
            return None
        if not self.members:
            return frozenset()
        if self.protocol_name is None:
            return None
        topics: set[str] = set()
        try:
            for member in self.members.values():
                topics.update(topics_of(member.metadata(self.protocol_name)))
        except ProtocolError:
            return None
        return frozenset(topics)
