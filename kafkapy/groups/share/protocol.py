"""The share protocol (KIP-932): who is in a group, in which epoch, and what each member is told to read.

Owns the share groups of one shard; called by `groups/machine.py` only. A heartbeat is everything, as in the consumer
protocol. But partitions are shared: a member comes to its target in one step, whoever else has the same. Order of
checks and records, errors and their words follow Kafka's group coordinator.

Invariants
 1. Only partitions that are initialised are assigned: those whose state the share coordinator is known to have.
 2. A group's epoch grows with every change that calls for a new target, and once for one: while a target is still to be
    computed, what was initialised meanwhile bumps nothing.
 3. All that a member was told is in facts: a restart changes nothing but that each session begins anew.
"""

import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kafkapy.coordination.shard import Answer, Decision, Moment, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern import settings
from kafkapy.groups.modern.core import LEFT_EPOCH, NOTHING, GroupEpoch, Partitions, TargetEpoch
from kafkapy.groups.modern.java_order import hash_of_text, in_copied_order, in_order
from kafkapy.groups.modern.protocol import ModernProtocol
from kafkapy.groups.modern.topic_hash import TopicHashes
from kafkapy.groups.settings import GroupSettings
from kafkapy.groups.share.assignor import ShareGroupSpec, ShareMemberSpec, assign_simple
from kafkapy.groups.share.commands import (
    AlterStarts,
    DeleteStates,
    DescribeShareGroup,
    ListInitialized,
    PrepareDeletion,
    ShareGroupDescription,
    ShareHeartbeat,
    ShareHeartbeatAnswer,
    ShareMemberDescription,
    StatesDeleted,
    StatesInitialized,
    StatesNotInitialized,
)
from kafkapy.groups.share.facts import (
    SHARE_FACTS,
    ShareCurrent,
    ShareCurrentStored,
    ShareEpochStored,
    ShareSubscription,
    ShareSubscriptionStored,
    ShareTargetEpochStored,
    ShareTargetStored,
)
from kafkapy.groups.share.group import ShareGroup, partitions_of
from kafkapy.groups.share.states import States

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

log = logging.getLogger(__name__)


