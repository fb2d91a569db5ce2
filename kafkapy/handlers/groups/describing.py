"""What the describe APIs of the newer groups have in common: who is told of which group."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.context import Context, Operation, ResourceType

Group = TypeVar("Group", bound=Any)


async def described(
    request: Any,
    ctx: Context,
    group_type: Callable[..., Group],
    describe: Callable[[str], Awaitable[Group]],
    topics_of: Callable[[Group], Iterable[str]],
    hidden: str,
) -> list[Group]:
    """The groups asked for; those that may not be described come first, as in Kafka.

    `describe` raises KafkaError for what is no such group. A group of which one of the topics (`topics_of`) must not be
    known is not described at all, which `hidden` says.
    """
    permitted = {
        group_id: ctx.permits(Operation.DESCRIBE, ResourceType.GROUP, group_id) for group_id in request.group_ids
    }
    forbidden = [group_id for group_id in request.group_ids if not permitted[group_id]]
    groups = refused(group_type, forbidden, Error.GROUP_AUTHORIZATION_FAILED)
    for group_id in request.group_ids:
        if not permitted[group_id]:
            continue
        try:
            group = await describe(group_id)
        except KafkaError as refusal:
            groups.append(group_type(group_id=group_id, error_code=refusal.error, error_message=refusal.message))
            continue
        if all(ctx.permits(Operation.DESCRIBE, ResourceType.TOPIC, name) for name in dict.fromkeys(topics_of(group))):
            if request.include_authorized_operations:
                group.authorized_operations = ctx.authorized_operations(ResourceType.GROUP, group_id)
        else:
            error = Error.TOPIC_AUTHORIZATION_FAILED
            group = group_type(group_id=group_id, error_code=error, error_message=hidden)
        groups.append(group)
    return groups


def refused(group_type: Callable[..., Group], group_ids: Iterable[str], error: Error) -> list[Group]:
    """The error at each of these groups."""
    return [group_type(group_id=group_id, error_code=error) for group_id in group_ids]
