"""Lines of Python: indentation, wrapping, and the functions of a module, each shared by the versions it fits."""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

WIDTH = 120


class Lines:
    """Source lines under construction."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 1

    def add(self, line: str) -> None:
        self.lines.append("    " * self._depth + line)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.add(head)
        with self.indented():
            yield

    @contextmanager
    def indented(self) -> Iterator[None]:
        self._depth += 1
        yield
        self._depth -= 1

    @contextmanager
    def condition(self, joint: str, parts: Sequence[str]) -> Iterator[None]:
        """A block under `if a or b:`, one part a line where one line is too short."""
        line = f"if {joint.join(parts)}:"
        if len(line) + 4 * self._depth <= WIDTH:
            self.add(line)
        else:
            self.add("if (")
            for index, part in enumerate(parts):
                self.add("    " + (joint.lstrip() if index else "") + part)
            self.add("):")
        with self.indented():
            yield

    def assign(self, targets: Sequence[str], value: str) -> None:
        """Unpack the tuple `value` into `targets`."""
        if len(targets) == 1:
            self.add(f"({targets[0]},) = {value}")
            return
        line = ", ".join(targets) + f" = {value}"
        if len(line) + 4 * self._depth <= WIDTH:
            self.add(line)
            return
        self.add("(")
        for target in targets:
            self.add(f"    {target},")
        self.add(f") = {value}")

    def call(self, head: str, parts: Sequence[str], tail: str) -> None:
        """`head(a, b)tail`, broken as ruff would where one line is too short. `head` ends with its opening bracket."""
        inside = ", ".join(parts)
        room = WIDTH - 4 * self._depth
        if len(head) + len(inside) + len(tail) <= room:
            self.add(head + inside + tail)
            return
        self.add(head)
        if len(inside) + 4 <= room:
            self.add(f"    {inside}")
            self.add(tail)
            return
        for part in parts:
            self.add(f"    {part},")
        self.add(tail)


def struct_suffix(formats: Sequence[str]) -> str:
    """`formats` as part of a name: `?` becomes `t` (for truth)."""
    return "".join(formats).replace("?", "t")


class Module:
    """The functions of one generated module: a body that several versions share is written once."""

    def __init__(self) -> None:
        self._functions: dict[str, dict[str, str]] = {}
        self._versions: dict[str, list[int]] = {}
        self._texts: dict[str, tuple[str, str]] = {}

    def function(self, stem: str, signature: str, body: Lines, version: int) -> str:
        """The name of the function `stem` with this body, which is new or one that an earlier version made."""
        text = "\n".join(body.lines)
        known = self._functions.setdefault(stem, {})
        name = known.setdefault(text, f"_{stem}_v{version}")
        self._texts[name] = (signature, text)
        versions = self._versions.setdefault(name, [])
        if version not in versions:
            versions.append(version)
        return name

    def source(self) -> Iterator[str]:
        for name, (signature, text) in self._texts.items():
            versions = self._versions[name]
            first, last = versions[0], versions[-1]
            if last - first + 1 == len(versions):
                label = f"Version {first}." if first == last else f"Versions {first} to {last}."
            else:
                label = f"Versions {', '.join(map(str, versions))}."
            yield f"# {label}\n{self._definition(name, signature)}\n{text}\n"

    @staticmethod
    def _definition(name: str, signature: str) -> str:
        line = f"def {name}{signature}:"
        if len(line) <= WIDTH:
            return line
        parameters, _, result = signature[1:].partition(") ->")
        return f"def {name}(\n    {parameters}\n) ->{result}:"

    def structs(self) -> Iterator[str]:
        """The `struct` methods that the functions name."""
        body = "\n".join(text for _, text in self._texts.values())
        for name in sorted(set(re.findall(r"\b_(?:un)?pack_\w+", body))):
            kind, _, formats = name[1:].partition("_")
            method = "unpack_from" if kind == "unpack" else "pack"
            yield f'{name} = Layout(">{formats.replace("t", "?")}").{method}'


def size_of(formats: Sequence[str]) -> int:
    return struct.calcsize(">" + "".join(formats))
