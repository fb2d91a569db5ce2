"""The logs of a directory that nothing was written to, as a clean stop leaves them: no start looks into their folders.

A broker of many topics has many of them. The file is text like the other checkpoints: version 0, a count, then `folder
topic-id modified-ms` lines, the last being when the folder was changed last. It is believed after a clean stop only,
and of a folder only as long as that has not changed since: whoever runs Kafka over the directory, or puts files there,
has them found. Called by the store.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from kafkapy.model import LogId, format_uuid, parse_uuid
from kafkapy.storage.embedded.files import Disk
from kafkapy.storage.embedded.partition import Partition

EMPTY_LOGS: Final = ".kafkapy-empty-logs"


class EmptyLog(NamedTuple):
    """Whose log a folder holds, and when its entries changed last."""

    log: LogId
    modified_ms: int


def read(disk: Disk, directory: Path) -> dict[str, EmptyLog]:
    """What is known of the folders, by their names; nothing when the file is damaged or missing."""
    lines = (disk.read_file(directory / EMPTY_LOGS) or b"").decode("utf-8", "replace").splitlines()
    found: dict[str, EmptyLog] = {}
    topic_ids: dict[str, bytes] = {}
    try:
        if lines and lines[0] == "0":
            for line in lines[2 : 2 + int(lines[1])]:
                name, text, modified_ms = line.split(" ")
                topic, _, partition = name.rpartition("-")
                if (topic_id := topic_ids.get(text)) is None:
                    topic_id = topic_ids[text] = parse_uuid(text)
                found[name] = EmptyLog(LogId(topic, int(partition), topic_id), int(modified_ms))
    except (ValueError, IndexError):
        return {}
    return found


def write(disk: Disk, directory: Path, partitions: Iterable[Partition]) -> None:
    """Tell of those that are empty; their folders change no more. Raises OSError."""
    topic_ids: dict[bytes, str] = {}
    lines = []
    for partition in partitions:
        if partition.segments or partition.epochs or partition.head.end_offset or partition.is_marked:
            continue
        try:
            modified_ms = disk.modified_ms(str(partition.folder))
        except FileNotFoundError:
            continue  # somebody took it away: the next start makes it anew
        topic_id = partition.log.topic_id
        if (text := topic_ids.get(topic_id)) is None:
            text = topic_ids[topic_id] = format_uuid(topic_id)
        lines.append(f"{partition.log} {text} {modified_ms}")
    disk.write_file(directory / EMPTY_LOGS, "\n".join(["0", str(len(lines)), *lines, ""]).encode(), sync=True)
