"""Makes two brokers' answers comparable: ids, times and addresses become symbols; everything else stays."""

import re
import uuid
from typing import Any

TIMES = {"timestamp", "timestamp_ms", "log_append_time_ms", "commit_timestamp", "throttle_time_ms"}
ADDRESSES = {"port"}
PLACES = {"log_dir", "total_bytes", "usable_bytes"}
TEXTS = {"error_message", "batch_index_error_message"}
TIMES_IN_TEXT = re.compile(r"\[\d{13}, \d{13}\]")
NULL_UUID = uuid.UUID(int=0)
NAMES = ("name", "group_id", "topic", "entity", "entity_type")
MEMBER = re.compile(r"^(.*)-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


UUID = re.compile(r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")


def by_name(entry: Any) -> str:
    """Kafka answers many lists in the order of a hash table; entries are compared by their names."""
    if not isinstance(entry, dict):
        return ""
    index = entry.get("partition_index", entry.get("index", 0))
    own_id = str(entry.get("member_id") or "")  # a client's own; those that a broker gave are in no order
    member = "" if "member_epoch" not in entry or MEMBER.match(own_id) or UUID.match(own_id) else own_id
    quota = str(entry.get("key") or "") if "value" in entry else ""  # other keys stand in the order of the question
    name = next((entry[key] for key in NAMES if entry.get(key)), quota or member)
    return f"{name} {index:06}"


class Normaliser:
    """Keeps one broker's symbols for the length of a case."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._symbols: dict[tuple[str, Any], str] = {}
        self._counts: dict[str, int] = {}

    def __call__(self, value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: self(inner, key) for key, inner in value.items()}
        if isinstance(value, list | tuple | set):
            return [self(inner, name) for inner in sorted(value, key=by_name)]
        if isinstance(value, uuid.UUID):
            return "<zero id>" if value == NULL_UUID else self._symbol("id", value)
        if isinstance(value, str) and UUID.match(value):
            return self("<zero id>" if value == str(NULL_UUID) else uuid.UUID(value), name)
        if isinstance(value, str) and (match := MEMBER.match(value)):
            return self._symbol(f"member of {match.group(1)}", value)
        if isinstance(value, str):
            value = value.replace(self._prefix, "<case>")
        if name in TIMES and isinstance(value, int) and value > 0:
            return "<time>"
        if name in ADDRESSES:
            return "<port>"
        if name == "subscription_id" and value:
            return self._symbol("subscription", value)
        if name in PLACES:
            return f"<{name}>"
        if name == "cluster_id" and value:
            return "<cluster>"
        if (
            name in ("session_id", "producer_id")
            and isinstance(value, int)
            and (value > 0 or (value == 0 and name == "producer_id"))
        ):
            return self._symbol(name, value)
        if name in TEXTS and isinstance(value, str):
            return TIMES_IN_TEXT.sub("<times>", value)
        if isinstance(value, memoryview | bytearray):
            return repr(bytes(value))
        if isinstance(value, bytes):
            return repr(value)
        return value

    def _symbol(self, kind: str, value: Any) -> str:
        key = (kind, value)
        if key not in self._symbols:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._symbols[key] = f"<{kind} {self._counts[kind]}>"
        return self._symbols[key]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Every place where two normalised traces differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = []
        for key in sorted(ours.keys() | theirs.keys(), key=str):
            if key not in ours or key not in theirs:
                found.append(f"{path}.{key}: only {'kafka' if key not in ours else 'kafkapy'} has it")
            else:
                found += differences(ours[key], theirs[key], f"{path}.{key}")
        return found
    if isinstance(ours, list) and isinstance(theirs, list):
        if len(ours) != len(theirs):
            return [f"{path}: kafkapy has {len(ours)} entries, kafka {len(theirs)}: {ours!r:.300} / {theirs!r:.300}"]
        return [
            line for i, pair in enumerate(zip(ours, theirs, strict=True)) for line in differences(*pair, f"{path}[{i}]")
        ]
    if ours != theirs or type(ours) is not type(theirs):
        return [f"{path}: kafkapy {ours!r:.200}, kafka {theirs!r:.200}"]
    return []
