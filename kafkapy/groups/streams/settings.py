"""The settings of streams groups, read where they act: a group's own within the broker's bounds, else the broker's."""

from typing import TYPE_CHECKING

from kafkapy.config.setting import ConfigResource

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage

RACK_TAGS = "rack.aware.assignment.tags"
STANDBY_COUNT = "num.standby.replicas"


def initial_rebalance_delay_ms(group_id: str, image: "ClusterImage") -> int:
    return _number("initial.rebalance.delay.ms", group_id, image)


def task_offset_interval_ms(group_id: str, image: "ClusterImage") -> int:
    least: int = image.config["group.streams.min.task.offset.interval.ms"]
    return max(least, _number("task.offset.interval.ms", group_id, image))


def acceptable_recovery_lag(group_id: str, image: "ClusterImage") -> int:
    return _number("acceptable.recovery.lag", group_id, image)


def assignment_configs(group_id: str, image: "ClusterImage") -> tuple[tuple[str, str], ...]:
    """What the assignor goes by, sorted; a change of it calls for a new assignment."""
    most = image.config["group.streams.max.standby.replicas"]
    found = [(STANDBY_COUNT, str(min(most, _number(STANDBY_COUNT, group_id, image))))]
    if tags := rack_tags(group_id, image):
        found.append((RACK_TAGS, ",".join(tags)))
    return tuple(found)


def rack_tags(group_id: str, image: "ClusterImage") -> list[str]:
    own = image.overrides_of(ConfigResource.GROUP, group_id).get(f"streams.{RACK_TAGS}")
    tags = image.config[f"group.streams.{RACK_TAGS}"] if own is None else own.split(",")
    return [tag.strip() for tag in tags if tag.strip()]


def _number(name: str, group_id: str, image: "ClusterImage") -> int:
    own = image.overrides_of(ConfigResource.GROUP, group_id).get(f"streams.{name}")
    return int(image.config[f"group.streams.{name}"] if own is None else own)
