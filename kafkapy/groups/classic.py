"""The classic rebalance protocol: who may join, when a generation begins, who is dropped.

Owns the groups of one shard in memory; called by `groups/machine.py` only. Everything that happens is written into the
`Decision` at hand: answers for tickets, timers, and the few facts that a group leaves behind. Order of checks and
errors follow Kafka's group coordinator.

Invariants
 1. A ticket is answered exactly once: at once, with its generation, or when its member goes.
 2. The generation moves only when a rebalance completes.
 3. A group's fact is written at three moments: it comes to be, it is empty again, it has an assignment. Between
    them its memory runs ahead; a replay finds the last of these moments, and the members join again.
"""

from typing import Final

from kafkapy.coordination.shard import Answer, CancelTimer, Decision, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import (
    UNKNOWN_MEMBER,
    Heartbeat,
    InitialDelayOver,
    Join,
    Joined,
    JoinExpired,
    Leave,
    Leaver,
    MemberExpired,
    Sync,
    Synced,
    SyncExpired,
)
from kafkapy.groups.group import Group, Member
from kafkapy.groups.rebalancing import (
    COMPLETING,
    EMPTY,
    PREPARING,
    STABLE,
    Rebalancing,
    answer_join,
    answer_sync,
    joined,
)
from kafkapy.groups.settings import GroupSettings

NEW_MEMBER_JOIN_TIMEOUT_MS: Final = 300_000  # Kafka's constant: a newcomer waits this long for its first generation


