"""The streams protocol (KIP-1071): who is in a group, which topics it needs, and who runs which task.

Owns the streams groups of one shard; called by `groups/machine.py` only. A heartbeat says what is new; the topology is
held against the cluster's topics; the group's epoch grows when what counts has changed; the target follows it;
and the member takes a step there. Order, errors and words follow Kafka 4.4's group coordinator, whose warm-up tasks are
nobody's yet.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from kafkapy.coordination.shard import Answer, CancelTimer, Decision, Moment, SetTimer, Ticket
from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern import settings as modern_settings
from kafkapy.groups.modern.core import GroupEpoch, TargetEpoch
from kafkapy.groups.modern.protocol import ModernProtocol
from kafkapy.groups.modern.topic_hash import TopicHashes
from kafkapy.groups.settings import GroupSettings
from kafkapy.groups.streams import settings
from kafkapy.groups.streams.assignor import STICKY
from kafkapy.groups.streams.commands import (
    DescribeStreamsGroup,
    InitialRebalanceDue,
    StreamsGroupDescription,
    StreamsHeartbeat,
    StreamsHeartbeatAnswer,
    StreamsMemberDescription,
    StreamsRebalanceExpired,
)
from kafkapy.groups.streams.endpoints import endpoint_partitions
from kafkapy.groups.streams.facts import (
    STREAMS_FACTS,
    EpochBasis,
    StreamsCurrent,
    StreamsCurrentStored,
    StreamsEpochStored,
    StreamsMemberState,
    StreamsSubscription,
    StreamsSubscriptionStored,
    StreamsTargetEpochStored,
    Topology,
    TopologyStored,
)
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.reconciling import StreamsSurroundings, StreamsTarget, reconcile
from kafkapy.groups.streams.senders import (
    AWAY_EPOCH,
    known_static,
    matters,
    sender,
    updated_subscription,
)
from kafkapy.groups.streams.targeting import members_with, new_target
from kafkapy.groups.streams.tasks import Assignment, OwnedTasks, TaskOffsets
from kafkapy.groups.streams.topologies import ConfiguredTopology, Status, StatusCode, configure

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

log = logging.getLogger(__name__)

_NO_OFFSETS: Final[tuple[TaskOffsets, TaskOffsets]] = ({}, {})


class StreamsProtocol(ModernProtocol[StreamsGroup]):
    """The rules. `make_way` has an empty classic group give way to ours; it raises GROUP_ID_NOT_FOUND for others."""

    name = "streams"
    fact_types = STREAMS_FACTS
    keeps_offsets = True
    gives_way = True

    def __init__(
        self,
        group_settings: GroupSettings,
        hashes: TopicHashes,
        is_of_others: Callable[[str], bool],
        make_way: Callable[[str, Decision], None],
    ) -> None:
        super().__init__(hashes)
        self._max_size = group_settings.streams_max_size
        self._is_of_others = is_of_others
        self._make_way = make_way
        self.requests = {StreamsHeartbeat: self._heartbeat, DescribeStreamsGroup: self._describe}
        self.timers = {InitialRebalanceDue: self._initial_rebalance, StreamsRebalanceExpired: self._rebalance_expired}

    def new(self, group_id: str) -> StreamsGroup:
        return StreamsGroup(group_id)

    # Heartbeats

    def _heartbeat(self, command: StreamsHeartbeat, ticket: Ticket, moment: Moment, out: Decision) -> None:
        if command.member_epoch < 0:
            self._leave(command, ticket, moment, out)
            return
        group_id, member_id, image = command.group_id, command.member_id, moment.image
        group = self._of_sender(command, out)
        joins, soft = command.member_epoch == 0, group.soft
        former_id = group.static_members.get(command.instance_id or "", member_id)
        former = group.subscriptions.get(former_id)
        subscription, current = sender(group, command, out.facts)
        updated = updated_subscription(subscription, command)
        is_bumped = False
        if updated != subscription:
            out.facts.append(StreamsSubscriptionStored(group_id, member_id, updated))
            is_bumped = command.instance_id is None or matters(subscription, updated)
        topology = _topology(group, command)
        statuses = []
        if group.topology is None:
            out.facts.append(TopologyStored(group_id, topology))
        elif updated.topology_epoch < topology.epoch:
            statuses.append(_stale(updated, topology))
        configured, metadata_hash = self._configured(group, topology, image)
        if configured.problem is None:
            _require_tasks(configured, command.claimed)
        offsets = soft.offsets.get(member_id, _NO_OFFSETS)
        offsets = (
            offsets[0] if command.offsets is None else command.offsets,
            offsets[1] if command.end_offsets is None else command.end_offsets,
        )
        validated_epoch = EpochBasis().validated_topology_epoch if configured.problem else topology.epoch
        configs = settings.assignment_configs(group_id, image)
        basis = group.basis._replace(validated_topology_epoch=validated_epoch, configs=configs)
        epoch = group.epoch
        if is_bumped or metadata_hash != group.metadata_hash or basis != group.basis:
            epoch += 1
            out.facts.append(StreamsEpochStored(group_id, GroupEpoch(epoch, metadata_hash, basis)))
        is_delayed = soft.is_delayed or self._delay(group, moment, out)
        all_offsets = {**soft.offsets, member_id: offsets}
        target = StreamsTarget(group.target_epoch, group.target(former_id if former is not None else member_id))
        if is_delayed:
            target = StreamsTarget(group.target_epoch, Assignment())
            statuses.append(_delayed("initial rebalance delay"))
        elif group.target_epoch < epoch:
            if self.may_compute_target(group, moment):
                members = members_with(group, member_id, updated, current, former_id, all_offsets)
                targets = _relabelled(group.targets, former_id, member_id)
                facts, found = new_target(group_id, members, targets, configured, epoch, configs, moment.now_ms)
                out.facts += facts
                target = StreamsTarget(epoch, found[member_id])
            else:
                statuses.append(_delayed("assignment interval"))
        new = self._step(group, member_id, updated, current, target, command, moment, out)
        timeout_ms = self.session_timeout_ms(group, image)
        self.expire_session_in(group_id, member_id, timeout_ms, moment.now_ms, out)
        # What is no fact is noted when all is decided.
        is_known = group_id in self.groups
        if not is_known:
            # Its facts are about to come. As in Kafka it begins with nothing but that its first assignment waits.
            self.groups[group_id] = StreamsGroup(group_id)
            self.groups[group_id].soft.is_delayed = is_delayed
        soft.checked_topics, soft.configured, soft.is_delayed = image.topics, configured, is_delayed
        if offsets != _NO_OFFSETS:
            soft.offsets[member_id] = offsets
        if former_id != member_id:
            soft.offsets.pop(former_id, None)
        if command.shuts_down:
            self._note_shutdown(group, member_id)
        tells = joins or new.assigned != current.assigned
        if updated.endpoint != (None if former is None else former.endpoint) or (
            new.assigned != current.assigned and updated.endpoint is not None
        ):
            soft.endpoint_epoch += 1
        endpoints = None
        if soft.endpoint_epoch != command.endpoint_epoch:
            endpoints = endpoint_partitions(group, member_id, updated, new, former_id, configured, image)
        if configured.problem is not None:
            statuses.append(configured.problem)
        if soft.shutdown_member_id is not None:
            statuses.append(_shutdown(soft.shutdown_member_id))
        if command.knows_client_tags:
            statuses += _missing_tags(updated, settings.rack_tags(group_id, image))
        answer = StreamsHeartbeatAnswer(
            member_id,
            new.epoch,
            modern_settings.heartbeat_interval_ms(self.name, group_id, image),
            settings.task_offset_interval_ms(group_id, image),
            settings.acceptable_recovery_lag(group_id, image),
            statuses,
            new.assigned if tells else None,
            soft.endpoint_epoch if is_known else 0,
            endpoints,
            configured.missing,
        )
        out.answers.append(Answer(ticket, answer))

    def _of_sender(self, command: StreamsHeartbeat, out: Decision) -> StreamsGroup:
        """The group, which begins with its first member. Raises GROUP_ID_NOT_FOUND, GROUP_MAX_SIZE_REACHED."""
        group_id = command.group_id
        group = self.groups.get(group_id)
        if group is None:
            if command.member_epoch != 0:
                raise self._not_found(group_id, "Streams group")
            self._make_way(group_id, out)
            group = StreamsGroup(group_id)
        is_known = command.instance_id in group.static_members or command.member_id in group.subscriptions
        if command.member_epoch == 0 and not is_known and len(group.subscriptions) >= self._max_size:
            raise KafkaError(
                Error.GROUP_MAX_SIZE_REACHED,
                f"The streams group has reached its maximum capacity of {self._max_size} members.",
            )
        return group

    def _configured(
        self, group: StreamsGroup, topology: Topology, image: "ClusterImage"
    ) -> tuple[ConfiguredTopology, int]:
        """The topology as the cluster has it, and the hash of its topics; both as they were, if the topics are."""
        soft = group.soft
        if group.topology is not None and soft.configured is not None and soft.checked_topics is image.topics:
            return soft.configured, group.metadata_hash
        metadata_hash = self._hashes.of(topology.required_topics, image)
        if group.topology is None or soft.configured is None or metadata_hash != group.metadata_hash:
            return configure(topology, image), metadata_hash
        return soft.configured, metadata_hash

    def _delay(self, group: StreamsGroup, moment: Moment, out: Decision) -> bool:
        """A group that was empty waits for more members before anything is assigned."""
        delay_ms = settings.initial_rebalance_delay_ms(group.group_id, moment.image) if group.is_empty else 0
        if delay_ms > 0:
            due = InitialRebalanceDue(group.group_id)
            out.timers.append(SetTimer(("initial", group.group_id), moment.now_ms + delay_ms, due))
        return delay_ms > 0

    def _step(
        self,
        group: StreamsGroup,
        member_id: str,
        subscription: StreamsSubscription,
        current: StreamsCurrent,
        target: StreamsTarget,
        command: StreamsHeartbeat,
        moment: Moment,
        out: Decision,
    ) -> StreamsCurrent:
        """Where the member stands after this heartbeat, written down if that is elsewhere."""
        if current.is_reconciled_to(target.epoch):
            return current
        around = StreamsSurroundings(subscription.process_id, group, command.claimed)
        new = reconcile(current, target, around)
        if new != current:
            out.facts.append(StreamsCurrentStored(group.group_id, member_id, new))
            key = ("rebalance", group.group_id, member_id)
            if new.state is StreamsMemberState.UNREVOKED_TASKS:
                expiry = StreamsRebalanceExpired(group.group_id, member_id, new.epoch)
                out.timers.append(SetTimer(key, moment.now_ms + subscription.rebalance_timeout_ms, expiry))
            else:
                out.timers.append(CancelTimer(key))
        return new

    @staticmethod
    def _note_shutdown(group: StreamsGroup, member_id: str) -> None:
        if group.soft.shutdown_member_id is None:
            log.info("Member %s of streams group %s asks all members to end", member_id, group.group_id)
            group.soft.shutdown_member_id = member_id

    # Those who are gone

    def _leave(self, command: StreamsHeartbeat, ticket: Ticket, moment: Moment, out: Decision) -> None:
        """Answers `StreamsHeartbeatAnswer` with the epoch of who has left."""
        group_id = command.group_id
        group = self.groups.get(group_id)
        if group is None:
            raise self._not_found(group_id, "Group")
        if command.instance_id is None:
            group.require_subscription(command.member_id)
        else:
            known_static(group, command.member_id, command.instance_id)
        if command.shuts_down:
            self._note_shutdown(group, command.member_id)
        epoch = command.member_epoch
        if command.instance_id is not None and epoch == AWAY_EPOCH:
            log.info("Static member %s of streams group %s left for a while", command.member_id, group_id)
            current = group.current(command.member_id)
            active = {name: dict.fromkeys(epochs, 0) for name, epochs in current.assigned.active.items()}
            away = current._replace(
                epoch=AWAY_EPOCH, assigned=current.assigned._replace(active=active), revoking=OwnedTasks()
            )
            out.facts.append(StreamsCurrentStored(group_id, command.member_id, away))
        else:
            log.info("Member %s left streams group %s", command.member_id, group_id)
            self.fence_member(group, command.member_id, moment, out)
        out.answers.append(Answer(ticket, StreamsHeartbeatAnswer(command.member_id, epoch)))

    def fence_member(self, group: StreamsGroup, member_id: str, moment: Moment, out: Decision) -> None:
        group_id, epoch = group.group_id, group.epoch + 1
        out.facts += group.removal(member_id)
        out.facts.append(StreamsEpochStored(group_id, GroupEpoch(epoch, group.metadata_hash, group.basis)))
        if len(group.subscriptions) == 1:
            out.facts.append(StreamsTargetEpochStored(group_id, TargetEpoch(epoch, 0)))
            group.soft.shutdown_member_id = None
        group.soft.offsets.pop(member_id, None)
        self.cancel_session(group_id, member_id, out)
        out.timers.append(CancelTimer(("rebalance", group_id, member_id)))

    def _not_found(self, group_id: str, kind: str) -> KafkaError:
        if self._is_of_others(group_id):
            return KafkaError(Error.GROUP_ID_NOT_FOUND, f"Group {group_id} is not a streams group.")
        return KafkaError(Error.GROUP_ID_NOT_FOUND, f"{kind} {group_id} not found.")

    # Timers

    def _rebalance_expired(self, command: StreamsRebalanceExpired, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        if group is None or command.member_id not in group.subscriptions:
            return
        if group.current(command.member_id).epoch == command.member_epoch:
            log.info(
                "Member %s of streams group %s is fenced: it did not give up tasks in time",
                command.member_id,
                command.group_id,
            )
            self.fence_member(group, command.member_id, moment, out)

    def _initial_rebalance(self, command: InitialRebalanceDue, moment: Moment, out: Decision) -> None:
        """Assign to those who have come by now."""
        group = self.groups.get(command.group_id)
        if group is None:
            return
        soft = group.soft
        soft.is_delayed = False
        if group.is_empty or group.epoch <= group.target_epoch or group.topology is None:
            return
        configured, _ = self._configured(group, group.topology, moment.image)
        members = members_with(group, None, StreamsSubscription(), StreamsCurrent(), None, soft.offsets)
        try:
            facts, _ = new_target(
                group.group_id, members, group.targets, configured, group.epoch, group.basis.configs, moment.now_ms
            )
        except KafkaError as refusal:  # which the next heartbeats are told
            log.warning("Streams group %s is assigned nothing: %s", group.group_id, refusal)
            return
        out.facts += facts

    def restore(self, group: StreamsGroup, moment: Moment, out: Decision) -> None:
        super().restore(group, moment, out)
        for member_id, subscription in group.subscriptions.items():
            current = group.current(member_id)
            if current.state is StreamsMemberState.UNREVOKED_TASKS:
                expiry = StreamsRebalanceExpired(group.group_id, member_id, current.epoch)
                deadline_ms = moment.now_ms + subscription.rebalance_timeout_ms
                out.timers.append(SetTimer(("rebalance", group.group_id, member_id), deadline_ms, expiry))

    # Groups as administrators see them

    def _describe(self, command: DescribeStreamsGroup, ticket: Ticket, moment: Moment, out: Decision) -> None:
        group = self.groups.get(command.group_id)
        if group is None or group.topology is None:
            raise self._not_found(command.group_id, "Group")
        members = [
            StreamsMemberDescription(
                member_id,
                group.current(member_id).epoch,
                subscription,
                group.current(member_id).assigned,
                group.target(member_id),
                *group.soft.offsets.get(member_id, _NO_OFFSETS),
            )
            for member_id, subscription in group.subscriptions.items()
        ]
        configured = group.soft.configured
        if configured is not None and configured.problem is not None:
            configured = None
        description = StreamsGroupDescription(
            group.group_id,
            group.state.value,
            group.epoch,
            group.target_epoch,
            STICKY,
            group.topology,
            configured,
            members,
        )
        out.answers.append(Answer(ticket, description))


def _topology(group: StreamsGroup, command: StreamsHeartbeat) -> Topology:
    """The group's topology from now on. Raises INVALID_REQUEST for another one, which must wait for a new group."""
    known, told = group.topology, command.topology
    if known is None:
        if told is None:
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR, "The topology is null and the group topology is also null.")
        return told
    if told is not None and told.epoch >= known.epoch and told != known:
        raise KafkaError(Error.INVALID_REQUEST, "Topology updates are not supported yet.")
    return known


