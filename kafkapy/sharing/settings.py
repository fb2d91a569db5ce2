"""What share groups are set to, read where it acts: a group's own within the broker's bounds, else the broker's."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from kafkapy.cluster.features import SHARE_VERSION, level_of
from kafkapy.config.setting import ConfigResource
from kafkapy.model import IsolationLevel
from kafkapy.sharing.batches import RecordState
from kafkapy.sharing.in_flight import Limits

if TYPE_CHECKING:
    from kafkapy.cluster.image import ClusterImage
    from kafkapy.config.layers import BrokerConfig

_QUEUE: Final = "errors.deadletterqueue.topic.name"
_QUEUES_FROM_LEVEL: Final = 2
"""Of the feature `share.version`."""
_BY_DURATION: Final = "by_duration:"
_DURATION: Final = re.compile(r"\+?P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:[.,]\d*)?)S)?)?", re.IGNORECASE)


def limits(image: "ClusterImage", group_id: str) -> Limits:
    """What the group may do with a partition now."""
    own, config = _own(image, group_id), image.config
    return Limits(
        _bounded(own, config, "delivery.count.limit"),
        _bounded(own, config, "partition.max.record.locks"),
        _bounded(own, config, "record.lock.duration.ms") / 1000,
        own.get("share.renew.acknowledge.enable", "true").lower() == "true",
        RecordState.ARCHIVING if own.get(_QUEUE, "").strip() and _has_queues(image) else RecordState.ARCHIVED,
    )


def dead_letter_topic(image: "ClusterImage", group_id: str) -> str:
    """The topic for records that the group gives up; "" where they are dropped."""
    return _own(image, group_id).get(_QUEUE, "").strip()


def copies_dead_letters(image: "ClusterImage", group_id: str) -> bool:
    """Whether keys and values of records that the group gives up are copied into that topic."""
    return _own(image, group_id).get("errors.deadletterqueue.copy.record.enable", "false").lower() == "true"


def lock_duration_ms(image: "ClusterImage", group_id: str) -> int:
    """How long a member may hold a record."""
    return _bounded(_own(image, group_id), image.config, "record.lock.duration.ms")


def isolation_level(image: "ClusterImage", group_id: str) -> IsolationLevel:
    own = _own(image, group_id).get("share.isolation.level", "read_uncommitted")
    return IsolationLevel[own.upper()]


def offset_reset(image: "ClusterImage", group_id: str) -> str | timedelta:
    """Where a group begins that has no offset: "latest", "earliest", or so long ago."""
    own = _own(image, group_id).get("share.auto.offset.reset", "latest")
    if not own.startswith(_BY_DURATION):
        return own
    parsed = _DURATION.fullmatch(own.removeprefix(_BY_DURATION))
    assert parsed is not None, "settings are checked when they are made"
    days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in parsed.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _has_queues(image: "ClusterImage") -> bool:
    return level_of(SHARE_VERSION, image.kinds.features) >= _QUEUES_FROM_LEVEL


def _own(image: "ClusterImage", group_id: str) -> Mapping[str, str]:
    return image.overrides_of(ConfigResource.GROUP, group_id)


def _bounded(own: Mapping[str, str], config: "BrokerConfig", name: str) -> int:
    value = own.get(f"share.{name}")
    if value is None:
        return int(config[f"group.share.{name}"])
    least, most = config[f"group.share.min.{name}"], config[f"group.share.max.{name}"]
    return int(max(least, min(int(value), most)))
