"""The settings of groups, read where they act: a group's own within the broker's bounds, else the broker's.

`protocol` is the name under which a protocol's groups have them.
"""

from typing import TYPE_CHECKING

from kafkapy.config.setting import ConfigResource

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage


def session_timeout_ms(protocol: str, group_id: str, image: "ClusterImage") -> int:
    return _bounded(protocol, "session.timeout.ms", group_id, image)


def heartbeat_interval_ms(protocol: str, group_id: str, image: "ClusterImage") -> int:
    return _bounded(protocol, "heartbeat.interval.ms", group_id, image)


def assignment_interval_ms(protocol: str, group_id: str, image: "ClusterImage") -> int:
    return _bounded(protocol, "assignment.interval.ms", group_id, image)


def _bounded(protocol: str, name: str, group_id: str, image: "ClusterImage") -> int:
    own, config = image.overrides_of(ConfigResource.GROUP, group_id).get(f"{protocol}.{name}"), image.config
    if own is None:
        return int(config[f"group.{protocol}.{name}"])
    least, most = config[f"group.{protocol}.min.{name}"], config[f"group.{protocol}.max.{name}"]
    return int(max(least, min(int(own), most)))
