#!/usr/bin/env python3
"""Which mistakes would nothing notice? Runs mutmut room by room, and prints what survived and was not explained.

Usage: scripts/mutants [--jobs N] [--again | --sample N] [room or module …]

A room is a package of `kafkapy/`, a module one file of it (`groups`, `groups/offsets.py`); without any, all rooms that
`scripts/mutants.toml` names. That file says which tests are asked for which room, and which survivors are explained.
The type checker is asked first, as it is part of what CI runs. Each room is worked on in a copy under `.mutants/`,
where mutmut keeps a log and what it found. `--again` tries only what survived the last run, or was not tried before it
was stopped, with the tests as they are now; the code must not have changed since. `--sample N` tries N mistakes of each
room, drawn by chance from those that the type checker lets pass: hours become minutes, and the share an estimate.
"""

import argparse
import ast
import contextlib
import fnmatch
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mutmut.configuration import reset_config
from mutmut.mutation.data import MutantLineSpans, SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".mutants"
# What the tests need beside the code: mutmut copies it into the room's own tree.
BESIDE = ["tests", "protocol_specs", "scripts", "compat", "docs"]
UNNOTICED = ("survived", "no tests")
UNTRIED = "not checked"
USUAL = (*UNNOTICED, "killed", "timeout", "caught by type check")
CAUGHT_BY_TYPES = 37
# The copies of a method stand beside each other, and each declares its attributes.
NOT_WRONG = [f"--disable-error-code={code}" for code in ("no-redef", "has-type", "unused-ignore")]


class Survivor(NamedTuple):
    """One mistake that no test noticed. The change reads as a diff does, without indentation."""

    name: str
    path: str
    line: int
    function: str
    change: str


class Room:
    """The tree under `.mutants/` that one room's mistakes are made in, and what was found there."""

    def __init__(self, name: str, tests: dict[str, Any], wanted: list[str]) -> None:
        self.name = name
        self._tests = tests
        self._wanted = wanted
        self.tree = WORK / name

    def prepare(self) -> None:
        shutil.rmtree(self.tree, ignore_errors=True)
        self.tree.mkdir(parents=True)
        for name in ["kafkapy", *BESIDE]:
            (self.tree / name).symlink_to(ROOT / name)
        settings = {
            "source_paths": ["kafkapy"],
            "only_mutate": self._wanted,
            "also_copy": BESIDE,
            "pytest_add_cli_args_test_selection": self._tests["tests"],
            "pytest_add_cli_args": [f"--deselect={test}" for test in self._tests.get("leave_out", [])],
            # What is logged is for people, and no test reads it.
            "do_not_mutate_patterns": [r"^\s*_?log\.\w+\("],
            "timeout_multiplier": 10.0,
            "use_git_change_detection": False,
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        project = (ROOT / "pyproject.toml").read_text()
        (self.tree / "pyproject.toml").write_text("\n".join([project, "[tool.mutmut]", *lines, ""]))

    def make_mutants(self, jobs: int) -> None:
        """Write the mistakes into the copy, and ask the type checker about all of them at once.

        mutmut can do that by itself, but takes many times as long to find the mistake that an error belongs to.
        """
        reset_config()
        from mutmut.__main__ import create_mutants  # reads its settings at once, from where we are now

        with contextlib.redirect_stdout(io.StringIO()):
            copy_src_dir()
            copy_also_copy_files()
            create_mutants(jobs)
        package = f"kafkapy.{self.name}"
        command = [sys.executable, "-m", "mypy", "-p", package, "--output", "json", *NOT_WRONG]
        found = subprocess.run(command, cwd="mutants", capture_output=True, text=True, check=False)
        lines: dict[str, list[int]] = {}
        for error in map(json.loads, filter(str.strip, found.stdout.splitlines())):
            if error["severity"] == "error":
                lines.setdefault(error["file"], []).append(error["line"])
        for path in lines:
            spans = MutantLineSpans.load(path)
            if spans is None:
                continue  # not a module in which mistakes were made
            known = SourceFileMutationData(path=path)
            known.load()
            for name in known.exit_code_by_key:
                span = spans.span_by_function_name[name.rpartition(".")[2]]
                if any(span.start <= line <= span.end for line in lines[path]):
                    known.exit_code_by_key[name] = CAUGHT_BY_TYPES
            known.save()

    def run(self, jobs: int, names: list[str]) -> None:
        shutil.rmtree(self.tree / "mutants" / "tests", ignore_errors=True)
        command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(jobs), *names]
        log = self.tree / "log"
        with log.open("w") as output:
            ended = subprocess.run(command, cwd=self.tree, stdout=output, stderr=subprocess.STDOUT, check=False)
        if ended.returncode != 0:
            sys.exit(f"{self.name}: mutmut failed; the end of {log.relative_to(ROOT)}:\n{log.read_text()[-3000:]}")

    def statuses(self) -> Iterator[tuple[str, str, str]]:
        """Each mutant: the file it is in, its name, what became of it."""
        for meta in sorted((self.tree / "mutants").glob("kafkapy/**/*.meta")):
            path = str(meta.relative_to(self.tree / "mutants").with_suffix(""))
            for name, exit_code in json.loads(meta.read_text())["exit_code_by_key"].items():
                yield path, name, status_by_exit_code[exit_code]

    def drawn(self, count: int) -> list[str]:
        """So many of the mistakes that the type checker lets pass, always the same of the same code."""
        passed = [name for _, name, status in self.statuses() if status == UNTRIED]
        return random.Random(0).sample(passed, min(count, len(passed)))

    def untold(self) -> list[str]:
        """What is to be tried again: what nothing noticed, and what a run that was stopped did not come to."""
        return [name for _, name, status in self.statuses() if status in (*UNNOTICED, UNTRIED)]

    def survivors(self) -> Iterator[Survivor]:
        for path, name, status in self.statuses():
            if status in UNNOTICED and any(fnmatch.fnmatch(path, wanted) for wanted in self._wanted):
                yield _survivor(path, name)


