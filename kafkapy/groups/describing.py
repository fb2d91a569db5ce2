"""Groups as administrators see them: one described, all listed. Pure.

Called by `groups/machine.py`.
"""

from collections.abc import Iterable
from typing import Any

from kafkapy.groups.commands import GroupDescription, ListedGroup, ListGroups, MemberDescription
from kafkapy.groups.group import Group, GroupState
from kafkapy.groups.modern.commands import ConsumerGroupDescription, ConsumerMemberDescription
from kafkapy.groups.modern.core import NOTHING
from kafkapy.groups.modern.group import ConsumerGroup, without_epochs
from kafkapy.groups.modern.protocol import ModernProtocol

CLASSIC_TYPE = "classic"


def described(group: Group) -> GroupDescription:
    """A classic group."""
    stable = group.state is GroupState.STABLE
    members = [
        MemberDescription(
            member.member_id,
            member.instance_id,
            member.client_id,
            member.client_host,
            member.metadata(group.protocol_name) if stable else b"",
            member.assignment,
        )
        for member in group.members.values()
    ]
    protocol_name = group.protocol_name or "" if stable else ""
    return GroupDescription(group.group_id, group.state.value, group.protocol_type or "", protocol_name, members)


def described_consumers(group: ConsumerGroup, default_assignor: str) -> ConsumerGroupDescription:
    """A consumer group."""
    members = []
    for member_id, subscription in group.subscriptions.items():
        current = group.current(member_id)
        members.append(
            ConsumerMemberDescription(
                member_id,
                subscription.instance_id,
                subscription.rack_id,
                current.epoch,
                subscription.client_id,
                subscription.client_host,
                sorted(subscription.topics),
                subscription.pattern,
                without_epochs(current.assigned, current.revoking),
                group.targets.get(member_id, NOTHING),
                subscription.classic is not None,
            )
        )
    assignor = group.preferred_assignor(default_assignor)
    return ConsumerGroupDescription(
        group.group_id, group.state.value, group.epoch, group.target_epoch, assignor, members
    )


def listed(groups: Iterable[Group], protocols: Iterable[ModernProtocol[Any]], command: ListGroups) -> list[ListedGroup]:
    """Those of the groups that the command's filters let through."""
    found = [ListedGroup(each.group_id, each.protocol_type or "", each.state.value, CLASSIC_TYPE) for each in groups]
    found += [
        ListedGroup(each.group_id, protocol.name, each.state.value, protocol.name)
        for protocol in protocols
        for each in protocol.groups.values()
    ]
    return [
        group
        for group in found
        if (not command.types or group.group_type in command.types)
        and (not command.states or group.state.lower() in command.states)
    ]
