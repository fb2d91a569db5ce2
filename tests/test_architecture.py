"""The house keeps its shape: floors, circles, pure machines, one door to each library.

Everything here reads source text; nothing of kafkapy is imported.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "kafkapy"

# A package imports strictly lower floors only; rooms on the same floor do not know each other.
FLOORS = {
    "errors": 0,
    "model": 0,
    "clock": 0,
    "delayed": 0,
    "metrics": 0,
    "timers": 0,
    "turns": 0,
    "protocol": 1,
    "config": 1,
    "patterns": 1,
    "records": 2,
    "storage": 3,
    "coordination": 4,
    "log": 4,
    "cluster": 5,
    "groups": 6,
    "transactions": 6,
    "sharing": 6,
    "quotas": 6,
    "telemetry": 6,
    "security": 6,
    "handlers": 7,
    "network": 8,
    "console": 8,
    "node": 9,
    "fleet": 10,
    "broker": 11,
    "testing": 12,
    "cli": 13,
    "__main__": 14,
}

# The network carries bytes and is handed a dispatch function; it may not know the rooms.
NETWORK_MAY_IMPORT = {"errors", "model", "clock", "delayed", "metrics", "timers", "protocol", "config"}

# Machines are functions of (state, command, now): no I/O, no clock, no chance.
PURE = (
    "timers.py",
    "protocol/frame.py",
    "storage/sequencing.py",
    "storage/aborted.py",
    "storage/compaction.py",
    "storage/offset_map.py",
    "storage/verification.py",
    "coordination/shard.py",
    "log/fetch_session.py",
    "cluster/acls.py",
    "cluster/client_quotas.py",
    "cluster/features.py",
    "cluster/delegation_tokens.py",
    "cluster/brokers.py",
    "cluster/electing.py",
    "cluster/image.py",
    "cluster/partitions.py",
    "cluster/registrations.py",
    "cluster/placement.py",
    "cluster/kinds.py",
    "cluster/machine.py",
    "cluster/scram_credentials.py",
    "cluster/state.py",
    "cluster/leadership.py",
    "groups/classic.py",
    "groups/describing.py",
    "groups/rebalancing.py",
    "groups/machine.py",
    "groups/modern/assignors.py",
    "groups/modern/balancing.py",
    "groups/modern/classic_members.py",
    "groups/modern/consumer.py",
    "groups/modern/conversion.py",
    "groups/modern/core.py",
    "groups/modern/group.py",
    "groups/modern/protocol.py",
    "groups/modern/reconciling.py",
    "groups/modern/resolving.py",
    "groups/modern/senders.py",
    "groups/modern/targeting.py",
    "groups/offsets.py",
    "groups/share/assignor.py",
    "groups/share/group.py",
    "groups/share/protocol.py",
    "groups/share/states.py",
    "groups/pending.py",
    "quotas/clients.py",
    "quotas/connections.py",
    "quotas/mutations.py",
    "quotas/rates.py",
    "telemetry/subscriptions.py",
    "security/authorizer.py",
    "security/tokens.py",
    "sharing/acquiring.py",
    "sharing/archiving.py",
    "sharing/batches.py",
    "sharing/in_flight.py",
    "sharing/letters.py",
    "sharing/reading.py",
    "sharing/sessions.py",
    "sharing/state/machine.py",
    "sharing/window.py",
    "transactions/machine.py",
    "transactions/states.py",
    "security/jaas.py",
    "security/sasl/authenticator.py",
    "security/sasl/client.py",
    "security/sasl/oauthbearer.py",
    "security/sasl/plain.py",
    "security/sasl/scram.py",
)
IMPURE_MODULES = {"trio", "time", "random", "os", "socket"}

# What asks for the time, or waits for it.
TELL_TIME = {
    "trio": {"current_time", "sleep", "sleep_until"},
    "time": {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "sleep"},
    "datetime": {"now", "utcnow", "today"},
}

STANDARD_LIBRARY_EXTRAS = {"compression"}  # part of the standard library from Python 3.14 on


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[tuple[str, ast.stmt, bool]]:
    """Every imported module's dotted name, the statement, and whether it counts only for the type checker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node, id(node) in typing_only
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module, node, id(node) in typing_only
            if node.module.split(".")[0] == "kafkapy":
                for alias in node.names:
                    yield f"{node.module}.{alias.name}", node, id(node) in typing_only


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_lower_floors_only(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in FLOORS, f"{room} has no floor: add it to the table, and to the architecture document"
    for name, _, _ in imports_of(path):
        parts = name.split(".")
        if parts[0] != "kafkapy" or len(parts) == 1:
            continue
        target = parts[1]
        if target == room or target not in FLOORS:
            continue
        assert FLOORS[target] < FLOORS[room], f"{room} (floor {FLOORS[room]}) imports {name} (floor {FLOORS[target]})"
        if room == "network":
            assert target in NETWORK_MAY_IMPORT, f"network imports {name}"


def test_there_is_no_import_circle() -> None:
    names = {
        path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in modules()
    }
    known = set(names.values())
    graph: dict[str, set[str]] = {name: set() for name in known}
    for path, name in names.items():
        for target, _, typing_only in imports_of(path):
            if target in known and target != name and not typing_only:
                graph[name].add(target)
    done: set[str] = set()
    trail: list[str] = []

    def visit(name: str) -> None:
        if name in trail:
            raise AssertionError("import circle: " + " -> ".join(trail[trail.index(name) :] + [name]))
        if name in done:
            return
        trail.append(name)
        for target in sorted(graph[name]):
            # A package's own __init__ is loaded before its modules; that is not a circle of ours.
            if not name.startswith(target + "."):
                visit(target)
        trail.pop()
        done.add(name)

    for name in sorted(known):
        visit(name)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_time_is_told_by_the_clock_alone(path: Path) -> None:
    """So that a test, or a user of the embedded broker, can stop and move all of it."""
    if path.name == "clock.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            where, name = node.value.id, node.attr
            asks = name in TELL_TIME.get(where, ()) or (where == "trio" and name.startswith(("move_on_", "fail_")))
            assert not asks, f"line {node.lineno}: {where}.{name}"
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("time", "trio"), f"line {node.lineno}: import the module as a whole"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "CancelScope":
            timed = {keyword.arg for keyword in node.keywords} & {"deadline", "relative_deadline"}
            assert not timed, f"line {node.lineno}: a scope with a deadline"


@pytest.mark.parametrize("machine", PURE)
def test_machines_are_pure(machine: str) -> None:
    path = PACKAGE / machine
    assert path.exists(), f"{machine} has moved: name its new place here"
    found = {name.split(".")[0] for name, _, _ in imports_of(path)} & IMPURE_MODULES
    assert not found, f"{machine} imports {sorted(found)}"


def test_each_library_is_used_by_one_module() -> None:
    import sys

    users: dict[str, set[str]] = {}
    for path in modules():
        for name, _, _ in imports_of(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in STANDARD_LIBRARY_EXTRAS or top in {"kafkapy", "trio"}:
                continue
            users.setdefault(top, set()).add(str(path.relative_to(PACKAGE)))
    shared = {library: sorted(paths) for library, paths in users.items() if len(paths) > 1}
    assert not shared, f"used by more than one module: {shared}"


def test_every_route_has_a_module_that_says_what_it_serves() -> None:
    """A row, a file, and a first line that tells the truth about the versions."""
    tree = ast.parse((PACKAGE / "handlers" / "__init__.py").read_text(encoding="utf-8"))
    tables = [
        [[ast.literal_eval(argument) for argument in row.args] for row in table.value.elts if isinstance(row, ast.Call)]
        for table in tree.body
        if isinstance(table, ast.AnnAssign) and isinstance(table.value, ast.Tuple)
    ]
    assert len(tables) == 2, "what is served, and what only brokers ask each other"
    for table in tables:
        keys = [row[0] for row in table]
        assert keys == sorted(set(keys)), "rows stand in the order of API keys, each once"
    rows = [row for table in tables for row in table]
    assert len({row[0] for row in rows}) == len(rows)
    listed = set()
    for key, module, low, high in rows:
        path = PACKAGE / "handlers" / (module.replace(".", "/") + ".py")
        assert path.exists(), f"no module for {module}"
        listed.add(path)
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = docstring.splitlines()[0] if docstring else ""
        versions = f"versions {low} to {high}." if low != high else f"version {low}."
        assert first.endswith(f"(key {key}), {versions}"), f"{module}: the docstring begins with {first!r}"
    folders = {path.parent for path in listed}
    unlisted = {p for folder in folders for p in folder.glob("*.py") if "async def handle(" in p.read_text()} - listed
    assert not unlisted, f"handlers without a row: {sorted(str(p) for p in unlisted)}"


def test_no_file_grows_beyond_a_title() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in modules()
        if not {"messages", "journal"} & set(path.relative_to(PACKAGE).parts[1:2])
        and (count := len(path.read_text(encoding="utf-8").splitlines())) > 700
    }
    assert not long
