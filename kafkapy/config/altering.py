"""What may be changed while brokers run, and what a change comes to: settings of topics, brokers, groups and client
metrics subscriptions, by Kafka's rules and in its words.

Pure. The controller's machine asks what is kept with the metadata; of a broker's settings the broker itself is asked
first, since its own static ones matter. Source: KIP-226, KIP-339, KIP-714, KIP-848, KIP-966.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from kafkapy.config.broker import BROKER
from kafkapy.config.checks import check_together
from kafkapy.config.client_metrics import CLIENT_METRICS
from kafkapy.config.group import GROUP
from kafkapy.config.layers import BrokerConfig, validate_topic_overrides
from kafkapy.config.setting import ConfigError, ConfigResource, Setting, Type
from kafkapy.config.topic import TOPIC
from kafkapy.errors import Error, KafkaError

Own = Mapping[str, str]
"""The settings that a resource has of its own, as text."""

_LONGEST_VALUE: Final = (1 << 15) - 1
_MIN_ISR: Final = "min.insync.replicas"
_WITH_LISTS: Final[Mapping[int, Mapping[str, Setting]]] = {
    ConfigResource.TOPIC: TOPIC,
    ConfigResource.BROKER: BROKER,
}
"""Whose lists can be appended to: not those of client metrics subscriptions, as in Kafka."""

_OF_A_LISTENER: Final = re.compile(r"listener\.name\.[^.]*\.(.*)")
_OF_ALL_LISTENERS: Final = {"max.connections", "max.connection.creation.rate", "num.network.threads"}
_ONLY_WITH_PREFIX: Final = {
    "ssl.keystore.type",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.key.password",
    "ssl.truststore.type",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.truststore.certificates",
}
_PER_BROKER: Final = {"listeners", "listener.security.protocol.map", "principal.builder.class"}
_PER_BROKER_FAMILIES: Final = ("ssl.", "sasl.")
_TIMING: Final = ("sasl.kerberos.", "sasl.login.")
"""How often and how early a login is renewed: without logins that protects nobody."""
_THREADS: Final = (
    "num.io.threads",
    "num.network.threads",
    "num.replica.fetchers",
    "num.recovery.threads.per.data.dir",
    "background.threads",
)

_MATCHED: Final = {
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
}
_PUSH_INTERVAL_MS: Final = range(100, 3_600_000 + 1)


def _bound(side: str, name: str) -> str:
    """The broker's setting that bounds a group's."""
    kind, _, rest = name.partition(".")
    return f"group.{kind}.{side}.{rest.removeprefix('num.')}"


_BOUNDS: Final = {
    name: tuple(bound if (bound := _bound(side, name)) in BROKER else None for side in ("min", "max")) for name in GROUP
}
"""The broker's settings that bound a group's, below and above."""


class Op(IntEnum):
    """What an incremental alteration does with a value (KIP-339)."""

    SET = 0
    DELETE = 1
    APPEND = 2
    SUBTRACT = 3


class Alteration(NamedTuple):
    """One change of one setting; DELETE takes no value."""

    name: str
    op: Op
    value: str | None


def replacing(own: Own, alterations: Sequence[Alteration]) -> list[Alteration]:
    """These alterations, and the removal of whatever the resource has besides."""
    named = {alteration.name for alteration in alterations}
    return [*alterations, *(Alteration(name, Op.DELETE, None) for name in own if name not in named)]


def altered(kind: int, own: Own, alterations: Iterable[Alteration]) -> dict[str, str | None]:
    """The new values of the settings that are named, None for one that goes. Raises ConfigError."""
    schema = _WITH_LISTS.get(kind, {})
    return {change.name: _new_value(schema, own.get(change.name), change) for change in alterations}


def _new_value(schema: Mapping[str, Setting], present: str | None, change: Alteration) -> str | None:
    name, op, value = change
    if op is Op.DELETE:
        return None
    if op is Op.SET:
        return value
    if name not in schema or schema[name].type is not Type.LIST:
        if schema is BROKER:
            raise ConfigError(f"Config value {op.name.lower()} is not allowed for config key: {name}")
        raise ConfigError(f"Can't {op.name} to key {name} because its type is not LIST.")
    if present is None:
        present = schema[name].default
    entries = [entry for entry in (present or "").split(",") if entry]
    for entry in (value or "").split(","):
        if op is Op.SUBTRACT and entry in entries:
            entries.remove(entry)
        elif op is Op.APPEND and entry not in entries:
            entries.append(entry)
    return ",".join(entries)


def check(kind: int, name: str, own: Own, values: Mapping[str, str | None], broker: BrokerConfig) -> dict[str, str]:
    """The settings that the resource has of its own when these values have taken their place.

    `broker` gives the defaults. Raises KafkaError, mostly INVALID_CONFIG, when that would not be valid.
    """
    for setting, value in values.items():
        if setting == _MIN_ISR and kind == ConfigResource.BROKER:
            if name:
                raise ConfigError(f"Broker-level {_MIN_ISR} cannot be altered while ELR is enabled.")
            if value is None:
                raise ConfigError(f"Cluster-level {_MIN_ISR} cannot be removed while ELR is enabled.")
        if value is not None and len(value) > _LONGEST_VALUE:
            raise ConfigError(
                "The configuration value cannot be added because it exceeds the maximum value size of "
                f"{_LONGEST_VALUE} bytes."
            )
    merged = {**own, **values}
    whole = {setting: value for setting, value in merged.items() if value is not None}
    if kind == ConfigResource.TOPIC:
        validate_topic_overrides(whole, broker)
    elif kind == ConfigResource.GROUP:
        _check_group(name, whole, broker)
    elif kind == ConfigResource.CLIENT_METRICS:
        _check_client_metrics(name, whole)
    return whole


def check_broker(whole: Own, broker: BrokerConfig, *, is_default: bool) -> None:
    """Whether a broker, or with `is_default` all of them, may have these dynamic settings and no others.

    Raises ConfigError.
    """
    _refuse("Cannot update these configs dynamically", [n for n in whole if n in BROKER and not BROKER[n].dynamic])
    _refuse(
        "These security configs can be dynamically updated only per-listener using the listener prefix",
        [name for name in whole if name in _ONLY_WITH_PREFIX],
    )
    for name, text in whole.items():
        base = _base(name)
        if base in BROKER:
            BROKER[base].parse(text)
    per_broker = [name for name in whole if _is_per_broker(name)]
    if is_default:
        _refuse("Cannot update these configs at default cluster level, broker id must be specified", per_broker)
        candidate = broker.with_dynamic(broker=broker.dynamic_broker, default=whole)
    else:
        candidate = broker.with_dynamic(broker=whole, default=broker.dynamic_default)
    try:
        check_together(candidate.__getitem__, candidate.milliseconds)
    except ConfigError as broken:
        raise ConfigError(f"requirement failed: {broken}") from None
    _check_threads(broker, candidate)
    # Kafka takes these. Here they would not act, and some of them are there to protect.
    asks_for_more = [name for name in per_broker if not _base(name).startswith(_TIMING)]
    _refuse("kafkapy cannot change these configs while it runs", asks_for_more)


def _refuse(why: str, names: Sequence[str]) -> None:
    if names:
        raise ConfigError(f"{why}: [{', '.join(names)}]")


def _base(name: str) -> str:
    """The setting that a listener's own one stands for."""
    of_listener = _OF_A_LISTENER.fullmatch(name)
    return of_listener[1] if of_listener else name


