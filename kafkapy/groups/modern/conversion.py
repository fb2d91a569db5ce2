"""Groups that change between the classic and the consumer protocol while they have members (KIP-848).

The first member of the other kind that joins a classic group makes a consumer group of it, in which the others go on as
they were; when the last of that kind leaves, or a static one comes back as a classic member, it is a classic group
again. `group.consumer.migration.policy` says which of it may happen. Owned by `groups/machine.py`.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kafkapy.coordination.shard import CancelTimer, Decision, Moment, SetTimer
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.classic import ClassicProtocol
from kafkapy.groups.embedded import assignment_of, encoded_assignment, subscription_of
from kafkapy.groups.facts import GroupRemoved
from kafkapy.groups.group import Group, GroupState
from kafkapy.groups.group import Member as ClassicGroupMember
from kafkapy.groups.modern.commands import SessionExpired
from kafkapy.groups.modern.core import NOTHING, GroupEpoch, Partitions, TargetEpoch
from kafkapy.groups.modern.facts import (
    ClassicMember,
    ConsumerFact,
    Current,
    CurrentStored,
    EpochStored,
    Subscription,
    SubscriptionStored,
    TargetEpochStored,
    TargetStored,
)
from kafkapy.groups.modern.group import ConsumerGroup, Member
from kafkapy.groups.modern.topic_hash import TopicHashes
from kafkapy.groups.settings import GroupSettings, MigrationPolicy
from kafkapy.protocol.primitives import ProtocolError

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

log = logging.getLogger(__name__)


class Conversion:
    """The rules, over `groups`, the classic ones of a shard."""

    def __init__(
        self, groups: dict[str, Group], classic: ClassicProtocol, settings: GroupSettings, hashes: TopicHashes
    ) -> None:
        self._groups = groups
        self._classic = classic
        self._settings = settings
        self._hashes = hashes

    def upgraded(self, group: Group, moment: Moment, out: Decision) -> ConsumerGroup:
        """The consumer group that the classic one is from now on, as the facts say that go into `out`.

        Raises GROUP_ID_NOT_FOUND where it must stay what it is.
        """
        group_id = group.group_id
        if group.state is GroupState.EMPTY:
            log.info("The empty classic group %s is a consumer group now", group_id)
            self._classic.cancel_timers(group, out)
            out.facts.append(GroupRemoved(group_id))
            return ConsumerGroup(group_id)
        self._require_upgradable(group)
        facts = self._upgrade(group, moment.image)
        self._classic.hand_over(group, out)
        upgraded = ConsumerGroup(group_id)
        for fact in facts:
            upgraded.apply(fact)
        out.facts += [GroupRemoved(group_id), *facts]
        for member in group.members.values():
            expiry = SessionExpired(group_id, member.member_id)
            deadline_ms = moment.now_ms + member.session_timeout_ms
            out.timers.append(SetTimer(("session", group_id, member.member_id), deadline_ms, expiry))
        log.info("The classic group %s is a consumer group now", group_id)
        return upgraded

    def _require_upgradable(self, group: Group) -> None:
        if MigrationPolicy.UPGRADE not in self._settings.consumer_migration_policy:
            why = "online upgrade is disabled"
        elif not group.uses_consumer_protocol:
            why = "the group does not use the consumer embedded protocol"
        elif len(group.members) > self._settings.consumer_max_size:
            why = "the group size exceeds the consumer group maximum size"
        else:
            return
        raise _not_upgraded(group, f"because {why}")

    def _upgrade(self, group: Group, image: "ClusterImage") -> list[ConsumerFact]:
        group_id, epoch = group.group_id, group.generation
        subscriptions: dict[str, Subscription] = {}
        assigned: dict[str, Partitions] = {}
        for member in group.members.values():
            try:
                subscription = subscription_of(member.metadata(group.protocol_name))
                assigned[member.member_id] = self._assigned(group, member, image)
            except (ProtocolError, ValueError) as problem:
                raise _not_upgraded(group, "because the embedded consumer protocol is malformed") from problem
            subscriptions[member.member_id] = Subscription(
                member.instance_id,
                subscription.rack_id or None,
                member.client_id,
                member.client_host,
                frozenset(subscription.topics),
                "",
                member.rebalance_timeout_ms,
                None,
                ClassicMember(member.session_timeout_ms, member.protocols),
            )
        topics = {topic for subscription in subscriptions.values() for topic in subscription.topics}
        currents = {
            member_id: Current(
                epoch,
                epoch,
                assigned={topic_id: dict.fromkeys(numbers, epoch) for topic_id, numbers in partitions.items()},
            )
            for member_id, partitions in assigned.items()
        }
        return [
            *(SubscriptionStored(group_id, *item) for item in subscriptions.items()),
            EpochStored(group_id, GroupEpoch(epoch, self._hashes.of(topics, image))),
            *(TargetStored(group_id, *item) for item in assigned.items()),
            TargetEpochStored(group_id, TargetEpoch(epoch, 0)),
            *(CurrentStored(group_id, *item) for item in currents.items()),
        ]

    @staticmethod
    def _assigned(group: Group, member: ClassicGroupMember, image: "ClusterImage") -> Partitions:
        if not member.assignment:
            return NOTHING  # it has just joined, and never synced
        assignment = assignment_of(member.assignment)
        if assignment.user_data:
            raise _not_upgraded(
                group,
                "because an unsupported custom assignor is in use. Please refer to the documentation or switch to a "
                "default assignor before re-attempting the upgrade",
            )
        return {
            topic.topic_id: tuple(sorted(asked.partitions))
            for asked in assignment.assigned_partitions
            if asked.partitions and (topic := image.topic(asked.topic)) is not None
        }

    # Back again

    def may_downgrade(self, group: ConsumerGroup, gone: Sequence[Member]) -> bool:
        """Whether the group is to be a classic one without these members: only classic ones are left, and may be."""
        left = len(group.subscriptions) - len(gone)
        classic_left = group.classic_count - sum(member.uses_classic for member in gone)
        if left <= 0 or classic_left != left:
            return False
        return self._is_downgrade_allowed(group, left)

    def may_downgrade_for(self, group: ConsumerGroup, former: Member | None) -> bool:
        """Whether the group is to be a classic one when this member is replaced by a classic one."""
        if former is None or former.uses_classic or group.classic_count != len(group.subscriptions) - 1:
            return False
        return self._is_downgrade_allowed(group, len(group.subscriptions))

    def _is_downgrade_allowed(self, group: ConsumerGroup, member_count: int) -> bool:
        if MigrationPolicy.DOWNGRADE not in self._settings.consumer_migration_policy:
            why = "that is disabled"
        elif member_count > self._settings.max_size:
            why = "it has more members than a classic group may have"
        else:
            return True
        log.info("Consumer group %s does not become a classic one: %s", group.group_id, why)
        return False

    def downgrade(self, group: ConsumerGroup, gone: Sequence[Member], moment: Moment, out: Decision) -> None:
        """The group is a classic one without these members, and rebalances."""
        reason = f"Downgrade group {group.group_id} from consumer to classic for member leaving."
        left = group.subscriptions.keys() - {member.member_id for member in gone}
        members = [group.member(member_id) for member_id in group.subscriptions if member_id in left]
        out.facts += group.tombstones()
        self._to_classic(group, members, {}, reason, moment, out)

    def downgrade_for(
        self, group: ConsumerGroup, former: Member, joining: Member, rebalances: bool, moment: Moment, out: Decision
    ) -> None:
        """The group is a classic one, in which `joining` has taken the place of `former`, as facts in `out` say."""
        reason = f"Downgrade group {group.group_id} from consumer to classic with stale assignment."
        out.facts += group.tombstones({former.member_id: joining.member_id})
        members = [group.member(member_id) for member_id in group.subscriptions if member_id != former.member_id]
        names = {joining.member_id: former.member_id}
        self._to_classic(group, [*members, joining], names, reason if rebalances else None, moment, out)

    def _to_classic(
        self,
        group: ConsumerGroup,
        members: Sequence[Member],
        former_ids: dict[str, str],
        rebalance_reason: str | None,
        moment: Moment,
        out: Decision,
    ) -> None:
        group_id = group.group_id
        classic_members = []
        for member_id, subscription, _ in members:
            classic = subscription.classic
            assert classic is not None, "no other members are left"
            classic_members.append(
                ClassicGroupMember(
                    member_id,
                    subscription.instance_id,
                    (subscription.client_id, subscription.client_host),
                    subscription.rebalance_timeout_ms,
                    classic.session_timeout_ms,
                    classic.protocols,
                )
            )
        downgraded = Group.stable(group_id, group.epoch, classic_members, moment.now_ms)
        for member in downgraded.members.values():
            target = group.targets.get(former_ids.get(member.member_id, member.member_id), NOTHING)
            member.assignment = encoded_assignment(named(target, moment.image), member.protocols)
        for member_id in group.subscriptions:
            out.timers += [
                CancelTimer((kind, group_id, member_id)) for kind in ("session", "rebalance", "join", "sync")
            ]
        self._groups[group_id] = downgraded
        out.facts.append(downgraded.snapshot())
        self._classic.take_over(downgraded, rebalance_reason, moment.now_ms, out)
        log.info("The consumer group %s is a classic group now", group_id)


def named(partitions: Partitions, image: "ClusterImage") -> dict[str, list[int]]:
    """Partitions by the names of their topics, of those that exist."""
    return {
        topic.name: list(numbers)
        for topic_id, numbers in partitions.items()
        if (topic := image.topic_by_id(topic_id)) is not None
    }


def _not_upgraded(group: Group, why: str) -> KafkaError:
    return KafkaError(
        Error.GROUP_ID_NOT_FOUND, f"Cannot upgrade classic group {group.group_id} to consumer group {why}."
    )
