"""Whole generated modules: docstring, imports, classes, structs, functions, tables."""

import re
from collections.abc import Iterator, Sequence

from codegen.classes import class_lines, wrapped
from codegen.decoders import DecoderBuilder, class_alias
from codegen.encoders import EncoderBuilder
from codegen.spec import ApiSpec, MessageSpec
from codegen.writer import WIDTH, Module

PACKAGE = "kafkapy.protocol"
HELPERS = (
    "FRESH",
    "NULL_LENGTH",
    "NULL_STRING",
    "ZERO_UUID",
    "Buffer",
    "Message",
    "Struct",
    "new",
    "packer",
    "read_compact_length",
    "read_compact_string_length",
    "read_uvarint",
    "reject_count",
    "reject_null",
    "reject_tag",
    "reject_value",
    "skip_tags",
    "write_compact_string_length",
    "write_kept",
    "write_tags",
    "write_uvarint",
)
LAYOUT = (("Layout", "Struct as Layout"), ("unpack_from", "unpack_from"))


class Codecs:
    """The functions and tables of one module, gathered message by message."""

    def __init__(self) -> None:
        self.module = Module()
        self.tables: list[str] = []
        self.messages: list[MessageSpec] = []

    def decoders(self, message: MessageSpec) -> None:
        functions = {v: DecoderBuilder(self.module, message, v).build() for v in message.all_versions()}
        self._table(message, "DECODERS", functions)

    def encoders(self, message: MessageSpec) -> None:
        functions = {v: EncoderBuilder(self.module, message, v).build() for v in message.all_versions()}
        self._table(message, "ENCODERS", functions)

    def _table(self, message: MessageSpec, name: str, functions: dict[int, str]) -> None:
        rows = [f"    {version}: {function}," for version, function in functions.items()]
        self.tables += [f"{message.name}.{name} = {{", *rows, "}"]
        if message not in self.messages:
            self.messages.append(message)

    def lines(self) -> Iterator[str]:
        """The body of the module, from the aliases of nested classes to the tables."""
        functions = "\n\n".join(self.module.source())
        aliases: list[str] = []
        for message in self.messages:
            for struct in message.root.structs():
                alias = class_alias(message, struct)
                if _names(functions, alias):
                    aliases += wrapped(f"{alias} = ", f"{message.name}.{struct.name}")
        structs = list(self.module.structs())
        yield from aliases
        if aliases and structs:
            yield ""
        yield from structs
        if aliases or structs:
            yield from ("", "")
        yield functions
        yield ""
        yield from self.tables


def assemble(docstring: str, body: Sequence[str], imports: Sequence[str] = ()) -> str:
    """A module: `body` below the imports that it needs. `imports` are lines of its own choice."""
    text = "\n".join(body)
    layout = [source for name, source in LAYOUT if _names(text, name)]
    helpers = [name for name in HELPERS if _names(text, name)]
    head = [f'"""{docstring}"""', "", "from __future__ import annotations", ""]
    if layout:
        head += [f"from struct import {', '.join(layout)}", ""]
    head += imports
    head += import_lines("primitives", helpers)
    if _names(text, "REPLACING"):
        head += import_lines("text", ["REPLACING"])
    return "\n".join([*head, text, ""])


def import_lines(module: str, names: Sequence[str]) -> Iterator[str]:
    line = f"from {PACKAGE}.{module} import {', '.join(names)}"
    if len(line) <= WIDTH:
        yield line
    else:
        yield f"from {PACKAGE}.{module} import ("
        yield from (f"    {name}," for name in names)
        yield ")"


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w.]){name}(?!\w)", text) is not None


def api_classes(docstring: str, api: ApiSpec) -> str:
    """The public module of one API: its classes, whose codecs are imported when first used."""
    request, response = api.messages
    body: list[str] = []
    for message, decoders, encoders in ((request, "broker", "client"), (response, "client", "broker")):
        constants = tuple(
            (name, f'"{PACKAGE}.messages.{role}.{api.module}"')
            for name, role in (("DECODER_MODULE", decoders), ("ENCODER_MODULE", encoders))
        )
        body += ["", "", *class_lines(message, message.root, constants=constants)]
    return assemble(docstring, body)


def api_codecs(docstring: str, api: ApiSpec, role: str) -> str:
    """What a broker (or a client) needs: to decode the other side's messages and to encode its own."""
    request, response = api.messages
    codecs = Codecs()
    codecs.decoders(request if role == "broker" else response)
    codecs.encoders(response if role == "broker" else request)
    names = sorted(message.name for message in api.messages)
    return assemble(docstring, ["", *codecs.lines()], [*import_lines(f"messages.{api.module}", names)])


def journal_module(docstring: str, messages: tuple[MessageSpec, ...]) -> str:
    """The records of one journal module and their codecs, for a broker writes what it reads."""
    codecs = Codecs()
    body: list[str] = []
    for message in messages:
        codecs.decoders(message)
        codecs.encoders(message)
        body += ["", "", *class_lines(message, message.root)]
    body += ["", ""]
    return assemble(docstring, [*body, *codecs.lines()])
