"""`kafkapy dump`: says what is in the files of a data directory, in words or as JSON, a line an entry.

Reads whatever Kafka's formats hold: segments and metadata snapshots (batches, their records, what internal records
mean), the three indexes, snapshots of producers, checkpoints, small text files. It changes nothing, may be used while a
broker runs, and tells what is damaged and where, as far as the file can be read.
"""

import json
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from kafkapy.cli.failures import complain
from kafkapy.cli.internal_records import control, decoded, readable
from kafkapy.model import NO_TIMESTAMP
from kafkapy.records.batch import BatchHeader, Buffer, CorruptBatch, crc_matches, read_header
from kafkapy.records.record import Record, iterate_records
from kafkapy.storage.aborted import ROW_SIZE, decode_rows
from kafkapy.storage.embedded import checkpoints
from kafkapy.storage.embedded.files import DELETED_FILE_SUFFIX, UNFINISHED_SUFFIX
from kafkapy.storage.embedded.index import OffsetIndex, TimeIndex
from kafkapy.storage.embedded.names import parse_folder_name
from kafkapy.storage.embedded.swapping import CLEANED_SUFFIX, SWAP_SUFFIX
from kafkapy.storage.producer_snapshot import decode_snapshot

Entry = dict[str, Any]

_TEXTS: Final = (
    *checkpoints.OFFSET_CHECKPOINTS,
    checkpoints.META_PROPERTIES,
    checkpoints.PARTITION_METADATA,
    checkpoints.LEADER_EPOCHS,
    checkpoints.CLEAN_SHUTDOWN,
)
_FOR_A_WHILE: Final = (UNFINISHED_SUFFIX, DELETED_FILE_SUFFIX, SWAP_SUFFIX, CLEANED_SUFFIX)


def run(paths: Sequence[str], *, as_json: bool) -> int:
    """Print what is in the files; 0, or 1 when one is damaged, or 2 when one cannot be read, or is none of a log's."""
    code = 0
    for path in map(Path, paths):
        try:
            for entry in dump(path):
                if entry["entry"] == "damage":
                    code = max(code, 1)
                print(json.dumps({"file": str(path), **entry}) if as_json else _in_words(path, entry))
        except BrokenPipeError:  # who reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return code
        except OSError as problem:
            complain(f"cannot read {path}: {problem.strerror}")
            code = 2
        except UnknownFile as problem:
            complain(str(problem))
            code = 2
    return code


class UnknownFile(Exception):
    """The file's name is none that a log's files have."""


def dump(path: Path) -> Iterator[Entry]:
    """What is in the file, entry by entry; what is damaged is one, too. Raises OSError, UnknownFile."""
    name = _bare(path.name)
    kind = name.rpartition(".")[2]
    yield {"entry": "file", "size": path.stat().st_size}
    if name in _TEXTS:
        yield from _text(path)
    elif name in checkpoints.COORDINATOR:
        yield from _coordinator(path)
    elif kind in ("log", "checkpoint"):
        with path.open("rb") as file:
            size = path.stat().st_size
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
            key = parse_folder_name(path.absolute().parent.name)
            yield from _batches(data, key.topic if key else "")
    elif kind in ("index", "timeindex", "txnindex", "snapshot"):
        try:
            yield from {"index": _index, "timeindex": _times, "txnindex": _aborted, "snapshot": _producers}[kind](path)
        except ValueError as damage:
            yield {"entry": "damage", "problem": str(damage)}
    else:
        raise UnknownFile(f"{path} is not called like a file of a log")


def _bare(name: str) -> str:
    """The name without what is behind it for a while."""
    while (bare := next((name.removesuffix(end) for end in _FOR_A_WHILE if name.endswith(end)), name)) != name:
        name = bare
    return name


# -- segments


def _batches(data: "Buffer | mmap.mmap", topic: str, position: int = 0) -> Iterator[Entry]:
    view = memoryview(data)
    try:
        while position < len(view):
            try:
                header = read_header(view, position)
                if header.size_bytes > len(view) - position:
                    raise CorruptBatch(f"the batch of {header.size_bytes} bytes is cut off")
            except CorruptBatch as damage:
                rest = bytes(view[position : position + 4096])
                what = "nothing but zeros follow" if not any(rest) else str(damage)
                yield {"entry": "damage", "position": position, "problem": what}
                return
            yield from _batch(view[position : position + header.size_bytes], header, position, topic)
            position += header.size_bytes
    finally:
        view.release()


def _batch(batch: Buffer, header: BatchHeader, position: int, topic: str) -> Iterator[Entry]:
    is_sound = crc_matches(batch, 0, header)
    entry: Entry = {
        "entry": "batch",
        "position": position,
        "size": header.size_bytes,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "count": header.record_count,
        "leader_epoch": header.leader_epoch,
        "compression": header.compression.name.lower() if header.codec <= 4 else f"codec {header.codec}",
        "timestamp_type": "LogAppendTime" if header.is_log_append_time else "CreateTime",
        "max_timestamp": header.max_timestamp,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.is_transactional,
        "control": header.is_control,
        "crc": header.crc,
        "sound": is_sound,
    }
    if header.has_delete_horizon:
        entry["delete_horizon_ms"] = header.base_timestamp
    yield entry
    if not is_sound:
        yield {"entry": "damage", "position": position, "problem": "the batch fails its CRC"}
        return
    try:
        for record in iterate_records(batch):
            yield _record(record, header, topic)
    except CorruptBatch as damage:
        yield {"entry": "damage", "position": position, "problem": str(damage)}


