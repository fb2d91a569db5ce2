"""The names in a data directory, as Kafka has them: which folder holds whose log, and which file what.

Whatever is called otherwise belongs to somebody else, and is not touched.
"""

import re
import uuid
from collections.abc import Iterable
from typing import Final

from kafkapy.model import TopicPartition
from kafkapy.storage.embedded.checkpoints import COORDINATOR, LEADER_EPOCHS, PARTITION_METADATA
from kafkapy.storage.embedded.files import DELETED_FILE_SUFFIX, UNFINISHED_SUFFIX

DELETED_SUFFIX: Final = "-delete"
STRAY_SUFFIX: Final = "-stray"
"""Of a log that no topic is known for: kept, for somebody to look at. Kafka gives it the same name."""

FUTURE_SUFFIX: Final = "-future"
"""Of a log that is being moved here, as in Kafka."""

_MAX_FILE_NAME: Final = 255

_FOLDER: Final = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249})-(?P<partition>0|[1-9][0-9]{0,9})")
_SET_ASIDE: Final = re.compile(r".+-(0|[1-9][0-9]{0,9})\.[0-9a-f]{32}-(?P<why>delete|stray|future)")
_DELETED: Final = re.compile(rf"(?P<name>.+?)(\.[0-9]+)?{re.escape(DELETED_FILE_SUFFIX)}")
_OF_SEGMENT: Final = re.compile(r"(?P<offset>[0-9]{20})\.(?P<kind>log|index|timeindex|txnindex|snapshot)")


def parse_folder_name(name: str) -> TopicPartition | None:
    """The partition whose log a folder of this name holds, if it holds one; None when the name is not of that form."""
    match = _FOLDER.fullmatch(name)
    return TopicPartition(match["topic"], int(match["partition"])) if match else None


def set_aside_name(name: str, suffix: str) -> str:
    """A log's folder's name once it is gone from where it was; the topic is cut so that file systems take it."""
    topic, _, partition = name.rpartition("-")
    ending = f"-{partition}.{uuid.uuid4().hex}{suffix}"
    return topic[: _MAX_FILE_NAME - len(ending)] + ending


def future_name(name: str) -> str:
    """A log's folder's name while it is copied into another directory."""
    return f"{name}.{uuid.uuid4().hex}{FUTURE_SUFFIX}"


def is_set_aside(name: str, *suffixes: str) -> bool:
    """Whether this is such a name."""
    match = _SET_ASIDE.fullmatch(name)
    return match is not None and f"-{match['why']}" in suffixes


def offset_name(offset: int) -> str:
    """An offset as file names have it."""
    return f"{offset:020d}"


def offset_of(name: str, *kinds: str) -> int | None:
    """The offset in the name of a segment's file of one of these kinds; None for other names."""
    match = _OF_SEGMENT.fullmatch(name)
    return int(match["offset"]) if match and match["kind"] in kinds else None


def is_of_segment(name: str) -> bool:
    """Whether a file of this name is a segment's."""
    return _OF_SEGMENT.fullmatch(name) is not None


def is_deleted_file(name: str) -> bool:
    """Whether a segment's file of this name is to go."""
    match = _DELETED.fullmatch(name) if name.endswith(DELETED_FILE_SUFFIX) else None
    return match is not None and _is_of_log(match["name"])


def holds_log(names: Iterable[str]) -> bool:
    """Whether there is a file of a log among these, finished, to go, or neither."""
    return any(map(_is_of_log, names))


def _is_of_log(name: str) -> bool:
    name = name.removesuffix(UNFINISHED_SUFFIX).removesuffix(DELETED_FILE_SUFFIX)
    return name in (PARTITION_METADATA, LEADER_EPOCHS, *COORDINATOR) or is_of_segment(name)
