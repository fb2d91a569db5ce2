"""The broker settings that group coordination reads, as plain numbers: a machine knows no configuration."""

from dataclasses import dataclass
from enum import Flag
from typing import Any, Final, Protocol

_KAFKAS_ASSIGNORS: Final = {
    "org.apache.kafka.coordinator.group.assignor.UniformAssignor": "uniform",
    "org.apache.kafka.coordinator.group.assignor.RangeAssignor": "range",
}
"""Kafka's own by the names of their classes."""


class MigrationPolicy(Flag):
    """Which way groups may change between the protocols while they have members."""

    DISABLED = 0
    UPGRADE = 1
    DOWNGRADE = 2
    BIDIRECTIONAL = UPGRADE | DOWNGRADE


class Settings(Protocol):
    """Parsed values by setting name."""

    def __getitem__(self, name: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Names and units are those of Kafka's broker settings (`group.*` and `offsets.*`)."""

    min_session_timeout_ms: int = 6_000
    max_session_timeout_ms: int = 1_800_000
    max_size: int = 2**31 - 1
    initial_rebalance_delay_ms: int = 3_000
    offset_metadata_max_bytes: int = 4_096
    offsets_retention_ms: int = 7 * 24 * 3_600_000
    offsets_retention_check_interval_ms: int = 600_000
    consumer_assignors: tuple[str, ...] = ("uniform", "range")
    consumer_max_size: int = 2**31 - 1
    consumer_regex_refresh_interval_ms: int = 600_000
    consumer_migration_policy: MigrationPolicy = MigrationPolicy.BIDIRECTIONAL
    share_max_size: int = 200
    share_initialize_retry_interval_ms: int = 30_000
    streams_max_size: int = 2**31 - 1

    @classmethod
    def of(cls, config: Settings) -> "GroupSettings":
        """Read them from a broker configuration."""
        return cls(
            min_session_timeout_ms=config["group.min.session.timeout.ms"],
            max_session_timeout_ms=config["group.max.session.timeout.ms"],
            max_size=config["group.max.size"],
            initial_rebalance_delay_ms=config["group.initial.rebalance.delay.ms"],
            offset_metadata_max_bytes=config["offset.metadata.max.bytes"],
            offsets_retention_ms=config["offsets.retention.minutes"] * 60_000,
            offsets_retention_check_interval_ms=config["offsets.retention.check.interval.ms"],
            consumer_assignors=tuple(_KAFKAS_ASSIGNORS.get(name, name) for name in config["group.consumer.assignors"]),
            consumer_max_size=config["group.consumer.max.size"],
            consumer_regex_refresh_interval_ms=config["group.consumer.regex.refresh.interval.ms"],
            consumer_migration_policy=MigrationPolicy[config["group.consumer.migration.policy"].upper()],
            share_max_size=config["group.share.max.size"],
            share_initialize_retry_interval_ms=config["group.share.initialize.retry.interval.ms"],
            streams_max_size=config["group.streams.max.size"],
        )