def _is_per_broker(name: str) -> bool:
    base = _base(name)
    if base != name:
        return base not in _OF_ALL_LISTENERS
    return name in _PER_BROKER or name.startswith(_PER_BROKER_FAMILIES)


def _check_threads(present: BrokerConfig, candidate: BrokerConfig) -> None:
    for name in _THREADS:
        old, new = present[name], candidate[name]
        if new < old // 2:
            problem = f"be at least half the current value {old}"
        elif new > old * 2:
            problem = f"not be greater than double the current value {old}"
        else:
            continue
        # As Kafka words it: one refusal within another.
        raise ConfigError(
            "Invalid value org.apache.kafka.common.config.ConfigException: Dynamic thread count update validation "
            f"failed for {name}={new}, value should {problem} for configuration Invalid dynamic configuration"
        )


def _check_group(group_id: str, whole: Own, broker: BrokerConfig) -> None:
    if not group_id:
        raise KafkaError(Error.INVALID_REQUEST, "Default group resources are not allowed.")
    for name in whole:
        if name not in GROUP:
            raise ConfigError(f"Unknown group config name: {name}")
    values = {
        name: setting.parse(whole[name])
        if name in whole
        else broker[setting.synonym]
        if setting.synonym in BROKER
        else setting.default_value
        for name, setting in GROUP.items()
    }
    for name, (lowest, highest) in _BOUNDS.items():
        low = None if lowest is None else broker[lowest]
        high = None if highest is None else broker[highest]
        _check_bounds(name, values[name], low, high)
    if values["errors.deadletterqueue.topic.name"].startswith("__"):
        raise ConfigError("errors.deadletterqueue.topic.name: DLQ topic name must not start with '__'")
    for kind in ("consumer", "share", "streams"):
        session, heartbeat = f"{kind}.session.timeout.ms", f"{kind}.heartbeat.interval.ms"
        if values[session] <= values[heartbeat]:
            raise ConfigError(f"{session} must be greater than {heartbeat}")


def _check_bounds(name: str, value: int, low: int | None, high: int | None) -> None:
    if low is not None and high is not None:
        if not low <= value <= high:
            raise ConfigError(f"{name} must be in the range {low} to {high} inclusive.")
    elif low is not None and value < low:
        raise ConfigError(f"{name} must be greater than or equal to {low}")
    elif high is not None and value > high:
        raise ConfigError(f"{name} must be less than or equal to {high}")


def _check_client_metrics(subscription: str, whole: Own) -> None:
    if not subscription:
        raise KafkaError(Error.INVALID_REQUEST, "Subscription name can't be empty")
    for name in whole:
        if name not in CLIENT_METRICS:
            raise KafkaError(Error.INVALID_REQUEST, f"Unknown client metrics configuration: {name}")
    values = {name: CLIENT_METRICS[name].parse(text) for name, text in whole.items()}
    interval_ms = values.get("interval.ms")
    if interval_ms is not None and interval_ms not in _PUSH_INTERVAL_MS:
        raise KafkaError(
            Error.INVALID_REQUEST,
            f"Invalid value {interval_ms} for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        )
    for pattern in values.get("match") or ():
        parameter, separator, expression = pattern.partition("=")
        if not separator or "=" in expression or not expression or parameter.strip() not in _MATCHED:
            raise ConfigError(f"Illegal client matching pattern: {pattern}")
        try:
            re.compile(expression.strip())
        except re.error:
            raise ConfigError(f"Illegal client matching pattern: {pattern}") from None
