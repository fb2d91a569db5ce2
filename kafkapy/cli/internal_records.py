"""What the records of internal topics say, field by field: for `kafkapy dump`.

Every record type of Kafka's is known here, whether the broker acts on it or not.
"""

import pkgutil
from functools import cache
from importlib import import_module
from typing import Any, Final

from kafkapy.model import METADATA_TOPIC, format_uuid
from kafkapy.protocol import journal
from kafkapy.protocol.journal import cluster_metadata, control_records
from kafkapy.protocol.primitives import Message, ProtocolError, Struct, read_uvarint

_TRANSACTIONS: Final = "__transaction_state"
_SHARE_STATE: Final = "__share_group_state"
_GROUPS: Final = "__consumer_offsets"

_CONTROL: Final[dict[int, tuple[str, type[Message] | None]]] = {
    0: ("ABORT", control_records.EndTxnMarker),
    1: ("COMMIT", control_records.EndTxnMarker),
    2: ("LEADER_CHANGE", control_records.LeaderChangeMessage),
    3: ("SNAPSHOT_HEADER", control_records.SnapshotHeaderRecord),
    4: ("SNAPSHOT_FOOTER", control_records.SnapshotFooterRecord),
    5: ("KRAFT_VERSION", control_records.KRaftVersionRecord),
    6: ("KRAFT_VOTERS", control_records.VotersRecord),
}


def decoded(topic: str, key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
    """What a record of this topic says; None for other topics, and for a record that cannot be read."""
    try:
        if topic == METADATA_TOPIC:
            return None if value is None else _metadata(value)
        if topic in (_GROUPS, _TRANSACTIONS, _SHARE_STATE):
            return None if key is None else _coordinators(topic, key, value)
    except (ProtocolError, KeyError, IndexError):
        return None
    return None


def control(key: bytes | None, value: bytes | None) -> dict[str, Any] | None:
    """What a control record says; None when it cannot be read."""
    try:
        if key is None or value is None:
            return None
        name, kind = _CONTROL[int.from_bytes(key[2:4], "big")]
        version = int.from_bytes(value[:2], "big")
        if kind is None:
            return {"type": name}
        return {"type": name, "version": version, "data": plain(kind.decode(version, value, 2)[0])}
    except (ProtocolError, KeyError, IndexError):
        return None


def _metadata(value: bytes) -> dict[str, Any]:
    api_key, position = read_uvarint(value, 1)
    version, position = read_uvarint(value, position)
    kind = _metadata_records()[api_key]
    return {"type": kind.__name__, "version": version, "data": plain(kind.decode(version, value, position)[0])}


def _coordinators(topic: str, key: bytes, value: bytes | None) -> dict[str, Any]:
    key_class, value_class = _records_of(topic)[int.from_bytes(key[:2], "big")]
    said: dict[str, Any] = {
        "type": key_class.__name__.removesuffix("Key"),
        "key": plain(key_class.decode(key_class.MIN_VERSION, key, 2)[0]),
    }
    if value is None:
        return said | {"value": None}
    version = int.from_bytes(value[:2], "big")
    return said | {"version": version, "value": plain(value_class.decode(version, value, 2)[0])}


@cache
def _metadata_records() -> dict[int, type[Message]]:
    return {kind.API_KEY: kind for kind in vars(cluster_metadata).values() if hasattr(kind, "API_KEY")}


@cache
def _records_of(topic: str) -> dict[int, tuple[type[Message], type[Message]]]:
    """The classes of keys and values, by the record type."""
    found: dict[int, tuple[type[Message], type[Message]]] = {}
    for name in (module.name for module in pkgutil.iter_modules(journal.__path__)):
        if {"transaction_log": _TRANSACTIONS, "share_snapshot": _SHARE_STATE, "share_update": _SHARE_STATE}.get(
            name, _GROUPS
        ) == topic:
            content = vars(import_module(f"{journal.__name__}.{name}"))
            for kind in list(content.values()):
                if hasattr(kind, "RECORD_TYPE") and kind.__name__.endswith("Key"):
                    found[kind.RECORD_TYPE] = kind, content[kind.__name__.removesuffix("Key") + "Value"]
    return found


def plain(value: Any, name: str = "") -> Any:
    """Structs as dictionaries, ids as text, other bytes as `readable`."""
    if isinstance(value, Struct):
        return {name: plain(getattr(value, name), name) for name in _fields(type(value))}
    if isinstance(value, list):
        return [plain(one, name) for one in value]
    if isinstance(value, bytes | bytearray | memoryview):
        if len(value) == 16 and (name.endswith(("_id", "_ids")) or name == "directories"):
            return format_uuid(bytes(value))
        return readable(bytes(value))
    return value


def _fields(kind: type[Struct]) -> list[str]:
    return [name for each in reversed(kind.__mro__) for name in getattr(each, "__slots__", ())]


def readable(value: bytes | None) -> str | dict[str, str] | None:
    """Bytes as the text that they are, or else in hexadecimal."""
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {"hex": value.hex()}
    return text if text.isprintable() else {"hex": value.hex()}