def _survivor(path: str, name: str) -> Survivor:
    diff = get_diff_for_mutant(name, path=path).splitlines()[2:]
    changed = [line for line in diff if line[:1] in "+-"]
    change = "\n".join(f"{line[0]} {line[1:].strip()}" for line in changed)
    function, class_name = orig_function_and_class_names_from_key(name)
    qualified = f"{class_name}.{function}" if class_name else function
    first = next((line[1:].strip() for line in changed if line[0] == "-"), "")
    return Survivor(name, path, _line_of(path, qualified, first), qualified, change)


def _line_of(path: str, function: str, text: str) -> int:
    """Where the function has this line; where it begins if it has not (or the first of several that are alike)."""
    source = Path(path).read_text()
    body: list[ast.stmt] = ast.parse(source).body
    for name in function.split("."):
        body_names = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        node = next(node for node in body if isinstance(node, body_names) and node.name == name)
        body = node.body
    lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
    return node.lineno + next((number for number, line in enumerate(lines) if line.strip() == text), 0)


def _report(room: Room, explained: list[dict[str, Any]]) -> None:
    """Print what nobody noticed and nobody explained, and how much that is of each module and of all."""
    reasons = {(entry["place"], change.strip()): False for entry in explained for change in entry["changes"]}
    known: Counter[str] = Counter()
    left: Counter[str] = Counter()
    for survivor in room.survivors():
        key = (f"{survivor.path.removeprefix('kafkapy/')} {survivor.function}", survivor.change)
        if key in reasons:
            reasons[key] = True
            known[survivor.path] += 1
            continue
        left[survivor.path] += 1
        print(f"{survivor.path}:{survivor.line} {survivor.function}")
        print("".join(f"    {line}\n" for line in survivor.change.splitlines()), end="")
    counts = Counter((path, status) for path, _, status in room.statuses() if status != UNTRIED)
    paths = sorted({path for path, _ in counts})
    print(f"\n{'':40}{'mutants':>8}{'types':>7}{'tests':>7}{'explained':>10}{'survivors':>10}{'share':>8}")
    for name in [*paths, room.name]:
        of = [path for path in paths if name in (path, room.name)]
        total = sum(count for (path, _), count in counts.items() if path in of)
        types = sum(counts[path, "caught by type check"] for path in of)
        explained_count, left_count = sum(known[path] for path in of), sum(left[path] for path in of)
        tests = total - types - explained_count - left_count
        share = left_count / max(total, 1)
        print(f"{name:40}{total:8}{types:7}{tests:7}{explained_count:10}{left_count:10}{share:8.1%}")
    if odd := Counter(status for _, _, status in room.statuses() if status not in (*USUAL, UNTRIED)):
        print(f"counted as noticed by tests: {dict(odd)}")
    if untried := sum(status == UNTRIED for _, _, status in room.statuses()):
        print(f"not tried, and not counted: {untried}")
        caught = sum(status == "caught by type check" for _, _, status in room.statuses())
        tried, survivors = sum(counts.values()) - caught, sum(left.values())
        if tried:
            share = survivors / tried * (1 - caught / (tried + caught + untried))
            print(f"of {tried} that were tried {survivors} survived: an estimated {share:.1%} of all")
    modules = {path.removeprefix("kafkapy/") for path in paths}
    for (place, change), seen in reasons.items():
        if not seen and place.split()[0] in modules:
            print(f"explained, but no survivor any more: {place}\n    {change}")


def main() -> None:
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--sample", type=int)
    parser.add_argument("modules", nargs="*")
    arguments = parser.parse_args()
    told = tomllib.loads((ROOT / "scripts" / "mutants.toml").read_text())
    wanted: dict[str, list[str]] = {}
    for module in arguments.modules or told["rooms"]:
        name, _, file = module.removeprefix("kafkapy/").partition("/")
        if name not in told["rooms"]:
            parser.error(f"scripts/mutants.toml names no room {name}: {', '.join(told['rooms'])}")
        wanted.setdefault(name, []).append(f"kafkapy/{name}/{file or '*'}")
    for name, files in wanted.items():
        room = Room(name, told["rooms"][name], files)
        if not arguments.again:
            room.prepare()
        os.chdir(room.tree)
        if not arguments.again:
            room.make_mutants(arguments.jobs)
        names = room.untold() if arguments.again else room.drawn(arguments.sample) if arguments.sample else []
        room.run(arguments.jobs, names)
        _report(room, told.get("explained", []))


if __name__ == "__main__":
    main()
