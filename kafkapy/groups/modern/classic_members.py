"""Members that speak the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup to it.

To such a member its epoch is the generation. It is told to join again when there is a new target, says at that what it
owns, and syncs for what it may read; nobody leads. Called by `groups/machine.py` only.
"""

from kafkapy.coordination.shard import Answer, CancelTimer, Decision, Moment, SetTimer, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.commands import UNKNOWN_MEMBER, Heartbeat, Join, Joined, Leave, Leaver, Sync, Synced
from kafkapy.groups.embedded import encoded_assignment, subscription_of
from kafkapy.groups.group import CONSUMER_PROTOCOL_TYPE
from kafkapy.groups.modern.commands import SessionExpired
from kafkapy.groups.modern.consumer import ConsumerProtocol
from kafkapy.groups.modern.conversion import Conversion, named
from kafkapy.groups.modern.facts import ClassicMember, MemberState
from kafkapy.groups.modern.group import ConsumerGroup, Member, without_epochs
from kafkapy.groups.modern.reconciling import Target
from kafkapy.groups.modern.resolving import PatternChange
from kafkapy.groups.modern.senders import known_static, note_subscription, replace_static
from kafkapy.groups.settings import GroupSettings, MigrationPolicy
from kafkapy.protocol.primitives import ProtocolError