class ClassicProtocol:
    """The rules, over `groups`, a mapping that the machine shares."""

    def __init__(self, groups: dict[str, Group], settings: GroupSettings) -> None:
        self._groups = groups
        self._settings = settings
        self._rebalancing = Rebalancing(settings)

    # Requests

    def join(self, command: Join, ticket: Ticket, now_ms: int, out: Decision) -> None:
        """Answers `Joined`, now or when the rebalance completes."""
        group = self._groups.get(command.group_id)
        is_new_group, fact_count = group is None, len(out.facts)
        if group is None:
            if command.member_id != UNKNOWN_MEMBER:
                _refuse_join(Error.UNKNOWN_MEMBER_ID, command.member_id, ticket, out)
                return
            group = self._groups[command.group_id] = Group(command.group_id, now_ms)
        if not self._has_room_for(group, command.member_id):
            self._rebalancing.remove(group, command.member_id, Error.GROUP_MAX_SIZE_REACHED, out)
            _refuse_join(Error.GROUP_MAX_SIZE_REACHED, UNKNOWN_MEMBER, ticket, out)
        elif not group.supports(command.protocol_type, command.protocols):
            _refuse_join(Error.INCONSISTENT_GROUP_PROTOCOL, command.member_id, ticket, out)
        elif command.member_id == UNKNOWN_MEMBER:
            self._join_newcomer(group, command, ticket, now_ms, out)
        elif command.member_id in group.pending_joins:
            if command.instance_id is None:
                self._add(group, command, command.member_id, ticket, now_ms, out)
            else:  # static members are promised no ids; Kafka has no better error for it
                _refuse_join(Error.UNKNOWN_SERVER_ERROR, UNKNOWN_MEMBER, ticket, out)
        else:
            self._join_again(group, command, ticket, now_ms, out)
        if is_new_group and len(out.facts) == fact_count:
            out.facts.append(group.snapshot_as_new())

    def sync(self, command: Sync, ticket: Ticket, now_ms: int, out: Decision) -> None:
        """Answers `Synced`, now or when the leader has synced."""
        group = self._groups.get(command.group_id)
        if group is None or group.state is EMPTY:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID)
        member = group.validate_member(command.member_id, command.instance_id)
        if command.generation != group.generation:
            raise KafkaError(Error.ILLEGAL_GENERATION)
        if _differs(command.protocol_type, group.protocol_type) or _differs(command.protocol_name, group.protocol_name):
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        if group.state is PREPARING:
            raise KafkaError(Error.REBALANCE_IN_PROGRESS)
        group.pending_syncs.discard(member.member_id)
        if not group.pending_syncs:
            out.timers.append(CancelTimer(("sync", group.group_id)))
        if group.state is STABLE:
            out.answers.append(Answer(ticket, Synced(group.protocol_type, group.protocol_name, member.assignment)))
            return
        answer_sync(member, KafkaError(Error.REBALANCE_IN_PROGRESS), out)  # a repeat takes the place of the first
        member.sync_ticket = ticket
        if member.member_id == group.leader_id:
            self._rebalancing.take_assignment(group, command.assignments, now_ms, out)

    def heartbeat(self, command: Heartbeat, ticket: Ticket, now_ms: int, out: Decision) -> None:
        """Answers None; REBALANCE_IN_PROGRESS tells the member to join again."""
        group = self._groups.get(command.group_id)
        if group is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID)
        member = group.validate_member(command.member_id, command.instance_id)
        if command.generation != group.generation:
            raise KafkaError(Error.ILLEGAL_GENERATION)
        self._rebalancing.extend_session(group, member, now_ms, out)
        if group.state is PREPARING:
            out.answers.append(Answer(ticket, KafkaError(Error.REBALANCE_IN_PROGRESS)))
        else:
            out.answers.append(Answer(ticket, None))

    def leave(self, command: Leave, ticket: Ticket, now_ms: int, out: Decision) -> None:
        """Answers an error per leaver; one rebalance follows, however many leave."""
        group = self._groups.get(command.group_id)
        if group is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID)
        errors = [self._leave(group, leaver, out) for leaver in command.members]
        if Error.NONE in errors:
            if group.state is PREPARING:
                self._rebalancing.complete_if_everyone_joined(group, now_ms, out)
            elif group.state is not EMPTY:
                reasons = ", ".join(leaver.reason or "not provided" for leaver in command.members)
                self._rebalancing.prepare(group, f"members left; client reason: {reasons}", now_ms, out)
        out.answers.append(Answer(ticket, errors))

    # Timers

    def member_expired(self, command: MemberExpired, now_ms: int, out: Decision) -> None:
        """A session without a heartbeat is over; one whose request waits here is not."""
        group = self._groups.get(command.group_id)
        if group is None:
            return
        member = group.members.get(command.member_id)
        if member is None:
            if command.member_id in group.pending_joins:
                group.remove(command.member_id)
                if group.state is PREPARING and group.everyone_joined:
                    self._rebalancing.complete_join(group, now_ms, out)
            return
        if not member.is_new and (member.join_ticket is not None or member.sync_ticket is not None):
            return
        self._rebalancing.remove(group, member.member_id, Error.UNKNOWN_MEMBER_ID, out)
        if group.state is STABLE or group.state is COMPLETING:
            self._rebalancing.prepare(group, f"removing member {member.member_id} on heartbeat expiration", now_ms, out)
        elif group.state is PREPARING and group.everyone_joined:
            self._rebalancing.complete_join(group, now_ms, out)

    def join_expired(self, command: JoinExpired, now_ms: int, out: Decision) -> None:
        group = self._groups.get(command.group_id)
        if group is not None and group.state is PREPARING:
            self._rebalancing.complete_join(group, now_ms, out)

    def initial_delay_over(self, command: InitialDelayOver, now_ms: int, out: Decision) -> None:
        """The first generation waits on while members keep coming, but no longer than the rebalance timeout."""
        group = self._groups.get(command.group_id)
        if group is None or group.state is not PREPARING:
            return
        if group.new_member_added and command.remaining_ms != 0:
            group.new_member_added = False
            delay_ms = min(self._settings.initial_rebalance_delay_ms, command.remaining_ms)
            remaining_ms = max(command.remaining_ms - command.delay_ms, 0)
            self._rebalancing.delay_first_generation(group, delay_ms, remaining_ms, now_ms, out)
        else:
            self._rebalancing.complete_join(group, now_ms, out)

    def sync_expired(self, command: SyncExpired, now_ms: int, out: Decision) -> None:
        group = self._groups.get(command.group_id)
        if group is None or group.generation != command.generation or not group.pending_syncs:
            return
        if group.state is COMPLETING or group.state is STABLE:
            missing = sorted(group.pending_syncs)
            for member_id in missing:
                self._rebalancing.remove(group, member_id, Error.UNKNOWN_MEMBER_ID, out)
            reason = f"removing {', '.join(missing)} on pending sync request expiration"
            self._rebalancing.prepare(group, reason, now_ms, out)

    # Called by the machine

    def extend_session(self, group: Group, member: Member, now_ms: int, out: Decision) -> None:
        """The member was heard of: its session begins anew."""
        self._rebalancing.extend_session(group, member, now_ms, out)

    def restore(self, group: Group, now_ms: int, out: Decision) -> None:
        """A group was loaded: every member has one session timeout to be heard of."""
        for member in group.members.values():
            self._rebalancing.extend_session(group, member, now_ms, out)
        if len(group.members) > self._settings.max_size:
            self._rebalancing.prepare(group, "loaded with more members than group.max.size allows", now_ms, out)

    def hand_over(self, group: Group, out: Decision) -> None:
        """The group goes on under the other protocol: whoever waits in it must join again, and keeps its session."""
        for member in group.members.values():
            answer_join(member, Joined(Error.REBALANCE_IN_PROGRESS, member.member_id), out)
            answer_sync(member, KafkaError(Error.REBALANCE_IN_PROGRESS), out)
        self.cancel_timers(group, out)

    def take_over(self, group: Group, rebalance_reason: str | None, now_ms: int, out: Decision) -> None:
        """The group has gone on under the other protocol so far."""
        for member in group.members.values():
            self._rebalancing.extend_session(group, member, now_ms, out)
        if rebalance_reason is not None:
            self._rebalancing.prepare(group, rebalance_reason, now_ms, out)

    def abandon(self, group: Group, error: KafkaError, out: Decision) -> None:
        """The group's memory is given up: whoever waits in it is told, and nobody is woken for it."""
        for member in group.members.values():
            for ticket in (member.join_ticket, member.sync_ticket):
                if ticket is not None:
                    out.answers.append(Answer(ticket, error))
        out.timers += [
            CancelTimer(("session", group.group_id, member_id)) for member_id in (*group.members, *group.pending_joins)
        ]
        self.cancel_timers(group, out)

    def cancel_timers(self, group: Group, out: Decision) -> None:
        """An empty group is removed: nobody may be woken for it. Promised ids run out on their own."""
        out.timers += [CancelTimer(("join", group.group_id)), CancelTimer(("sync", group.group_id))]

    # Joining

    def _has_room_for(self, group: Group, member_id: str) -> bool:
        limit = self._settings.max_size
        if group.state is EMPTY or len(group.members) < limit:
            return True
        if group.state is PREPARING:
            # Members that have not come back yet may lose their place to those who have.
            member = group.members.get(member_id)
            if member is not None and member.join_ticket is not None:
                return True
            return sum(member.join_ticket is not None for member in group.members.values()) < limit
        return member_id in group.members

    def _join_newcomer(self, group: Group, command: Join, ticket: Ticket, now_ms: int, out: Decision) -> None:
        if command.instance_id is not None:
            known = group.static_members.get(command.instance_id)
            if known is None:
                self._add(group, command, command.new_member_id, ticket, now_ms, out)
            else:
                self._replace_static(group, group.members[known], command, ticket, now_ms, out)
        elif command.requires_known_member_id:
            group.pending_joins.add(command.new_member_id)
            self._rebalancing.expire_in(group, command.new_member_id, command.session_timeout_ms, now_ms, out)
            _refuse_join(Error.MEMBER_ID_REQUIRED, command.new_member_id, ticket, out)
        else:
            self._add(group, command, command.new_member_id, ticket, now_ms, out)

    def _add(self, group: Group, command: Join, member_id: str, ticket: Ticket, now_ms: int, out: Decision) -> None:
        member = Member(
            member_id,
            command.instance_id,
            (command.client_id, command.client_host),
            command.rebalance_timeout_ms,
            command.session_timeout_ms,
            command.protocols,
        )
        member.is_new = True
        member.join_ticket = ticket
        if group.state is PREPARING and group.previous_state is EMPTY:
            group.new_member_added = True
        if not group.members:
            group.protocol_type = command.protocol_type
        group.add(member)
        self._rebalancing.expire_in(group, member_id, NEW_MEMBER_JOIN_TIMEOUT_MS, now_ms, out)
        reason = f"adding new member {member_id} with group instance id {command.instance_id}"
        self._rebalance_for_join(group, command, reason, now_ms, out)

    def _join_again(self, group: Group, command: Join, ticket: Ticket, now_ms: int, out: Decision) -> None:
        try:
            member = group.validate_member(command.member_id, command.instance_id)
        except KafkaError as refusal:
            _refuse_join(refusal.error, command.member_id, ticket, out)
            return
        is_leader = member.member_id == group.leader_id
        if group.state is COMPLETING and member.protocols == command.protocols:
            # Its answer was lost on the way: the generation is still the one it joined.
            out.answers.append(Answer(ticket, joined(group, member, group.joined_members() if is_leader else ())))
        elif group.state is STABLE and member.protocols == command.protocols and not is_leader:
            out.answers.append(Answer(ticket, joined(group, member, ())))
        else:
            self._update(group, member, command, ticket, out)
            reason = f"leader {member.member_id} re-joining" if is_leader else f"updating member {member.member_id}"
            self._rebalance_for_join(group, command, reason, now_ms, out)

    def _update(self, group: Group, member: Member, command: Join, ticket: Ticket, out: Decision) -> None:
        # A repeat takes the place of the first join: nobody waits for that one any more.
        answer_join(member, Joined(Error.REBALANCE_IN_PROGRESS, member.member_id), out)
        group.change_protocols(member, command.protocols)
        member.rebalance_timeout_ms = command.rebalance_timeout_ms
        member.session_timeout_ms = command.session_timeout_ms
        member.join_ticket = ticket

    def _replace_static(
        self, group: Group, old: Member, command: Join, ticket: Ticket, now_ms: int, out: Decision
    ) -> None:
        """A static member came back without its id: it takes its old place, and whoever still held it is fenced."""
        leader_before = group.leader_id or UNKNOWN_MEMBER
        answer_join(old, Joined(Error.FENCED_INSTANCE_ID, old.member_id), out)
        answer_sync(old, KafkaError(Error.FENCED_INSTANCE_ID), out)
        out.timers.append(CancelTimer(("session", group.group_id, old.member_id)))
        member = group.replace_static(old, command.new_member_id)
        self._rebalancing.extend_session(group, member, now_ms, out)
        self._update(group, member, command, ticket, out)
        if group.state is COMPLETING:
            reason = f"static member {member.instance_id} is back during a rebalance"
            self._rebalancing.prepare(group, _because(command, reason), now_ms, out)
        elif group.state is PREPARING:
            self._rebalancing.complete_if_everyone_joined(group, now_ms, out)
        elif group.select_protocol() != group.protocol_name:
            reason = f"static member {member.instance_id} is back and changes the protocol"
            self._rebalancing.prepare(group, _because(command, reason), now_ms, out)
        else:
            out.facts.append(group.snapshot())
            if command.supports_skipping_assignment:
                is_leader = member.member_id == group.leader_id
                members = group.joined_members() if is_leader else ()
                answer_join(member, joined(group, member, members, skip_assignment=is_leader), out)
            else:
                # Told of its own leadership an old client would assign anew, so it hears the id it had.
                answer_join(member, joined(group, member, ())._replace(leader_id=leader_before), out)

    def _rebalance_for_join(self, group: Group, command: Join, reason: str, now_ms: int, out: Decision) -> None:
        if group.state is PREPARING:
            self._rebalancing.complete_if_everyone_joined(group, now_ms, out)
        else:
            self._rebalancing.prepare(group, _because(command, reason), now_ms, out)

    def _leave(self, group: Group, leaver: Leaver, out: Decision) -> Error:
        member_id = leaver.member_id
        if member_id == UNKNOWN_MEMBER:
            known = group.static_members.get(leaver.instance_id) if leaver.instance_id is not None else None
            if known is None:
                return Error.UNKNOWN_MEMBER_ID
            member_id = known
        elif member_id not in group.pending_joins:
            try:
                group.validate_member(member_id, leaver.instance_id)
            except KafkaError as refusal:
                return refusal.error
        self._rebalancing.remove(group, member_id, Error.UNKNOWN_MEMBER_ID, out)
        return Error.NONE


def _refuse_join(error: Error, member_id: str, ticket: Ticket, out: Decision) -> None:
    out.answers.append(Answer(ticket, Joined(error, member_id)))


def _differs(asked: str | None, current: str | None) -> bool:
    return asked is not None and current is not None and asked != current


def _because(command: Join, reason: str) -> str:
    return f"{reason}; client reason: {command.reason or 'not provided'}"
