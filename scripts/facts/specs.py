"""`protocol_specs/` as a release's own message definitions have it.

The definitions lie in its jars as resources, JSON with comments; our grammar stands in protocol_specs/README.md.
Names, types, versions, tags and defaults are carried over; comments and explanations stay behind.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codegen.spec import ZERO_VALUES, Versions, snake_case

JARS = ("clients", "metadata", "group-coordinator", "transaction-coordinator", "share-coordinator")
DATA_MODULES = {
    "control_records": (
        *("ControlRecordTypeSchema", "EndTxnMarker", "LeaderChangeMessage", "SnapshotHeaderRecord"),
        *("SnapshotFooterRecord", "KRaftVersionRecord", "VotersRecord"),
    ),
    "consumer_protocol": ("ConsumerProtocolSubscription", "ConsumerProtocolAssignment"),
    "principal": ("DefaultPrincipalData",),
}
ELSEWHERE = frozenset({"AbortedTxn"})
"""Data of other files and of no record: nothing is generated for them."""

BETWEEN_BROKERS = frozenset({"Envelope", "AllocateProducerIds"})
"""What only Kafka's controllers listen to, and any broker here that is to be asked by brokers of other processes."""

KEPT = frozenset({"[]MetadataResponseTopic", "[]MetadataResponsePartition"})
"""Arrays that are written again and again as they are: our own addition to what Kafka says of them."""

Definition = dict[str, Any]

OWN_FIELDS: Mapping[str, list[Definition]] = {
    "PartitionRecord": [
        {"name": "EpochOrigin", "type": "int32", "versions": "2+", "taggedVersions": "2+", "tag": 10000, "default": "0"}
    ],
}
"""What we write into records besides: under tags that Kafka does not know, and passes over."""

_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*')


def read_definitions(home: Path, version: str) -> dict[str, Definition]:
    """Every message definition in the release's jars, by the message's name."""
    found = {}
    for jar in JARS:
        with zipfile.ZipFile(home / "libs" / f"kafka-{jar}-{version}.jar") as archive:
            for path in archive.namelist():
                if path.startswith("common/") and path.endswith(".json"):
                    text = _COMMENT.sub(lambda match: match[1] or "", archive.read(path).decode())
                    definition = json.loads(text)
                    found[definition["name"]] = definition
    return found


def spec_files(definitions: Mapping[str, Definition], advertised: Mapping[int, tuple[int, int]]) -> dict[str, str]:
    """The files below `protocol_specs/`, by their path there. `advertised`: each API's versions as a node has them."""
    files = {}
    for definition in definitions.values():
        name = definition["name"].removesuffix("Request")
        if definition["type"] == "request" and ("broker" in definition.get("listeners", ()) or name in BETWEEN_BROKERS):
            response = definitions[f"{name}Response"]
            files[f"{snake_case(name)}.json"] = _api(name, definition, response, advertised)
    for module, records in _journal_modules(definitions).items():
        texts = ",\n".join(_record(record) for record in records)
        files[f"journal/{module}.json"] = f'{{\n  "records": [\n{texts}\n  ]\n}}\n'
    return files


def _journal_modules(definitions: Mapping[str, Definition]) -> dict[str, list[Definition]]:
    modules: dict[str, list[Definition]] = {
        module: [definitions[name] for name in names] for module, names in DATA_MODULES.items()
    }
    known = ELSEWHERE.union(*DATA_MODULES.values())
    for name in sorted(definitions):
        definition = definitions[name]
        kind = definition["type"]
        if kind in ("coordinator-key", "coordinator-value"):
            family = snake_case(name.removesuffix("Key").removesuffix("Value"))
            modules.setdefault(family, []).append(definition)
        elif kind == "metadata":
            modules.setdefault("cluster_metadata", []).append(definition)
        elif kind == "data" and name not in known:
            raise SystemExit(
                f"{name} belongs to no module: name one in scripts/facts/specs.py, or say that it needs none"
            )
    modules["cluster_metadata"].sort(key=lambda definition: definition["apiKey"])
    return modules


def _api(name: str, request: Definition, response: Definition, advertised: Mapping[int, tuple[int, int]]) -> str:
    versions = Versions.parse(request["validVersions"])
    head = {
        "key": request["apiKey"],
        "name": name,
        "versions": request["validVersions"],
        "flexible": request["flexibleVersions"],
    }
    if request.get("latestVersionUnstable"):
        head["stable"] = versions.high - 1
    first = advertised.get(request["apiKey"], versions)[0]
    if first < versions.low:
        head["advertised_from"] = first
    pairs = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    messages = ",\n".join(
        f'  "{kind}": [{_rows(message, indent=4)}\n  ]' if message["fields"] else f'  "{kind}": []'
        for kind, message in (("request", request), ("response", response))
    )
    return f"{{\n  {pairs},\n{messages}\n}}\n"


def _record(definition: Definition) -> str:
    head = {"name": definition["name"], "kind": definition["type"]}
    if "apiKey" in definition:
        head["key"] = definition["apiKey"]
    head["versions"] = definition["validVersions"]
    head["flexible"] = definition["flexibleVersions"]
    pairs = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    rows = f"[{_rows(definition, indent=8)}\n      ]" if definition["fields"] else "[]"
    return f'    {{{pairs},\n      "fields": {rows}}}'


def _rows(message: Definition, indent: int) -> str:
    common = {struct["name"]: struct["fields"] for struct in message.get("commonStructs", ())}
    return _fields([*message["fields"], *OWN_FIELDS.get(message["name"], ())], common, indent)


def _fields(fields: Iterable[Definition], common: dict[str, list[Definition]], indent: int) -> str:
    return ",".join(f"\n{' ' * indent}{_field(field, common, indent)}" for field in fields)


def _field(field: Definition, common: dict[str, list[Definition]], indent: int) -> str:
    kind = field["type"]
    versions = field.get("versions") or field["taggedVersions"]
    row: dict[str, Any] = {"name": field["name"], "type": kind, "versions": versions}
    if field.get("nullableVersions", "none") != "none":
        row["nullable"] = field["nullableVersions"]
    if "tag" in field:
        row["tag"] = field["tag"]
        if field["taggedVersions"] != versions:
            row["tagged"] = field["taggedVersions"]
    default = _default(field)
    if default is not _ZERO:
        row["default"] = default
    if field.get("ignorable"):
        row["ignorable"] = True
    if field.get("mapKey"):
        row["key"] = True
    if kind in KEPT:
        row["kept"] = True
    text = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in row.items())
    # a struct that several fields share stands where it is named first
    nested = field.get("fields") or common.pop(kind.removeprefix("[]"), None)
    if nested:
        text += f', "fields": [{_fields(nested, common, indent + 2)}]'
    return f"{{{text}}}"


_ZERO = object()


def _default(field: Definition) -> Any:
    """The default that a writer has to know: `_ZERO` where it is what a reader assumes anyway."""
    text = field.get("default")
    if text is None or text == "":
        return _ZERO
    if text == "null":
        return _ZERO if field["type"] == "records" else None
    kind = field["type"]
    if kind == "bool":
        value: Any = text in (True, "true")
    elif kind == "float64":
        value = float(text)
    elif kind.startswith(("int", "uint")):
        value = int(text, 0) if isinstance(text, str) else text
    else:
        value = text
    return _ZERO if value == ZERO_VALUES.get(kind, 0) else value
