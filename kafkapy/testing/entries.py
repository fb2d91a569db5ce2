"""What is in a broker, an entry each, as JSON lines hold it: what seeds are written in, and snapshots.

    {"topic": "orders", "partitions": 3, "config": {"retention.ms": "60000"}}
    {"topic": "orders", "key": "42", "value": {"paid": true}, "headers": {"h": "1"}, "timestamp": 1700000000000}
    {"group": "billing", "topic": "orders", "partition": 0, "offset": 1}

A value is text, `{"base64": …}` for bytes that are none, null, or anything else, which is written as JSON. A line
without `value` and `key` makes its topic. Further kinds of entries are written by snapshots: `acl`, `limit`, `setting`.
"""

import base64
import binascii
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kafkapy.records.record import Headers

Entry = Mapping[str, Any]

_KINDS: Final[dict[str, tuple[set[str], set[str]]]] = {  # what an entry has to have, and may have
    "group": ({"group", "topic", "offset"}, {"partition", "metadata"}),
    "acl": ({"acl"}, set()),
    "limit": ({"limit", "values"}, set()),
    "setting": ({"setting", "name", "config"}, set()),
    "record": ({"topic"}, {"partition", "key", "value", "headers", "timestamp"}),
    "topic": ({"topic"}, {"partitions", "config"}),
}
_BASE64: Final = "base64"


class BadEntry(ValueError):
    """An entry that says nothing sensible; the text tells which one, and why."""


def read_entries(source: "str | os.PathLike[str] | Iterable[Entry]") -> Iterator[tuple[str, Entry]]:
    """The entries of a file of JSON lines, or these, each with its kind. Raises BadEntry, OSError."""
    entries = parsed(Path(source).read_text(encoding="utf-8")) if isinstance(source, str | os.PathLike) else source
    for place, entry in enumerate(entries, 1):
        try:
            yield _kind_of(entry), entry
        except ValueError as problem:
            raise BadEntry(f"entry {place}: {problem}") from None


def parsed(text: str) -> Iterator[Entry]:
    """JSON lines as objects; empty lines are passed over. Raises BadEntry."""
    for place, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as problem:
                raise BadEntry(f"line {place} is no JSON: {problem}") from None


def written(entries: Iterable[Entry]) -> str:
    """The entries as JSON lines."""
    return "".join(json.dumps(entry, default=_told, ensure_ascii=False) + "\n" for entry in entries)


def content_of(value: Any) -> bytes | None:
    """A key, a value or a header's value as the bytes that are written. Raises ValueError."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, Mapping) and set(value) == {_BASE64}:
        try:
            return base64.b64decode(value[_BASE64], validate=True)
        except (binascii.Error, TypeError) as problem:
            raise BadEntry(f"{value[_BASE64]!r} is not base64: {problem}") from None
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def headers_of(headers: Any) -> Headers:
    """A record's headers: an object, or a list of pairs where a name comes twice or order matters. Raises BadEntry."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    try:
        return [(str(name), content_of(value)) for name, value in pairs]
    except (TypeError, ValueError) as problem:
        raise BadEntry(f"headers are an object, or a list of pairs, not {headers!r}: {problem}") from None


def _kind_of(entry: Entry) -> str:
    if not isinstance(entry, Mapping):
        raise BadEntry(f"{entry!r} is no object")
    names = set(entry)
    kind = "record" if names & {"key", "value"} else "topic"
    kind = next((named for named in ("group", "acl", "limit", "setting") if named in names), kind)
    needed, allowed = _KINDS[kind]
    if missing := needed - names:
        raise BadEntry(f"a {kind} without {', '.join(sorted(missing))}: {dict(entry)!r}")
    if unknown := names - needed - allowed:
        raise BadEntry(f"a {kind} has no {', '.join(sorted(map(str, unknown)))}: {dict(entry)!r}")
    if "topic" in names and not isinstance(entry["topic"], str):
        raise BadEntry(f"a topic's name is text, not {entry['topic']!r}")
    for name in ("partition", "partitions", "offset", "timestamp"):
        if not isinstance(entry.get(name, 0), int) or isinstance(entry.get(name), bool):
            raise BadEntry(f"{name} is a whole number, not {entry[name]!r}")
    return kind


def _told(content: Any) -> Any:
    """Bytes as the text that they are, or else in base64."""
    if not isinstance(content, bytes):
        raise TypeError(f"{content!r} has no place in JSON")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(content).decode()}
