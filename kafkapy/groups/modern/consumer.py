"""The consumer protocol (KIP-848): who is in a group, in which epoch, and what each member is told to read.

Owns the consumer groups of one shard in memory; called by `groups/machine.py` only. A heartbeat is everything: it
brings a member in, changes what it subscribes to, says what it owns, and takes it one step nearer to its target. Order
of checks and records, errors and their words follow Kafka's group coordinator.

Invariants
 1. A group's epoch grows with every change that calls for a new target; the target's epoch follows it, and the members'
    epochs that; none of them ever falls.
 2. A partition has one owner at most, and gets another only when that one no longer claims it, or is fenced.
 3. All that a member was told is in facts: a restart changes nothing but that each session begins anew.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from kafkapy.coordination.shard import Answer, CancelTimer, Decision, Moment, SetTimer, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern import settings
from kafkapy.groups.modern.commands import (
    Claimed,
    ConsumerHeartbeat,
    ConsumerHeartbeatAnswer,
    MayDescribe,
    RebalanceExpired,
    ResolvePatterns,
    SessionExpired,
)
from kafkapy.groups.modern.conversion import Conversion
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.modern.facts import (
    AWAY_EPOCH,
    CONSUMER_FACTS,
    Current,
    CurrentStored,
    EpochStored,
    MemberState,
    PatternStored,
    TargetEpochStored,
    TopicsStored,
)
from kafkapy.groups.modern.group import ConsumerGroup, Member
from kafkapy.groups.modern.protocol import ModernProtocol
from kafkapy.groups.modern.reconciling import Surroundings, Target, reconcile
from kafkapy.groups.modern.resolving import PatternChange, Resolving
from kafkapy.groups.modern.senders import known_static, note_subscription, sender, updated_subscription
from kafkapy.groups.modern.targeting import is_subscribed, new_target
from kafkapy.groups.modern.topic_hash import TopicHashes
from kafkapy.groups.settings import GroupSettings

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

log = logging.getLogger(__name__)


class ConsumerProtocol(ModernProtocol[ConsumerGroup]):
    """The rules. Heartbeats come from the machine, which sees to groups that change their protocol."""

    name = "consumer"
    fact_types = CONSUMER_FACTS
    keeps_offsets = True
    gives_way = True

    def __init__(self, conversion: Conversion, group_settings: GroupSettings, hashes: TopicHashes) -> None:
        super().__init__(hashes)
        self.requests = {}
        self.timers = {RebalanceExpired: self.rebalance_expired, ResolvePatterns: self.resolve_patterns}
        self._conversion = conversion
        self._settings = group_settings
        self._resolving = Resolving(group_settings.consumer_regex_refresh_interval_ms)

    def new(self, group_id: str) -> ConsumerGroup:
        return ConsumerGroup(group_id)

    def fence_member(self, group: ConsumerGroup, member_id: str, moment: Moment, out: Decision) -> None:
        self.fence(group, [group.member(member_id)], moment, out)

    # Heartbeats

    def heartbeat(
        self, group: ConsumerGroup, command: ConsumerHeartbeat, ticket: Ticket, moment: Moment, out: Decision
    ) -> None:
        """Answers `ConsumerHeartbeatAnswer`. The group may be one that is only coming to be."""
        self.require_room(group, command.member_id, command.instance_id)
        member_id = command.member_id or command.new_member_id
        member = sender(group, command, member_id, out.facts)
        updated = member._replace(subscription=updated_subscription(member.subscription, command))
        names_changed = note_subscription(group, member, updated, out.facts)
        pattern_change = self.note_pattern(group, member, updated, command.may_describe, moment, out)
        is_bumped = (
            names_changed
            or pattern_change is PatternChange.RESOLVED
            or self._prefers_another_assignor(group, member, updated)
        )
        current = self.advance(
            group,
            member,
            updated,
            moment,
            out,
            is_bumped=is_bumped,
            subscription_changed=names_changed or pattern_change is not PatternChange.NONE,
            claimed=command.owned,
        )
        image = moment.image
        timeout_ms = self.session_timeout_ms(group, image)
        self.expire_session_in(group.group_id, member_id, timeout_ms, moment.now_ms, out)
        tells = command.member_epoch == 0 or command.is_full or current.assigned != member.current.assigned
        answer = ConsumerHeartbeatAnswer(
            member_id,
            current.epoch,
            settings.heartbeat_interval_ms(self.name, group.group_id, image),
            current.assigned if tells else None,
        )
        out.answers.append(Answer(ticket, answer))

    def leave(
        self, group: ConsumerGroup, command: ConsumerHeartbeat, ticket: Ticket, moment: Moment, out: Decision
    ) -> None:
        """Answers `ConsumerHeartbeatAnswer` with the epoch of who has left."""
        if command.instance_id is None:
            member = group.member(command.member_id)
        else:
            member = known_static(group, command.member_id, command.instance_id)
        if command.instance_id is not None and command.member_epoch == AWAY_EPOCH:
            log.info("Static member %s of consumer group %s left for a while", member.member_id, group.group_id)
            current = member.current
            away = current._replace(
                epoch=AWAY_EPOCH,
                assigned={topic_id: dict.fromkeys(epochs, 0) for topic_id, epochs in current.assigned.items()},
                revoking={},
            )
            out.facts.append(CurrentStored(group.group_id, member.member_id, away))
        else:
            log.info("Member %s left consumer group %s", member.member_id, group.group_id)
            self.fence(group, [member], moment, out)
        out.answers.append(Answer(ticket, ConsumerHeartbeatAnswer(command.member_id, command.member_epoch)))

    def require_room(self, group: ConsumerGroup, member_id: str, instance_id: str | None) -> None:
        """Raises GROUP_MAX_SIZE_REACHED for a newcomer to a full group."""
        limit = self._settings.consumer_max_size
        if instance_id in group.static_members or member_id in group.subscriptions:
            return
        if len(group.subscriptions) >= limit:
            raise KafkaError(
                Error.GROUP_MAX_SIZE_REACHED,
                f"The consumer group has reached its maximum capacity of {limit} members.",
            )

    def note_pattern(
        self,
        group: ConsumerGroup,
        member: Member,
        updated: Member,
        may_describe: MayDescribe,
        moment: Moment,
        out: Decision,
    ) -> PatternChange:
        """The member's pattern is another: forget what nobody subscribes to, have looked up what is new."""
        old, new = member.subscription, updated.subscription
        change, is_wanted = self._resolving.change(group, old, new)
        patterns = group.subscribed.patterns
        if change is not PatternChange.NONE and old.pattern and patterns[old.pattern] == 1:
            out.facts.append(PatternStored(group.group_id, old.pattern, None))
        if is_wanted or patterns:
            left = group.patterns_with(old, new)
            self._resolving.schedule(group, left, is_wanted, may_describe, moment.now_ms, moment.image, out)
        return change

    def advance(
        self,
        group: ConsumerGroup,
        member: Member,
        updated: Member,
        moment: Moment,
        out: Decision,
        *,
        is_bumped: bool,
        subscription_changed: bool,
        claimed: Claimed,
    ) -> Current:
        """Bump the group's epoch if what it reads has changed, follow with the target, and take a step there."""
        image = moment.image
        epoch = self.note_subscribed(group, member, updated, image, out, is_bumped)
        target = Target(group.target_epoch, group.target(updated.member_id, updated.subscription.instance_id))
        if group.target_epoch < epoch and self.may_compute_target(group, moment):
            assignor = self._preferred_assignor(group, member, updated)
            is_homogeneous = group.is_homogeneous_with(member.subscription, updated)
            new_facts, partitions = new_target(group, updated, epoch, assignor, is_homogeneous, image, moment.now_ms)
            out.facts += new_facts
            target = Target(epoch, partitions)
        return self.step(group, updated, target, moment, out, subscription_changed, claimed)

    def note_subscribed(
        self,
        group: ConsumerGroup,
        member: Member,
        updated: Member,
        image: "ClusterImage",
        out: Decision,
        is_bumped: bool,
    ) -> int:
        """The group's epoch from now on, this member being as given."""

        def topics() -> set[str]:
            return group.subscribed_with([member.subscription], updated.subscription).topics

        looks = is_bumped or group.soft.checked_topics is not image.topics
        epoch = self.note_topics(group, topics, image, out, is_bumped)
        if looks and group.has_old_topics:
            out.facts.append(TopicsStored(group.group_id, False))
        return epoch

    def _prefers_another_assignor(self, group: ConsumerGroup, member: Member, updated: Member) -> bool:
        """Whether the group does, now that this member asks for what it asks for."""
        if updated.subscription.assignor == member.subscription.assignor:
            return False
        default = self._settings.consumer_assignors[0]
        return self._preferred_assignor(group, member, updated) != group.preferred_assignor(default)

    def _preferred_assignor(self, group: ConsumerGroup, member: Member, updated: Member) -> str:
        default = self._settings.consumer_assignors[0]
        return group.preferred_assignor_with(member.subscription, updated.subscription, default)

    def step(
        self,
        group: ConsumerGroup,
        member: Member,
        target: Target,
        moment: Moment,
        out: Decision,
        subscription_changed: bool,
        claimed: Claimed,
    ) -> Current:
        """Where the member stands after this heartbeat, written down if that is elsewhere."""
        current = member.current
        if not subscription_changed and current.is_reconciled_to(target.epoch):
            return current
        owners = group.owners
        around = Surroundings(
            partial(is_subscribed, group, member.subscription, moment.image),
            lambda topic_id, partition: (topic_id, partition) in owners,
            claimed,
            subscription_changed,
        )
        new = reconcile(current, target, around)
        if new != current:
            out.facts.append(CurrentStored(group.group_id, member.member_id, new))
            if not member.uses_classic:
                self._expire_rebalance(group, member, new, moment.now_ms, out)
        return new

    # Those who are gone

    def fence(self, group: ConsumerGroup, members: Sequence[Member], moment: Moment, out: Decision) -> None:
        """These are members no more: what they had is free, and a new target is due."""
        if not members:
            return
        if self._conversion.may_downgrade(group, members):
            self._conversion.downgrade(group, members, moment, out)
            return
        group_id = group.group_id
        for member in members:
            out.facts += group.removal(member.member_id)
        left = group.subscribed_with([member.subscription for member in members])
        gone = {member.subscription.pattern for member in members} - set(left.patterns)
        out.facts += [PatternStored(group_id, pattern, None) for pattern in sorted(filter(None, gone))]
        epoch = group.epoch + 1
        out.facts.append(EpochStored(group_id, GroupEpoch(epoch, self._hashes.of(left.topics, moment.image))))
        if len(members) == len(group.subscriptions):
            out.facts.append(TargetEpochStored(group_id, TargetEpoch(epoch, 0)))
        for member in members:
            self.cancel_timers(group, member.member_id, out)

    def cancel_timers(self, group: ConsumerGroup, member_id: str, out: Decision) -> None:
        """Nobody is to be woken for this member."""
        self.cancel_session(group.group_id, member_id, out)
        out.timers += [CancelTimer((kind, group.group_id, member_id)) for kind in ("rebalance", "join", "sync")]
        group.soft.join_timers.discard(member_id)

    # Timers

    def session_expired(self, command: SessionExpired, moment: Moment, out: Decision) -> None:
        self.groups[command.group_id].soft.join_timers.discard(command.member_id)
        super().session_expired(command, moment, out)

    def rebalance_expired(self, command: RebalanceExpired, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        if group is None or command.member_id not in group.subscriptions:
            return
        member = group.member(command.member_id)
        if member.current.epoch == command.member_epoch:
            log.info(
                "Member %s of consumer group %s is fenced: it did not give up partitions in time",
                command.member_id,
                command.group_id,
            )
            self.fence(group, [member], moment, out)

    def resolve_patterns(self, command: ResolvePatterns, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        if group is None:
            return
        resolved = self._resolving.resolve(group, command, moment.now_ms, moment.image, out)
        if resolved is None:
            return
        is_bumped = False
        for pattern, found in resolved.items():
            known = group.patterns.get(pattern)
            is_bumped |= found.topics != (known.topics if known is not None else frozenset())
            out.facts.append(PatternStored(group.group_id, pattern, found))
        patterns = {**group.patterns, **resolved}
        topics = {*group.subscribed.by_name, *(topic for found in patterns.values() for topic in found.topics)}
        metadata_hash = self._hashes.of(topics, moment.image)
        if is_bumped or metadata_hash != group.metadata_hash:
            out.facts.append(EpochStored(group.group_id, GroupEpoch(group.epoch + 1, metadata_hash)))
            group.soft.checked_topics = moment.image.topics

    def restore(self, group: ConsumerGroup, moment: Moment, out: Decision) -> None:
        super().restore(group, moment, out)
        for member_id in group.subscriptions:
            member = group.member(member_id)
            if member.current.state is MemberState.UNREVOKED_PARTITIONS:
                self._expire_rebalance(group, member, member.current, moment.now_ms, out)

    def _expire_rebalance(
        self, group: ConsumerGroup, member: Member, current: Current, now_ms: int, out: Decision
    ) -> None:
        """While a member has something to give up it must come to the next state in time."""
        key = ("rebalance", group.group_id, member.member_id)
        if current.state is MemberState.UNREVOKED_PARTITIONS:
            expiry = RebalanceExpired(group.group_id, member.member_id, current.epoch)
            out.timers.append(SetTimer(key, now_ms + member.subscription.rebalance_timeout_ms, expiry))
        else:
            out.timers.append(CancelTimer(key))
