"""Hypothesis values for any message, derived from its spec.

A drawn value is a plain tree with every field of every version; `project` turns it into the message of one version, so
that one draw serves all of them.
"""

from importlib import import_module
from typing import Any

from codegen.spec import ApiSpec, Field, MessageSpec, StructSpec, Versions, load_apis, load_journals, snake_case
from hypothesis import strategies as st

from kafkapy.protocol.primitives import Message

NEVER = Versions.parse("none")

_INTEGERS = {"int8": (-(2**7), 2**7), "int16": (-(2**15), 2**15), "uint16": (0, 2**16), "int32": (-(2**31), 2**31)}
_INTEGERS["int64"] = (-(2**63), 2**63)
# Lengths around 127 bytes are where a compact length becomes two bytes long.
_TEXT = st.one_of(st.text(max_size=8), st.integers(120, 135).map("x".__mul__))
_BYTES = st.one_of(st.binary(max_size=8), st.integers(120, 135).map(bytes))


def _simple(base: str) -> st.SearchStrategy[Any]:
    if base in _INTEGERS:
        low, high = _INTEGERS[base]
        return st.one_of(st.sampled_from((0, -1 if low else 1, low, high - 1)), st.integers(low, high - 1))
    return {
        "bool": st.booleans(),
        "float64": st.floats(allow_nan=False),
        "uuid": st.one_of(st.just(bytes(16)), st.binary(min_size=16, max_size=16)),
        "string": _TEXT,
        "bytes": _BYTES,
        "records": _BYTES,
    }[base]


def _field(field: Field) -> st.SearchStrategy[Any]:
    value = tree(field.struct) if field.struct is not None else _simple(field.base)
    if field.is_array:
        value = st.lists(value, max_size=2 if field.struct is not None else 4)
    may_be_null = field.nullable != NEVER or field.default is None or field.is_optional_struct
    return st.none() | value if may_be_null else value


def tree(struct: StructSpec) -> st.SearchStrategy[dict[str, Any]]:
    """A value for every field of the struct, whatever the version."""
    return st.fixed_dictionaries({field.attr: _field(field) for field in struct.fields})


def project(message: MessageSpec, cls: type[Message], values: dict[str, Any], version: int) -> Message:
    """The message that a reader of `version` sees: defaults for what it lacks, no null where it allows none."""
    return _project(message.root, cls, cls, values, version)


def _project(struct: StructSpec, cls: type, owner: type, values: dict[str, Any], version: int) -> Any:
    result = cls()
    for field in struct.fields:
        if field.versions.has(version):
            setattr(result, field.attr, _project_field(field, owner, values[field.attr], version))
    return result


def _project_field(field: Field, owner: type, value: Any, version: int) -> Any:
    if value is None:
        optional = field.is_optional_struct or field.nullable.has(version)
        if optional:
            return None
        if field.is_array:
            return []
        return getattr(owner, field.base)() if field.struct else "" if field.base == "string" else b""
    if field.struct is None:
        return value
    nested = getattr(owner, field.base)
    if field.is_array:
        return [_project(field.struct, nested, owner, item, version) for item in value]
    result = _project(field.struct, nested, owner, value, version)
    # A tagged struct at its default is left out on the wire, and what is left out is read as None.
    return None if field.is_optional_struct and field.default is not None and result == nested() else result


def api_messages() -> dict[str, tuple[ApiSpec, MessageSpec, type[Message]]]:
    """Every request and response by name."""
    found = {}
    for api in load_apis():
        module = import_module(f"kafkapy.protocol.messages.{api.module}")
        for message in api.messages:
            found[message.name] = api, message, getattr(module, message.name)
    return found


def journal_messages() -> dict[str, tuple[MessageSpec, type[Message]]]:
    """Every journal record by name."""
    found = {}
    for name, messages in load_journals().items():
        module = import_module(f"kafkapy.protocol.journal.{name}")
        for message in messages:
            found[message.name] = message, getattr(module, message.name)
    return found


def all_messages() -> dict[str, tuple[MessageSpec, type[Message]]]:
    """Every request, response and journal record by name."""
    return {name: (spec, cls) for name, (_, spec, cls) in api_messages().items()} | journal_messages()


__all__ = ["all_messages", "api_messages", "journal_messages", "project", "snake_case", "tree"]
