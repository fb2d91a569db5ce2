"""A streams group's next target: its members as the assignor sees them, and what it decides as facts. Pure.

Called by `groups/streams/protocol.py`.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from kafkapy.errors import Error, KafkaError
from kafkapy.groups.modern.core import TargetEpoch
from kafkapy.groups.modern.java_order import hash_of_text, in_order
from kafkapy.groups.streams.assignor import StreamsGroupSpec, StreamsMemberSpec, SubtopologySpec, assign_sticky
from kafkapy.groups.streams.facts import (
    StreamsCurrent,
    StreamsFact,
    StreamsSubscription,
    StreamsTargetEpochStored,
    StreamsTargetStored,
)
from kafkapy.groups.streams.group import StreamsGroup
from kafkapy.groups.streams.settings import STANDBY_COUNT
from kafkapy.groups.streams.tasks import Assignment, TaskOffsets
from kafkapy.groups.streams.topologies import ConfiguredTopology

MOST_TASKS: Final = 1_048_588 // 4
"""More than this no group begins with in Kafka: it writes a first target as one batch of `message.max.bytes` at most,
with four bytes for each active task. Assigning takes the loop from everybody else, for long where there are many."""


class StreamsMember(NamedTuple):
    """A member as it is about to be."""

    subscription: StreamsSubscription
    current: StreamsCurrent
    offsets: TaskOffsets


def members_with(
    group: StreamsGroup,
    member_id: str | None,
    subscription: StreamsSubscription,
    current: StreamsCurrent,
    former_id: str | None,
    offsets: Mapping[str, tuple[TaskOffsets, TaskOffsets]],
) -> dict[str, StreamsMember]:
    """All members, one of them, if any, as given and instead of its former self."""
    subscriptions = dict(group.subscriptions)
    if member_id is not None:
        if former_id is not None:
            subscriptions.pop(former_id, None)
        subscriptions[member_id] = subscription
    return {
        each: StreamsMember(
            known, current if each == member_id else group.current(each), offsets[each][0] if each in offsets else {}
        )
        for each, known in subscriptions.items()
    }


def new_target(
    group_id: str,
    members: Mapping[str, StreamsMember],
    targets: Mapping[str, Assignment],
    configured: ConfiguredTopology,
    epoch: int,
    configs: tuple[tuple[str, str], ...],
    now_ms: int,
) -> tuple[list[StreamsFact], dict[str, Assignment]]:
    """The facts of the target for this epoch, and what it has for whom: nothing as long as topics are missing.

    Raises UNKNOWN_SERVER_ERROR, as Kafka does for what does not fit into a batch, for more than `MOST_TASKS`.
    """
    found = dict.fromkeys(members, Assignment())
    if configured.problem is None and configured.subtopologies is not None:
        task_count = sum(each.task_count for each in configured.subtopologies.values())
        if task_count > MOST_TASKS:
            why = f"The topology of group {group_id} has {task_count} tasks, and may have {MOST_TASKS}."
            raise KafkaError(Error.UNKNOWN_SERVER_ERROR, why)
        spec = StreamsGroupSpec(
            {member_id: _spec_of(member) for member_id, member in members.items()},
            {
                name: SubtopologySpec(each.task_count, bool(each.changelogs))
                for name, each in configured.subtopologies.items()
            },
            int(dict(configs).get(STANDBY_COUNT, 0)),
        )
        found = assign_sticky(spec)
    facts: list[StreamsFact] = [
        StreamsTargetStored(group_id, member_id, found[member_id])
        for member_id in in_order(members, hash_of_text)
        if found[member_id] != targets.get(member_id)
    ]
    facts.append(StreamsTargetEpochStored(group_id, TargetEpoch(epoch, now_ms)))
    return facts, found


def _spec_of(member: StreamsMember) -> StreamsMemberSpec:
    assigned = member.current.assigned.without_epochs
    return StreamsMemberSpec(member.subscription.process_id, assigned.active, assigned.standby, member.offsets)
