"""The classes of a generated module: a slotted class per struct, its defaults, its nested structs."""

import re
from collections.abc import Iterator

from codegen.decoders import literal
from codegen.spec import PYTHON_TYPES, Field, MessageSpec, StructSpec
from codegen.writer import WIDTH


def annotation(message: MessageSpec, field: Field) -> str:
    kind = f"{message.name}.{field.base}" if field.struct else PYTHON_TYPES.get(field.base, "int")
    if field.is_array:
        kind = f"list[{kind}]"
    may_be_null = field.may_be_null or field.default is None or field.is_optional_struct
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
    if field.is_struct and not (field.is_optional_struct or field.may_be_null):
        assert field.struct is not None
        return f"{message.name}.{field.struct.name}() if {field.attr} is None else {field.attr}"
    return field.attr


def wrapped(head: str, value: str) -> Iterator[str]:
    """`head` and `value` on one line, or the value in brackets below it, a choice broken where that is too long."""
    if len(head) + len(value) <= WIDTH:
        yield head + value
        return
    indent = head[: len(head) - len(head.lstrip())]
    yield f"{head}("
    lines = [value] if len(indent) + 4 + len(value) <= WIDTH else re.split(r" (?=if |else )", value)
    yield from (f"{indent}    {line}" for line in lines)
    yield f"{indent})"


def class_lines(
    message: MessageSpec, struct: StructSpec, indent: str = "", constants: tuple[tuple[str, str], ...] = ()
) -> Iterator[str]:
    """The class of `struct` with its nested classes; `constants` are further class constants, as source."""
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
        for name, text in constants:
            yield f"{inner}{name} = {text}"
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
        yield from (f"{inner}    {text}," for text in parameters)
        yield f"{inner}) -> None:"
    for field in struct.fields:
        yield from wrapped(f"{inner}    self.{field.attr} = ", initial_value(message, field))
