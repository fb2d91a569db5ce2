"""The classes of a generated module: a slotted class per struct, its defaults, its nested structs."""

import re
from collections.abc import Iterator

from codegen.decoders import DecoderBuilder, class_alias, literal
from codegen.encoders import EncoderBuilder
from codegen.spec import PYTHON_TYPES, Field, MessageSpec, StructSpec
from codegen.writer import WIDTH, Module

LAYOUT = (("Struct", " as Layout"), ("pack", ""), ("unpack_from", ""))
HELPERS = (
    "FRESH",
    "NULL_LENGTH",
    "NULL_STRING",
    "ZERO_UUID",
    "Buffer",
    "Message",
    "Struct",
    "new",
    "read_compact_length",
    "read_compact_string_length",
    "read_uvarint",
    "reject_count",
    "reject_null",
    "reject_tag",
    "reject_value",
    "skip_tags",
    "write_compact_string_length",
    "write_tags",
    "write_uvarint",
)


def annotation(message: MessageSpec, field: Field) -> str:
    kind = f"{message.name}.{field.base}" if field.struct else PYTHON_TYPES.get(field.base, "int")
    if field.is_array:
        kind = f"list[{kind}]"
    may_be_null = field.nullable.low <= field.nullable.high or field.default is None or field.is_optional_struct
    return f"{kind} | None" if may_be_null else kind


def parameter(message: MessageSpec, field: Field) -> str:
    kind = annotation(message, field)
    if field.is_optional_struct or field.default is None:
        default = "None"
    elif field.is_array:
        default = "FRESH"
    elif field.struct is not None:
        return f"{field.attr}: {kind.removesuffix(' | None')} | None = None"
    else:
        default = literal(field.default)
    return f"{field.attr}: {kind} = {default}"


def initial_value(message: MessageSpec, field: Field) -> str:
    if field.is_array and field.default is not None:
        return f"[] if {field.attr} is FRESH else {field.attr}"
    if field.is_struct and not field.is_optional_struct and field.default is not None:
        assert field.struct is not None
        return f"{message.name}.{field.struct.name}() if {field.attr} is None else {field.attr}"
    return field.attr


def class_lines(message: MessageSpec, struct: StructSpec, indent: str = "") -> Iterator[str]:
    is_root = struct is message.root
    yield f"{indent}class {struct.name}({'Message' if is_root else 'Struct'}):"
    inner = indent + "    "
    slots = ", ".join(f'"{field.attr}"' for field in struct.fields)
    if len(struct.fields) == 1:
        slots += ","
    line = f"{inner}__slots__ = ({slots})"
    if len(line) <= WIDTH:
        yield line
    else:
        yield f"{inner}__slots__ = ("
        for field in struct.fields:
            yield f'{inner}    "{field.attr}",'
        yield f"{inner})"
    if is_root:
        for name, value in message.constants:
            yield f"{inner}{name} = {value}"
        yield f"{inner}MIN_VERSION = {message.versions.low}"
        yield f"{inner}MAX_VERSION = {message.versions.high}"
        if struct.has_records():
            yield f"{inner}HAS_RECORDS = True"
        for nested in struct.structs():
            yield ""
            yield from class_lines(message, nested, inner)
    if not struct.fields:
        return
    yield ""
    parameters = ["self", "*", *(parameter(message, field) for field in struct.fields)]
    line = f"{inner}def __init__({', '.join(parameters)}) -> None:"
    if len(line) <= WIDTH:
        yield line
    else:
        yield f"{inner}def __init__("
        for text in parameters:
            yield f"{inner}    {text},"
        yield f"{inner}) -> None:"
    for field in struct.fields:
        yield f"{inner}    self.{field.attr} = {initial_value(message, field)}"


def table_lines(message: MessageSpec, name: str, functions: dict[int, str]) -> Iterator[str]:
    yield f"{message.name}.{name} = {{"
    for version, function in functions.items():
        yield f"    {version}: {function},"
    yield "}"


def module_source(docstring: str, messages: tuple[MessageSpec, ...]) -> str:
    """The source of the module that holds these messages."""
    module = Module()
    tables: list[str] = []
    for message in messages:
        decoders = {v: DecoderBuilder(module, message, v).build() for v in message.all_versions()}
        encoders = {v: EncoderBuilder(module, message, v).build() for v in message.all_versions()}
        tables += ["", *table_lines(message, "DECODERS", decoders), *table_lines(message, "ENCODERS", encoders)]
    functions = "\n\n".join(module.source())
    body: list[str] = []
    for message in messages:
        body += ["", "", *class_lines(message, message.root)]
    body += ["", ""]
    aliases = []
    for message in messages:
        for struct in message.root.structs():
            alias = class_alias(message, struct)
            if f"{alias}(" in functions or f"({alias})" in functions:
                aliases.append(f"{alias} = {message.name}.{struct.name}")
    body += aliases
    if aliases:
        body.append("")
    body += module.structs()
    text = "\n".join([*body, "", "", functions, *tables]) + "\n"
    head = [f'"""{docstring}"""', "", "from __future__ import annotations", ""]
    layout = [f"{name}{alias}" for name, alias in LAYOUT if _names(text, alias.removeprefix(" as ") or name)]
    if layout:
        head += [f"from struct import {', '.join(layout)}", ""]
    head += ["from kafkapy.protocol.primitives import (", *(f"    {name}," for name in HELPERS if _names(text, name)), ")"]
    return "\n".join(head) + "\n" + text


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}(?!\w)", text) is not None
