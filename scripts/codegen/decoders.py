"""Decoding functions: one per wire layout, nested loops inline, fixed-size neighbours read by one `struct`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from codegen.spec import FIXED, Field, MessageSpec, StructSpec, snake_case
from codegen.writer import Lines, Module, size_of, struct_suffix


def literal(value: object) -> str:
    """`value` as source."""
    if value == bytes(16):
        return "ZERO_UUID"
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def variable_name(message: MessageSpec, struct_name: str) -> str:
    """What to call one such struct: `OffsetCommitRequestTopic` of `OffsetCommitRequest` is a `topic`."""
    return snake_case(struct_name.removeprefix(message.name) or struct_name)


def class_alias(message: MessageSpec, struct: StructSpec) -> str:
    return message.name if struct is message.root else f"_{message.name}_{struct.name}"


class DecoderBuilder:
    """Writes the decoder of one message in one version."""

    def __init__(self, module: Module, message: MessageSpec, version: int) -> None:
        self.module = module
        self.message = message
        self.version = version
        self.flexible = message.flexible.has(version)
        self.views = message.root.has_records()
        self.out = Lines()
        self.run: list[tuple[str, str]] = []
        self.names = {"message", "owner", "buf", "offset", "size", "n", "end", "tags", "tag", "tag_end", "count", "at"}
        self.kinds: dict[str, str] = {}

    def build(self) -> str:
        root, name = self.message.root, snake_case(self.message.name)
        self.new_object("message", root)
        self.struct("message", root)
        self.flush()
        self.out.add("return message, offset")
        self.prepend_size()
        buffer = "memoryview" if self.views else "bytes"
        signature = f"(buf: {buffer}, offset: int) -> tuple[{self.message.name}, int]"
        return self.module.function(f"decode_{name}", signature, self.out, self.version)

    def prepend_size(self) -> None:
        if any("size - offset" in line for line in self.out.lines):
            self.out.lines.insert(0, "    size = len(buf)")

    # Runs

    def read(self, form: str, target: str) -> None:
        self.run.append((form, target))

    def flush(self) -> None:
        """Read what has gathered; afterwards `offset` is behind it."""
        if not self.run:
            return
        formats = [form for form, _ in self.run]
        targets = [target for _, target in self.run]
        if formats == ["B"]:
            self.out.add(f"{targets[0]} = buf[offset]")
        else:
            unpack = f"_unpack_{struct_suffix(formats)}(buf, offset)"
            self.out.assign(targets, unpack)
        self.out.add(f"offset += {size_of(formats)}")
        self.run = []

    # Structs

    def new_object(self, variable: str, struct: StructSpec) -> None:
        """A new object, with the fields that this version lacks (or tags) at their defaults."""
        self.out.call(f"{variable} = new(", [class_alias(self.message, struct)], ")")
        for field in struct.fields:
            if not field.is_inline(self.version):
                self.out.add(f"{variable}.{field.attr} = {self.default(field)}")

    def default(self, field: Field) -> str:
        if field.is_array:
            return "[]" if field.default is not None else "None"
        if field.struct is not None:
            none = field.is_optional_struct or field.default is None
            return "None" if none else f"{class_alias(self.message, field.struct)}()"
        return literal(field.default)

    def struct(self, variable: str, struct: StructSpec) -> None:
        for field in struct.fields:
            if field.is_inline(self.version):
                self.field(f"{variable}.{field.attr}", field)
        if not self.flexible:
            return
        skip, arguments = "skip_tags", ["buf"]
        if any(field.is_tagged(self.version) for field in struct.fields):
            skip, arguments = self.tags_function(struct), [variable, "buf"]
        if self.run:
            self.read("B", "tags")
            self.flush()
            with self.out.block("if tags:"):
                self.out.call(f"offset = {skip}(", [*arguments, "offset - 1"], ")")
        else:
            with self.out.block("if buf[offset]:"):
                self.out.call(f"offset = {skip}(", [*arguments, "offset"], ")")
            with self.out.block("else:"):
                self.out.add("offset += 1")

    def tags_function(self, struct: StructSpec) -> str:
        builder = DecoderBuilder(self.module, self.message, self.version)
        name = f"decode_{snake_case(self.message.name)}"
        if struct is not self.message.root:
            name += f"_{snake_case(struct.name)}"
        return builder.build_tags(f"{name}_tags", struct)

    def build_tags(self, stem: str, struct: StructSpec) -> str:
        out, word = self.out, "if"
        tagged = sorted((f for f in struct.fields if f.is_tagged(self.version)), key=lambda f: f.tag)
        out.add("count, offset = read_uvarint(buf, offset)")
        with out.block("for _ in range(count):"):
            out.add("tag, offset = read_uvarint(buf, offset)")
            out.add("n, offset = read_uvarint(buf, offset)")
            out.add("tag_end = offset + n")
            for field in tagged:
                with out.block(f"{word} tag == {field.tag}:"):
                    self.field(f"owner.{field.attr}", field)
                    self.flush()
                word = "elif"
            with out.block("else:"):
                out.add("offset = tag_end")
            with out.block("if offset != tag_end:"):
                out.add("reject_tag(tag)")
        out.add("return offset")
        self.prepend_size()
        buffer = "memoryview" if self.views else "bytes"
        signature = f"(owner: {self.annotation(struct)}, buf: {buffer}, offset: int) -> int"
        return self.module.function(stem, signature, out, self.version)

    def annotation(self, struct: StructSpec) -> str:
        return self.message.name if struct is self.message.root else f"{self.message.name}.{struct.name}"

    # Fields

    def field(self, target: str, field: Field) -> None:
        nullable = field.nullable.has(self.version)
        if field.is_array:
            self.length("i", target, nullable, lambda: self.array(target, field))
        elif field.struct is not None:
            self.single_struct(target, field, nullable)
        elif field.is_fixed:
            self.read(FIXED[field.base], target)
        elif field.base == "string":
            self.length("h", target, nullable, lambda: self.string(target))
        else:
            self.length("i", target, nullable, lambda: self.slice(target))

    def length(self, form: str, target: str, nullable: bool, then: Callable[[], None]) -> None:
        """Read a length into `n` (the length itself, or in flexible versions the length plus one), then the value."""
        self.read("B" if self.flexible else form, "n")
        self.flush()
        text = form == "h"
        if self.flexible:
            # One comparison keeps the short case fast; null and long lengths go the slow way.
            if not nullable:
                with self.out.block("if not 0 < n < 128:"):
                    self.out.add(f"n, offset = read_compact_{'string_' if text else ''}length(buf, offset - 1)")
                then()
                return
            with self.out.block("if n == 0:"):
                self.out.add(f"{target} = None")
            with self.out.block("else:"):
                with self.out.block("if n >= 128:"):
                    self.out.add(f"n, offset = read_compact_{'string_' if text else ''}length(buf, offset - 1)")
                then()
                self.flush()
            return
        if not nullable:
            with self.out.block("if n < 0:"):
                self.out.add("reject_null()")
            then()
            return
        with self.out.block("if n < 0:"):
            self.out.add(f"{target} = None")
        with self.out.block("else:"):
            then()
            self.flush()

    @property
    def count(self) -> str:
        return "n - 1" if self.flexible else "n"

    def string(self, target: str, assign: str = "{} = {}") -> None:
        self.out.add(f"end = offset + {self.count}")
        # A view's slice has no `decode`; what is given again to replace what is malformed has one of its own.
        value = 'str(buf[offset:end], "utf-8", REPLACING)' if self.views else "buf[offset:end].decode()"
        self.out.add(assign.format(target, value))
        self.out.add("offset = end")

    def slice(self, target: str) -> None:
        self.out.add(f"end = offset + {self.count}")
        self.out.add(f"{target} = buf[offset:end]")
        self.out.add("offset = end")

    def single_struct(self, target: str, field: Field, nullable: bool) -> None:
        assert field.struct is not None
        if nullable:
            # A tagged struct says with a varint what an inline one says with a signed byte (KIP-893).
            tagged = field.is_tagged(self.version)
            self.read("B" if tagged else "b", "n")
            self.flush()
            with self.out.block("if n == 0:" if tagged else "if n < 0:"):
                self.out.add(f"{target} = None")
            with self.out.block("else:"):
                self.inline_struct(target, field.struct)
                self.flush()
        else:
            self.inline_struct(target, field.struct)

    def inline_struct(self, target: str, struct: StructSpec) -> None:
        with self.variable(variable_name(self.message, struct.name), struct.name) as variable:
            self.new_object(variable, struct)
            self.out.add(f"{target} = {variable}")
            self.struct(variable, struct)

    @contextmanager
    def variable(self, name: str, kind: str) -> Iterator[str]:
        """`name`, or a name like it that nothing around this place uses, and nothing before it for another kind."""
        while name in self.names or self.kinds.setdefault(name, kind) != kind:
            name += "_"
        self.names.add(name)
        yield name
        self.names.remove(name)

    def array(self, target: str, field: Field) -> None:
        out, count = self.out, self.count
        if field.struct is None and field.base in FIXED and field.base != "uuid":
            form = FIXED[field.base]
            if count != "n":
                out.add(f"n = {count}")
            out.add(f'{target} = list(unpack_from(f">{{n}}{form}", buf, offset))')
            out.add(f"offset += {'n' if size_of([form]) == 1 else f'{size_of([form])} * n'}")
            return
        smallest = self.smallest(field)
        assert smallest > 0, f"{field.attr}: nothing would bound an array of empty elements"
        total = f"({count})" if self.flexible and smallest > 1 else count
        with out.block(f"if {total}{f' * {smallest}' if smallest > 1 else ''} > size - offset:"):
            out.add(f"reject_count({count})")
        if field.base == "uuid":
            out.add(f"end = offset + 16 * {f'({count})' if self.flexible else count}")
            out.add(f"{target} = [buf[at : at + 16] for at in range(offset, end, 16)]")
            out.add("offset = end")
            return
        with self.variable(field.attr, f"[]{field.base}") as items:
            out.add(f"{target} = {items} = []")
            with out.block(f"for _ in range({count}):"):
                if field.struct is None:
                    self.length("h", items, False, lambda: self.string(items, "{}.append({})"))
                    return
                with self.variable(variable_name(self.message, field.base), field.base) as variable:
                    self.new_object(variable, field.struct)
                    self.struct(variable, field.struct)
                    self.flush()
                    out.add(f"{items}.append({variable})")

    # Sizes

    def smallest(self, field: Field) -> int:
        """The fewest bytes that one element of this array can take."""
        if field.struct is not None:
            return self.smallest_struct(field.struct)
        if field.base in FIXED:
            return size_of([FIXED[field.base]])
        return 1 if self.flexible else 2

    def smallest_struct(self, struct: StructSpec) -> int:
        total = 1 if self.flexible else 0
        for field in struct.fields:
            if not field.is_inline(self.version):
                continue
            if field.is_fixed:
                total += size_of([FIXED[field.base]])
            elif field.struct is not None and not field.is_array:
                nullable = field.nullable.has(self.version)
                total += 1 if nullable else self.smallest_struct(field.struct)
            else:
                total += 1 if self.flexible else 2 if field.base == "string" and not field.is_array else 4
        return total
