"""The specs under `protocol_specs/`, parsed. The grammar stands in `protocol_specs/README.md`."""

import json
import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SPECS = Path(__file__).resolve().parent.parent.parent / "protocol_specs"
UNBOUNDED = 32767
FIXED = {
    "bool": "?",
    "int8": "b",
    "int16": "h",
    "uint16": "H",
    "int32": "i",
    "int64": "q",
    "float64": "d",
    "uuid": "16s",
}
PYTHON_TYPES = {
    "bool": "bool",
    "float64": "float",
    "uuid": "bytes",
    "string": "str",
    "bytes": "bytes",
    "records": "Buffer",
}
ZERO_VALUES = {"bool": False, "float64": 0.0, "uuid": bytes(16), "string": "", "bytes": b"", "records": None}


class Versions(NamedTuple):
    """A closed range; the empty one has `low > high`."""

    low: int
    high: int

    @classmethod
    def parse(cls, text: str) -> "Versions":
        if text == "none":
            return cls(UNBOUNDED, -1)
        if text.endswith("+"):
            return cls(int(text[:-1]), UNBOUNDED)
        low, _, high = text.partition("-")
        return cls(int(low), int(high or low))

    def has(self, version: int) -> bool:
        return self.low <= version <= self.high


def snake_case(name: str) -> str:
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name + "_" if keyword.iskeyword(name) else name


@dataclass(frozen=True)
class Field:
    """One field of a struct; `base` is the type without `[]`, `struct` is set when that is a struct."""

    attr: str
    base: str
    is_array: bool
    versions: Versions
    nullable: Versions
    tagged: Versions
    tag: int
    default: Any
    ignorable: bool
    struct: "StructSpec | None"
    kept: bool

    def is_inline(self, version: int) -> bool:
        return self.versions.has(version) and not self.tagged.has(version)

    def is_tagged(self, version: int) -> bool:
        return self.versions.has(version) and self.tagged.has(version)

    @property
    def is_struct(self) -> bool:
        """A single struct, not an array of them."""
        return self.struct is not None and not self.is_array

    @property
    def is_optional_struct(self) -> bool:
        """A tagged struct: absent is None, for a default struct per element would be built only to be thrown away.

        Where Kafka has a null besides, absent is the default struct, as Kafka reads it.
        """
        return self.is_struct and self.tag >= 0 and not self.may_be_null

    @property
    def may_be_null(self) -> bool:
        """Some version has a null for it."""
        return self.nullable.low <= self.nullable.high

    @property
    def is_fixed(self) -> bool:
        return self.base in FIXED and not self.is_array


@dataclass(frozen=True)
class StructSpec:
    name: str
    fields: tuple[Field, ...]

    def structs(self) -> Iterator["StructSpec"]:
        """The structs below this one, innermost first, each once."""
        seen: set[str] = set()
        for field in self.fields:
            if field.struct is not None:
                for struct in (*field.struct.structs(), field.struct):
                    if struct.name not in seen:
                        seen.add(struct.name)
                        yield struct

    def has_records(self) -> bool:
        return any(f.base == "records" or (f.struct is not None and f.struct.has_records()) for f in self.fields)


@dataclass(frozen=True)
class MessageSpec:
    """A request, a response or a record. `constants` are the class constants that say what it is."""

    root: StructSpec
    versions: Versions
    flexible: Versions
    constants: tuple[tuple[str, int], ...]

    @property
    def name(self) -> str:
        return self.root.name

    def all_versions(self) -> range:
        return range(self.versions.low, self.versions.high + 1)


class ApiSpec(NamedTuple):
    """One API: its row for the table, and its two messages."""

    key: int
    name: str
    module: str
    versions: Versions
    flexible: Versions
    stable_version: int
    advertised_from: int
    messages: tuple[MessageSpec, ...]


def _struct(name: str, rows: list[dict[str, Any]], known: dict[str, StructSpec]) -> StructSpec:
    fields = []
    for row in rows:
        base = row["type"].removeprefix("[]")
        is_array = row["type"] != base
        struct = None
        if base[0].isupper():
            if "fields" in row:
                known[base] = _struct(base, row["fields"], known)
            struct = known[base]
        default = row.get("default", [] if is_array or struct else ZERO_VALUES.get(base, 0))
        fields.append(
            Field(
                attr=snake_case(row["name"]),
                base=base,
                is_array=is_array,
                versions=Versions.parse(row["versions"]),
                nullable=Versions.parse(row.get("nullable", "none")),
                tagged=Versions.parse(row.get("tagged", row["versions"])) if "tag" in row else Versions.parse("none"),
                tag=row.get("tag", -1),
                default=default,
                ignorable=row.get("ignorable", False),
                struct=struct,
                kept=row.get("kept", False),
            )
        )
    return StructSpec(name, tuple(fields))


def load_api(path: Path) -> ApiSpec:
    spec = json.loads(path.read_text())
    versions = Versions.parse(spec["versions"])
    flexible = Versions.parse(spec["flexible"])
    messages = tuple(
        MessageSpec(
            _struct(spec["name"] + kind, spec[kind.lower()], {}), versions, flexible, (("API_KEY", spec["key"]),)
        )
        for kind in ("Request", "Response")
    )
    stable = spec.get("stable", versions.high)
    advertised_from = spec.get("advertised_from", versions.low)
    return ApiSpec(spec["key"], spec["name"], path.stem, versions, flexible, stable, advertised_from, messages)


def load_journal(path: Path) -> tuple[MessageSpec, ...]:
    """The records of one journal module, in the order of the spec."""
    messages = []
    for spec in json.loads(path.read_text())["records"]:
        constant = {"coordinator-key": "RECORD_TYPE", "coordinator-value": "RECORD_TYPE", "metadata": "API_KEY"}
        constants = ((constant[spec["kind"]], spec["key"]),) if spec["kind"] in constant else ()
        versions, flexible = Versions.parse(spec["versions"]), Versions.parse(spec["flexible"])
        messages.append(MessageSpec(_struct(spec["name"], spec["fields"], {}), versions, flexible, constants))
    return tuple(messages)


def load_apis() -> list[ApiSpec]:
    """Every API, by key."""
    return sorted(load_api(path) for path in SPECS.glob("*.json"))


def load_journals() -> dict[str, tuple[MessageSpec, ...]]:
    """The journal's records by module name."""
    return {path.stem: load_journal(path) for path in sorted((SPECS / "journal").glob("*.json"))}
