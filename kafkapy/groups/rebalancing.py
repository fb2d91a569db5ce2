"""How a classic group comes from one generation to the next: everybody joins, the leader assigns, all are told.

Called by `groups/classic.py`, which decides when; the invariants are there.
"""

import logging

from kafkapy.coordination.shard import Answer, CancelTimer, Decision, SetTimer
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    UNKNOWN_MEMBER,
    InitialDelayOver,
    Joined,
    JoinedMember,
    JoinExpired,
    MemberExpired,
    Synced,
    SyncExpired,
)
from kafkapy.groups.group import Group, GroupState, Member
from kafkapy.groups.settings import GroupSettings

EMPTY, STABLE = GroupState.EMPTY, GroupState.STABLE
PREPARING, COMPLETING = GroupState.PREPARING_REBALANCE, GroupState.COMPLETING_REBALANCE

log = logging.getLogger(__name__)


class Rebalancing:
    """The steps of a rebalance, and the timers that keep it going."""

    def __init__(self, settings: GroupSettings) -> None:
        self._settings = settings

    def prepare(self, group: Group, reason: str, now_ms: int, out: Decision) -> None:
        """Have everybody join again: a rebalance begins, and ends at once if nobody is missing."""
        if group.state is COMPLETING:
            for member in group.members.values():
                member.assignment = b""
                if answer_sync(member, KafkaError(Error.REBALANCE_IN_PROGRESS), out):
                    self.extend_session(group, member, now_ms, out)
        group.pending_syncs.clear()
        out.timers.append(CancelTimer(("sync", group.group_id)))
        log.info(
            "Preparing to rebalance group %s in state %s with old generation %d (reason: %s)",
            group.group_id,
            group.state.value,
            group.generation,
            reason,
        )
        was_empty = group.state is EMPTY
        group.transition(PREPARING, now_ms)
        if was_empty:
            delay_ms = self._settings.initial_rebalance_delay_ms
            self.delay_first_generation(group, delay_ms, max(group.rebalance_timeout_ms - delay_ms, 0), now_ms, out)
        elif group.everyone_joined:
            self.complete_join(group, now_ms, out)
        else:
            self._expire_join(group, now_ms, out)

    def complete_if_everyone_joined(self, group: Group, now_ms: int, out: Decision) -> None:
        """Complete the rebalance, unless it is the first one: that waits for its delay."""
        if group.previous_state is not EMPTY and group.everyone_joined:
            self.complete_join(group, now_ms, out)

    def complete_join(self, group: Group, now_ms: int, out: Decision) -> None:
        """Nobody is waited for any longer: whoever has not joined is dropped, the others are in the next generation."""
        out.timers.append(CancelTimer(("join", group.group_id)))
        for member in list(group.members.values()):
            if member.join_ticket is None and member.instance_id is None:
                self.remove(group, member.member_id, Error.UNKNOWN_MEMBER_ID, out)
        if group.members and not group.elect_joined_leader():
            # Only static members are left, and none of them came: they keep their places for another round.
            self._expire_join(group, now_ms, out)
            return
        group.begin_generation(now_ms)
        if group.state is EMPTY:
            log.info("Group %s with generation %d is now empty", group.group_id, group.generation)
            out.facts.append(group.snapshot())
            return
        members = group.joined_members()
        for member in group.members.values():
            answer_join(member, joined(group, member, members if member.member_id == group.leader_id else ()), out)
            self.extend_session(group, member, now_ms, out)
            member.is_new = False
            group.pending_syncs.add(member.member_id)
        deadline_ms = now_ms + group.rebalance_timeout_ms
        expiry = SyncExpired(group.group_id, group.generation)
        out.timers.append(SetTimer(("sync", group.group_id), deadline_ms, expiry))

    def take_assignment(self, group: Group, assignments: dict[str, bytes], now_ms: int, out: Decision) -> None:
        """The leader has brought the assignment: the group is stable, and those who wait for it are told."""
        for member in group.members.values():
            member.assignment = assignments.get(member.member_id, b"")
        group.transition(STABLE, now_ms)
        out.facts.append(group.snapshot())
        log.info("Group %s is stable: generation %d, %d members", group.group_id, group.generation, len(group.members))
        for member in group.members.values():
            answer = Synced(group.protocol_type, group.protocol_name, member.assignment)
            if answer_sync(member, answer, out):
                self.extend_session(group, member, now_ms, out)

    def remove(self, group: Group, member_id: str, error: Error, out: Decision) -> None:
        """Drop a member or a promised one; what it was waiting for is answered with `error`."""
        member = group.remove(member_id)
        out.timers.append(CancelTimer(("session", group.group_id, member_id)))
        if member is not None:
            answer_join(member, Joined(error, UNKNOWN_MEMBER), out)
            answer_sync(member, KafkaError(error), out)

    # Timers to come

    def extend_session(self, group: Group, member: Member, now_ms: int, out: Decision) -> None:
        """The member was heard of: its session begins anew."""
        self.expire_in(group, member.member_id, member.session_timeout_ms, now_ms, out)

    def expire_in(self, group: Group, member_id: str, timeout_ms: int, now_ms: int, out: Decision) -> None:
        """The member has so long to be heard of."""
        key = ("session", group.group_id, member_id)
        out.timers.append(SetTimer(key, now_ms + timeout_ms, MemberExpired(group.group_id, member_id)))

    def _expire_join(self, group: Group, now_ms: int, out: Decision) -> None:
        deadline_ms = now_ms + group.rebalance_timeout_ms
        out.timers.append(SetTimer(("join", group.group_id), deadline_ms, JoinExpired(group.group_id)))

    def delay_first_generation(
        self, group: Group, delay_ms: int, remaining_ms: int, now_ms: int, out: Decision
    ) -> None:
        """The first generation begins after so long, unless more members come."""
        expiry = InitialDelayOver(group.group_id, delay_ms, remaining_ms)
        out.timers.append(SetTimer(("join", group.group_id), now_ms + delay_ms, expiry))


def joined(
    group: Group, member: Member, members: "list[JoinedMember] | tuple[()]", skip_assignment: bool = False
) -> Joined:
    """The answer to who is in the generation."""
    return Joined(
        Error.NONE,
        member.member_id,
        group.generation,
        group.protocol_type,
        group.protocol_name,
        group.leader_id or UNKNOWN_MEMBER,
        skip_assignment,
        members,
    )


def answer_join(member: Member, answer: Joined, out: Decision) -> None:
    """Answer the join of a member, if one waits."""
    if member.join_ticket is not None:
        out.answers.append(Answer(member.join_ticket, answer))
        member.join_ticket = None


def answer_sync(member: Member, answer: Synced | KafkaError, out: Decision) -> bool:
    """Answer the sync of a member; whether one waited."""
    if member.sync_ticket is None:
        return False
    out.answers.append(Answer(member.sync_ticket, answer))
    member.sync_ticket = None
    return True