def _require_tasks(configured: ConfiguredTopology, claimed: Assignment | None) -> None:
    """Raises INVALID_REQUEST for tasks that there are not."""
    subtopologies = configured.subtopologies or {}
    for tasks in claimed or ():
        for name, partitions in tasks.items():
            if name not in subtopologies:
                raise KafkaError(Error.INVALID_REQUEST, f"Subtopology {name} does not exist in the topology.")
            count = subtopologies[name].task_count
            for partition in sorted(partitions):
                if not 0 <= partition < count:
                    raise KafkaError(
                        Error.INVALID_REQUEST,
                        f"Task {partition} for subtopology {name} is invalid. "
                        f"Number of tasks for this subtopology: {count}",
                    )


def _relabelled(targets: Mapping[str, Assignment], former_id: str, member_id: str) -> Mapping[str, Assignment]:
    """A static member that takes its former self's place takes what that was to have."""
    if former_id == member_id or former_id not in targets:
        return targets
    return {**{each: target for each, target in targets.items() if each != former_id}, member_id: targets[former_id]}


def _stale(subscription: StreamsSubscription, topology: Topology) -> Status:
    return Status(
        StatusCode.STALE_TOPOLOGY,
        f"The member's topology epoch {subscription.topology_epoch} is behind the group's topology epoch "
        f"{topology.epoch}.",
    )


def _delayed(why: str) -> Status:
    return Status(StatusCode.ASSIGNMENT_DELAYED, f"Assignment delayed due to the configured {why}.")


def _shutdown(member_id: str) -> Status:
    return Status(
        StatusCode.SHUTDOWN_APPLICATION,
        f"Streams group member {member_id} encountered a fatal error and requested a shutdown for the entire "
        "application.",
    )


def _missing_tags(subscription: StreamsSubscription, required: Sequence[str]) -> list[Status]:
    known: Any = dict(subscription.tags)
    missing = [tag for tag in required if tag not in known]
    if not missing:
        return []
    return [
        Status(
            StatusCode.MISSING_CLIENT_TAGS,
            f"Missing required client tags for rack-aware standby assignment: [{', '.join(missing)}]. Configure them "
            "via 'client.tag.<tagKey>' in your Streams config.",
        )
    ]