def _record(record: Record, header: BatchHeader, topic: str) -> Entry:
    entry: Entry = {
        "entry": "record",
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": readable(record.key),
        "value": readable(record.value),
        "headers": [[name, readable(value)] for name, value in record.headers],
    }
    said = control(record.key, record.value) if header.is_control else decoded(topic, record.key, record.value)
    if said is not None:
        entry["means"] = said
    return entry


# -- what lies beside them


def _index(path: Path) -> Iterator[Entry]:
    data, base = path.read_bytes(), _base_offset(path)
    for relative, position in OffsetIndex.decode(data, 1 << 31).rows():
        yield {"entry": "row", "offset": base + relative, "position": position}
    yield from _left_over(data, 8)


def _times(path: Path) -> Iterator[Entry]:
    data, base = path.read_bytes(), _base_offset(path)
    for timestamp, relative in TimeIndex.decode(data).rows():
        yield {"entry": "row", "timestamp": timestamp, "offset": base + relative}
    yield from _left_over(data, 12)


def _aborted(path: Path) -> Iterator[Entry]:
    data = path.read_bytes()
    for row in decode_rows(data):
        yield {"entry": "row", **row._asdict()}
    yield from _left_over(data, ROW_SIZE)


def _left_over(data: bytes, row_size: int) -> Iterator[Entry]:
    if left := len(data) % row_size:
        yield {"entry": "damage", "position": len(data) - left, "problem": f"{left} bytes are no whole row"}


def _base_offset(path: Path) -> int:
    stem = path.name.partition(".")[0]
    return int(stem) if stem.isdecimal() else 0


def _producers(path: Path) -> Iterator[Entry]:
    for producer_id, producer in decode_snapshot(path.read_bytes()).items():
        yield {
            "entry": "producer",
            "producer_id": producer_id,
            "producer_epoch": producer.epoch,
            "coordinator_epoch": producer.coordinator_epoch,
            "last_timestamp": producer.last_timestamp,
            "transaction_start": producer.transaction_start,
            "batches": [mark._asdict() for mark in producer.batches],
        }


def _coordinator(path: Path) -> Iterator[Entry]:
    checkpoint = checkpoints.decode_coordinator(path.read_bytes())
    if checkpoint is None:
        yield {"entry": "damage", "problem": "the checkpoint is cut off, or fails its CRC"}
        return
    yield {"entry": "state", "offset": checkpoint.offset, "size": len(checkpoint.data)}
    key = parse_folder_name(path.absolute().parent.name)
    yield from _batches(checkpoint.data, key.topic if key else "", _COORDINATOR_MARK_BYTES)


_COORDINATOR_MARK_BYTES: Final = 14
"""Of the state in a coordinator's checkpoint, what comes before the batches: see docs/storage_format.md."""


def _text(path: Path) -> Iterator[Entry]:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        yield {"entry": "line", "text": line}
    if _bare(path.name) in (*checkpoints.OFFSET_CHECKPOINTS, checkpoints.LEADER_EPOCHS):
        yield from _miscounted(lines)


def _miscounted(lines: Sequence[str]) -> Iterator[Entry]:
    if len(lines) < 2 or not (lines[0] == "0" and lines[1].isdecimal() and int(lines[1]) == len(lines) - 2):
        yield {"entry": "damage", "problem": "it is not a version, a count, and as many lines"}
    rows = [line.split(" ") for line in lines[2:]]
    if any(len(row) != len(after) for row, after in pairwise(rows)):
        yield {"entry": "damage", "problem": "its lines are not alike"}


# -- in words


def _in_words(path: Path, entry: Entry) -> str:
    match entry["entry"]:
        case "file":
            return f"{path}, {entry['size']} bytes"
        case "batch":
            return _batch_in_words(entry)
        case "record":
            return _record_in_words(entry)
        case "damage":
            where = f" at position {entry['position']}" if "position" in entry else ""
            return f"  DAMAGED{where}: {entry['problem']}"
        case "line":
            return f"  {entry['text']}"
        case _:
            words = (f"{name.replace('_', ' ')} {_shown(value)}" for name, value in entry.items() if name != "entry")
            return "  " + ", ".join(words)


def _batch_in_words(entry: Entry) -> str:
    said = [
        f"  batch at {entry['position']}: offsets {entry['base_offset']} to {entry['last_offset']}",
        f"{entry['count']} records",
        f"{entry['size']} bytes",
        f"leader epoch {entry['leader_epoch']}",
        f"{_time(entry['max_timestamp'])} ({entry['timestamp_type']})",
    ]
    if entry["compression"] != "none":
        said.append(entry["compression"])
    if entry["producer_id"] >= 0:
        said.append(
            f"producer {entry['producer_id']} epoch {entry['producer_epoch']} sequence {entry['base_sequence']}"
        )
    said += [word for word in ("transactional", "control") if entry[word]]
    if "delete_horizon_ms" in entry:
        said.append(f"delete horizon {_time(entry['delete_horizon_ms'])}")
    return ", ".join(said)


def _record_in_words(entry: Entry) -> str:
    line = f"    {entry['offset']}  {_time(entry['timestamp'])}"
    if "means" in entry:
        return f"{line}  {_shown(entry['means'])}"
    line += f"  {_shown(entry['key'])}: {_shown(entry['value'])}"
    if entry["headers"]:
        line += "  " + ", ".join(f"{name}={_shown(value)}" for name, value in entry["headers"])
    return line


def _shown(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"hex"}:
        return f"0x{value['hex']}"
    return json.dumps(value, ensure_ascii=False)


def _time(timestamp: int) -> str:
    if timestamp == NO_TIMESTAMP:
        return "no time"
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{timestamp} ms"
