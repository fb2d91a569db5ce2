"""Encoding functions: one per wire layout, nested loops inline, fixed-size neighbours written by one `struct`."""

from collections.abc import Iterator
from contextlib import contextmanager

from codegen.decoders import class_alias, literal, variable_name
from codegen.spec import FIXED, Field, MessageSpec, StructSpec, snake_case
from codegen.writer import Lines, Module, struct_suffix

RESERVED = frozenset({"message", "out", "buffers", "n", "raw", "value", "parts", "part", "owner"})


class EncoderBuilder:
    """Writes the encoder of one message in one version."""

    def __init__(self, module: Module, message: MessageSpec, version: int, sink: str = "out") -> None:
        self.module = module
        self.message = message
        self.version = version
        self.flexible = message.flexible.has(version)
        self.has_records = message.root.has_records()
        self.out = Lines()
        self.run: list[tuple[str, str]] = []
        self.sink = sink  # the bytearray that the function writes to
        self.names = set(RESERVED)

    def build(self) -> str:
        root, name = self.message.root, snake_case(self.message.name)
        if self.has_records:
            self.out.add("buffers: list[Buffer] = []")
        self.struct("message", root)
        self.flush()
        if self.has_records:
            self.out.add("buffers.append(out)")
            self.out.add("return buffers")
        else:
            self.out.add("return [out]")
        signature = f"(message: {self.message.name}, out: bytearray) -> list[Buffer]"
        return self.module.function(f"encode_{name}", signature, self.out, self.version)

    # Runs

    def write(self, form: str, value: str) -> None:
        self.run.append((form, value))

    def flush(self) -> None:
        if not self.run:
            return
        formats = [form for form, _ in self.run]
        values = [value for _, value in self.run if value]
        if formats == ["x"]:
            self.out.add(f"{self.sink}.append(0)")
        else:
            self.out.call(f"{self.sink} += _pack_{struct_suffix(formats)}(", values, ")")
        self.run = []

    # Structs

    def struct(self, variable: str, struct: StructSpec) -> None:
        for field in struct.fields:
            if not field.versions.has(self.version):
                if not field.ignorable:
                    self.refuse_value(f"{variable}.{field.attr}", field)
            elif field.is_inline(self.version):
                self.field(f"{variable}.{field.attr}", field)
        if self.flexible:
            self.tags(variable, struct)

    def refuse_value(self, target: str, field: Field) -> None:
        with self.out.condition(" or ", self.differs(target, field)):
            self.out.add(f'reject_value("{field.attr}")')

    def differs(self, target: str, field: Field) -> list[str]:
        """Expressions, of which one is true: the field is not at its default."""
        if field.default is None or field.is_optional_struct:
            return [f"{target} is not None"]
        null = [f"{target} is None"] if field.may_be_null else []
        if field.is_struct:
            assert field.struct is not None
            return [*null, f"{target} != {class_alias(self.message, field.struct)}()"]
        if field.is_array or (field.default in (b"", "") and field.base in ("string", "bytes")):
            return [*null, target]
        if field.base == "bool":
            return [f"not {target}" if field.default else target]
        return [*null, f"{target} != {literal(field.default)}"]

    def tags(self, variable: str, struct: StructSpec) -> None:
        tagged = sorted((f for f in struct.fields if f.is_tagged(self.version)), key=lambda f: f.tag)
        if not tagged:
            self.write("x", "")
            return
        self.flush()
        name = f"encode_{snake_case(self.message.name)}"
        if struct is not self.message.root:
            name += f"_{snake_case(struct.name)}"
        function = EncoderBuilder(self.module, self.message, self.version, "part").build_tags(
            f"{name}_tags", struct, tagged
        )
        conditions = [text for field in tagged for text in self.differs(f"{variable}.{field.attr}", field)]
        with self.out.condition(" or ", conditions):
            self.out.add(f"{function}({variable}, {self.sink})")
        with self.out.block("else:"):
            self.out.add(f"{self.sink}.append(0)")

    def build_tags(self, stem: str, struct: StructSpec, tagged: list[Field]) -> str:
        """A function to call when a tagged field is set; the fields gather in `parts`, each in its own bytes."""
        out = self.out
        out.add("parts: list[tuple[int, bytearray]] = []")
        for field in tagged:
            target = f"owner.{field.attr}"
            joint, conditions = " or ", self.differs(target, field)
            if field.struct is not None and field.is_optional_struct:
                # Kafka leaves out a struct that equals its default.
                joint = " and "
                conditions.append(f"{target} != {class_alias(self.message, field.struct)}()")
            with out.condition(joint, conditions):
                out.add("part = bytearray()")
                self.field(target, field, present=field.default is None or field.is_optional_struct)
                self.flush()
                out.add(f"parts.append(({field.tag}, part))")
        out.add("write_tags(out, parts)")
        is_root = struct is self.message.root
        owner = self.message.name if is_root else f"{self.message.name}.{struct.name}"
        return self.module.function(stem, f"(owner: {owner}, out: bytearray) -> None", out, self.version)

    # Fields

    def field(self, target: str, field: Field, present: bool = False) -> None:
        """Write one field; `present` says that it is known not to be null."""
        nullable = field.nullable.has(self.version)
        if field.is_fixed:
            self.write(FIXED[field.base], target)
            return
        if field.is_struct and not nullable and not field.is_optional_struct and field.default is not None:
            self.inline_struct(target, field)
            return
        sometimes_null = field.default is None or field.may_be_null
        if nullable and not present:
            self.flush()
            with self.out.block(f"if {target} is None:"):
                self.null(field)
            with self.out.block("else:"):
                self.value(target, field, nullable)
                self.flush()
            return
        if sometimes_null and not present:
            with self.out.block(f"if {target} is None:"):
                self.out.add(f'reject_value("{field.attr}")')
        self.value(target, field, nullable)

    def null(self, field: Field) -> None:
        if field.is_struct:
            # A tagged struct says with a varint what an inline one says with a signed byte (KIP-893).
            self.out.add(f"{self.sink}.append({0 if field.is_tagged(self.version) else 255})")
        elif self.flexible:
            self.out.add(f"{self.sink}.append(0)")
        else:
            self.out.add(
                f"{self.sink} += {'NULL_STRING' if field.base == 'string' and not field.is_array else 'NULL_LENGTH'}"
            )

    def value(self, target: str, field: Field, nullable: bool) -> None:
        if field.is_array:
            self.array(target, field)
        elif field.struct is not None:
            if nullable:
                self.write("B", "1")
            self.inline_struct(target, field)
        elif field.base == "string":
            self.string(target)
        elif field.base == "records":
            self.records(target)
        else:
            self.length("i", target)
            self.flush()
            self.out.add(f"{self.sink} += {target}")

    def length(self, form: str, value: str) -> None:
        """Write `len(value)`, or in flexible versions that plus one as a varint."""
        if not self.flexible:
            self.write(form, f"len({value})")
            return
        self.flush()
        self.out.add(f"n = len({value}) + 1")
        with self.out.block("if n < 128:"):
            self.out.add(f"{self.sink}.append(n)")
        with self.out.block("else:"):
            self.out.add(f"write_{'compact_string_length' if form == 'h' else 'uvarint'}({self.sink}, n)")

    def string(self, target: str) -> None:
        self.out.add(f"raw = {target}.encode()")
        self.length("h", "raw")
        self.flush()
        self.out.add(f"{self.sink} += raw")

    def records(self, target: str) -> None:
        self.length("i", target)
        self.flush()
        with self.out.block(f"if {target}:"):
            self.out.add(f"buffers += (out, {target})")
            self.out.add("out = bytearray()")

    def inline_struct(self, target: str, field: Field) -> None:
        assert field.struct is not None
        with self.variable(variable_name(self.message, field.struct.name)) as variable:
            self.out.add(f"{variable} = {target}")
            self.struct(variable, field.struct)

    def array(self, target: str, field: Field) -> None:
        self.length("i", target)
        self.flush()
        if field.struct is None and field.base in FIXED:
            form = FIXED[field.base]
            if field.base == "uuid":
                self.out.add(f'{self.sink} += b"".join({target})')
            else:
                with self.out.block(f"if {target}:"):
                    self.out.call(f'{self.sink} += packer("{form}", len({target}))(', [f"*{target}"], ")")
            return
        if field.kept:
            function = EncoderBuilder(self.module, self.message, self.version).build_elements(field)
            self.out.add(f"write_kept({target}, {function}, {self.sink})")
            return
        self.elements(target, field)

    def build_elements(self, field: Field) -> str:
        """A function that writes the elements of an array, by which their bytes are known again."""
        self.elements("items", field)
        stem = f"encode_{snake_case(self.message.name)}_{field.attr}"
        signature = f"(items: list[{self.message.name}.{field.base}], out: bytearray) -> None"
        return self.module.function(stem, signature, self.out, self.version)

    def elements(self, target: str, field: Field) -> None:
        name = variable_name(self.message, field.base) if field.struct else "item"
        with self.variable(name) as variable, self.out.block(f"for {variable} in {target}:"):
            if field.struct is not None:
                self.struct(variable, field.struct)
            else:
                self.string(variable)
            self.flush()

    @contextmanager
    def variable(self, name: str) -> Iterator[str]:
        """`name`, or a name like it that nothing around this place uses."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        yield name
        self.names.remove(name)
