"""Settings that are each valid by themselves, but not together. The rules and their words are Kafka's."""

from collections.abc import Callable
from typing import Any

from kafkapy.config.hosts import connections_per_host
from kafkapy.config.setting import ConfigError

_WORDS = {">=": "greater than or equal to", "<=": "less than or equal to", "<": "less than"}

_GROUP_KINDS = ("consumer", "share", "streams")
_OF_EVERY_KIND = (
    ("max.heartbeat.interval.ms", ">=", "min.heartbeat.interval.ms"),
    ("heartbeat.interval.ms", ">=", "min.heartbeat.interval.ms"),
    ("heartbeat.interval.ms", "<=", "max.heartbeat.interval.ms"),
    ("max.session.timeout.ms", ">=", "min.session.timeout.ms"),
    ("session.timeout.ms", ">=", "min.session.timeout.ms"),
    ("session.timeout.ms", "<=", "max.session.timeout.ms"),
    ("heartbeat.interval.ms", "<", "session.timeout.ms"),
    ("max.assignment.interval.ms", ">=", "min.assignment.interval.ms"),
    ("assignment.interval.ms", ">=", "min.assignment.interval.ms"),
    ("assignment.interval.ms", "<=", "max.assignment.interval.ms"),
)
_GROUP_ORDER = (
    *(
        (f"group.{kind}.{left}", relation, f"group.{kind}.{right}")
        for kind in _GROUP_KINDS
        for left, relation, right in _OF_EVERY_KIND
    ),
    ("group.share.delivery.count.limit", ">=", "group.share.min.delivery.count.limit"),
    ("group.share.max.delivery.count.limit", ">=", "group.share.delivery.count.limit"),
    ("group.share.record.lock.duration.ms", ">=", "group.share.min.record.lock.duration.ms"),
    ("group.share.max.record.lock.duration.ms", ">=", "group.share.record.lock.duration.ms"),
    ("group.share.partition.max.record.locks", ">=", "group.share.min.partition.max.record.locks"),
    ("group.share.max.partition.max.record.locks", ">=", "group.share.partition.max.record.locks"),
    ("group.share.max.share.sessions", ">=", "group.share.max.size"),
    ("group.streams.num.standby.replicas", "<=", "group.streams.max.standby.replicas"),
)

_CODECS = range(5)


def check_together(value: Callable[[str], Any], milliseconds: Callable[[str], int | None]) -> None:
    """ConfigError for the first rule that the broker's settings break.

    `value` gives a setting's parsed value, `milliseconds` a duration that has coarser synonyms.
    """
    _require((milliseconds("log.roll.ms") or 0) >= 1, "log.roll.ms must be greater than or equal to 1")
    _require((milliseconds("log.roll.jitter.ms") or 0) >= 0, "log.roll.jitter.ms must be greater than or equal to 0")
    _require(
        milliseconds("log.retention.ms") != 0,
        "log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
    )
    cleaners = value("log.cleaner.threads")
    _require(
        cleaners > 0 and value("log.cleaner.dedupe.buffer.size") // cleaners > 1 << 20,
        "log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
    )
    per_host = connections_per_host(value("max.connections.per.ip.overrides"))
    _require(
        value("max.connections.per.ip") > 0 or bool(per_host),
        "max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides property is set.",
    )
    delay_ms, idle_ms = value("connection.failed.authentication.delay.ms"), value("connections.max.idle.ms")
    _require(
        idle_ms < 0 or delay_ms < idle_ms,
        f"connection.failed.authentication.delay.ms={delay_ms} should always be less than "
        f"connections.max.idle.ms={idle_ms} to prevent failed authentication responses from timing out",
    )
    _require(
        value("queued.max.request.bytes") <= 0
        or value("queued.max.request.bytes") >= value("socket.request.max.bytes"),
        "queued.max.request.bytes must be larger or equal to socket.request.max.bytes",
    )
    codec = value("offsets.topic.compression.codec")
    _require(codec in _CODECS, f"Unknown compression type id: {codec}")
    _require(
        "classic" in value("group.coordinator.rebalance.protocols"),
        "Disabling the 'classic' protocol is not supported.",
    )
    for left, relation, right in _GROUP_ORDER:
        low, high = (value(right), value(left)) if relation == ">=" else (value(left), value(right))
        holds = low < high if relation == "<" else low <= high
        _require(holds, f"{left} must be {_WORDS[relation]} {right}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)
