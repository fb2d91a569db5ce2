"""The settings of consumer groups, read where they act: a group's own within the broker's bounds, else the broker's."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kafkapy.config.setting import ConfigResource

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage


def session_timeout_ms(image: "ClusterImage", group_id: str) -> int:
    own, config = _own(image, group_id), image.config
    if "consumer.session.timeout.ms" not in own:
        return int(config["group.consumer.session.timeout.ms"])
    bounds = config["group.consumer.min.session.timeout.ms"], config["group.consumer.max.session.timeout.ms"]
    return _within(own["consumer.session.timeout.ms"], bounds)


def heartbeat_interval_ms(image: "ClusterImage", group_id: str) -> int:
    own, config = _own(image, group_id), image.config
    if "consumer.heartbeat.interval.ms" not in own:
        return int(config["group.consumer.heartbeat.interval.ms"])
    bounds = config["group.consumer.min.heartbeat.interval.ms"], config["group.consumer.max.heartbeat.interval.ms"]
    return _within(own["consumer.heartbeat.interval.ms"], bounds)


def assignment_interval_ms(image: "ClusterImage", group_id: str) -> int:
    own, config = _own(image, group_id), image.config
    if "consumer.assignment.interval.ms" not in own:
        return int(config["group.consumer.assignment.interval.ms"])
    bounds = config["group.consumer.min.assignment.interval.ms"], config["group.consumer.max.assignment.interval.ms"]
    return _within(own["consumer.assignment.interval.ms"], bounds)


def _own(image: "ClusterImage", group_id: str) -> Mapping[str, str]:
    return image.overrides_of(ConfigResource.GROUP, group_id)


def _within(own: str, bounds: tuple[int, int]) -> int:
    least, most = bounds
    return max(least, min(int(own), most))
