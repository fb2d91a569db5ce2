"""What each API asks the authorizer for, read from the source of its handler and of what that shares with others.

Called by `generate_docs.py`, which writes the table, and by the tests, which hold it against what Apache Kafka did.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kafkapy.handlers import ALL
from kafkapy.protocol.messages import APIS

HANDLERS = Path(__file__).resolve().parent.parent / "kafkapy" / "handlers"
ASKING = {"require", "permits", "permits_somewhere"}
PASSING_ON = {"_permits"}
"""Functions of handlers that ask for the operation that they are given."""
CONTEXT = {"context", "guarded", "registry"}


class Required(NamedTuple):
    """An operation on a type of resource; `somewhere`: on any resource of it."""

    operation: str
    resource_type: str
    somewhere: bool = False

    def __str__(self) -> str:
        return f"{self.operation} on {'some ' if self.somewhere else ''}{self.resource_type}"


def required_rights() -> dict[str, list[Required]]:
    """By the API's name, in the order of keys; an empty list for those that anybody may ask."""
    return {APIS[route.key].name: sorted(set(_of_module(route.module))) for route in ALL}


def _of_module(module: str) -> Iterator[Required]:
    tree = ast.parse((HANDLERS / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    constants = _constants(tree)
    mentioned = [node.attr for node in ast.walk(tree) if _is_member(node, "ResourceType")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("kafkapy.handlers."):
            shared = node.module.removeprefix("kafkapy.handlers.")
            if shared not in CONTEXT:
                yield from _of_module(shared)
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr in ASKING:
            operation, resource_type = (constants.get(ast.unparse(arg), ast.unparse(arg)) for arg in node.args[:2])
            if not operation.startswith("Operation."):
                continue  # what was passed on: the callers are read below
            named = resource_type.startswith("ResourceType.")
            for name in [resource_type.removeprefix("ResourceType.")] if named else mentioned:
                yield Required(operation.removeprefix("Operation."), name, node.func.attr == "permits_somewhere")
        elif node.func.attr == "cluster_authorized_operations":
            yield Required("DESCRIBE", "CLUSTER")
        elif node.func.attr in PASSING_ON:
            yield Required(ast.unparse(node.args[0]).removeprefix("Operation."), "TOPIC")


def _constants(tree: ast.Module) -> dict[str, str]:
    """The names that a module gives to operations and types, on its first level."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                if len(names) == len(values):
                    found.update(zip(map(ast.unparse, names), map(ast.unparse, values), strict=True))
    return found


def _is_member(node: ast.AST, enum: str) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == enum