class ClassicMembers:
    """The rules for them."""

    def __init__(self, consumer: ConsumerProtocol, conversion: Conversion, settings: GroupSettings) -> None:
        self._consumer = consumer
        self._conversion = conversion
        self._settings = settings

    def join(self, group: ConsumerGroup, command: Join, ticket: Ticket, moment: Moment, out: Decision) -> None:
        """Answers `Joined` at once: nobody waits for the others."""
        self._require_that_it_may_join(group, command)
        member_id, instance_id = command.member_id or command.new_consumer_id, command.instance_id
        if instance_id is None and not command.member_id and command.requires_known_member_id:
            out.answers.append(Answer(ticket, Joined(Error.MEMBER_ID_REQUIRED, member_id)))
            return
        member = self._joining(group, command, member_id, out)
        former = group.static_member(instance_id)
        is_downgraded = self._conversion.may_downgrade_for(group, former)
        try:
            subscription = subscription_of(command.protocols[0].metadata)
        except ProtocolError as problem:
            raise KafkaError(
                Error.INCONSISTENT_GROUP_PROTOCOL,
                "Malformed embedded consumer protocol in subscription deserialization.",
            ) from problem
        old = member.subscription
        updated = member._replace(
            subscription=old._replace(
                instance_id=old.instance_id if instance_id is None else instance_id,
                rack_id=subscription.rack_id or old.rack_id,
                client_id=command.client_id,
                client_host=command.client_host,
                topics=frozenset(subscription.topics),
                pattern="",
                rebalance_timeout_ms=old.rebalance_timeout_ms
                if command.rebalance_timeout_ms == -1
                else command.rebalance_timeout_ms,
                classic=ClassicMember(command.session_timeout_ms, command.protocols),
            )
        )
        is_bumped = note_subscription(group, member, updated, out.facts)
        pattern_change = self._consumer.note_pattern(group, member, updated, lambda topic: False, moment, out)
        is_bumped |= pattern_change is not PatternChange.NONE
        claimed = {
            topic.topic_id: owned.partitions
            for owned in subscription.owned_partitions
            if (topic := moment.image.topic(owned.topic)) is not None
        }
        if is_downgraded:
            assert former is not None
            epoch = self._consumer.note_subscribed(group, member, updated, moment.image, out, is_bumped)
            current = updated.current
            if group.target_epoch >= epoch:
                target = Target(group.target_epoch, group.target(member_id, instance_id))
                current = self._consumer.step(group, updated, target, moment, out, is_bumped, claimed)
            self._conversion.downgrade_for(group, former, updated, group.target_epoch < epoch, moment, out)
        else:
            current = self._consumer.advance(
                group,
                member,
                updated,
                moment,
                out,
                is_bumped=is_bumped,
                subscription_changed=is_bumped,
                claimed=claimed,
            )
            self._consumer.expire_session_in(group.group_id, member_id, command.session_timeout_ms, moment.now_ms, out)
            self._expire("sync", group, member_id, command.rebalance_timeout_ms, moment, out)
        self._no_longer_awaited("join", group, member_id, out)
        protocol_name = command.protocols[0].name
        answer = Joined(Error.NONE, member_id, current.epoch, CONSUMER_PROTOCOL_TYPE, protocol_name)
        out.answers.append(Answer(ticket, answer))

    def _require_that_it_may_join(self, group: ConsumerGroup, command: Join) -> None:
        if self._settings.consumer_migration_policy is MigrationPolicy.DISABLED:
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        self._consumer.require_room(group, command.member_id, command.instance_id)
        is_supported = command.protocol_type == CONSUMER_PROTOCOL_TYPE and any(
            group.classic_protocols[name] == group.classic_count for name, _ in command.protocols
        )
        if not is_supported:
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)

    @staticmethod
    def _joining(group: ConsumerGroup, command: Join, member_id: str, out: Decision) -> Member:
        """Who joins, one that was never there included."""
        instance_id = command.instance_id
        if instance_id is not None:
            if command.member_id:
                return known_static(group, member_id, instance_id)
            former = group.static_member(instance_id)
            if former is not None:
                return replace_static(group, former, member_id, out.facts)
        return group.member(member_id) if member_id in group.subscriptions else Member(member_id)

    def sync(self, group: ConsumerGroup, command: Sync, ticket: Ticket, moment: Moment, out: Decision) -> None:
        """Answers `Synced` at once."""
        member = _sender(group, command.member_id, command.instance_id)
        classic = _classic(member)
        if command.generation != member.current.epoch:
            raise KafkaError(Error.ILLEGAL_GENERATION)
        if command.protocol_type not in (None, CONSUMER_PROTOCOL_TYPE) or command.protocol_name not in (
            None,
            classic.protocols[0].name,
        ):
            raise KafkaError(Error.INCONSISTENT_GROUP_PROTOCOL)
        if group.target_epoch > member.current.epoch and member.current.state is not MemberState.UNREVOKED_PARTITIONS:
            self._await_join(group, member, moment, out)
            out.answers.append(Answer(ticket, KafkaError(Error.REBALANCE_IN_PROGRESS)))
            return
        self._no_longer_awaited("sync", group, member.member_id, out)
        self._consumer.expire_session_in(
            group.group_id, member.member_id, classic.session_timeout_ms, moment.now_ms, out
        )
        partitions = named(without_epochs(member.current.assigned), moment.image)
        assignment = encoded_assignment(partitions, classic.protocols)
        out.answers.append(Answer(ticket, Synced(command.protocol_type, command.protocol_name, assignment)))

    def heartbeat(
        self, group: ConsumerGroup, command: Heartbeat, ticket: Ticket, moment: Moment, out: Decision
    ) -> None:
        """Answers None, or REBALANCE_IN_PROGRESS, which tells the member to join again."""
        member = _sender(group, command.member_id, command.instance_id)
        classic, current = _classic(member), member.current
        if command.generation != current.epoch:
            raise KafkaError(Error.ILLEGAL_GENERATION)
        self._consumer.expire_session_in(
            group.group_id, member.member_id, classic.session_timeout_ms, moment.now_ms, out
        )
        must_join = (
            current.epoch < group.target_epoch
            or current.state is MemberState.UNREVOKED_PARTITIONS
            or (current.state is MemberState.UNRELEASED_PARTITIONS and not _waits_for_others(group, member))
        )
        if must_join:
            self._await_join(group, member, moment, out)
        out.answers.append(Answer(ticket, KafkaError(Error.REBALANCE_IN_PROGRESS) if must_join else None))

    def leave(self, group: ConsumerGroup, command: Leave, ticket: Ticket, moment: Moment, out: Decision) -> None:
        """Answers an error per leaver, of whichever protocol."""
        gone: dict[str, Member] = {}
        errors = []
        for leaver in command.members:
            try:
                member = _leaving(group, leaver)
                gone[member.member_id] = member
                errors.append(Error.NONE)
            except KafkaError as refusal:
                errors.append(refusal.error)
        self._consumer.fence(group, list(gone.values()), moment, out)
        out.answers.append(Answer(ticket, errors))

    def _await_join(self, group: ConsumerGroup, member: Member, moment: Moment, out: Decision) -> None:
        """The member was told to join again, and has its rebalance timeout for that, from the first time on."""
        awaited = group.soft.join_timers
        if member.member_id not in awaited:
            awaited.add(member.member_id)
            self._expire("join", group, member.member_id, member.subscription.rebalance_timeout_ms, moment, out)

    @staticmethod
    def _expire(
        kind: str, group: ConsumerGroup, member_id: str, timeout_ms: int, moment: Moment, out: Decision
    ) -> None:
        expiry = SessionExpired(group.group_id, member_id)
        out.timers.append(SetTimer((kind, group.group_id, member_id), moment.now_ms + timeout_ms, expiry))

    @staticmethod
    def _no_longer_awaited(kind: str, group: ConsumerGroup, member_id: str, out: Decision) -> None:
        if kind == "join":
            group.soft.join_timers.discard(member_id)
        out.timers.append(CancelTimer((kind, group.group_id, member_id)))


def _sender(group: ConsumerGroup, member_id: str, instance_id: str | None) -> Member:
    return group.member(member_id) if instance_id is None else known_static(group, member_id, instance_id)


def _leaving(group: ConsumerGroup, leaver: Leaver) -> Member:
    """A static member may be named by its instance id alone."""
    if leaver.instance_id is not None and leaver.member_id == UNKNOWN_MEMBER:
        member = group.static_member(leaver.instance_id)
        if member is None:
            raise KafkaError(Error.UNKNOWN_MEMBER_ID)
        return member
    return _sender(group, leaver.member_id, leaver.instance_id)


def _classic(member: Member) -> ClassicMember:
    classic = member.subscription.classic
    if classic is None:
        raise KafkaError(Error.UNKNOWN_MEMBER_ID)
    return classic


def _waits_for_others(group: ConsumerGroup, member: Member) -> bool:
    """Whether a partition that the member is to have is still somebody's."""
    return any(
        number not in member.current.assigned.get(topic_id, ()) and (topic_id, number) in group.owners
        for topic_id, numbers in group.targets.get(member.member_id, {}).items()
        for number in numbers
    )
