"""What AlterConfigs and IncrementalAlterConfigs have in common: which resources may be altered at all, and by whom.

A broker judges its own settings and its loggers itself; all else is the controller's to judge, which may be another
process's. One resource that is refused does not stop the others.
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple

from kafkapy.cluster.machine import ResourceAlteration
from kafkapy.config.altering import Alteration, Op, altered, check_broker, replacing
from kafkapy.config.setting import ConfigError, ConfigResource
from kafkapy.errors import Error, KafkaError
from kafkapy.handlers.admin.loggers import alter_levels
from kafkapy.handlers.context import CLUSTER_NAME, Context, Operation, ResourceType

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")

_GUARDED: Final = {
    ConfigResource.TOPIC: (ResourceType.TOPIC, Error.TOPIC_AUTHORIZATION_FAILED),
    ConfigResource.GROUP: (ResourceType.GROUP, Error.GROUP_AUTHORIZATION_FAILED),
}
_WITHOUT_TEXT: Final = {ConfigResource.BROKER, ConfigResource.BROKER_LOGGER}
"""Where Kafka refuses without a word."""
_KEPT: Final = {ConfigResource.TOPIC, ConfigResource.BROKER, ConfigResource.GROUP, ConfigResource.CLIENT_METRICS}


class Asked(NamedTuple):
    """One setting as a request names it."""

    name: str
    op: int
    value: str | None


class AskedResource(NamedTuple):
    """One resource as a request names it."""

    kind: int
    name: str
    settings: Sequence[Asked]


class Told(NamedTuple):
    """What an answer says of one resource; the fields are named as on the wire."""

    resource_type: int
    resource_name: str
    error_code: int
    error_message: str | None

    @staticmethod
    def of(kind: int, name: str, refusal: KafkaError | None) -> "Told":
        if refusal is None:
            return Told(kind, name, Error.NONE, None)
        if refusal.error is Error.CLUSTER_AUTHORIZATION_FAILED and kind in _WITHOUT_TEXT:
            return Told(kind, name, refusal.error, None)
        return Told(kind, name, refusal.error, refusal.error.text if refusal.message is None else refusal.message)


PassOn = Callable[[Sequence[int]], Awaitable[Sequence[Told]]]
"""Asks the controller, which is elsewhere, for the resources at these places of a request: what becomes of each."""


async def alter(
    resources: Sequence[AskedResource],
    ctx: Context,
    *,
    replaces: bool,
    validate_only: bool,
    pass_on: PassOn | None = None,
) -> list[Told]:
    """What becomes of each resource. `replaces`: settings that are not named go."""
    counts = Counter((resource.kind, resource.name) for resource in resources)
    told: list[Told] = [Told.of(asked.kind, asked.name, None) for asked in resources]
    remaining: list[tuple[int, ResourceAlteration]] = []
    for place, resource in enumerate(resources):
        try:
            if counts[resource.kind, resource.name] > 1:
                raise KafkaError(Error.INVALID_REQUEST, "Each resource must appear at most once.")
            alteration = _judged(resource, ctx, replaces=replaces, validate_only=validate_only)
        except KafkaError as refusal:
            told[place] = Told.of(resource.kind, resource.name, refusal)
        else:
            if alteration is not None:
                remaining.append((place, alteration))
    places = [place for place, _ in remaining]
    if places and pass_on is not None:
        for place, one in zip(places, await pass_on(places), strict=True):
            told[place] = one
    elif places:
        decided = await ctx.rooms.cluster.alter_configs(
            [alteration for _, alteration in remaining], validate_only=validate_only
        )
        for place, refusal_or_none in zip(places, decided, strict=True):
            told[place] = Told.of(resources[place].kind, resources[place].name, refusal_or_none)
    return told


def in_order(places: Sequence[int], asked: Sequence[Any], told: Sequence[Any]) -> list[Told]:
    """What the controller says of each of these places of a request, whatever order it says it in."""
    found = {(one.resource_type, one.resource_name): one for one in told}
    results = []
    for place in places:
        kind, name = asked[place].resource_type, asked[place].resource_name
        one = found.get((kind, name))
        if one is None:  # as Kafka has it, what the controller passes over in silence went wrong
            results.append(Told.of(kind, name, KafkaError(Error.UNKNOWN_SERVER_ERROR)))
        else:
            results.append(Told(kind, name, one.error_code, one.error_message))
    return results


def _judged(resource: AskedResource, ctx: Context, *, replaces: bool, validate_only: bool) -> ResourceAlteration | None:
    """What the controller is to be asked for; None when all is done already."""
    kind, name, settings = resource
    if len({setting.name for setting in settings}) < len(settings):
        raise KafkaError(Error.INVALID_REQUEST, "Error due to duplicate config keys")
    nulls = [setting.name for setting in settings if setting.value is None and setting.op != Op.DELETE]
    if nulls:
        raise KafkaError(Error.INVALID_REQUEST, f"Null value not supported for : {', '.join(nulls)}")
    alterations = [Alteration(setting.name, _op(setting.op), setting.value) for setting in settings]
    if kind == ConfigResource.BROKER_LOGGER and not replaces:
        _require(kind, name, ctx)
        _check_node(name, ctx, "Unexpected node id. Expected {}, but received {}")
        alter_levels(alterations, validate_only=validate_only)
        return None
    if kind not in _KEPT:
        raise KafkaError(Error.INVALID_REQUEST, f"Unknown resource type {kind}")
    if kind == ConfigResource.BROKER and not ctx.session.is_forwarded:
        _judge_broker(name, alterations, ctx, replaces=replaces)
    _require(kind, name, ctx)
    return ResourceAlteration(kind, name, alterations, replaces)


def _op(code: int) -> Op:
    try:
        return Op(code)
    except ValueError:
        raise KafkaError(Error.INVALID_REQUEST, f"Unknown operations type {code}") from None


def _require(kind: int, name: str, ctx: Context) -> None:
    guarded, denial = _GUARDED.get(ConfigResource(kind), (ResourceType.CLUSTER, Error.CLUSTER_AUTHORIZATION_FAILED))
    if not ctx.permits(Operation.ALTER_CONFIGS, guarded, CLUSTER_NAME if guarded is ResourceType.CLUSTER else name):
        raise KafkaError(denial)


def _check_node(name: str, ctx: Context, unexpected: str) -> None:
    """Whether the name is this broker's id."""
    if not _INTEGER.fullmatch(name):
        raise KafkaError(Error.INVALID_REQUEST, f"Node id must be an integer, but it is: {name}")
    node_id = ctx.rooms.cluster.leadership.node_id
    if int(name) != node_id:
        raise KafkaError(Error.INVALID_REQUEST, unexpected.format(node_id, name))


def _judge_broker(name: str, alterations: Sequence[Alteration], ctx: Context, *, replaces: bool) -> None:
    """Whether this broker could live with that."""
    if name:
        _check_node(name, ctx, "Unexpected broker id, expected {}, but received {}")
    image = ctx.rooms.cluster.image
    own = image.overrides_of(ConfigResource.BROKER, name)
    values = altered(ConfigResource.BROKER, own, replacing(own, alterations) if replaces else alterations)
    merged = {**own, **values}
    try:
        check_broker({n: v for n, v in merged.items() if v is not None}, image.config, is_default=not name)
    except ConfigError as problem:
        raise KafkaError(Error.INVALID_REQUEST, problem.message) from problem