class ShareProtocol(ModernProtocol[ShareGroup]):
    """The rules. `is_of_others` says whether a group of another kind has this id."""

    name = "share"
    fact_types = SHARE_FACTS
    keeps_offsets = False
    gives_way = False

    def __init__(self, group_settings: GroupSettings, hashes: TopicHashes, is_of_others: Callable[[str], bool]) -> None:
        super().__init__(hashes)
        self._max_size = group_settings.share_max_size
        self._is_of_others = is_of_others
        self._states = states = States(group_settings.share_initialize_retry_interval_ms)
        self.requests = {
            ShareHeartbeat: self._heartbeat,
            DescribeShareGroup: self._describe,
            StatesInitialized: self._on_states(states.initialized),
            StatesNotInitialized: self._on_states(states.not_initialized),
            StatesDeleted: self._on_states(states.deleted),
            ListInitialized: self._list_initialized,
            AlterStarts: self._alter_starts,
            DeleteStates: self._delete_states,
            PrepareDeletion: self._prepare_deletion,
        }
        self.timers = {}

    def new(self, group_id: str) -> ShareGroup:
        return ShareGroup(group_id)

    def restore(self, group: ShareGroup, moment: Moment, out: Decision) -> None:
        super().restore(group, moment, out)
        group.soft.asked_ms = moment.now_ms  # as in Kafka: whatever is under way has its time from now on

    def forget_topic(self, topic_id: bytes, moment: Moment, out: Decision) -> None:
        for group in self.groups.values():
            self._states.forget_topic(group, topic_id, moment, out)

    # Heartbeats

    def _heartbeat(self, command: ShareHeartbeat, ticket: Ticket, moment: Moment, out: Decision) -> None:
        if command.member_epoch == LEFT_EPOCH:
            group = self._require(command.group_id)
            group.require_subscription(command.member_id)
            log.info("Member %s left share group %s", command.member_id, command.group_id)
            self.fence_member(group, command.member_id, moment, out)
            out.answers.append(Answer(ticket, ShareHeartbeatAnswer(command.member_id, LEFT_EPOCH)))
            return
        group = self._of_sender(command)
        subscription, current = self._sender(group, command)
        updated = _updated(subscription, command)
        if updated != subscription or command.member_id not in group.subscriptions:
            out.facts.append(ShareSubscriptionStored(group.group_id, command.member_id, updated))
        is_bumped = updated.topics != subscription.topics
        if group.epoch <= group.target_epoch:
            is_bumped |= group.misses_initialized(moment.image.topic_by_id)
        subscribed = group.subscribed_with(subscription, updated) if is_bumped else group.subscribed
        epoch = self.note_topics(group, lambda: subscribed, moment.image, out, is_bumped)
        target_epoch, target = group.target_epoch, group.target(command.member_id)
        if target_epoch < epoch and self.may_compute_target(group, moment):
            target_epoch = epoch
            target = self._new_target(group, command.member_id, updated, subscribed, epoch, moment, out)
        new = _stepped(current, updated, target_epoch, target, epoch != group.epoch, moment.image)
        if new != current:
            out.facts.append(ShareCurrentStored(group.group_id, command.member_id, new))
        timeout_ms = self.session_timeout_ms(group, moment.image)
        self.expire_session_in(group.group_id, command.member_id, timeout_ms, moment.now_ms, out)
        tells = command.member_epoch == 0 or command.topics is not None or new.assigned != current.assigned
        answer = ShareHeartbeatAnswer(
            command.member_id,
            new.epoch,
            settings.heartbeat_interval_ms(self.name, group.group_id, moment.image),
            new.assigned if tells else None,
            self._states.ask(group, subscribed, epoch, moment, out),
        )
        out.answers.append(Answer(ticket, answer))
        self._know(group)

    def _of_sender(self, command: ShareHeartbeat) -> ShareGroup:
        """The group, which begins with its first member. Raises GROUP_ID_NOT_FOUND, GROUP_MAX_SIZE_REACHED."""
        group = self._of_kind(command.group_id)
        if group is None:
            if command.member_epoch != 0:
                raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"Share group {command.group_id} not found.")
            group = ShareGroup(command.group_id)
        if command.member_id not in group.subscriptions and len(group.subscriptions) >= self._max_size:
            raise KafkaError(
                Error.GROUP_MAX_SIZE_REACHED,
                f"The share group has reached its maximum capacity of {self._max_size} members.",
            )
        return group

    @staticmethod
    def _sender(group: ShareGroup, command: ShareHeartbeat) -> tuple[ShareSubscription, ShareCurrent]:
        """Who speaks; one who is new has said nothing, and has nothing. The epoch before is good, too: the answer that
        told of the new one may have been lost. Raises UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH.
        """
        epoch = command.member_epoch
        if epoch == 0 and command.member_id not in group.subscriptions:
            return ShareSubscription(), ShareCurrent()
        subscription, current = group.require_subscription(command.member_id), group.current(command.member_id)
        if epoch in (0, current.epoch) or (epoch < current.epoch and epoch == current.previous_epoch):
            return subscription, current
        known = f"than the one known by the group coordinator ({current.epoch})"
        if epoch > current.epoch:
            why = f"The share group member has a greater member epoch ({epoch}) {known}."
        else:
            why = (
                f"The share group member has a smaller member epoch ({epoch}) {known}, and it does not match the "
                f"previous member epoch ({current.previous_epoch})."
            )
        raise KafkaError(Error.FENCED_MEMBER_EPOCH, f"{why} The member must abandon all its partitions and rejoin.")

    def _new_target(
        self,
        group: ShareGroup,
        member_id: str,
        updated: ShareSubscription,
        subscribed: Counter[str],
        epoch: int,
        moment: Moment,
        out: Decision,
    ) -> Partitions:
        """What the member is to have in this epoch, with the facts of what all are to have."""
        image = moment.image
        subscriptions = {**group.subscriptions, member_id: updated}
        resolved: dict[frozenset[str], dict[bytes, None]] = {}
        assignable: dict[bytes, list[int]] = {}
        members = {}
        for each, subscription in subscriptions.items():
            topic_ids = resolved.get(subscription.topics)
            if topic_ids is None:
                topic_ids = resolved[subscription.topics] = _topic_ids(subscription, image)
            members[each] = ShareMemberSpec(topic_ids, group.target(each))
        for topic_id in {topic_id for topic_ids in resolved.values() for topic_id in topic_ids}:
            initialized = partitions_of(group.states.initialized, topic_id)
            count = len(image.topic_by_id(topic_id).partitions)
            assignable[topic_id] = [number for number in range(count) if number in initialized]
        is_homogeneous = all(count == len(subscriptions) for count in subscribed.values())
        found = assign_simple(ShareGroupSpec(members, assignable, is_homogeneous))
        for each in in_order(members, hash_of_text):
            partitions = found.get(each, NOTHING)
            if partitions != group.targets.get(each):
                out.facts.append(ShareTargetStored(group.group_id, each, partitions))
        out.facts.append(ShareTargetEpochStored(group.group_id, TargetEpoch(epoch, moment.now_ms)))
        return found.get(member_id, NOTHING)

    def fence_member(self, group: ShareGroup, member_id: str, moment: Moment, out: Decision) -> None:
        left = group.subscribed_with(group.require_subscription(member_id), None)
        epoch = group.epoch + 1
        out.facts += group.removal(member_id)
        out.facts.append(ShareEpochStored(group.group_id, GroupEpoch(epoch, self._hashes.of(left, moment.image))))
        if len(group.subscriptions) == 1:
            out.facts.append(ShareTargetEpochStored(group.group_id, TargetEpoch(epoch, 0)))
        self.cancel_session(group.group_id, member_id, out)

    # State of partitions

    def _on_states(
        self, take: Callable[[ShareGroup, Any, Moment, Decision], None]
    ) -> Callable[[Any, Ticket, Moment, Decision], None]:
        """What the share coordinator answered is noted, if the group is still there."""

        def note(command: Any, ticket: Ticket, moment: Moment, out: Decision) -> None:
            group = self.groups.get(command.group_id)
            if group is not None:
                take(group, command, moment, out)
            out.answers.append(Answer(ticket, None))

        return note

    def _list_initialized(self, command: ListInitialized, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        initialized = {} if group is None else group.states.initialized
        found = {topic_id: tuple(sorted(topic.partitions)) for topic_id, topic in initialized.items()}
        out.answers.append(Answer(ticket, found))

    def _alter_starts(self, command: AlterStarts, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self._of_kind(command.group_id) or ShareGroup(command.group_id)
        _require_empty(group)
        out.answers.append(Answer(ticket, self._states.alter(group, command, moment, out)))
        if out.facts:
            self._know(group)

    def _delete_states(self, command: DeleteStates, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self._require(command.group_id)
        _require_empty(group)
        out.answers.append(Answer(ticket, self._states.delete(group, command, moment, out)))

    def _prepare_deletion(self, command: PrepareDeletion, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        if group is None:
            out.answers.append(Answer(ticket, []))
            return
        _require_empty(group)
        out.answers.append(Answer(ticket, self._states.delete_all(group, moment, out)))

    # Groups as administrators see them

    def _describe(self, command: DescribeShareGroup, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self._require(command.group_id)
        members = []
        for member_id, subscription in group.subscriptions.items():
            current = group.current(member_id)
            members.append(
                ShareMemberDescription(
                    member_id,
                    subscription.rack_id,
                    current.epoch,
                    subscription.client_id,
                    subscription.client_host,
                    sorted(subscription.topics),
                    current.assigned,
                )
            )
        description = ShareGroupDescription(group.group_id, group.state.value, group.epoch, group.target_epoch, members)
        out.answers.append(Answer(ticket, description))

    # Which groups there are

    def _of_kind(self, group_id: str) -> ShareGroup | None:
        """The share group of this id. Raises GROUP_ID_NOT_FOUND where a group of another kind has it."""
        if self._is_of_others(group_id):
            raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a share group.")
        return self.groups.get(group_id)

    def _require(self, group_id: str) -> ShareGroup:
        """The share group of this id. Raises GROUP_ID_NOT_FOUND."""
        group = self._of_kind(group_id)
        if group is None:
            raise KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} not found.")
        return group

    def _know(self, group: ShareGroup) -> None:
        """The facts of a new group are about to come; what is no fact is known from now on."""
        if group.group_id not in self.groups:
            new = self.groups[group.group_id] = ShareGroup(group.group_id)
            new.soft = group.soft


def _updated(old: ShareSubscription, command: ShareHeartbeat) -> ShareSubscription:
    return ShareSubscription(
        old.rack_id if command.rack_id is None else command.rack_id,
        command.client_id,
        command.client_host,
        old.topics if command.topics is None else frozenset(command.topics),
    )


def _stepped(
    current: ShareCurrent,
    subscription: ShareSubscription,
    target_epoch: int,
    target: Partitions,
    epoch_has_grown: bool,
    image: "ClusterImage",
) -> ShareCurrent:
    """Where the member stands from now on: at its target, as far as it subscribes to that."""
    if current.epoch == target_epoch and not epoch_has_grown:
        return current
    topic_ids = _topic_ids(subscription, image)
    assigned = {topic_id: partitions for topic_id, partitions in target.items() if topic_id in topic_ids}
    if current.epoch == target_epoch:
        return current._replace(assigned=assigned)
    return ShareCurrent(target_epoch, current.epoch, 0, assigned)


def _topic_ids(subscription: ShareSubscription, image: "ClusterImage") -> dict[bytes, None]:
    """The topics that the subscription names, and that exist, in the order of their names' table."""
    names = in_copied_order(sorted(subscription.topics), hash_of_text)
    return {topic.topic_id: None for name in names if (topic := image.topic(name)) is not None}


def _require_empty(group: ShareGroup) -> None:
    """Raises NON_EMPTY_GROUP."""
    if not group.is_empty:
        raise KafkaError(Error.NON_EMPTY_GROUP, Error.NON_EMPTY_GROUP.text)
