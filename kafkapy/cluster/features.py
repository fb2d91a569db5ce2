"""Features (KIP-584): which levels this broker has, on which one the cluster has settled, and how that may change.

Pure. A kind of metadata facts (`kinds.py`). A new cluster settles on the default levels, and writes them down. One
of which no fact has told is at its default level, too; one at level 0 is not finalized. Clients go by the levels
(ApiVersions): which kind of transaction they use, for instance.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Final, NamedTuple

from kafkapy.coordination.shard import Moment
from kafkapy.errors import Error, KafkaError
from kafkapy.protocol.journal.cluster_metadata import FeatureLevelRecord

METADATA_VERSION: Final = "metadata.version"
TRANSACTION_VERSION: Final = "transaction.version"
GROUP_VERSION: Final = "group.version"
SHARE_VERSION: Final = "share.version"
STREAMS_VERSION: Final = "streams.version"

Levels = Mapping[str, int]
"""Features and their levels, 0 where one was switched off."""


class LevelRange(NamedTuple):
    """The levels of a feature that this broker has, and the one of a cluster that has chosen none."""

    lowest: int
    highest: int
    default: int


SUPPORTED: Final[Mapping[str, LevelRange]] = MappingProxyType(
    {
        METADATA_VERSION: LevelRange(7, 33, 33),
        # Replicas that may lead are known at all times: with one replica, by itself. There is no other way here.
        "eligible.leader.replicas.version": LevelRange(1, 1, 1),
        GROUP_VERSION: LevelRange(0, 1, 1),
        SHARE_VERSION: LevelRange(0, 2, 2),
        STREAMS_VERSION: LevelRange(0, 1, 1),
        TRANSACTION_VERSION: LevelRange(0, 2, 2),
    }
)

_METADATA_CHANGED_AT: Final = frozenset({7, 8, 11, 13, 14, 15, 17, 23, 30, 32, 33})
"""The levels of Kafka's metadata that have records which the level before does not know."""


class UpgradeType(IntEnum):
    """Which way a level may go; the value is the code on the wire."""

    UPGRADE = 1
    SAFE_DOWNGRADE = 2
    UNSAFE_DOWNGRADE = 3


class FeatureUpdate(NamedTuple):
    """What is asked for one feature; `upgrade_type` as it came."""

    name: str
    level: int
    upgrade_type: int


@dataclass(slots=True)
class UpdateFeatures:
    """Answered by None. All updates are made, or none: INVALID_UPDATE_VERSION tells of the first that may not be."""

    updates: Sequence[FeatureUpdate]
    controller_id: int
    validate_only: bool = False


def settled(told: Levels) -> list[FeatureLevelRecord]:
    """The facts by which a cluster that has not done so settles on its levels; Kafka's tools do it for a new one."""
    if METADATA_VERSION in told:
        return []
    return [_fact(name, levels.default) for name, levels in SUPPORTED.items() if name not in told and levels.default]


def finalized(told: Levels) -> dict[str, int]:
    """The level of each feature that has one, by what facts have told."""
    levels = {name: levels.default for name, levels in SUPPORTED.items()} | dict(told)
    return {name: level for name, level in levels.items() if level}


def level_of(name: str, told: Levels) -> int:
    """The level of one feature, by what facts have told; 0 where it is off."""
    return told.get(name, SUPPORTED[name].default)


class Features:
    """The levels that all facts so far add up to."""

    facts: ClassVar[tuple[type[Any], ...]] = (FeatureLevelRecord,)
    commands: ClassVar[tuple[type[Any], ...]] = (UpdateFeatures,)

    def __init__(self) -> None:
        self.shown: Levels = {}

    def decide(self, command: UpdateFeatures, moment: Moment) -> tuple[list[FeatureLevelRecord], None]:
        updates = {update.name: update for update in command.updates}  # of a feature named twice the last counts
        levels = finalized(self.shown)
        for update in updates.values():
            if reason := _reason_against(update, levels.get(update.name, 0), command.controller_id):
                raise KafkaError(
                    Error.INVALID_UPDATE_VERSION,
                    f"The update failed for all features since the following feature had an error: {reason}",
                )
        if command.validate_only:
            return [], None
        return [_fact(update.name, update.level) for update in updates.values()], None

    def apply(self, fact: FeatureLevelRecord) -> None:
        self.shown = {**self.shown, fact.name: fact.feature_level}

    def undo_of(self, fact: FeatureLevelRecord) -> Callable[[], None]:
        return partial(setattr, self, "shown", self.shown)

    @staticmethod
    def snapshot(shown: Levels) -> Iterator[FeatureLevelRecord]:
        for name, level in shown.items():
            yield _fact(name, level)


def _reason_against(update: FeatureUpdate, present: int, controller_id: int) -> str | None:
    """Why a feature may not go from its present level to that one, in Kafka's words; None when it may."""
    name, level, upgrade_type = update
    controller = f"Local controller {controller_id}"
    reason = None
    if upgrade_type not in set(UpgradeType):
        reason = "The controller does not support the given upgrade type."
    elif level < 0:
        reason = "A feature version cannot be less than 0."
    elif name not in SUPPORTED:
        reason = f"Feature {name} not found." if level == 0 else f"{controller} does not support this feature."
    elif not SUPPORTED[name].lowest <= level <= SUPPORTED[name].highest:
        reason = f"{controller} only supports versions {SUPPORTED[name].lowest}-{SUPPORTED[name].highest}"
    elif level < present and upgrade_type == UpgradeType.UPGRADE:
        reason = (
            "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe "
            "downgrade."
        )
    elif level > present and upgrade_type != UpgradeType.UPGRADE:
        reason = "Can't downgrade to a newer version."
    if reason is not None:
        return f"Invalid update version {level} for feature {name}. {reason}"
    if name == METADATA_VERSION and _METADATA_CHANGED_AT.intersection(range(level + 1, present + 1)):
        if upgrade_type == UpgradeType.UNSAFE_DOWNGRADE:
            reason = "Unsafe metadata downgrade is not supported in this version."
        else:
            reason = "Refusing to perform the requested downgrade because it might delete metadata information."
        return f"Unsupported metadata.version downgrade from {present} to {level}. {reason}"
    return None


def _fact(name: str, level: int) -> FeatureLevelRecord:
    return FeatureLevelRecord(name=name, feature_level=level)
