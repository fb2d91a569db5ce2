"""A client's own pytest suite as checks of the harness: each test in a pytest process of its own, with a time limit.

Called by the run.py of such suites, in an environment that has pytest and what the tests import.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness import Check, NotRun

GRACE_S = 5.0


def checks(
    folder: Path, paths: Sequence[str], environment: Mapping[str, str], *options: str, limit_s: float = 120.0
) -> Iterator[Check]:
    """One check for every test that pytest finds at `paths` under `folder`; a check is named like its test."""
    logs = Path(os.environ["COMPAT_RUN"]) / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    variables = {**os.environ, **environment}
    listed = pytest(["--collect-only", "-q", *options, *paths], folder, variables, timeout_s=300)
    if listed.returncode != 0:
        sys.exit(f"pytest cannot collect {', '.join(paths)}:\n{listed.stdout}")
    for line in listed.stdout.splitlines():
        if "::" in line:
            name = line.removeprefix("test/").removeprefix("tests/").removeprefix("integration/")
            run = _runner(line, logs / f"{_file_name(name)}.log", folder, variables, options, limit_s)
            yield Check(name, run, limit_s=limit_s + 2 * GRACE_S)


def pytest(
    arguments: Sequence[str], folder: Path, variables: Mapping[str, str], timeout_s: float
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _runner(test: str, log: Path, folder: Path, variables: Mapping[str, str], options: Sequence[str], limit_s: float):
    def run() -> str | None:
        outcome = log.with_suffix(".xml")
        outcome.unlink(missing_ok=True)
        try:
            done = pytest([f"--junitxml={outcome}", "-x", *options, test], folder, variables, limit_s)
        except subprocess.TimeoutExpired as late:
            log.write_bytes(late.stdout or b"")
            raise AssertionError(f"not done within {limit_s:g} s") from None
        log.write_text(done.stdout, "utf-8")
        return _judge(outcome, folder)

    return run


def _judge(outcome: Path, folder: Path) -> str | None:
    """Raise what the test's report says: a failure, an error in a fixture, a skip, which an expected failure is too.

    Files are named as in the suite's folder, whose own place means nothing to who reads the results.
    """
    if not outcome.exists():
        raise AssertionError("pytest wrote no report")
    cases = list(ElementTree.parse(outcome).getroot().iter("testcase"))
    if not cases:
        raise NotRun("pytest ran nothing")
    for case in cases:
        for kind in ("failure", "error", "skipped"):
            found = case.find(kind)
            if found is not None:
                said = (found.get("message") or found.text or kind).replace(f"{folder}{os.sep}", "")
                raise NotRun(f"skipped: {said}") if kind == "skipped" else AssertionError(said)
    return None


def _file_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in name)[:150]
